/** The door of those who wait for an answer: what it does together, what alone, and who waits for whom. */
import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { CreateDoor } from '../../actors/intake/create-door.ts';
import type { Accepted } from '../../actors/intake/doors.ts';
import { Kernel } from '../../actors/kernel/kernel.ts';
import { gpuDevKinds, type Ports } from '../../actors/kinds.ts';
import { Problem } from '../../actors/problem.ts';
import { PATIENCE_MS } from '../support/patience.ts';
import { type Body, type Door, fresh, startDoor } from './support.ts';

let scene: Door;
let door: CreateDoor;
beforeAll(async () => {
  scene = await startDoor();
  door = new CreateDoor(scene);
});
afterAll(() => scene.stop());

const sender = () => ({ door: 'http', key: null });
const ask = (body: Body) => door.accept(body, sender());
const transactions = async () =>
  (
    await scene.db.query<{ xact: string; ids: string[] }>(
      `select xact::text, array_agg(substr(actor, 13) order by actor) as ids from history where actor like 'reservation/%' and seq = 1 group by xact`,
    )
  ).rows;
const outcomeOf = (asked: Promise<Accepted>) =>
  asked.then(
    ({ duplicate }) => (duplicate ? 'duplicate' : 'new'),
    (error: unknown) => (error instanceof Problem ? error.code : String(error)),
  );

it('creates that come at the same time share a transaction, and exist when they are answered', async () => {
  const bodies = Array.from({ length: 8 }, () => fresh('create-api'));
  // However slow the first transaction may be, the others wait for it.
  const patient = new CreateDoor({ ...scene, patienceMs: PATIENCE_MS });
  const accepted = await Promise.all(bodies.map((body) => patient.accept(body, sender())));
  const ids = accepted.map(({ reservationId }) => reservationId!);
  const rows = await scene.db.query('select 1 from reservations where reservation_id = any($1::text[])', [ids]);
  expect(rows.rowCount).toBe(8);
  const shared = (await transactions()).filter((each) => each.ids.some((id) => ids.includes(id)));
  expect(shared.map((each) => each.ids.length).sort()).toEqual([1, 7]);
});

it('one that is refused, comes twice or belongs to another costs its neighbours nothing', async () => {
  const good = [fresh('create-api'), fresh('create-api'), fresh('create-api')];
  const taken = fresh('create-api', { reservation_id: (await ask(fresh('create-api'))).reservationId, user_id: 'mallory' });
  const outcomes = await Promise.all(
    [good[0], fresh('create-api', { gpu_type: 'h9000' }), good[1], good[1], taken, good[2], { action: 'xstate.init' }]
      .map(ask)
      .map(outcomeOf),
  );
  // Which of the two with one id is the first is not said.
  expect(outcomes.splice(2, 2).sort()).toEqual(['duplicate', 'new']);
  expect(outcomes).toEqual(['new', 'GPU_TYPE_UNKNOWN', 'GPU_ID_TAKEN', 'new', 'GPU_ACTION_UNKNOWN']);
});

it('of two who ask for one id in one moment, one makes it and the other is told that it is there', async () => {
  const body = fresh('create-api');
  await ask(fresh('create-api'));
  const outcomes = await Promise.all([ask(body), ask(body), ask(body)].map(outcomeOf));
  expect(outcomes.sort()).toEqual(['duplicate', 'duplicate', 'new']);
});

it('who waits for a lock holds up nobody else, however many they are, neither with them nor behind them', async () => {
  const user = `blocked-${randomUUID().slice(0, 6)}`;
  const { promise: held, resolve: release } = Promise.withResolvers<void>();
  const { promise: isLocked, resolve: lock } = Promise.withResolvers<void>();
  const holding = scene.db.withTransaction(async (tx) => {
    await tx.query(`select pg_advisory_xact_lock(hashtextextended('quota/' || $1, 0))`, [user]);
    lock();
    await held;
  });
  await isLocked;
  const order: string[] = [];
  const blocked = () => ask(fresh('create-api', { user_id: user })).then(() => order.push('blocked'));
  const first = ask(fresh('create-api'));
  const waiting = Array.from({ length: 6 }, blocked);
  await Promise.all([first, ask(fresh('create-api')).then(() => order.push('neighbour'))]);
  for (let group = 0; group < 2; group++) {
    waiting.push(blocked());
    await ask(fresh('create-api')).then(() => order.push('later'));
  }
  await scene.db.query('select 1');
  release();
  await Promise.all([...waiting, holding]);
  expect(order).toEqual(['neighbour', ...Array(2).fill('later'), ...Array(8).fill('blocked')]);
});

it('an answer to a commit that is lost makes nothing twice', async () => {
  const body = fresh('create-api', { user_id: 'zoe' });
  const { reservation_id: _id, job_id: _job, env_vars: _env, ...without } = body;
  let lost = false;
  const db = new Proxy(scene.db, {
    get: (target, name) => {
      const own = Reflect.get(target, name, target) as unknown;
      if (name !== 'withTransaction') return typeof own === 'function' ? own.bind(target) : own;
      return async (work: Parameters<typeof target.withTransaction>[0]) => {
        const value = await target.withTransaction(work);
        if (lost) return value;
        lost = true;
        throw Object.assign(new Error('read ENETUNREACH'), { code: 'ENETUNREACH' });
      };
    },
  });
  const kernel = new Kernel({ db, kinds: gpuDevKinds({ db } as unknown as Ports) });
  const other = new CreateDoor({ db, kernel });
  await expect(other.accept(without, sender())).rejects.toThrow(/ENETUNREACH/);
  const { rowCount } = await scene.db.query('select 1 from reservations where user_id = $1', ['zoe']);
  expect(rowCount).toBe(1);
});

it('whose first turn cannot be taken is accepted all the same, and a dead letter says why', async () => {
  await scene.db.query(`alter table reservations add constraint no_marvin check (user_id <> 'marvin')`);
  const body = fresh('create-api', { user_id: 'marvin' });
  const [accepted, neighbour] = await Promise.all([ask(body), ask(fresh('create-api'))]);
  expect(neighbour.duplicate).toBe(false);
  while ((await scene.kernel.takeTurns()) > 0);
  const [letter] = (await scene.letters()).filter(({ actor }) => actor === accepted.actor);
  expect(letter.reason).toMatch(/no_marvin/);
});
