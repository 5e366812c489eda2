import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type AdminScene, adminScene } from './admin-scene.ts';
import { type HttpWorld, type Json, startHttp } from './support.ts';

let http: HttpWorld;
let admin: AdminScene;
beforeAll(async () => {
  http = await startHttp({ fleet: { t4: 2, a100: 1 } });
  admin = adminScene(http);
});
afterAll(async () => {
  await http?.stop();
});

const gpus = async (type: string): Promise<Json> =>
  (await http.get('/v1/gpus', 'ann')).body.gpus.find((each: Json) => each.gpu_type === type);
const view = async (id: string, user = 'ann'): Promise<Json> => (await http.get(`/v1/reservations/${id}`, user)).body;
const cancel = async (id: string, user = 'ann') => {
  await http.post(`/v1/reservations/${id}/events`, { type: 'cancel' }, { user });
  await http.world.reaches(id, 'cancelled', 'failed');
};

describe('maintenance of a GPU type', () => {
  it('refuses new requests at once with the reason, at every door, but for the users whom it does not concern', async () => {
    const wish = { gpu_type: 't4', gpu_count: 1, duration_hours: 2, disk_name: null };
    const running = (await http.post('/v1/reservations', wish, { user: 'ann', key: 'before' })).body.id;
    await http.world.reaches(running, 'running');
    const until = new Date(Date.now() + 3_600_000).toISOString();
    const set = await admin.put('/maintenance/T4', { reason: 'new drivers', until, allowed_users: ['ops-1'] });
    expect(set).toMatchObject({
      status: 200,
      body: { gpu_type: 't4', in_force: true, reason: 'new drivers', until, waiting: 0 },
    });
    expect(await gpus('t4')).toMatchObject({ maintenance: { reason: 'new drivers', until, in_force: true } });
    expect((await http.get('/metrics', null)).body).toContain('gpu_dev_maintenance_in_force 1');
    expect((await gpus('a100')).maintenance).toBeNull();

    expect(await admin.reserve('ann')).toMatchObject({
      status: 409,
      body: { code: 'GPU_TYPE_MAINTENANCE', field: 'gpu_type', details: { reason: 'new drivers', until } },
    });
    // What was accepted before is answered as before.
    expect(await http.post('/v1/reservations', wish, { user: 'ann', key: 'before' })).toMatchObject({
      status: 200,
      body: { id: running },
    });
    await http.world.send({ action: 'create_reservation', user_id: 'ann', gpu_type: 't4', gpu_count: 1, disk_name: null });
    const letter = await http.world.until('the queue refuses it too', async () => {
      const { body } = await admin.get('/dead-letters?code=GPU_TYPE_MAINTENANCE');
      return body.dead_letters[0] ?? null;
    });
    expect(letter.reason).toContain('new drivers');

    const allowed = (await admin.reserve('ops-1')).body.id;
    await http.world.reaches(allowed, 'running');
    // What runs goes on, and is not extended.
    expect((await view(running)).state).toBe('running');
    const extended = await http.post(
      `/v1/reservations/${running}/events`,
      { type: 'extend', extension_hours: 1 },
      { user: 'ann' },
    );
    expect(extended).toMatchObject({ status: 409, body: { code: 'GPU_EXTENSION_REFUSED' } });
    expect(extended.body.detail).toContain('new drivers');
    const other = { type: 'extend', extension_hours: 1 };
    expect((await http.post(`/v1/reservations/${allowed}/events`, other, { user: 'ops-1' })).status).toBe(200);

    expect(await admin.remove('/maintenance/t4')).toMatchObject({ status: 200, body: { maintenance: null } });
    expect((await gpus('t4')).maintenance).toBeNull();
    // Its message goes on its way again as it was sent.
    const again = await admin.post(`/dead-letters/${letter.id}/replay`, {});
    expect(again).toMatchObject({ status: 200, body: { resolved: 'replayed', resolved_by: 'operator' } });
    const late = await http.world.until('the message of the queue is accepted', async () => {
      const { body } = await http.get('/v1/reservations?status=live', 'ann');
      return body.reservations.find((each: Json) => each.id !== running)?.id ?? null;
    });
    await cancel(late);
    await cancel(running);
    await cancel(allowed, 'ops-1');
    const acts = (await admin.audited('gpu-type/t4')).map(({ actor, action }) => `${actor} ${action}`);
    expect(acts).toEqual(['operator maintenance.end', 'operator maintenance.set']);
  });

  it('tells those who wait, keeps their place, and grants nothing to them until it ends', async () => {
    const first = (await admin.reserve('ann', { gpu_type: 'a100', gpu_count: 8 })).body.id;
    await http.world.reaches(first, 'running');
    const waits = (await admin.reserve('bob', { gpu_type: 'a100', gpu_count: 8 })).body.id;
    const ours = (await admin.reserve('ops-1', { gpu_type: 'a100', gpu_count: 8 })).body.id;
    await admin.put('/maintenance/a100', { reason: 'new racks', allowed_users: ['ops-1'] });
    await http.world.until('it is told', async () => (await view(waits, 'bob')).waits_because?.includes('new racks') ?? false);
    expect(await view(waits, 'bob')).toMatchObject({ position: 1, estimated_start: null });
    expect((await admin.get('/maintenance')).body.maintenance).toMatchObject([{ gpu_type: 'a100', waiting: 1 }]);
    await cancel(first);
    // Whoever is not concerned is served, although somebody stands before.
    await http.world.reaches(ours, 'running');
    expect((await view(waits, 'bob')).state).toBe('queued');
    await cancel(ours, 'ops-1');
    await http.world.until('the slots are free', async () => (await gpus('a100')).free === 8);
    expect((await view(waits, 'bob')).state).toBe('queued');
    await admin.remove('/maintenance/a100');
    await http.world.reaches(waits, 'running');
    expect((await view(waits, 'bob')).waits_because).toBeNull();
    await cancel(waits, 'bob');
  });

  it('begins and ends at its times, and nothing is refused before', async () => {
    const from = new Date(Date.now() + 1_500).toISOString();
    const until = new Date(Date.now() + 3_500).toISOString();
    expect(await admin.put('/maintenance/a100', { reason: 'a short look', from, until })).toMatchObject({
      status: 200,
      body: { in_force: false, from, until },
    });
    expect(await gpus('a100')).toMatchObject({ maintenance: { in_force: false }, paused_because: null });
    const early = await admin.reserve('ann', { gpu_type: 'a100' });
    expect(early.status).toBe(202);
    await http.world.until('it is in force', async () => (await gpus('a100')).paused_because === 'a short look');
    await http.world.until('it is over', async () => (await gpus('a100')).maintenance === null);
    expect((await admin.reserve('ann', { gpu_type: 'a100' })).status).toBe(202);
  });

  it('is refused where it makes no sense', async () => {
    const past = new Date(Date.now() - 1_000).toISOString();
    expect(await admin.put('/maintenance/t4', { reason: 'too late', until: past })).toMatchObject({
      status: 400,
      body: { field: 'until' },
    });
    const early = { reason: 'since ever', from: '0000-01-01T00:00:00Z' };
    expect(await admin.put('/maintenance/cpu-x86', early)).toMatchObject({ status: 200, body: { in_force: true } });
    await admin.remove('/maintenance/cpu-x86');
    expect((await admin.put('/maintenance/t99', { reason: 'nothing there' })).body.code).toBe('GPU_TYPE_UNKNOWN');
    expect((await admin.put('/maintenance/t4', { reason: '' })).body.field).toBe('reason');
    const headers = await http.as('eve');
    const answer = await http.app.inject({ method: 'DELETE', url: '/v1/admin/maintenance/t4', headers });
    expect(answer.statusCode).toBe(403);
  });
});

