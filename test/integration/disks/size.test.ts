/** The size that a create names, of a disk that is there: it grows before its next use, it never shrinks, and what cannot be is told. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { CreateDoor } from '../../../actors/intake/create-door.ts';
import { PatchStrategy, setHeaderOptions } from '@kubernetes/client-node';
import { startWorld, type World } from '../../support/world.ts';
import { ask, close, diskOf } from './session.ts';

let world: World;
beforeAll(async () => {
  world = await startWorld({ fleet: { t4: 1 } });
});
afterAll(() => world?.stop());

const NAME = 'sized';
const row = async () => (await world.db.query('select size_gb, problem from disks where disk_name = $1', [NAME])).rows[0];
const inCluster = async () => {
  const claim = (await diskOf(world, NAME))!.volume_claim!;
  const found = await world.client.core.readNamespacedPersistentVolumeClaim({ namespace: 'gpu-dev', name: claim });
  return found.status?.capacity?.['storage'];
};

it('grows a disk that is there before its next use, by every door, never shrinks it, and tells what cannot be', async () => {
  const running = async (id: string) => world.reaches(id, 'running', 'failed', 'cancelled');
  const session = async (fields: Record<string, unknown>) => running(await ask(world, { disk_name: NAME, ...fields }));
  await close(world, await session({ disk_size_gb: 50 }));
  expect(await row()).toEqual({ size_gb: 50, problem: null });

  // By the queue. One that names no size, though a new disk would have 200 GB, asks for nothing.
  await close(world, await session({}));
  expect(await inCluster()).toBe('50Gi');
  await close(world, await session({ disk_size_gb: 80 }));
  expect([await row(), await inCluster()]).toEqual([{ size_gb: 80, problem: null }, '80Gi']);

  // By the door of those who wait; while the disk is in use, it is for the next.
  const door = new CreateDoor(world);
  const body = (disk_size_gb: number) => ({ user_id: 'ann', gpu_type: 't4', disk_name: NAME, disk_size_gb, duration_hours: 1 });
  const accept = (size: number) => door.accept(body(size), { door: 'http', key: null });
  const larger = await accept(90);
  const first = await running(larger.reservationId!);
  const [largest, smaller] = [await accept(100), await accept(60)];
  expect([larger.notice, largest.notice]).toEqual([undefined, undefined]);
  expect(smaller.notice).toMatch(
    /^The disk sized has \d+ GB and stays as it is, though disk_size_gb is 60: a disk never shrinks$/,
  );
  expect(await inCluster()).toBe('90Gi');
  await world.send({ action: 'cancel', reservation_id: first['reservation_id'], user_id: 'ann' });
  const second = await running(largest.reservationId!);
  expect([await row(), await inCluster()]).toEqual([{ size_gb: 100, problem: null }, '100Gi']);
  await world.send({ action: 'cancel', reservation_id: second['reservation_id'], user_id: 'ann' });
  await close(world, await running(smaller.reservationId!));
  expect([await row(), await inCluster()]).toEqual([{ size_gb: 100, problem: null }, '100Gi']);

  // A class of storage that does not let volumes grow.
  await world.client.storage.patchStorageClass(
    { name: 'standard', body: { allowVolumeExpansion: false } },
    setHeaderOptions('Content-Type', PatchStrategy.MergePatch),
  );
  const server = await session({ disk_size_gb: 300 });
  expect(server).toMatchObject({ status: 'running', failure_reason: null });
  expect(await inCluster()).toBe('100Gi');
  expect(await row()).toEqual({
    size_gb: 100,
    problem: expect.stringMatching(/stays at 100 GB: this cluster cannot grow it to 300 GB/),
  });
  await close(world, server);
  await close(world, await session({ disk_size_gb: 100 }));
  expect(await row()).toEqual({ size_gb: 100, problem: null });
  await world.checkClean();
});
