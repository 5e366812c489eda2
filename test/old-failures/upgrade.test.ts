import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { verifyAll } from '../../actors/kernel/fold.ts';
import { Kernel } from '../../actors/kernel/kernel.ts';
import type { ActorKind } from '../../actors/kernel/kind.ts';
import { findActor, lockActors, lockActorsWithMail } from '../../persistence/actor-store.ts';
import { Database, type Transaction } from '../../persistence/database.ts';
import { readHistory } from '../../persistence/history.ts';
import { lampKind } from '../support/lamp.ts';
import { nextLampKind } from '../support/lamp-next.ts';
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts';

const LAMPS = 40;

let test: TestDatabase;
let db: Database;
let running: Kernel[];
/** Effects that each version's handler was given. */
let lit: { old: object[]; next: object[] };

beforeEach(async () => {
  test = await createTestDatabase();
  db = new Database({ ...test.config, maxConnections: 12 });
  running = [];
  lit = { old: [], next: [] };
});
afterEach(async () => {
  for (const kernel of running) await kernel.stop(1_000);
  await db.close();
  await test.drop();
});

const answer = (given: object[]) => async (effect: object) => {
  given.push(effect);
  return { type: 'lit', watts: 60 } as { type: string };
};
const oldKind = (offAfterMs = 60) => lampKind(answer(lit.old), { offAfterMs });
const nextKind = (offAfterMs = 60) => nextLampKind(answer(lit.next), { offAfterMs });

function replica(kind: ActorKind): Kernel {
  return new Kernel({ db, kinds: [kind], pollMs: 20, leaseSeconds: 1 });
}
async function start(kernel: Kernel): Promise<Kernel> {
  await kernel.start();
  running.push(kernel);
  return kernel;
}

const make = (name: string) => ({
  actor: `lamp/${name}`,
  key: 'birth',
  event: { type: 'lamp.made', name } as { type: string },
  sender: 'test',
});
const say = (name: string, key: string, type = 'press') => ({ actor: `lamp/${name}`, key, event: { type }, sender: 'test' });
const names = Array.from({ length: LAMPS }, (_, n) => String(n));

async function send(kernel: Kernel, messages: ReturnType<typeof say>[]): Promise<void> {
  await kernel.post(messages);
  kernel.wake();
}
async function count(text: string, values: unknown[] = []): Promise<number> {
  return (await db.query<{ n: number }>(text, values)).rows[0]!.n;
}
const mail = () => count('select count(*)::int as n from mailbox');
const pending = () => count(`select count(*)::int as n from effects where status = 'pending'`);
const deadlines = () => count('select count(*)::int as n from deadlines');
const settled = () =>
  expect.poll(async () => [await mail(), await pending(), await deadlines()], { timeout: 10_000 }).toEqual([0, 0, 0]);
const setAside = () =>
  count(
    `select (select count(*) from dead_letters)::int + (select count(*) from actors where quarantined_at is not null)::int as n`,
  );

/** The version that took each turn of an actor never falls. */
async function expectOneWay(): Promise<void> {
  const fell = `select count(*)::int as n from (
    select machine_version < lag(machine_version) over (partition by actor order by seq) as fell from history) h where fell`;
  expect(await count(fell)).toBe(0);
}

