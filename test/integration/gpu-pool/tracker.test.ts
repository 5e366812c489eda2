import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ClusterChanges, PodView } from '../../../actors/gpu-pool/ports.ts';
import { Tracker, type TrackerSettings } from '../../../actors/gpu-pool/tracker.ts';
import { Kernel } from '../../../actors/kernel/kernel.ts';
import { Database } from '../../../persistence/database.ts';
import { createTestDatabase, type TestDatabase } from '../../support/postgres.ts';
import { HandDriven, podOf } from './support.ts';

let test: TestDatabase;
let db: Database;
beforeAll(async () => {
  test = await createTestDatabase();
  db = new Database({ ...test.config, maxConnections: 4 });
});
afterAll(async () => {
  await db?.close();
  await test?.drop();
});

/** A tracker of a cluster that the test drives, once it tracks. */
async function tracking(settings: Partial<TrackerSettings>): Promise<{ tracker: Tracker; changes: ClusterChanges }> {
  const feed = new HandDriven();
  const tracker = new Tracker({
    db,
    kernel: new Kernel({ db, kinds: [] }),
    connect: () => feed,
    onServers: () => Promise.resolve(),
    confirmGone: () => Promise.resolve(false),
    confirmNodeGone: () => Promise.resolve(false),
    onError: () => {},
    ...settings,
  });
  tracker.start();
  await expect.poll(() => feed.changes).not.toBeNull();
  return { tracker, changes: feed.changes! };
}

describe('dev servers', () => {
  it('that are seen for the first time together are shown together, and again with all others from time to time', async () => {
    const shown: string[][] = [];
    let failures = 1;
    const onServers = (pods: readonly PodView[]) => {
      shown.push(pods.map((pod) => pod.name));
      return failures-- > 0 ? Promise.reject(new Error('the database is away')) : Promise.resolve();
    };
    const { tracker, changes } = await tracking({ onServers, sweepMs: 300 });
    try {
      const pods = Array.from({ length: 100 }, (_, n) => podOf(crypto.randomUUID(), { name: `pod-${n}` }));
      for (const pod of pods) changes.podChanged(pod);
      await expect.poll(() => shown.length, { timeout: 5_000 }).toBeGreaterThan(3);
      for (const each of shown) expect(each).toHaveLength(100);
    } finally {
      await tracker.stop();
    }
  });
});

describe('a fact that cannot be written', () => {
  it('is dropped and said, and those beside it arrive in their order', async () => {
    const ids = ['a', 'b', 'c'];
    for (const id of ids)
      await db.query(
        `insert into actors (actor, kind, machine_version, status, snapshot) values ($1, 'reservation', 1, 'active', '{}')`,
        [`reservation/${id}`],
      );
    await db.query(`alter table mailbox add constraint no_poison check (event ->> 'reason' is distinct from 'poison')`);
    const errors: Error[] = [];
    const { tracker, changes } = await tracking({ onError: (error) => errors.push(error as Error) });
    const mail = async () =>
      (await db.query<{ what: string }>(`select actor || ' ' || (event ->> 'type') as what from mailbox order by id`)).rows.map(
        ({ what }) => what,
      );
    try {
      changes.podChanged(podOf('a', { death: 'poison', started: false, node: null }));
      changes.podChanged(podOf('b', { death: 'it died', started: false, node: null }));
      changes.podDeleted(podOf('a'), true);
      changes.podDeleted(podOf('b'), true);
      await expect
        .poll(mail, { timeout: 5_000 })
        .toEqual(['reservation/b pod.died', 'reservation/a pod.gone', 'reservation/b pod.gone']);
      expect(errors.map(({ message }) => message)).toEqual([
        'The tracker drops what cannot be written: pod:uid-a:died for reservation/a',
      ]);
    } finally {
      await tracker.stop();
    }
  });
});
