import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type HttpWorld, startHttp } from './support.ts';

let http: HttpWorld;
beforeAll(async () => {
  http = await startHttp({ fleet: { t4: 1, h100: 1 } });
});
afterAll(async () => {
  await http?.stop();
});

const WISH = {
  image: null,
  instance_type: 'g4dn.12xlarge',
  duration_hours: 2,
  disk_name: 'none',
  env_vars: { GPU_TYPE: 't4', GPU_COUNT: '2', GITHUB_USER: 'octocat', POD_NAME: 'My Job' } as Record<string, string>,
  command: null,
};
const submit = (user: string, more: object = {}, key?: string) =>
  http.post('/v1/jobs/submit', { ...WISH, ...more }, key === undefined ? { user } : { user, key });

describe('POST /v1/jobs/submit', () => {
  it('reserves by the fields of env_vars, answers with a job that exists, and it is a reservation like any other', async () => {
    const made = await submit('ada');
    expect(made.status).toBe(202);
    expect(made.body).toMatchObject({ job_id: expect.stringMatching(/^[0-9a-f-]{36}$/), estimated_start_time: null });
    expect(made.headers['location']).toBe(`/v1/jobs/${made.body.job_id}`);
    const id = made.body.job_id;
    await http.world.reaches(id, 'running');
    const { body } = await http.get(`/v1/jobs/${id}`, 'ada');
    expect(body).toMatchObject({
      job_id: id,
      reservation_id: id,
      user_id: 'ada',
      status: 'active',
      state: 'running',
      gpu_type: 't4',
      gpu_count: 2,
      instance_type: 'g4dn.12xlarge',
      duration_hours: 2,
      name: 'my-job',
      github_user: 'octocat',
      disk_name: null,
      failure_reason: null,
      position: null,
      jupyter_enabled: false,
      jupyter_token: null,
      detail: 'Running',
    });
    expect(body.ssh_command).toMatch(/^ssh -p \d+ dev@/);
    expect(body.node_port).toBeGreaterThan(0);
    expect((await http.get(`/v1/reservations/${id}`, 'ada')).body.state).toBe('running');
    await http.post(`/v1/jobs/${id}/cancel`, undefined, { user: 'ada' });
    await http.world.reaches(id, 'cancelled');
  });

  it('takes an id that the client has chosen, once, and nobody else may (R8)', async () => {
    const id = '0197c0de-0000-7000-8000-0000000000a1';
    const chosen = { env_vars: { ...WISH.env_vars, RESERVATION_ID: id } };
    const all = [await submit('ada', chosen), await submit('ada', chosen), await submit('eve', chosen)];
    expect(all.map(({ status }) => status)).toEqual([202, 200, 409]);
    expect(all.map(({ body }) => body.job_id ?? body.code)).toEqual([id, id, 'GPU_ID_TAKEN']);
    const wrong = await submit('ada', { env_vars: { ...WISH.env_vars, RESERVATION_ID: 'x' } });
    expect(wrong.body).toMatchObject({ status: 400, field: 'env_vars.RESERVATION_ID' });
    await http.post(`/v1/jobs/${id}/cancel`, undefined, { user: 'ada' });
  });

  it('Q23: refuses at once what can never be, naming the field and what is allowed', async () => {
    const count = await submit('ada', { env_vars: { GPU_TYPE: 't4', GPU_COUNT: '3' } });
    expect(count.body).toMatchObject({
      status: 422,
      code: 'GPU_COUNT_INVALID',
      field: 'gpu_count',
      details: { allowed: [1, 2, 4] },
    });
    const type = await submit('ada', { env_vars: { GPU_TYPE: 'z9' } });
    expect(type.body).toMatchObject({ status: 422, code: 'GPU_TYPE_UNKNOWN' });
    const hours = await submit('ada', { duration_hours: 100 });
    expect(hours.body).toMatchObject({ status: 422, code: 'GPU_DURATION_INVALID' });
    const none = await http.post('/v1/jobs/submit', { env_vars: {} }, { user: 'ada' });
    expect(none.body).toMatchObject({ status: 400, code: 'GPU_FIELD_MISSING', field: 'instance_type' });
  });
});

