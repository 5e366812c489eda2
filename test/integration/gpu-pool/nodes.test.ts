import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { startWorld, type World } from '../../support/world.ts';
import { cancel, nodeBecomes, relabel, running, slotsOf, submit } from './support.ts';

let world: World;
beforeAll(async () => {
  world = await startWorld({ fleet: { h100: 1, a100: 1, t4: 2 }, delays: { nodeGrace: 100 }, tracker: { sweepMs: 100 } });
});
afterAll(async () => {
  await world?.stop();
});
afterEach(() => world.clearFaults());

/** Everything is listed anew: what an old list told counts for nothing. */
const relist = () => world.simulate('/faults', { kind: 'expire-watches' });

describe('a node on which somebody works', () => {
  it('keeps its row and its slots when it loses its label, takes no more work, and its server runs on through a relist', async () => {
    const id = await running(world, { gpu_type: 'h100', gpu_count: 4 });
    await relabel(world, 'h100-1', 'maintenance');
    const closed = { gpu_type: 'h100', schedulable: false, ready: true, reason: 'no longer labelled GpuType=h100' };
    await nodeBecomes(world, 'h100-1', closed);
    await relist();
    const next = await submit(world, { gpu_type: 'h100' });
    await world.until('the next one waits', async () => (await world.reservation(next))?.['substate'] === 'capacity');
    await nodeBecomes(world, 'h100-1', closed);
    expect(await slotsOf(world, id)).toBe(4);
    expect((await world.reservation(id))!['status']).toBe('running');
    await relabel(world, 'h100-1', 'h100');
    await world.reaches(next, 'running');
    await cancel(world, id);
    await cancel(world, next);
  });

  it('goes over to another type with its free slots, and the held ones stay until they are given back', async () => {
    const id = await running(world, { gpu_type: 'h100', gpu_count: 4 });
    const before = await running(world, { gpu_type: 'a100', gpu_count: 8 });
    const next = await submit(world, { gpu_type: 'a100', gpu_count: 4 });
    await relabel(world, 'h100-1', 'a100');
    expect((await world.reaches(next, 'running'))['node_name']).toBe('h100-1');
    expect(await slotsOf(world, id)).toBe(4);
    expect((await world.reservation(id))!['status']).toBe('running');
    for (const each of [id, next, before]) await cancel(world, each);
    await relabel(world, 'h100-1', 'h100');
    await nodeBecomes(world, 'h100-1', { gpu_type: 'h100', schedulable: true });
    const { rows } = await world.db.query(`select distinct gpu_type, reservation_id from gpu_slots where node = 'h100-1'`);
    expect(rows).toEqual([{ gpu_type: 'h100', reservation_id: null }]);
  });

  it('takes no more work when its type is no longer offered, and its server runs on, under a new tracker too', async () => {
    const id = await running(world, { gpu_type: 'a100', gpu_count: 8 });
    await world.db.query(`update gpu_types set is_active = false where gpu_type = 'a100'`);
    const closed = { schedulable: false, reason: 'type is not offered' };
    await nodeBecomes(world, 'a100-1', closed);
    const before = await world.db.query<{ token: number }>('select token from leases');
    await world.db.query(`update leases set holder = 'another', token = token + 1, until = now()`);
    await world.until('it tracks again', async () => {
      const { rows } = await world.db.query<{ token: number }>('select token from leases');
      return rows[0]!.token > before.rows[0]!.token + 1;
    });
    await relabel(world, 'h100-1', 'maintenance');
    await nodeBecomes(world, 'h100-1', { schedulable: false });
    await nodeBecomes(world, 'a100-1', closed);
    expect((await world.reservation(id))!['status']).toBe('running');
    await relabel(world, 'h100-1', 'h100');
    await world.db.query(`update gpu_types set is_active = true where gpu_type = 'a100'`);
    await nodeBecomes(world, 'a100-1', { schedulable: true, reason: null });
    await cancel(world, id);
  });
});

describe('a node that falls silent', () => {
  it('costs its server the life within its toleration, with the reason, and the slots come back when the node is deleted', async () => {
    const id = await running(world);
    const node = (await world.reservation(id))!['node_name'] as string;
    const lost = performance.now();
    await world.simulate(`/nodes/${node}/lose`);
    // Time runs 60 times faster here: of 300 seconds it would be five.
    await world.until('its user is told', async () => (await world.reservation(id))!['status'] === 'snapshotting', 4_000);
    expect(performance.now() - lost).toBeLessThan(4_000);
    expect(await slotsOf(world, id)).toBe(1);
    await world.client.core.deleteNode({ name: node });
    expect((await world.reaches(id, 'failed'))['failure_reason']).toMatch(/node of this server was lost/);
    expect(await slotsOf(world, id)).toBe(0);
    await nodeBecomes(world, node, null);
  });
});

describe('a node that is on record and on no list', () => {
  it('is forgotten when the API server answers 404 for it, and not while it gives no answer', async () => {
    await world.simulate('/faults', { kind: 'error', status: 503, verb: 'GET', path: '/nodes/t4-9', count: 3 });
    await world.db.query(
      `insert into nodes (node, uid, gpu_type, ready, schedulable, slots, cpu_millis, memory_bytes) values ('t4-9', 'u', 't4', true, true, 4, 1, 1)`,
    );
    const errors = world.errors.length;
    await relist();
    await nodeBecomes(world, 't4-9', null);
    const asked = world.errors.slice(errors).filter((error) => String(error).includes('reading node t4-9: 503'));
    expect(asked).toHaveLength(3);
  });
});

describe('afterwards', () => {
  it('nothing is left behind', () =>
    world.until('mail is read', () =>
      world.checkClean().then(
        () => true,
        () => false,
      ),
    ));
});
