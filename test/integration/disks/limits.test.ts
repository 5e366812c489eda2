import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { NotYet } from '../../../actors/errors.ts';
import type { Volumes } from '../../../actors/disk/ports.ts';
import { startWorld, type World } from '../../support/world.ts';
import { close, diskOf, open, operate } from './session.ts';

let world: World;
let deletes = true;
beforeAll(async () => {
  world = await startWorld({
    fleet: { t4: 1 },
    // Ten minutes are five seconds, the least of a limit.
    timeScale: 240,
    ports: (ports) => {
      const hanging: Volumes = {
        ensure: (request) => ports.volumes.ensure(request),
        detach: (diskId) => ports.volumes.detach(diskId),
        snapshot: (diskId, snapshotId) => ports.volumes.snapshot(diskId, snapshotId),
        purge: (diskId, snapshotIds) => ports.volumes.purge(diskId, snapshotIds),
        discard: (diskId, afterSnapshot) => ports.volumes.discard(diskId, afterSnapshot),
        removeSnapshot: (diskId, snapshotId) => ports.volumes.removeSnapshot(diskId, snapshotId),
        remove: async (diskId, afterSnapshot) => {
          if (!deletes) throw new NotYet(100, 'The volume is being deleted');
          return ports.volumes.remove(diskId, afterSnapshot);
        },
      };
      return { ...ports, volumes: hanging };
    },
  });
});
afterAll(async () => {
  await world?.stop();
});

describe('a disk that waits for something that does not come', () => {
  it('and is to be a clone of a disk in use, is given up with its operation, and its name is free', async () => {
    const session = await open(world, 'busy');
    const answer = await operate(world, { action: 'clone_disk', source_disk: 'busy', target_disk: 'copy' });
    expect(answer).toMatchObject({ status: 'failed' });
    expect(answer.error).toMatch(/no snapshot for it within 30 minutes/);
    expect((await diskOf(world, 'copy'))?.state).toBe('purged');
    expect(await operate(world, { action: 'create_disk', disk_name: 'copy' })).toMatchObject({ status: 'completed' });
    await close(world, session);
  });

  it('and whose volume is not deleted after its snapshot, is free for the next with its problem told', async () => {
    deletes = false;
    await close(world, await open(world, 'stuck'));
    expect(await diskOf(world, 'stuck')).toMatchObject({
      state: 'idle',
      problem: 'Deleting the volume after its snapshot took longer than 10 minutes',
    });
    const next = await open(world, 'stuck');
    expect(next['status']).toBe('running');
    expect((await diskOf(world, 'stuck'))?.problem).toBe(null);
    deletes = true;
    await close(world, next);
  });
});
