import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Volumes } from '../../../actors/disk/ports.ts';
import { startWorld, type World } from '../../support/world.ts';
import { ask, close, open } from './session.ts';

const namespace = 'gpu-dev';
/** What was done to servers and volumes, in its order; what was asked again and answered as before is there once. */
const deeds: string[] = [];
const note = (deed: string) => void (deeds.at(-1) === deed || deeds.push(deed));

let world: World;
beforeAll(async () => {
  world = await startWorld({
    fleet: { t4: 1 },
    ports: (ports) => {
      const { servers, volumes } = ports;
      const remove: typeof servers.remove = async (server, options) => {
        const found = await servers.remove(server, options);
        note(`server ${found}`);
        return found;
      };
      const watched: Volumes = {
        ensure: (request) => volumes.ensure(request),
        purge: (diskId, snapshotIds) => volumes.purge(diskId, snapshotIds),
        discard: (diskId, afterSnapshot) => volumes.discard(diskId, afterSnapshot),
        removeSnapshot: (diskId, snapshotId) => volumes.removeSnapshot(diskId, snapshotId),
        detach: async (diskId) => {
          const found = await volumes.detach(diskId);
          note(`volume ${found}`);
          return found;
        },
        snapshot: async (diskId, snapshotId) => {
          const progress = await volumes.snapshot(diskId, snapshotId);
          note(`snapshot ${progress.state}`);
          return progress;
        },
        remove: async (diskId, afterSnapshot) => {
          note('volume may go');
          return volumes.remove(diskId, afterSnapshot);
        },
      };
      const removing = new Proxy(servers, {
        get: (target, name) => {
          if (name === 'remove') return remove;
          const value: unknown = Reflect.get(target, name, target);
          return typeof value === 'function' ? value.bind(target) : value;
        },
      });
      return { ...ports, servers: removing, volumes: watched };
    },
  });
});
afterAll(async () => {
  await world?.stop();
});

it('D1 D10 D11: writers have stopped before the volume is let go, that is proven before the snapshot begins, and the volume may go only when it is complete', async () => {
  const session = await open(world, 'default');
  expect(session['status']).toBe('running');
  deeds.length = 0;
  const ended = await close(world, session);
  const stages = ['server gone', 'volume detached', 'snapshot complete', 'volume may go'];
  // What is asked once more, when an answer was slow, is answered as before: the first time of each counts.
  expect([...new Set(deeds.filter((deed) => stages.includes(deed)))]).toEqual(stages);
  expect(deeds.indexOf('snapshot pending')).toBeGreaterThan(deeds.indexOf('volume detached'));
  expect(ended['snapshot_id']).toMatch(/^snap-/);
});

it('D3 D4: a reservation that waited in the queue gets everything that it asked for', async () => {
  const holder = await ask(world, { user_id: 'bob', gpu_count: 4, no_persistent_disk: true });
  await world.reaches(holder, 'running');
  const id = await ask(world, {
    gpu_count: 2,
    disk_name: 'wanted',
    dockerimage: 'registry.local/ann/tool:1.2',
    jupyter_enabled: true,
    recreate_env: true,
    env_vars: { GREETING: 'hello there' },
  });
  await world.until('it waits in the line', async () => (await world.reservation(id))?.['substate'] === 'capacity');
  await world.send({ action: 'cancel', reservation_id: holder, user_id: 'bob' });
  const row = await world.reaches(id, 'running');
  expect(row).toMatchObject({ disk_name: 'wanted', jupyter_enabled: true });

  const pod = await world.client.core.readNamespacedPod({ namespace, name: row['pod_name'] });
  const [container] = pod.spec!.containers;
  expect(container).toMatchObject({ image: 'registry.local/ann/tool:1.2' });
  expect(container!.resources!.limits).toMatchObject({ 'nvidia.com/gpu': '2' });
  expect(container!.env).toContainEqual({ name: 'CREATE_SH_ENV', value: 'true' });
  const [home] = pod.spec!.volumes!.filter(({ name }) => name === 'home');
  expect(home!.persistentVolumeClaim!.claimName).toMatch(/^disk-/);
  const secret = await world.client.core.readNamespacedSecret({ namespace, name: `${row['pod_name']}-env` });
  expect(Buffer.from(secret.data!['GREETING']!, 'base64').toString()).toBe('hello there');
  await close(world, row);
});
