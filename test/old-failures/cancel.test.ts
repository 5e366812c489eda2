import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { type Body, messageOf } from '../messages/support.ts';
import { startWorld, type World } from '../support/world.ts';

let world: World;
beforeAll(async () => {
  // Slow enough for each step to be met.
  world = await startWorld({
    fleet: { t4: 1, h100: 1, 'cpu-x86': 1 },
    delays: { pull: 400, ready: 400, job: 3_000, schedule: 150 },
  });
});
afterAll(async () => {
  await world?.stop();
});
afterEach(() => world.clearFaults());

const namespace = 'gpu-dev';

/** Everything on the cluster and in the tables that belongs to a reservation. */
async function remainsOf(id: string): Promise<string[]> {
  const { core, batch } = world.client;
  const lists = await Promise.all([
    core.listNamespacedPod({ namespace }),
    core.listNamespacedService({ namespace }),
    core.listNamespacedSecret({ namespace }),
    batch.listNamespacedJob({ namespace }),
  ]);
  const objects = lists.flatMap((list) => list.items.map((item) => `${item.metadata?.name}`)).filter((name) => name.includes(id));
  const { rows } = await world.db.query<{ what: string }>(
    `select 'slot' as what from gpu_slots where reservation_id = $1
     union all select 'request' from capacity_requests where reservation_id = $1
     union all select 'name' from domain_mappings where reservation_id = $1
     union all select 'disk' from disks where reservation_id = $1
     union all select 'effect ' || type from effects where actor = 'reservation/' || $1 and status = 'pending'
     union all select 'deadline' from deadlines where actor = 'reservation/' || $1`,
    [id],
  );
  return [...objects, ...rows.map((row) => row.what)];
}

interface Step {
  /** The substate in which the cancellation comes. */
  step: string;
  fields?: Record<string, unknown>;
  hold?: () => Promise<unknown>;
  /** Where the call goes that is on its way when the cancellation comes. */
  calls?: string;
}

const STEPS: Step[] = [
  { step: 'queued.disk', fields: { disk_name: 'shared' }, hold: () => holdDisk('shared') },
  { step: 'queued.capacity', fields: { gpu_type: 'a100' } },
  { step: 'provisioning.attaching', fields: { disk_name: 'mine' }, calls: 'persistentvolumeclaims' },
  { step: 'provisioning.creating', calls: '/pods$' },
  { step: 'provisioning.pulling', fields: { image: 'example/not-on-the-node:1' } },
  { step: 'provisioning.probing' },
  { step: 'provisioning.connecting', calls: '/services$' },
  { step: 'running.serving', fields: { disk_name: 'mine' } },
];

async function holdDisk(name: string): Promise<void> {
  const id = crypto.randomUUID() as string;
  await world.send({ action: 'create_reservation', reservation_id: id, user_id: 'ann', gpu_type: 't4', disk_name: name });
  await world.reaches(id, 'running');
}

describe('R4: a cancellation', () => {
  it.for(STEPS)(
    'R4: in $step leaves no pod, service, key, slot, name or disk, also when the creation was on its way',
    async ({ step, fields, hold, calls }) => {
      await hold?.();
      if (calls !== undefined) await world.simulate('/faults', { kind: 'hold', verb: 'POST', path: calls, count: 1 });
      const id = crypto.randomUUID() as string;
      await world.send({
        action: 'create_reservation',
        reservation_id: id,
        user_id: 'ann',
        gpu_type: 't4',
        disk_name: null,
        ...fields,
      });
      await world.until(`it is in ${step}`, async () => {
        const row = await world.reservation(id);
        return row !== null && `${row['status']}.${row['substate']}` === step ? row : null;
      });
      if (calls !== undefined) await world.until('the call is on its way', () => world.isHolding());
      await world.send({ action: 'cancel', reservation_id: id, user_id: 'ann' });
      if (calls !== undefined) {
        await world.until('it is heard', async () => (await world.reservation(id))?.['substate'] !== step.split('.')[1]);
        await world.clearFaults();
      }
      await world.reaches(id, 'cancelled');
      await world
        .until('nothing of it is left', async () => (await remainsOf(id)).length === 0)
        .catch(async (error: Error) => {
          throw new Error(`${error.message}: ${(await remainsOf(id)).join(', ')}`);
        });
      const { rows } = await world.db.query<Body>(
        `select to_state as s from history where actor = $1 order by seq desc limit 1`,
        [`reservation/${id}`],
      );
      expect(rows[0].s).toBe('cancelled');
    },
  );

  it('R4: of a building reservation stops its build', async () => {
    const id = crypto.randomUUID() as string;
    const { dockerfile } = messageOf('valid', 'create-dockerfile');
    await world.send({
      action: 'create_reservation',
      reservation_id: id,
      user_id: 'ann',
      gpu_type: 't4',
      disk_name: null,
      dockerfile,
    });
    await world.reaches(id, 'building');
    await world.until('the Job runs', async () => (await world.client.batch.listNamespacedJob({ namespace })).items.length === 1);
    await world.send({ action: 'cancel', reservation_id: id, user_id: 'ann' });
    await world.reaches(id, 'cancelled');
    await world.until(
      'the Job is gone',
      async () => (await world.client.batch.listNamespacedJob({ namespace })).items.length === 0,
    );
    expect(await remainsOf(id)).toEqual([]);
  });
});
