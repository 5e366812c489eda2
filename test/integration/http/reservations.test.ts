import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type HttpWorld, startHttp } from './support.ts';

let http: HttpWorld;
beforeAll(async () => {
  http = await startHttp({ fleet: { t4: 1, a100: 1, h100: 1, 'cpu-x86': 1 } });
});
afterAll(async () => {
  await http?.stop();
});

const reserve = (user: string, more: Record<string, unknown> = {}) =>
  http.post('/v1/reservations', { gpu_type: 't4', gpu_count: 1, duration_hours: 4, no_persistent_disk: true, ...more }, { user });

describe('POST /v1/reservations', () => {
  it('answers 202 with the reservation that exists by then, and it reaches running', async () => {
    const made = await reserve('ada', { disk_name: 'data', no_persistent_disk: false, name: 'My Server' });
    expect(made.status).toBe(202);
    expect(made.headers.location).toBe(`/v1/reservations/${made.body.id}`);
    expect(made.body).toMatchObject({ user_id: 'ada', gpu_type: 't4', gpu_count: 1, duration_hours: 4, name: 'my-server' });
    expect(made.body.disk).toMatchObject({ name: 'data', snapshot_id: null });
    expect(made.body.accepts).toContain('cancel');
    await http.world.reaches(made.body.id, 'running');
    const { body } = await http.get(`/v1/reservations/${made.body.id}`);
    expect(body).toMatchObject({ state: 'running', substate: 'serving', node: 't4-1', position: null });
    expect(body.ssh_command).toMatch(/^ssh /);
    expect(body.accepts).toEqual(['cancel', 'extend', 'add_user', 'enable_jupyter']);
    expect(Date.parse(body.expires_at) - Date.parse(body.launched_at)).toBe(4 * 3_600_000);
  });

  it('answers a repeated key with the same reservation, and another user with another', async () => {
    const body = { gpu_type: 'cpu-x86', duration_hours: 1, no_persistent_disk: true };
    const first = await http.post('/v1/reservations', body, { user: 'bob', key: 'k-1' });
    const again = await http.post('/v1/reservations', body, { user: 'bob', key: 'k-1' });
    const inBody = await http.post('/v1/reservations', { ...body, idempotency_key: 'k-1' }, { user: 'bob' });
    const other = await http.post('/v1/reservations', body, { user: 'eve', key: 'k-1' });
    expect([first.status, again.status, inBody.status, other.status]).toEqual([202, 200, 200, 202]);
    expect([again.body.id, inBody.body.id]).toEqual([first.body.id, first.body.id]);
    expect(other.body.id).not.toBe(first.body.id);
  });

  it('twenty at once with one key make one reservation', async () => {
    const body = { gpu_type: 'cpu-x86', duration_hours: 1 };
    const all = await Promise.all(
      Array.from({ length: 20 }, () => http.post('/v1/reservations', body, { user: 'bob', key: 'k-2' })),
    );
    expect(new Set(all.map((answer) => answer.body.id)).size).toBe(1);
    expect(all.every((answer) => [200, 202].includes(answer.status))).toBe(true);
  });

  it('tells those who wait their place and the expected start', async () => {
    const first = await reserve('carl', { gpu_type: 'h100', gpu_count: 8 });
    await http.world.reaches(first.body.id, 'running');
    const second = await reserve('carl', { gpu_type: 'h100', gpu_count: 8 });
    const third = await reserve('dora', { gpu_type: 'h100', gpu_count: 8 });
    // On a busy machine the answer may come before the place does; then the next look has it.
    const placed = (id: string) =>
      http.world.until('it has its place', async () => {
        const { body } = await http.get(`/v1/reservations/${id}`);
        return body.estimated_start === null ? null : body;
      });
    const next = await placed(second.body.id);
    expect(next).toMatchObject({ state: 'queued', substate: 'capacity', position: 1 });
    expect(await placed(third.body.id)).toMatchObject({ position: 2 });
    const { body } = await http.get(`/v1/reservations/${first.body.id}`);
    expect(Math.abs(Date.parse(next.estimated_start) - Date.parse(body.expires_at))).toBeLessThan(5 * 60_000);
    const gpus = (await http.get('/v1/gpus')).body.gpus.find((gpu: { gpu_type: string }) => gpu.gpu_type === 'h100');
    expect(gpus).toMatchObject({ total: 8, free: 0, in_use: 8, queued: 2, largest_fit: 0, gpu_counts: [1, 2, 4, 8] });
    for (const id of [second.body.id, third.body.id, first.body.id])
      await http.post(`/v1/reservations/${id}/events`, { type: 'cancel' }, { user: id === third.body.id ? 'dora' : 'carl' });
    await http.world.reaches(first.body.id, 'cancelled');
  });

  it.each([
    [401, 'GPU_KEY_MISSING', {}, null, null],
    [400, 'GPU_FIELD_INVALID', { user_id: 'a b; drop' }, 'ada', 'user_id'],
    [403, 'GPU_USER_MISMATCH', { user_id: 'eve' }, 'ada', 'user_id'],
    [400, 'GPU_FIELD_INVALID', { gpu_count: 'two' }, 'ada', 'gpu_count'],
    [400, 'GPU_FIELD_INVALID', { name: 'a\u0000b' }, 'ada', 'name'],
    [422, 'GPU_TYPE_UNKNOWN', { gpu_type: 'gtx' }, 'ada', 'gpu_type'],
    [422, 'GPU_COUNT_INVALID', { gpu_type: 'h100', gpu_count: 3 }, 'ada', 'gpu_count'],
    [422, 'GPU_DURATION_INVALID', { duration_hours: 100 }, 'ada', 'duration_hours'],
    [400, 'GPU_ACTION_UNKNOWN', { action: 'cancel' }, 'ada', 'action'],
  ])('%i %s for %j', async (status, code, body, user, field) => {
    const { rows: before } = await http.world.db.query('select count(*) from secrets');
    const answer = await http.post('/v1/reservations', body, { user });
    expect(answer.status).toBe(status);
    expect(answer.headers['content-type']).toMatch('application/problem+json');
    expect(answer.body).toMatchObject({ status, code, field, instance: '/v1/reservations', type: `urn:gpu-dev:problem:${code}` });
    expect(answer.body.request_id).toBe(answer.headers['x-request-id']);
    expect((await http.world.db.query('select count(*) from secrets')).rows).toEqual(before);
  });

  it('refuses what is not a JSON object, in the same shape', async () => {
    const text = await http.post('/v1/reservations', 'hello', { user: 'ada', headers: { 'content-type': 'text/plain' } });
    expect([text.status, text.body.code]).toEqual([415, 'GPU_MEDIA_TYPE_UNSUPPORTED']);
    const broken = await http.post('/v1/reservations', '{"a":', { user: 'ada', headers: { 'content-type': 'application/json' } });
    expect([broken.status, broken.body.code]).toEqual([400, 'GPU_BODY_INVALID']);
    const poisoned = await http.post('/v1/reservations', '{"__proto__":{"x":1}}', {
      user: 'ada',
      headers: { 'content-type': 'application/json' },
    });
    expect([poisoned.status, poisoned.body.code]).toEqual([400, 'GPU_BODY_INVALID']);
    const list = await http.post('/v1/reservations', [], { user: 'ada' });
    expect([list.status, list.body.code]).toEqual([400, 'GPU_MESSAGE_NOT_OBJECT']);
    const large = await http.post('/v1/reservations', { command: 'x'.repeat(5_300_000) }, { user: 'ada' });
    expect([large.status, large.body.code]).toEqual([413, 'GPU_BODY_TOO_LARGE']);
  });

  it('does not give the id of another user (R8)', async () => {
    const id = '3c6e0b8a-9c15-424a-8b7d-0c3b1f6f1a11';
    expect((await reserve('ada', { reservation_id: id, gpu_type: 'a100' })).status).toBe(202);
    expect((await reserve('ada', { reservation_id: id, gpu_type: 'a100' })).status).toBe(200);
    const other = await reserve('eve', { reservation_id: id, gpu_type: 'a100' });
    expect([other.status, other.body.code, other.body.field]).toEqual([409, 'GPU_ID_TAKEN', 'reservation_id']);
  });
});

