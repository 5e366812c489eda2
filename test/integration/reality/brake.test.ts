import { afterEach, describe, expect, it } from 'vitest';
import { Tracker } from '../../../actors/gpu-pool/tracker.ts';
import type { NodeView, PodView } from '../../../actors/gpu-pool/ports.ts';
import { acceptVanished, readVanished } from '../../../persistence/vanished-pods.ts';
import { startWorld, type World } from '../../support/world.ts';
import { HandDriven, podOf, running } from '../gpu-pool/support.ts';
import { Comparisons } from './scene.ts';

const COUNT = 12;

let world: World | undefined;
const trackers: Tracker[] = [];
afterEach(async () => {
  for (const tracker of trackers.splice(0)) await tracker.stop();
  await world?.stop();
  world = undefined;
});

/** A world in which so many servers run and nobody watches. */
async function unwatched(count = COUNT): Promise<{ world: World; ids: string[] }> {
  world = await startWorld({ fleet: { h100: 2 } });
  const started = world;
  const ids = await Promise.all(Array.from({ length: count }, () => running(started, { gpu_type: 'h100' })));
  await started.tracker.stop();
  return { world: started, ids };
}

/** The pods of these are gone from the cluster at once. */
async function vanish({ client, cluster }: World, ids: readonly string[]): Promise<void> {
  const remove = (id: string) =>
    client.core.deleteNamespacedPod({ namespace: 'gpu-dev', name: `gpu-dev-${id}-1`, gracePeriodSeconds: 0 });
  await Promise.all(ids.map(remove));
  await expect.poll(() => ids.filter((id) => cluster.world.store.get('pods', `gpu-dev/gpu-dev-${id}-1`))).toEqual([]);
}

const h100 = (name: string): NodeView => ({
  name,
  uid: `uid-${name}`,
  gpuType: 'h100',
  ready: true,
  cordoned: false,
  foreignTaints: [],
  resources: { 'nvidia.com/gpu': 8 },
  cpuMillis: 192_000,
  memoryBytes: 2 ** 41,
  address: '10.0.0.1',
  zone: null,
  labels: {},
});

/** Watch again, by a feed that a test drives: what `there` says is on the cluster. */
function watch({ db, kernel, client }: World, there: readonly PodView[]) {
  const feed = new HandDriven(['h100-1', 'h100-2'].map(h100));
  const told: (string | null)[] = [];
  const tracker = new Tracker({
    db,
    kernel,
    connect: () => ({
      start: async (changes) => {
        for (const pod of there) changes.podChanged(pod);
        await feed.start(changes);
      },
      stop: () => feed.stop(),
      lastContact: () => Date.now(),
    }),
    onServers: () => Promise.resolve(),
    confirmGone: async ({ reservationId }) => {
      const { items } = await client.core.listNamespacedPod({ namespace: 'gpu-dev' });
      return !items.some(({ metadata }) => metadata?.name === `gpu-dev-${reservationId}-1`);
    },
    confirmNodeGone: () => Promise.resolve(false),
    onError: () => {},
    onBrake: (why) => told.push(why),
    sweepMs: 50,
  });
  tracker.start();
  trackers.push(tracker);
  return { tracker, told, changes: () => feed.changes! };
}

async function uidsOf({ db }: World): Promise<Map<string, string>> {
  const sql = `select substr(actor, 13) as id, snapshot #>> '{context,pod,uid}' as uid from actors where kind = 'reservation'`;
  return new Map((await db.query<{ id: string; uid: string }>(sql)).rows.map(({ id, uid }) => [id, uid]));
}

const views = (uids: Map<string, string>, ids: readonly string[]) =>
  ids.map((id) => podOf(id, { uid: uids.get(id)!, node: 'h100-1', name: `gpu-dev-${id}-1` }));

async function statesOf({ db }: World, ids: readonly string[]): Promise<Record<string, number>> {
  const sql = 'select status::text as status, count(*)::int as n from reservations where reservation_id = any($1) group by 1';
  const { rows } = await db.query<{ status: string; n: number }>(sql, [ids]);
  return Object.fromEntries(rows.map(({ status, n }) => [status, n]));
}

