import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { LABEL, podName, serverLabels } from '../../src/providers/kubernetes/objects.ts';
import type { Body } from '../messages/support.ts';
import { startWorld, type World } from '../support/world.ts';

let world: World;
beforeAll(async () => {
  world = await startWorld({ fleet: { h100: 2, t4: 1 }, delays: { nodeGrace: 100 } });
});
afterAll(async () => {
  await world?.stop();
});
afterEach(async () => {
  await world.clearFaults();
});

const namespace = 'gpu-dev';

async function submit(fields: Record<string, unknown> = {}): Promise<string> {
  const id = crypto.randomUUID() as string;
  await world.send({
    action: 'create_reservation',
    user_id: 'ann',
    gpu_type: 'h100',
    disk_name: null,
    reservation_id: id,
    ...fields,
  });
  return id;
}

async function running(fields: Record<string, unknown> = {}): Promise<string> {
  const id = await submit(fields);
  await world.reaches(id, 'running');
  return id;
}

async function cancel(id: string): Promise<void> {
  await world.send({ action: 'cancel', reservation_id: id });
  await world.reaches(id, 'cancelled');
}

/** Wait until the availability of a type is exactly this. */
async function shows(expected: Body, type = 'h100'): Promise<void> {
  let last: Body;
  await world
    .until('the numbers are right', async () => {
      const { rows } = await world.db.query<Body>(
        'select total, free, in_use, queued, whole_nodes_free as whole, largest_fit as largest from gpu_availability where gpu_type = $1',
        [type],
      );
      last = rows[0];
      return JSON.stringify(last) === JSON.stringify(expected);
    })
    .catch(() => expect(last).toEqual(expected));
}

describe('availability', () => {
  const empty = { total: 16, free: 16, in_use: 0, queued: 0, whole: 2, largest: 8 };

  it('follows grants and returns, on the same turn', async () => {
    await shows(empty);
    const small = await running({ gpu_count: 2 });
    await shows({ total: 16, free: 14, in_use: 2, queued: 0, whole: 1, largest: 8 });
    const whole = await running({ gpu_count: 8 });
    await shows({ total: 16, free: 6, in_use: 10, queued: 0, whole: 0, largest: 6 });
    const waits = await submit({ gpu_count: 8 });
    await shows({ total: 16, free: 6, in_use: 10, queued: 1, whole: 0, largest: 6 });
    await cancel(waits);
    await shows({ total: 16, free: 6, in_use: 10, queued: 0, whole: 0, largest: 6 });
    await cancel(small);
    await cancel(whole);
    await shows(empty);
  });

  it('takes a cordoned node out of what is free, and gives its place back', async () => {
    await world.simulate('/nodes/h100-2/cordon');
    await shows({ total: 16, free: 8, in_use: 0, queued: 0, whole: 1, largest: 8 });
    const ids = [await running({ gpu_count: 8 }), await submit({ gpu_count: 8 })];
    await shows({ total: 16, free: 0, in_use: 8, queued: 1, whole: 0, largest: 0 });
    await world.simulate('/nodes/h100-2/uncordon');
    await world.reaches(ids[1]!, 'running');
    await shows({ total: 16, free: 0, in_use: 16, queued: 0, whole: 0, largest: 0 });
    for (const id of ids) await cancel(id);
    await shows(empty);
  });

  it('leaves a node that is not ready out of the total, and counts it again when it is back', async () => {
    await world.simulate('/nodes/h100-1/lose');
    await shows({ total: 8, free: 8, in_use: 0, queued: 0, whole: 1, largest: 8 });
    await world.simulate('/nodes/h100-1/recover');
    await shows(empty);
  });

  it('forgets a node whose object is deleted, and takes what foreign pods use out of what is free', async () => {
    const { core } = world.client;
    await core.createNamespacedPod({
      namespace: 'default',
      body: {
        metadata: { name: 'foreign' },
        spec: {
          nodeName: 'h100-1',
          containers: [
            { name: 'c', image: 'i', resources: { limits: { 'nvidia.com/gpu': '3' }, requests: { 'nvidia.com/gpu': '3' } } },
          ],
          tolerations: [{ operator: 'Exists' }],
        },
      },
    });
    await shows({ total: 16, free: 13, in_use: 0, queued: 0, whole: 1, largest: 8 });
    await core.deleteNamespacedPod({ namespace: 'default', name: 'foreign', gracePeriodSeconds: 0 });
    await shows(empty);
    await core.deleteNode({ name: 'h100-2' });
    await shows({ total: 8, free: 8, in_use: 0, queued: 0, whole: 1, largest: 8 });
    expect((await world.db.query(`select 1 from gpu_slots where node = 'h100-2'`)).rowCount).toBe(0);
  });
});

describe('a pod that bears the labels of a reservation', () => {
  async function plant(id: string, generation: number): Promise<string> {
    const server = { reservationId: id, generation };
    const name = podName(server);
    await world.client.core.createNamespacedPod({
      namespace,
      body: {
        metadata: { name, labels: { ...serverLabels(server), [LABEL.app]: 'gpu-dev-pod' } },
        spec: { containers: [{ name: 'gpu-dev', image: 'i' }] },
      },
    });
    return name;
  }
  const gone = (name: string) => world.until(`${name} is gone`, async () => !(await world.pods()).includes(name));

  it('that has ended is removed', async () => {
    const id = await running({ gpu_type: 't4' });
    await cancel(id);
    await gone(await plant(id, 1));
  });

  it('that is being torn down is removed, when it was created after its own was gone', async () => {
    const id = await running({ gpu_type: 't4', disk_name: 'work' });
    await world.simulate('/faults', { kind: 'error', status: 500, path: '/volumesnapshots' });
    await world.send({ action: 'cancel', reservation_id: id });
    await world.until('its disk is being saved', async () => (await world.reservation(id))?.['substate'] === 'capturing');
    await gone(await plant(id, 1));
    expect((await world.reservation(id))!['substate']).toBe('capturing');
    await world.clearFaults();
    await world.reaches(id, 'cancelled');
  });

  it('that lives on in another pod is removed if it is of an earlier life, and its own pod is not', async () => {
    const id = await running({ gpu_type: 't4' });
    const old = await plant(id, 0);
    await gone(old);
    expect(await world.pods()).toEqual([podName({ reservationId: id, generation: 1 })]);
    await cancel(id);
  });

  it('that we do not know is left alone', async () => {
    const stranger = await plant(crypto.randomUUID(), 1);
    const id = await running({ gpu_type: 't4' });
    await cancel(id);
    expect(await world.pods()).toEqual([stranger]);
  });
});
