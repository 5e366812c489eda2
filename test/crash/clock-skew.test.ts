import { fileURLToPath } from 'node:url';
import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Crowd } from './support/crowd.ts';
import { expectNoLeak } from './support/leaks.ts';
import type { Program } from './support/process.ts';
import { expectClean } from './support/promises.ts';
import { Scene, WORKER } from './support/scene.ts';

const SKEW = fileURLToPath(new URL('./support/skewed-clock.ts', import.meta.url));
const HOURS = 3_600_000;

let scene: Scene;
let replicas: Program[];
beforeAll(async () => {
  scene = await Scene.start();
  // One is seven hours ahead and falls seven hours behind, the other the other way round.
  replicas = [7, -7].map((hours) =>
    scene.program(WORKER, {
      TIME_SCALE: '240',
      SKEW_MS: String(hours * HOURS),
      SKEW_TURN_MS: '4000',
      NODE_OPTIONS: `--import=${SKEW}`,
    }),
  );
  await Promise.all(replicas.map((replica) => replica.ready()));
  await scene.until('the fleet is known', async () => (await scene.db.query('select 1 from nodes')).rowCount === 2);
});
afterAll(async () => {
  await scene?.stop();
});

it('replicas whose clocks are hours apart, and jump, decide by the clock of the database alone', async () => {
  const { rows: begin } = await scene.db.query<{ now: Date }>('select now() as now');
  const crowd = new Crowd(scene, 2_000);
  for (let n = 0; n < 16; n++) {
    crowd.arrive();
    await pause(200);
  }
  await crowd.allSent();
  await scene.until('all are gone', async () => (await crowd.present()) === 0);
  await expectClean(scene);
  await expectNoLeak(scene);
  const ends = await crowd.expectFair();
  expect(Object.keys(ends).sort()).toEqual(['cancelled', 'expired']);
  expect(replicas.every((replica) => replica.running)).toBe(true);

  const { rows: outside } = await scene.db.query(OUTSIDE, [begin[0]!.now]);
  expect(outside).toEqual([]);
  const { rows: late } = await scene.db.query<{ early: number; latest: number }>(EXPIRIES);
  expect(late[0]!.early).toBe(0);
  expect(late[0]!.latest).toBeLessThan(2);
});

/** Times that were written while the test ran and do not lie in it. */
const OUTSIDE = `
  select * from (
    select 'history' as what, at from history
    union all select 'event', (event ->> 'at')::timestamptz from history
    union all select 'effect asked for', created_at from effects
    union all select 'effect ended', ended_at from effects
    union all select 'actor', updated_at from actors
    union all select 'reservation made', created_at from reservations
    union all select 'reservation launched', launched_at from reservations
    union all select 'reservation ended', reservation_ended from reservations
    union all select 'disk made', created_at from disks
    union all select 'disk used', last_used from disks
    union all select 'snapshot', created_at from disk_snapshots) times
   where at not between $1::timestamptz - interval '5 seconds' and now() limit 5`;

/** Stays that ended by themselves: how many before their time, and how late the latest, in seconds. */
const EXPIRIES = `
  select count(*) filter (where h.at < d.due)::int as early, coalesce(extract(epoch from max(h.at - d.due)), 0)::float8 as latest
    from history h cross join lateral (select h.sent_at as due) d
   where h.event ->> 'type' = 'deadline.expiry' and h.outcome = 'applied'`;
