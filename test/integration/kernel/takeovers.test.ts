import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import { DEFAULT_TAKEOVERS } from '../../../actors/kernel/dispatcher.ts';
import { Kernel } from '../../../actors/kernel/kernel.ts';
import type { EffectHandler } from '../../../actors/kernel/kind.ts';
import { findActor } from '../../../persistence/actor-store.ts';
import { Database } from '../../../persistence/database.ts';
import { lampKind } from '../../support/lamp.ts';
import { createTestDatabase, type TestDatabase } from '../../support/postgres.ts';
import { make, press, strangerWith } from './support.ts';

let test: TestDatabase;
let db: Database;
beforeAll(async () => {
  test = await createTestDatabase();
  db = new Database({ ...test.config, maxConnections: 6 });
});
beforeEach(async () => {
  await db.query('truncate effects, mailbox, actors, history, deadlines, dead_letters');
});
afterAll(async () => {
  await db.close();
  await test.drop();
});

const lit = { type: 'lit', watts: 60 } as { type: string };
const LOCK = `select 1 from effects where effect_id = $1 for update`;

it('a handler goes on while a stranger holds the row of its effect, and is told to stop when the lease is really lost', async () => {
  const signals: AbortSignal[] = [];
  const waiting: EffectHandler = (_effect, { signal }) =>
    new Promise((_, reject) => {
      signals.push(signal);
      signal.addEventListener('abort', reject);
    });
  const kernel = new Kernel({ db, kinds: [lampKind(waiting)], leaseSeconds: 600 });
  await make(kernel, ['a']);
  await kernel.post([press('a')]);
  await kernel.takeTurns();
  expect(signals).toHaveLength(1);
  const { rows } = await db.query<{ id: string }>('select effect_id as id from effects');
  const stranger = await strangerWith(test, LOCK, [rows[0]!.id]);
  await kernel.renewLeases();
  expect(signals[0]!.aborted).toBe(false);
  await stranger.query('update effects set lease_token = gen_random_uuid()');
  await kernel.renewLeases();
  expect(signals[0]!.aborted).toBe(false);
  await stranger.query('commit');
  await stranger.end();
  await kernel.renewLeases();
  expect(signals[0]!.aborted).toBe(true);
  expect((await db.query('select attempts, status from effects')).rows).toEqual([{ attempts: 0, status: 'pending' }]);
});

const SICK = 'lamp/7';
const LAMPS = Array.from({ length: 20 }, (_, n) => String(n));
const START = Date.parse('2026-11-21T12:00:00Z');

it('an effect that takes every process along that runs it is given up, and those leased with it come through', {
  timeout: 60_000,
}, async () => {
  let now = START;
  const runs = new Map<string, number>();
  /** A process: what it has leased dies with it when the sick lamp is lit. */
  function begin() {
    const life = { dead: false, kernel: null as unknown as Kernel };
    const light: EffectHandler = async (_effect, { actor }) => {
      runs.set(actor, (runs.get(actor) ?? 0) + 1);
      if (actor === SICK) life.dead = true;
      return actor === SICK ? new Promise<never>(() => {}) : lit;
    };
    life.kernel = new Kernel({ db, clock: { now: () => new Date(now) }, kinds: [lampKind(light)], random: () => 0.5 });
    return life;
  }
  let life = begin();
  let deaths = 0;
  await make(life.kernel, LAMPS);
  await life.kernel.post(LAMPS.map((id) => press(id)));
  await life.kernel.takeTurns();
  const open = async () => (await db.query(`select 1 from effects where status = 'pending'`)).rowCount! > 0;
  const others: number[] = [];
  while (await open()) {
    expect(now - START).toBeLessThan(3_600_000);
    if (life.dead) {
      deaths++;
      life = begin();
    }
    now += 1_000;
    await life.kernel.startEffects();
    // Who dies does so before any of its handlers has told its result.
    if (life.dead) continue;
    await life.kernel.endEffects();
    const { rows } = await db.query<{ n: number }>(`select count(*)::int as n from effects where status = 'done'`);
    if (rows[0]!.n === LAMPS.length - 1 && others.length === 0) others.push(now - START);
  }
  while ((await life.kernel.takeTurns()) > 0);

  const reason = 'Every process that ran it died or froze, 17 times: it is not run again';
  expect(deaths).toBe(DEFAULT_TAKEOVERS.most + 1);
  expect(runs.get(SICK)).toBe(deaths);
  // Once in the batch of the turn, thrice beside the sick one, and once more without it.
  expect(Math.max(...[...runs].filter(([actor]) => actor !== SICK).map(([, times]) => times))).toBe(5);
  expect(others[0]).toBeLessThan(60_000);
  expect(now - START).toBeGreaterThan(1_800_000);
  expect(now - START).toBeLessThan(2_000_000);
  expect((await findActor(db, SICK))?.snapshot?.context).toMatchObject({ problem: reason, watts: 0 });
  expect((await db.query('select source, actor, key, code, reason, body from dead_letters')).rows).toEqual([
    { source: 'effect', actor: SICK, key: `${SICK}:2:0`, code: 'GPU_EFFECT_DEADLY', reason, body: { type: 'light', presses: 1 } },
  ]);
  const { rows } = await db.query(`select status, last_error from effects where actor = $1`, [SICK]);
  expect(rows).toEqual([{ status: 'failed', last_error: reason }]);
  expect((await db.query(`select 1 from history where event ->> 'type' = 'lit' and outcome = 'applied'`)).rowCount).toBe(19);
});