describe('what is asked of a job', () => {
  it('extends, switches Jupyter and lets users in, with the answer that older clients know', async () => {
    const id = (await submit('ada', {}, 'life')).body.job_id;
    await http.world.reaches(id, 'running');
    const act = (path: string, body?: object) => http.post(`/v1/jobs/${id}/${path}`, body, { user: 'ada' });
    const extended = await act('extend', { extension_hours: 1 });
    expect(extended).toMatchObject({ status: 200, body: { job_id: id, action: 'extend', status: 'requested', applied: true } });
    expect((await act('users', { github_username: 'hubot' })).body).toMatchObject({ action: 'add_user', applied: true });
    expect((await act('jupyter/enable')).body).toMatchObject({ action: 'enable_jupyter', applied: true });
    const on = await http.world.until('Jupyter is on', async () => {
      const { body } = await http.get(`/v1/jobs/${id}`, 'ada');
      return body.jupyter_url === null ? null : body;
    });
    expect(on).toMatchObject({
      duration_hours: 3,
      jupyter_enabled: true,
      jupyter_token: expect.stringMatching(/^[0-9a-f]{64}$/),
    });
    // With the token one can do more than read.
    const headers = await http.as('ada', { scopes: ['read'] });
    const asReader = (await http.app.inject({ url: `/v1/jobs/${id}`, headers })).json();
    expect(asReader).toMatchObject({ job_id: id, jupyter_enabled: true, jupyter_token: null });
    const token = await http.app.inject({ url: `/v1/reservations/${id}/jupyter-token`, headers });
    expect([token.statusCode, token.json().code]).toEqual([403, 'GPU_SCOPE_MISSING']);
    expect((await act('jupyter/disable')).status).toBe(200);
    expect((await act('cancel')).status).toBe(200);
    const { body } = await http.get(`/v1/jobs/${id}`, 'ada');
    // While it is ending it counts as what it will have been.
    expect(body.status).toBe('cancelled');
    await http.world.reaches(id, 'cancelled');
    expect((await act('cancel')).body).toMatchObject({ status: 409, code: 'GPU_EVENT_IGNORED' });
    expect((await act('extend', { extension_hours: 1 })).status).toBe(409);
  });

  it('R5: acts once under a key, which the header names or the body, at every path', async () => {
    const id = (await submit('ada', {}, 'once')).body.job_id;
    await http.world.reaches(id, 'running');
    const act = (path: string, body: object | undefined, key?: string) =>
      http.post(`/v1/jobs/${id}/${path}`, body, { user: 'ada', ...(key === undefined ? {} : { key }) });
    const hours = async () => (await http.get(`/v1/jobs/${id}`, 'ada')).body.duration_hours;
    const before = await hours();
    const wish = { extension_hours: 1 };
    for (const again of [act('extend', wish, 'k1'), act('extend', { ...wish, idempotency_key: 'k1' }), act('extend', wish, 'k1')])
      expect((await again).status).toBe(200);
    expect(await hours()).toBe(before + 1);
    expect((await act('extend', { extension_hours: 2 }, 'k1')).body).toMatchObject({ code: 'GPU_IDEMPOTENCY_CONFLICT' });
    const differs = { status: 400, code: 'GPU_FIELD_INVALID', field: 'idempotency_key' };
    expect((await act('cancel', { idempotency_key: 'k2' }, 'k3')).body).toMatchObject(differs);
    for (const body of [{ idempotency_key: 'off' }, undefined])
      expect((await act('jupyter/enable', body, body === undefined ? 'off' : undefined)).status).toBe(200);
    for (const body of [{ idempotency_key: 'end' }, undefined])
      expect((await act('cancel', body, body === undefined ? 'end' : undefined)).status).toBe(200);
    await http.world.reaches(id, 'cancelled');
  });

  it('T2: what is not yours is not there, what is wrong says so, and none of it is an error of the service', async () => {
    const id = (await submit('ada', {}, 'mine')).body.job_id;
    const paths = ['cancel', 'extend', 'jupyter/enable', 'jupyter/disable', 'users'];
    const bodies: Record<string, object> = { extend: { extension_hours: 1 }, users: { github_username: 'hubot' } };
    for (const path of paths) {
      const ask = (who: string | null, job: string) =>
        http
          .post(`/v1/jobs/${job}/${path}`, bodies[path], { user: who })
          .then(({ status, body }) => `${path} ${status} ${body.code}`);
      expect(await ask('eve', id)).toBe(`${path} 404 GPU_RESERVATION_UNKNOWN`);
      expect(await ask('ada', '0197c0de-0000-7000-8000-00000000ffff')).toBe(`${path} 404 GPU_RESERVATION_UNKNOWN`);
      expect(await ask('ada', id.slice(0, 8))).toBe(`${path} 404 GPU_RESERVATION_UNKNOWN`);
      expect(await ask(null, id)).toBe(`${path} 401 GPU_KEY_MISSING`);
    }
    expect((await http.get(`/v1/jobs/${id}`, 'eve')).status).toBe(404);
    expect((await http.get(`/v1/jobs/${id}`, null)).status).toBe(401);
    expect((await http.post(`/v1/jobs/${id}/extend`, {}, { user: 'ada' })).body).toMatchObject({
      status: 400,
      field: 'extension_hours',
    });
    expect((await http.post(`/v1/jobs/${id}/extend`, { extension_hours: 200 }, { user: 'ada' })).status).toBe(409);
    expect((await http.post(`/v1/jobs/${id}/users`, { github_username: '../x' }, { user: 'ada' })).status).toBe(400);
    await http.post(`/v1/jobs/${id}/cancel`, undefined, { user: 'ada' });
    await http.world.reaches(id, 'cancelled');
  });
});

describe('GET /v1/jobs', () => {
  it('lists your own, newest first, by page and status', async () => {
    const env = { GPU_TYPE: 'h100', GPU_COUNT: '8' };
    const ids: string[] = [];
    for (let n = 0; n < 3; n++) ids.unshift((await submit('lena', { env_vars: env })).body.job_id);
    await http.world.reaches(ids[2]!, 'running');
    const list = async (query: string) => (await http.get(`/v1/jobs${query}`, 'lena')).body;
    const all = await list('');
    expect(all).toMatchObject({ total: 3, limit: 50, offset: 0 });
    expect(all.jobs.map((job: { job_id: string }) => job.job_id)).toEqual(ids);
    expect(all.jobs.map((job: { position: number | null }) => job.position)).toEqual([2, 1, null]);
    expect(await list('?limit=1&offset=1')).toMatchObject({ total: 3, limit: 1, offset: 1, jobs: [{ job_id: ids[1] }] });
    expect((await list('?status=active,failed')).jobs).toMatchObject([{ job_id: ids[2], status: 'active' }]);
    expect((await list('?status=pending')).total).toBe(2);
    expect(await list('?status=asleep')).toMatchObject({ status: 400, field: 'status' });
    expect((await http.get('/v1/jobs', 'eve')).body.jobs).toEqual([]);
    for (const id of ids) await http.post(`/v1/jobs/${id}/cancel`, undefined, { user: 'lena' });
  });
});
