import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Crowd } from './support/crowd.ts';
import { fireMs, Killer } from './support/killer.ts';
import { expectNoLeak } from './support/leaks.ts';
import { expectClean } from './support/promises.ts';
import { Scene, WORKER } from './support/scene.ts';

const BURN_MS = fireMs(14_000);
const LONG = BURN_MS > 60_000;
/** Six minutes of a stay pass in a second and a half. Time limits of the machinery behind it stay real. */
const TIME_SCALE = '240';
/** Guests who have come and are not gone. The nodes have 32 GPUs, so some wait. */
const PRESENT = LONG ? 40 : 24;

let scene: Scene;
beforeAll(async () => {
  scene = await Scene.start({ fleet: { h100: 4 } });
  await scene.db.query(
    'create table deliveries (effect_id text not null, ended_at timestamptz not null default clock_timestamp())',
  );
});
afterAll(async () => {
  await scene?.stop();
});

it(
  'replicas killed every few seconds and frozen beyond their leases serve every guest to the end, once',
  async () => {
    const killer = new Killer({
      start: () => scene.program(WORKER, { TIME_SCALE, TEST_DELIVERIES: '1', TEST_LEASE_SECONDS: '1' }),
      programs: LONG ? 3 : 2,
      everyMs: [500, 3_000],
      freeze: { part: 0.25, ms: [1_500, 2_500] },
      spareLast: true,
    });
    await killer.start();
    // Calls that take their time are what a process dies in.
    await scene.simulate('/faults', { kind: 'latency', ms: 250, rate: 0.3, verb: 'POST' });
    await scene.simulate('/faults', { kind: 'latency', ms: 250, rate: 0.3, verb: 'DELETE' });
    await scene.until('the fleet is known', async () => (await scene.db.query('select 1 from nodes')).rowCount === 4);
    const crowd = new Crowd(scene, 4_000);
    const end = Date.now() + BURN_MS;
    const enough = BURN_MS / 6_000;
    // On a machine that is busy otherwise a replica takes seconds to start, and only then it can be killed.
    while (Date.now() < end || killer.kills <= enough) {
      scene.requireCluster();
      const room = PRESENT - (await crowd.present());
      for (let n = 0; n < Math.min(room, 4); n++) crowd.arrive();
      await pause(200);
    }
    await crowd.allSent();
    await killer.stop();
    await scene.until('all are gone', async () => (await crowd.present()) === 0, 60_000);
    await expectClean(scene);
    await expectNoLeak(scene);
    expect(killer.unexpected).toEqual([]);
    const ends = await crowd.expectFair();

    const { rows } = await scene.db.query<{ events: number; deliveries: number; effects: number; fenced: number }>(
      `select (select count(*) from history)::int as events, (select count(*) from deliveries)::int as deliveries,
            (select count(*) from effects where status = 'done')::int as effects,
            (select count(*) from deliveries d join effects e using (effect_id) where d.ended_at > e.ended_at)::int as fenced`,
    );
    const { events, deliveries, effects, fenced } = rows[0]!;
    console.log(
      `fire: ${killer.kills} kills, ${killer.freezes} freezes, ${crowd.guests.size} reservations (${JSON.stringify(ends)}), ${events} events, ` +
        `${crowd.duplicates} duplicates dropped, ${crowd.early} sent before their create, ${deliveries} deliveries of ${effects} effects, ${fenced} late results fenced off`,
    );
    expect(killer.kills).toBeGreaterThan(enough);
    expect(crowd.guests.size).toBeGreaterThanOrEqual(PRESENT);
  },
  BURN_MS + 120_000,
);