describe('GET /v1/reservations', () => {
  it('lists newest first, a page at a time, each once', async () => {
    const ids: string[] = [];
    for (let n = 0; n < 7; n++) ids.push((await reserve('lister', { gpu_type: 'a100', gpu_count: 8 })).body.id);
    const seen: string[] = [];
    for (let cursor = ''; ; ) {
      const { status, body } = await http.get(`/v1/reservations?limit=3${cursor}`, 'lister');
      expect(status).toBe(200);
      seen.push(...body.reservations.map((one: { id: string }) => one.id));
      if (body.next_cursor === null) break;
      cursor = `&cursor=${body.next_cursor}`;
    }
    expect(seen).toEqual(ids.reverse());
  });

  it('filters by state, type and user; * means all users', async () => {
    const queued = await http.get('/v1/reservations?status=queued,building&gpu_type=a100', 'lister');
    expect(queued.body.reservations.length).toBeGreaterThan(0);
    expect(queued.body.reservations.every((one: { state: string }) => one.state === 'queued')).toBe(true);
    const all = await http.get('/v1/reservations?user=*&status=live');
    expect(new Set(all.body.reservations.map((one: { user_id: string }) => one.user_id)).size).toBeGreaterThan(1);
    for (const user of ['*', 'ada']) {
      expect((await http.get(`/v1/reservations?user=${user}`, 'lister')).body).toMatchObject({
        status: 403,
        code: 'GPU_ADMIN_ONLY',
      });
    }
    expect((await http.get('/v1/reservations?status=sleeping')).body).toMatchObject({
      code: 'GPU_FIELD_INVALID',
      field: 'status',
    });
    expect((await http.get('/v1/reservations?cursor=zzz')).body).toMatchObject({ code: 'GPU_FIELD_INVALID', field: 'cursor' });
    expect((await http.get('/v1/reservations?limit=0')).body).toMatchObject({ code: 'GPU_FIELD_INVALID', field: 'limit' });
  });

  it('finds one by the beginning of its id, refuses an ambiguous one with the candidates, and knows what does not exist', async () => {
    const a = 'aaaa1111-9c15-424a-8b7d-0c3b1f6f1a11';
    const b = 'aaaa2222-9c15-424a-8b7d-0c3b1f6f1a11';
    for (const id of [a, b]) await reserve('pia', { reservation_id: id, gpu_type: 'a100', gpu_count: 8 });
    expect((await http.get('/v1/reservations/aaaa1', 'pia')).body.id).toBe(a);
    expect((await http.get('/v1/reservations/AAAA1111', 'pia')).body.id).toBe(a);
    const both = await http.get('/v1/reservations/aaaa', 'pia');
    expect([both.status, both.body.code]).toEqual([409, 'GPU_RESERVATION_AMBIGUOUS']);
    expect(both.body.details.candidates.sort()).toEqual([a, b]);
    for (const id of ['bbbb', 'not-an-id', '%F0%9F%98%80', '00000000-0000-4000-8000-000000000000']) {
      expect((await http.get(`/v1/reservations/${id}`, 'pia')).body).toMatchObject({
        status: 404,
        code: 'GPU_RESERVATION_UNKNOWN',
      });
    }
    expect((await http.get('/v1/reservations/aaaa1', 'ada')).status).toBe(404);
  });
});
