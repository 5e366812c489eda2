import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { removeOrphans } from '../../../actors/gpu-pool/orphans.ts';
import { LABEL, podName, serverLabels } from '../../../src/providers/kubernetes/objects.ts';
import { KubernetesDevServers } from '../../../src/providers/kubernetes/dev-servers.ts';
import { startWorld, type World } from '../../support/world.ts';
import { cancel, podOf, running, submit } from './support.ts';

let world: World;
beforeAll(async () => {
  world = await startWorld({
    fleet: { t4: 1 },
    tracker: {
      sweepMs: 200,
      onServers: (pods) => {
        const servers = new KubernetesDevServers({ client: world.client });
        return removeOrphans(world.db, servers, pods, (error) => world.errors.push(error));
      },
    },
  });
});
afterAll(async () => {
  await world?.stop();
});
afterEach(() => world.clearFaults());

const namespace = 'gpu-dev';

async function plant(id: string, generation: number): Promise<string> {
  const server = { reservationId: id, generation };
  const name = podName(server);
  const labels = { ...serverLabels(server), [LABEL.app]: 'gpu-dev-pod' };
  const spec = { containers: [{ name: 'gpu-dev', image: 'i' }] };
  await world.client.core.createNamespacedPod({ namespace, body: { metadata: { name, labels }, spec } });
  return name;
}

async function ended(): Promise<string> {
  const id = await running(world);
  await cancel(world, id);
  return id;
}

const isLeft = async (names: string[]) => JSON.stringify((await world.pods()).sort()) === JSON.stringify([...names].sort());

describe('orphans', () => {
  it('are not those of a life that a restored backup does not know yet', async () => {
    const first = await running(world, { gpu_count: 4 });
    const waiting = await submit(world);
    await world.reaches(waiting, 'queued');
    const later = await plant(waiting, 1);
    const removed = await removeOrphans(
      world.db,
      { remove: () => Promise.reject(new Error('removed')) } as never,
      (await world.client.core.listNamespacedPod({ namespace })).items.map(
        ({ metadata }) =>
          ({
            name: metadata?.name,
            terminating: false,
            server: metadata?.name === later ? { reservationId: waiting, generation: 1 } : null,
          }) as never,
      ),
      (error) => expect.fail(String(error)),
    );
    expect(removed).toEqual([]);
    await world.client.core.deleteNamespacedPod({ namespace, name: later, gracePeriodSeconds: 0 });
    for (const id of [waiting, first]) await cancel(world, id);
    await world.until('all is gone', () => isLeft([]));
  });

  it('that could not be removed at first are removed when they are shown again', async () => {
    const id = await ended();
    await world.simulate('/faults', { kind: 'error', status: 500, verb: 'DELETE', path: '/pods/', count: 2 });
    await plant(id, 1);
    await world.until('it is gone', () => isLeft([]));
    expect(world.errors.filter((error) => String(error).includes('deleting pod'))).toHaveLength(2);
  });

  it('are removed although one among them cannot be', async () => {
    const id = await ended();
    const stuck = podName({ reservationId: id, generation: 1 });
    await world.simulate('/faults', { kind: 'error', status: 500, verb: 'DELETE', path: `${stuck}$` });
    await Promise.all(Array.from({ length: 12 }, (_, n) => plant(id, n + 1)));
    await world.until('the others are gone', () => isLeft([stuck]));
    await world.clearFaults();
    await world.until('that one is gone too', () => isLeft([]));
  });

  it('are removed a few at a time, and one question to the database serves them all', async () => {
    const id = await ended();
    let atOnce = 0;
    let most = 0;
    const remove = async () => {
      most = Math.max(most, ++atOnce);
      await new Promise((resolve) => setImmediate(resolve));
      atOnce--;
      return 'gone' as const;
    };
    let queries = 0;
    const db = Object.assign(Object.create(world.db), {
      query: (text: string, values: unknown[]) => {
        queries++;
        return world.db.query(text, values);
      },
    });
    const pods = Array.from({ length: 50 }, (_, n) => podOf(id, { name: `pod-${n}` }));
    const removed = await removeOrphans(db, { remove } as never, pods, () => {});
    expect([removed.length, most, queries]).toEqual([50, 4, 1]);
  });
});