describe('a rolling upgrade', () => {
  it('R17: old and new code serve the same actors side by side, none goes back to the old, and the day after nothing is left behind', async () => {
    const old = await start(replica(oldKind()));
    await send(
      old,
      names.map((name) => make(name)),
    );
    await send(
      old,
      names.map((name) => say(name, 'first')),
    );
    await expect.poll(() => lit.old.length).toBeGreaterThan(LAMPS / 2);

    const next = await start(replica(nextKind()));
    await send(
      next,
      names.map((name) => make(`n${name}`)),
    );
    for (let round = 0; round < 6; round++) {
      const [one, other] = round % 2 === 0 ? [old, next] : [next, old];
      await send(
        one,
        names.map((name) => say(name, `${round}`)),
      );
      await send(
        other,
        names.map((name) => say(`n${name}`, `${round}`)),
      );
      await expect.poll(() => mail()).toBeLessThan(LAMPS);
    }
    await settled();
    expect(await setAside()).toBe(0);
    await expectOneWay();
    expect(lit.old.filter((effect) => 'colour' in effect)).toEqual([]);

    // The old code is gone; whatever it left is taken up.
    await old.stop();
    await send(
      next,
      names.map((name) => say(name, 'after')),
    );
    await settled();
    const left = `select count(*)::int as n from actors where machine_version <> 2`;
    expect(await count(left)).toBe(0);
    const applied = `select count(*)::int as n from history where sender = 'test' and outcome = 'applied'`;
    expect(await count(applied)).toBe(LAMPS * (2 + 6 + 1) + LAMPS * (1 + 6));
    for await (const result of verifyAll(db, next.kinds)) expect(result, result.actor).toMatchObject({ ok: true });
    expect(await setAside()).toBe(0);
    await expectOneWay();
    const { rows } = await db.query(`select distinct snapshot #>> '{context,colour}' as colour from actors order by 1`);
    expect(rows).toEqual([{ colour: 'warm' }, { colour: 'white' }]);
  });

  it('R17: mail, deadlines and effects of an actor of the new version wait while only the old code runs, and everybody else is served', async () => {
    const next = replica(nextKind(1_000));
    await next.post([make('new')]);
    await next.post([say('new', 'on')]);
    await next.pump('lamp/new');
    expect(await findActor(db, 'lamp/new')).toMatchObject({ machineVersion: 2, state: 'on' });
    expect(await pending()).toBe(1);

    const old = await start(replica(oldKind()));
    await send(old, [say('new', 'off'), make('mine')]);
    await send(old, [say('mine', 'on')]);
    // Its own actor goes its way, and the deadline of the other falls due meanwhile.
    await expect.poll(async () => (await findActor(db, 'lamp/mine'))?.state, { timeout: 5_000 }).toBe('on');
    await expect.poll(async () => (await findActor(db, 'lamp/mine'))?.state, { timeout: 5_000 }).toBe('off');
    await expect.poll(() => mail(), { timeout: 5_000 }).toBe(2);
    expect(await findActor(db, 'lamp/new')).toMatchObject({ machineVersion: 2, state: 'on', seq: 2, quarantineReason: null });
    expect(await pending()).toBe(1);
    expect(lit.old).toHaveLength(1);
    expect(await setAside()).toBe(0);

    await start(next);
    // What the old code has stored is verified from its first turn under the new code on.
    await send(next, [say('mine', 'later')]);
    await settled();
    expect(lit.next).toHaveLength(2);
    expect(lit.next).toEqual(
      expect.arrayContaining([
        { type: 'light', presses: 1, colour: 'warm' },
        { type: 'light', presses: 2, colour: 'white' },
      ]),
    );
    // The effect may be answered before or after its actor goes on.
    expect((await readHistory(db, 'lamp/new')).map((entry) => entry.event.type).sort()).toEqual(
      ['lamp.made', 'press', 'press', 'deadline.off', 'lit'].sort(),
    );
    for await (const result of verifyAll(db, next.kinds)) expect(result, result.actor).toMatchObject({ ok: true });
    expect(await setAside()).toBe(0);
  });

  it('R17: a message that only the new code knows waits for it, though its actor is still of the old version', async () => {
    const old = await start(replica(oldKind()));
    await send(old, [make('a')]);
    await expect.poll(async () => (await findActor(db, 'lamp/a'))?.state).toBe('off');
    const next = replica(nextKind());
    await next.post([say('a', 'dim', 'dim'), say('a', 'then')]);
    await send(old, [make('b')]);
    await expect.poll(async () => (await findActor(db, 'lamp/b'))?.state).toBe('off');
    expect(await setAside()).toBe(0);
    await start(next);
    await settled();
    expect((await readHistory(db, 'lamp/a')).map((entry) => [entry.key, entry.outcome])).toEqual([
      ['birth', 'applied'],
      ['dim', 'applied'],
      ['then', 'applied'],
    ]);
    expect(await setAside()).toBe(0);
  });

  // The old code's statement has begun, and sees version 1; before it locks the row, the new code commits.
  it.each([
    ['the oldest mail', (tx: Transaction) => lockActorsWithMail(tx, ANY).then(({ actors }) => actors), 1],
    ['mail behind what is locked', (tx: Transaction) => lockActorsWithMail(tx, ANY).then(({ actors }) => actors), 2],
    ['mail of one', (tx: Transaction) => lockActorsWithMail(tx, { ...ANY, only: 'lamp/a' }).then(({ actors }) => actors), 1],
    ['what was sent to it', (tx: Transaction) => lockActors(tx, ['lamp/a'], ANY.kinds), 1],
  ] as const)('R17: an actor that new code takes while the old is about to, for %s, is left to the new', async (_, lock, nth) => {
    const old = replica(oldKind());
    await old.post([make('a')]);
    await old.pump('lamp/a');
    await old.post([say('a', 'press')]);

    let statements = 0;
    const locked = await db.withTransaction(async (next) => {
      await next.query('select pg_advisory_xact_lock(17)');
      await next.query('update actors set machine_version = 2');
      const racing = db.withTransaction((tx) => {
        const late = (text: string, values: unknown[]) => tx.query(++statements === nth ? lateToLock(text) : text, values);
        return lock(Object.assign(Object.create(tx), { query: late }) as Transaction);
      });
      const waits = `select count(*)::int as n from pg_locks where locktype = 'advisory' and objid = 17 and not granted`;
      await expect.poll(() => count(waits)).toBe(1);
      return { racing };
    });
    expect(await locked.racing).toEqual([]);
    expect(statements).toBeGreaterThanOrEqual(nth);
  });
});

const ANY = { actors: 10, kinds: [{ kind: 'lamp', version: 1 }], now: null };

/** The statement as it is, but that it waits between its snapshot and its first lock. */
function lateToLock(text: string): string {
  const late = text.replace(/where a\./, 'where (select pg_advisory_xact_lock(17)) is not null and a.');
  expect(late).not.toBe(text);
  return late;
}
