import { afterAll, beforeAll, expect, it } from 'vitest';
import { queueView } from '../../../actors/gpu-pool/line-view.ts';
import type { VolumePlace } from '../../../machines/disk.events.ts';
import { tellPlaces } from '../../../actors/reality/volume-places.ts';
import { LocalVolumes } from '../../../src/providers/local/volumes.ts';
import { startWorld, type World } from '../../support/world.ts';
import { close } from '../disks/session.ts';
import { cancel, nodeBecomes, running, submit } from './support.ts';

let world: World;
beforeAll(async () => {
  world = await startWorld({ fleet: { t4: 1, 't4-small': 2 } });
  // Volumes stay on the node of their first pod, as with local-path.
  const { storage } = world.client;
  await storage.deleteStorageClass({ name: 'standard' });
  await storage.createStorageClass({
    body: {
      metadata: { name: 'local', annotations: { 'storageclass.kubernetes.io/is-default-class': 'true' } },
      provisioner: 'simulated.csi.gpu-dev',
      volumeBindingMode: 'WaitForFirstConsumer',
      parameters: { topologyKey: 'kubernetes.io/hostname' },
    },
  });
});
afterAll(() => world?.stop());

/** One slot on a node of its own. */
const small = (fields: Record<string, unknown> = {}) => ({ gpu_type: 't4-small', ...fields });
const nodeOf = async (id: string): Promise<string> => (await world.reservation(id))!['node_name'];

async function waitsBecause(id: string, words: RegExp): Promise<void> {
  await world.until(`${id} waits because ${words}`, async () => {
    const { rows } = await world.db.query<{ because: string | null }>(
      'select waits_because as because from capacity_requests where reservation_id = $1',
      [id],
    );
    return words.test(rows[0]?.because ?? '');
  });
}

async function placeOf(name: string): Promise<VolumePlace | null> {
  const { rows } = await world.db.query<{ place: VolumePlace | null }>(
    'select volume_place as place from disks where disk_name = $1',
    [name],
  );
  return rows[0]!.place;
}

const at = (node: string): VolumePlace => ({ anyOf: [{ 'kubernetes.io/hostname': [node] }], movable: false });

it('a server with a disk is granted where its volume is, holds back nobody elsewhere, and says why it waits', async () => {
  const first = await running(world, small({ disk_name: 'data' }));
  const home = await nodeOf(first);
  expect(await placeOf('data')).toBeNull();
  await close(world, (await world.reservation(first))!);
  expect(await placeOf('data')).toEqual(at(home));

  const others = await Promise.all(['bob', 'carol'].map((user) => running(world, small({ user_id: user }))));
  const there = (await nodeOf(others[0]!)) === home ? others[0]! : others[1]!;
  const elsewhere = others.find((id) => id !== there)!;
  const bound = await submit(world, small({ disk_name: 'data' }));
  await waitsBecause(bound, new RegExp(`^Its disk is on node ${home}, where all are in use$`));
  const behind = await submit(world, small({ user_id: 'eve' }));
  await world.reaches(behind, 'queued');
  const view = await world.until('both are in line', async () => {
    const places = await queueView(world.db, 't4-small');
    return places.size === 2 ? places : null;
  });
  const endOf = async (id: string) => (await world.reservation(id))!['expires_at'].toISOString();
  expect(view.get(bound)!.estimatedStart).toBe(await endOf(there));
  expect(view.get(behind)!.estimatedStart).toBe(await endOf(elsewhere));

  await cancel(world, elsewhere);
  await world.reaches(behind, 'running');
  await waitsBecause(bound, /where all are in use/);
  // Nobody behind it takes its node before it.
  const late = await submit(world, small({ user_id: 'mallory' }));
  await cancel(world, there);
  await world.reaches(bound, 'running');
  expect(await nodeOf(bound)).toBe(home);
  await cancel(world, behind);
  await world.reaches(late, 'running');
  await cancel(world, late);
  await close(world, (await world.reservation(bound))!);
});

it('a place that was never recorded is found when the volume is asked for, and by the comparison with the cluster', async () => {
  const place = await placeOf('data');
  const home = place!.anyOf[0]!['kubernetes.io/hostname']![0]!;
  const forget = async () => {
    await world.db.query(
      `update actors set snapshot = jsonb_set(snapshot, '{context,place}', 'null') where actor in (select 'disk/' || disk_id from disks)`,
    );
    await world.db.query('update disks set volume_place = null');
  };
  await forget();
  const blocker = await running(world, small({ user_id: 'bob' }));
  expect(await nodeOf(blocker)).toBe(home);
  // It is granted the other node, where its pod would wait in vain.
  const bound = await submit(world, small({ disk_name: 'data' }));
  await waitsBecause(bound, new RegExp(`^Its disk is on node ${home}, where all are in use$`));
  expect((await world.reservation(bound))!['status']).toBe('queued');
  await cancel(world, blocker);
  await world.reaches(bound, 'running');
  expect(await nodeOf(bound)).toBe(home);
  await close(world, (await world.reservation(bound))!);

  await forget();
  const volumes = new LocalVolumes({ client: world.client });
  const told = await tellPlaces({
    db: world.db,
    placeOf: (diskId) => volumes.placeOf(diskId),
    post: async (messages) => {
      await world.kernel.post(messages);
      world.kernel.wake();
    },
    isOver: () => false,
    onError: (error) => world.errors.push(error),
  });
  expect(told).toHaveLength(1);
  await world.until('the place is known', async () => (await placeOf('data')) !== null);
  expect(await placeOf('data')).toEqual(place);
});

it('a disk whose node takes nobody or is gone is told so, in the queue and at the door, and others are served', async () => {
  const home = (await placeOf('data'))!.anyOf[0]!['kubernetes.io/hostname']![0]!;
  const cordon = (on: boolean) =>
    world.client.core.patchNode({ name: home, body: [{ op: 'add', path: '/spec/unschedulable', value: on }] });
  await cordon(true);
  await nodeBecomes(world, home, { schedulable: false });
  const bound = await submit(world, small({ disk_name: 'data' }));
  await waitsBecause(bound, /which takes no new servers now$/);
  const behind = await running(world, small({ user_id: 'eve' }));
  expect(await nodeOf(behind)).not.toBe(home);

  await world.client.core.deleteNode({ name: home });
  await nodeBecomes(world, home, null);
  await waitsBecause(bound, /and no node of this type is there\. Another disk, or none, can be named/);
  expect((await queueView(world.db, 't4-small')).get(bound)!.estimatedStart).toBeNull();

  const refused = await submit(world, small({ disk_name: 'data' }));
  const letter = await world.until('it is refused', async () => {
    const { rows } = await world.db.query<{ code: string; field: string; reason: string }>(
      `select code, field, reason from dead_letters where body->>'reservation_id' = $1`,
      [refused],
    );
    return rows[0] ?? null;
  });
  expect(letter).toMatchObject({ code: 'GPU_DISK_ELSEWHERE', field: 'disk_name' });
  expect(letter.reason).toContain(`is on node ${home}, and no node of type t4-small is there`);
  await cancel(world, bound);
  await cancel(world, behind);
  await world.checkClean();
});
