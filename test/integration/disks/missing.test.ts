import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Volumes } from '../../../actors/disk/ports.ts';
import { startWorld, type World } from '../../support/world.ts';
import { close, diskOf, loseVolume, open, operate } from './session.ts';

const namespace = 'gpu-dev';
let world: World;
/** Whether volumes are deleted when their snapshot is complete. */
let removes = false;

beforeAll(async () => {
  world = await startWorld({
    fleet: { t4: 1 },
    ports: (ports) => {
      const removing: Volumes = {
        ensure: (request) => ports.volumes.ensure(request),
        detach: (diskId) => ports.volumes.detach(diskId),
        snapshot: (diskId, snapshotId) => ports.volumes.snapshot(diskId, snapshotId),
        purge: (diskId, snapshotIds) => ports.volumes.purge(diskId, snapshotIds),
        discard: (diskId, afterSnapshot) => ports.volumes.discard(diskId, afterSnapshot),
        removeSnapshot: (diskId, snapshotId) => ports.volumes.removeSnapshot(diskId, snapshotId),
        remove: async (diskId, afterSnapshot) => {
          if (!removes) return ports.volumes.remove(diskId, afterSnapshot);
          await ports.volumes.purge(diskId, []);
          return 'removed';
        },
      };
      return { ...ports, volumes: removing };
    },
  });
});
afterAll(async () => {
  await world?.stop();
});

const claims = async () => {
  const { items } = await world.client.core.listNamespacedPersistentVolumeClaim({ namespace });
  return items.map((claim) => claim.metadata!.name!);
};

describe('a volume that is missing', () => {
  it('D2: and held data that no snapshot has, fails the next session, which is told so, and no empty one is made', async () => {
    const first = await open(world, 'only');
    await world.simulate('/faults', { kind: 'error', status: 422, reason: 'Invalid', path: 'volumesnapshots' });
    expect((await close(world, first))['failure_reason']).toMatch(/given up: .*nothing of it was deleted/);
    await world.clearFaults();
    const disk = await diskOf(world, 'only');
    expect(disk).toMatchObject({ latest_snapshot_id: null, snapshot_count: 0 });
    await loseVolume(world, disk!.volume_claim!);

    const next = await open(world, 'only');
    expect(next).toMatchObject({ status: 'failed' });
    expect(next['failure_reason']).toMatch(/disk only .*is missing \(it held data that no snapshot has\).*operator/);
    expect(await claims()).not.toContain(disk!.volume_claim);
    await world.until('the disk is free', async () => (await diskOf(world, 'only'))?.state === 'idle');
    expect((await diskOf(world, 'only'))?.problem).toMatch(/is missing/);
  });

  it('and was kept after its snapshot, is not replaced by that snapshot until its owner clones it', async () => {
    await close(world, await open(world, 'kept'));
    const disk = await diskOf(world, 'kept');
    expect(disk?.latest_snapshot_id).toMatch(/^snap-/);
    await loseVolume(world, disk!.volume_claim!);
    expect((await open(world, 'kept'))['failure_reason']).toMatch(/is missing \(it held the newest data\).*clone/);
    expect(await claims()).not.toContain(disk!.volume_claim);

    expect(await operate(world, { action: 'clone_disk', source_disk: 'kept', target_disk: 'again' })).toMatchObject({
      status: 'completed',
    });
    const session = await open(world, 'again');
    expect(session['status']).toBe('running');
    await close(world, session);
  });

  it('because it was deleted after its snapshot was complete, starts from that snapshot', async () => {
    removes = true;
    await close(world, await open(world, 'moves'));
    const disk = await diskOf(world, 'moves');
    expect(disk).toMatchObject({ volume_claim: null, problem: null });
    await world.until('the volume is gone', async () => !(await claims()).includes(`disk-${disk!.disk_id}`));
    const next = await open(world, 'moves');
    expect(next['status']).toBe('running');
    const claim = await world.client.core.readNamespacedPersistentVolumeClaim({ namespace, name: `disk-${disk!.disk_id}` });
    expect(claim.spec?.dataSource).toMatchObject({ kind: 'VolumeSnapshot', name: disk!.latest_snapshot_id });
    await close(world, next);
  });
});
