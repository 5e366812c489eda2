/** Dev servers that run and that the database does not know: it was lost, or is a backup. What they take is taken. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Tracker } from '../../../actors/gpu-pool/tracker.ts';
import { acceptCluster } from '../../../persistence/cluster-identity.ts';
import { forgetOldNodes } from '../../../persistence/gpu-nodes.ts';
import { KubernetesEvents } from '../../../src/providers/kubernetes/cluster-events.ts';
import { LABEL, podName, SERVER_APP, serverLabels } from '../../../src/providers/kubernetes/objects.ts';
import { startWorld, type World } from '../../support/world.ts';
import { cancel, nodeBecomes, running, slotsOf, submit } from './support.ts';

let world: World;
const told: string[][] = [];
const settings = {
  sweepMs: 200,
  onStrangers: (pods: readonly { name: string }[]) => void told.push(pods.map(({ name }) => name)),
};
beforeAll(async () => {
  world = await startWorld({ fleet: { t4: 1, 'cpu-x86': 1 }, tracker: settings });
});
afterAll(async () => {
  await world?.stop();
});

const namespace = 'gpu-dev';
const nodeOf = async (type: string) =>
  (await world.db.query<{ node: string; slots: number }>('select node, slots from nodes where gpu_type = $1', [type])).rows[0]!;

/** A server that this database never knew. */
async function survivor(node: string, gpus: number): Promise<{ id: string; name: string }> {
  const id = crypto.randomUUID() as string;
  const server = { reservationId: id, generation: 1 };
  const name = podName(server);
  const labels = { ...serverLabels(server), [LABEL.app]: SERVER_APP };
  const requests = { cpu: '1', memory: '1Gi', ...(gpus === 0 ? {} : { 'nvidia.com/gpu': String(gpus) }) };
  const spec = { nodeName: node, containers: [{ name: 'gpu-dev', image: 'i', resources: { requests, limits: requests } }] };
  await world.client.core.createNamespacedPod({ namespace, body: { metadata: { name, labels }, spec } });
  return { id, name };
}

const gone = async (name: string) => world.client.core.deleteNamespacedPod({ name, namespace, gracePeriodSeconds: 0 });

it('a server that the database does not know takes its GPUs, until it is known or gone; what is left of its node is given', async () => {
  const { node, slots } = await nodeOf('t4');
  const { id, name } = await survivor(node, 2);
  await nodeBecomes(world, node, { foreign_slots: 2, schedulable: true });
  expect(told.flat()).toContain(name);
  const beside = await running(world, { gpu_count: 2 });
  const whole = await submit(world, { gpu_count: slots });
  await cancel(world, beside);
  // Adopted, by a rebuild say: the ledger holds its slots from then on.
  await world.db.query(
    `insert into actors (actor, kind, machine_version, status, state, snapshot) values ($1, 'reservation', 1, 'done', 'running', '{"context":{"generation":1}}')`,
    [`reservation/${id}`],
  );
  await nodeBecomes(world, node, { foreign_slots: 0 });
  await world.reaches(whole, 'provisioning', 'running');
  await cancel(world, whole);
  await gone(name);

  // Of a type without GPUs it takes the slot.
  const cpu = await nodeOf('cpu-x86');
  const other = await survivor(cpu.node, 0);
  await nodeBecomes(world, cpu.node, { foreign_slots: 1 });
  const waits = await submit(world, { gpu_type: 'cpu-x86', gpu_count: 0 });
  await gone(other.name);
  await world.reaches(waits, 'running');
  await cancel(world, waits);
});

it('a restored backup and an accepted cluster give nothing before the cluster was seen, and then not what survivors take', async () => {
  const { node, slots } = await nodeOf('t4');
  await world.tracker.stop();
  // Younger than the backup.
  const { name } = await survivor(node, slots);
  const old = { seconds: 60, reason: 'not seen since the service started' };
  expect(await forgetOldNodes(world.db, old)).toBe(false);
  await world.db.query(`update leases set until = now() - interval '61 s' where name = 'tracker'`);
  // Two replicas start.
  expect([await forgetOldNodes(world.db, old), await forgetOldNodes(world.db, old)]).toEqual([true, false]);
  const waits = await submit(world, { gpu_count: 1 });
  await world.until('it is in line', async () => {
    const { rows } = await world.db.query<{ waits_because: string | null }>(
      'select waits_because from capacity_requests where reservation_id = $1',
      [waits],
    );
    return rows[0] !== undefined;
  });
  await nodeBecomes(world, node, { schedulable: false, reason: old.reason });
  expect(await slotsOf(world, waits)).toBe(0);

  const tracker = new Tracker({
    db: world.db,
    kernel: world.kernel,
    connect: () => new KubernetesEvents({ client: world.client }),
    onServers: () => Promise.resolve(),
    confirmGone: () => Promise.resolve(false),
    confirmNodeGone: () => Promise.resolve(false),
    onError: (error) => void world.errors.push(error),
    ...settings,
  });
  tracker.start();
  try {
    await nodeBecomes(world, node, { schedulable: true, foreign_slots: slots });
    expect((await world.reservation(waits))!['status']).toBe('queued');
    expect(await slotsOf(world, waits)).toBe(0);
    const before = await world.db.query<{ token: number }>(`select token from leases where name = 'tracker'`);
    // Who tracks already begins anew with another cluster, and opens its nodes when it has seen them.
    await acceptCluster(world.db, 'ns-1', { by: 'ada', reason: 'it burnt down' });
    const after = await world.db.query<{ token: number }>(`select token from leases where name = 'tracker'`);
    expect(Number(after.rows[0]!.token)).toBeGreaterThan(Number(before.rows[0]!.token));
    await nodeBecomes(world, node, { schedulable: true, foreign_slots: slots });
    expect(await slotsOf(world, waits)).toBe(0);
    await gone(name);
    await world.reaches(waits, 'running');
    expect(told.flat().filter((each) => each === name).length).toBeGreaterThan(1);
  } finally {
    await tracker.stop();
  }
});

it('who runs on a node that nobody has looked at since the service started is extended; who runs on one that is closed is not', async () => {
  const { node } = await nodeOf('t4');
  const { rows } = await world.db.query<{ id: string }>(
    `select reservation_id as id from capacity_requests where node = $1 and status = 'granted'`,
    [node],
  );
  const { id } = rows[0]!;
  const answers = async () =>
    (
      await world.db.query<{ type: string; reason: string | null }>(
        `select event->>'type' as type, event->>'reason' as reason from history
          where actor = $1 and event->>'type' in ('extension.allowed', 'extension.refused') order by seq`,
        [`reservation/${id}`],
      )
    ).rows;
  const answer = async (which: number) => {
    await world.send({ action: 'extend', reservation_id: id, user_id: 'ann', extension_hours: 1 });
    return world.until('it is answered', async () => (await answers())[which] ?? null);
  };
  await world.db.query(`update leases set until = now() - interval '61 s' where name = 'tracker'`);
  expect(await forgetOldNodes(world.db, { seconds: 60, reason: 'not seen since the service started' })).toBe(true);
  expect(await answer(0)).toMatchObject({ type: 'extension.allowed' });
  // A tracker has looked, and the node is cordoned.
  await world.db.query(`update nodes set updated_at = now(), reason = 'cordoned' where node = $1`, [node]);
  expect(await answer(1)).toMatchObject({ type: 'extension.refused', reason: expect.stringContaining('cordoned') });
});