describe('S33: more than half of the running servers vanish, and nobody saw them deleted', () => {
  it('holds all of them back, says so, and puts each on record, until an operator gives a word, which stays in their histories', async () => {
    const { world, ids } = await unwatched();
    const uids = await uidsOf(world);
    const gone = ids.slice(0, 7);
    await vanish(world, gone);
    const { tracker, told } = watch(world, views(uids, ids.slice(7)));
    await world.until('they are held back', async () => tracker.brake !== null);
    expect(tracker.brake).toMatch(/^7 of 12 running servers vanished .* gpu-dev admin accept-vanished --reason/);
    expect((await readVanished(world.db, 600)).map(({ reservationId }) => reservationId).sort()).toEqual([...gone].sort());

    // The comparison of database and cluster finds the same, tells nobody, and says what is waited for.
    const scene = new Comparisons(world.db, world.client);
    for (const dry of [true, false]) {
      const { findings } = await scene.compare(dry);
      const pods = findings.filter(({ kind }) => kind === 'Pod');
      expect(pods.map(({ action, verdict }) => `${verdict} ${action}`)).toEqual(Array(7).fill('missing held'));
      expect(pods[0]!.why).toContain('accept-vanished');
      expect(scene.posted.filter(({ event }) => event.type === 'pod.gone')).toEqual([]);
    }
    expect(await statesOf(world, ids)).toEqual({ running: 12 });
    expect(told).toHaveLength(1);

    expect((await acceptVanished(world.db, { by: 'ada', reason: 'the rack burnt down' })).sort()).toEqual([...gone].sort());
    for (const id of gone) await world.reaches(id, 'failed');
    expect(await statesOf(world, ids)).toEqual({ running: 5, failed: 7 });
    await world.until('nothing is held back any more', async () => tracker.brake === null);
    expect(told).toEqual([expect.any(String), null]);
    const sql = `select distinct event->>'proof' as proof from history where event->>'proof' like 'the API server no longer%'`;
    expect((await world.db.query(sql)).rows).toEqual([
      { proof: 'the API server no longer has it; by the word of ada: the rack burnt down' },
    ]);
  });

  it('also if they go few by few, within ten minutes', async () => {
    const { world, ids } = await unwatched();
    const uids = await uidsOf(world);
    const { tracker, changes } = watch(world, views(uids, ids));
    await world.until('it watches', async () => changes() !== null);
    const lose = async (id: string) => {
      await vanish(world, [id]);
      for (const pod of views(uids, [id])) changes().podDeleted(pod, false);
    };
    for (const id of ids.slice(0, 6)) {
      await lose(id);
      await world.reaches(id, 'failed');
    }
    expect(tracker.brake).toBeNull();
    await lose(ids[6]!);
    await world.until('the seventh is held back', async () => tracker.brake !== null);
    expect(await statesOf(world, ids)).toEqual({ running: 6, failed: 6 });
  });

  it('and holds nobody back any more when they are seen again', async () => {
    const { world, ids } = await unwatched();
    const uids = await uidsOf(world);
    const { tracker, changes } = watch(world, views(uids, ids.slice(7)));
    await world.until('they are held back', async () => tracker.brake !== null);
    for (const pod of views(uids, ids)) changes().podChanged(pod);
    await world.until('nothing is held back any more', async () => tracker.brake === null);
    await world.until('nothing waits for a word', async () => (await readVanished(world.db, 600)).length === 0);
    expect(await statesOf(world, ids)).toEqual({ running: 12 });
  });
});

describe('what is no reason for doubt', () => {
  it('deletions that the watch saw, however many', async () => {
    const { world, ids } = await unwatched();
    const uids = await uidsOf(world);
    const { tracker, told, changes } = watch(world, views(uids, ids));
    await world.until('it watches', async () => changes() !== null);
    await vanish(world, ids);
    for (const pod of views(uids, ids)) changes().podDeleted(pod, true);
    for (const id of ids) await world.reaches(id, 'failed');
    expect([told, tracker.brake]).toEqual([[], null]);
  });

  it('a node whose deletion the watch saw, with all that ran on it', async () => {
    const { world, ids } = await unwatched();
    const uids = await uidsOf(world);
    const sql = 'select reservation_id as id, node from gpu_slots where reservation_id is not null';
    const { rows } = await world.db.query<{ id: string; node: string }>(sql);
    const of = (node: string) => rows.filter((row) => row.node === node).map(({ id }) => id);
    const node = of('h100-1').length > of('h100-2').length ? 'h100-1' : 'h100-2';
    const on = of(node);
    expect(on.length).toBeGreaterThan(6);
    const pods = views(uids, ids).map((pod) => ({ ...pod, node: rows.find(({ id }) => id === pod.server!.reservationId)!.node }));
    const { told, changes } = watch(world, pods);
    await world.until('it watches', async () => changes() !== null);
    await vanish(world, on);
    changes().nodeDeleted({ name: node }, true);
    for (const pod of pods.filter((each) => each.node === node)) changes().podDeleted(pod, false);
    for (const id of on) await world.reaches(id, 'failed');
    expect(told).toEqual([]);
    expect(await statesOf(world, ids)).toEqual({ running: 12 - on.length, failed: on.length });
  });

  it('half of them, or all where fewer than ten run', async () => {
    const { world, ids } = await unwatched();
    const uids = await uidsOf(world);
    await vanish(world, ids.slice(0, 6));
    const first = watch(world, views(uids, ids.slice(6)));
    for (const id of ids.slice(0, 6)) await world.reaches(id, 'failed');
    expect(first.told).toEqual([]);
    await first.tracker.stop();
    await world.db.query(`update vanished_pods set told_at = told_at - interval '11 minutes'`);
    await vanish(world, ids.slice(6));
    const second = watch(world, []);
    for (const id of ids) await world.reaches(id, 'failed');
    expect(second.told).toEqual([]);
  });
});
