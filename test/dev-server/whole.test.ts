import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runInside } from '../../src/providers/kubernetes/exec.ts';
import { sshServiceName } from '../../src/providers/kubernetes/objects.ts';
import { startWorld, type World } from '../support/world.ts';

/** Sixty times faster: a ready probe has five seconds, an image thirty. */
const FAST = 60;

describe('a dev server in the whole system', () => {
  let world: World;
  beforeAll(async () => {
    world = await startWorld({ fleet: { t4: 2 }, timeScale: FAST, delays: { pull: 7_000 } });
  });
  afterAll(() => world?.stop());

  async function submit(fields: object = {}): Promise<string> {
    const reservation_id = randomUUID();
    const request = { gpu_type: 't4', user_id: 'ada', duration_hours: 20, disk_name: null, ...fields };
    await world.send({ action: 'create_reservation', reservation_id, ...request });
    return reservation_id;
  }
  const eventsOf = async (id: string) => {
    const { rows } = await world.db.query<{ type: string }>(
      `select event ->> 'type' as type from history where actor = $1 order by seq`,
      [`reservation/${id}`],
    );
    return rows.map(({ type }) => type);
  };

  const modes = [
    {},
    { image: 'mine:1' },
    { image: 'mine:1', preserve_entrypoint: true },
    { image: 'mine:1', preserve_entrypoint: true, command: 'serve' },
  ];
  let ids: string[] = [];
  const plain = async () => (await world.reservation(ids[0]!))!;

  it('S37: becomes usable in every mode of an image', async () => {
    const started = Date.now();
    ids = await Promise.all(modes.map(submit));
    for (const id of ids) await world.reaches(id, 'running');
    expect(Date.now() - started).toBeGreaterThan(7_000);
  });

  it('B2: has its image waited for longer than it may take to answer itself', async () => {
    for (const id of ids) expect(await eventsOf(id)).not.toContain('deadline.readyProbe');
    for (const id of ids.slice(1)) await world.send({ action: 'cancel', reservation_id: id, user_id: 'ada' });
  });

  it('N16: is found by one store, and that is what stands on the cluster', async () => {
    const id = ids[0]!;
    const { rows } = await world.db.query<{ port: number }>(
      'select node_port as port from domain_mappings where reservation_id = $1',
      [id],
    );
    const name = sshServiceName({ reservationId: id, generation: 1 });
    const service = await world.client.core.readNamespacedService({ namespace: 'gpu-dev', name });
    const port = service.spec?.ports?.[0]?.nodePort;
    expect([(await plain())['node_port'], rows[0]?.port]).toEqual([port, port]);
  });

  it('that ran out of memory comes back, is counted, and says so inside', async () => {
    const { pod_name: pod } = await plain();
    await world.simulate(`/pods/gpu-dev/${pod}/oom`);
    await world.until('it is counted', async () => (await plain())['oom_count'] === 1);
    const told = await world.until('it is told inside', async () => {
      const { stdout } = await runInside(world.client, pod, ['cat', '/home/dev/OOM_DETECTED.txt']);
      return stdout === '' ? null : stdout;
    });
    expect(told).toMatch(/memory/);
    expect((await plain())['status']).toBe('running');
  });

  it('that is evicted ends, and its user reads why', async () => {
    await world.simulate(`/pods/gpu-dev/${(await plain())['pod_name']}/evict`);
    const ended = await world.reaches(ids[0]!, 'failed');
    expect(ended['failure_reason']).toMatch(/evicted/);
    for (const id of ids) await world.reaches(id, 'failed', 'cancelled');
    const clean = () =>
      world.checkClean().then(
        () => true,
        () => false,
      );
    await world.until('nothing is left', clean);
  });
});