describe('draining a node', () => {
  it('gives nothing new there, says who is still on it, refuses their extensions, and can be taken back', async () => {
    const on = (await admin.reserve('ann')).body.id;
    const { node_name: node } = await http.world.reaches(on, 'running');
    const drained = await admin.put(`/nodes/${node}/drain`, { reason: 'a fan is loud' });
    expect(drained).toMatchObject({
      status: 200,
      body: {
        node,
        schedulable: false,
        drained: { reason: 'a fan is loud', by: 'operator' },
        reservations: [{ id: on, user_id: 'ann', state: 'running', slots: 1 }],
      },
    });
    expect((await gpus('t4')).drained_nodes).toMatchObject([{ node, reason: 'a fan is loud' }]);
    const extended = await http.post(`/v1/reservations/${on}/events`, { type: 'extend', extension_hours: 1 }, { user: 'ann' });
    expect(extended.body.detail).toContain('a fan is loud');
    // As many as the other node has, and one more, which waits.
    const { max_per_node } = await gpus('t4');
    const others = [];
    for (let count = 0; count < max_per_node; count++) others.push((await admin.reserve('bob')).body.id);
    for (const id of others) expect((await http.world.reaches(id, 'running'))['node_name']).not.toBe(node);
    const last = (await admin.reserve('bob')).body.id;
    expect((await view(last, 'bob')).state).toBe('queued');
    await cancel(on);
    expect((await view(last, 'bob')).state).toBe('queued');
    expect((await admin.get('/nodes?gpu_type=t4&limit=1')).body.next_cursor).not.toBeNull();
    expect(await admin.remove(`/nodes/${node}/drain`)).toMatchObject({
      status: 200,
      body: { node, drained: null, schedulable: true },
    });
    expect((await http.world.reaches(last, 'running'))['node_name']).toBe(node);
    for (const id of [...others, last]) await cancel(id, 'bob');
    expect((await admin.put('/nodes/nowhere/drain', { reason: 'no such node' })).body.code).toBe('GPU_NODE_UNKNOWN');
    expect((await admin.audited(`node/${node}`)).map(({ action }) => action)).toEqual(['node.drain', 'node.undrain']);
  });
});
