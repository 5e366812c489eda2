import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { claimQuota, pruneClaims, setQuota } from '../../../persistence/quotas.ts';
import { type HttpWorld, startHttp } from './support.ts';

let http: HttpWorld;
beforeAll(async () => {
  http = await startHttp({ fleet: { h100: 2, t4: 2 } }, { rates: { perKey: 200, perAddress: 8 } });
});
afterAll(async () => {
  await http?.stop();
});

const small = { gpu_type: 't4', gpu_count: 1, duration_hours: 2, disk_name: null };
const reserve = (user: string, body: object = small) => http.post('/v1/reservations', body, { user });
const standing = async (user: string) => (await http.get('/v1/quota', user)).body;

async function allow(user: string, limits: { max_reservations?: number | null; max_gpus?: number | null }): Promise<void> {
  const { status } = await http.app
    .inject({
      method: 'PUT',
      url: `/v1/admin/quotas/${user}`,
      headers: await http.as('operator', { admin: true }),
      payload: { reason: 'as the test wants it', ...limits },
    })
    .then(({ statusCode }) => ({ status: statusCode }));
  expect(status).toBe(200);
}

describe('T15: quotas', () => {
  it('are there from the beginning, for everybody', async () => {
    expect(await standing('nina')).toEqual({
      user: 'nina',
      reservations: { used: 0, limit: 20 },
      gpus: { used: 0, limit: 64 },
      own: false,
    });
  });

  it('refuse what is too much with 429, what counts, and when to ask again; and let it in when something has ended', async () => {
    await allow('ann', { max_reservations: 2 });
    const [first, second] = [await reserve('ann'), await reserve('ann')];
    expect([first.status, second.status]).toEqual([202, 202]);
    await http.world.reaches(first.body.id, 'running');
    const third = await reserve('ann');
    expect(third).toMatchObject({ status: 429, body: { code: 'GPU_QUOTA_EXCEEDED', details: { limit: 2, used: 2, wanted: 1 } } });
    expect(Number(third.headers['retry-after'])).toBeGreaterThan(60);
    expect(await standing('ann')).toMatchObject({
      reservations: { used: 2, limit: 2 },
      gpus: { used: 2, limit: null },
      own: true,
    });
    await http.post(`/v1/reservations/${first.body.id}/events`, { type: 'cancel' }, { user: 'ann' });
    await http.world.reaches(first.body.id, 'cancelled');
    expect((await reserve('ann')).status).toBe(202);
  });

  it('count GPUs over all types, and a gang as a whole: none of its nodes is taken if not all may be', async () => {
    await allow('bob', { max_gpus: 15 });
    const gang = { gpu_type: 'h100', gpu_count: 8, duration_hours: 1, disk_name: null, is_multinode: true, total_nodes: 2 };
    const member = (node_index: number) =>
      reserve('bob', { ...gang, master_reservation_id: 'c0ffee00-0000-7000-8000-000000000001', node_index });
    expect(await member(0)).toMatchObject({ status: 429, body: { details: { limit: 15, used: 0, wanted: 16, of: 'gpus' } } });
    await allow('bob', { max_gpus: 16 });
    expect([(await member(0)).status, (await member(1)).status]).toEqual([202, 202]);
    expect(await reserve('bob')).toMatchObject({ status: 429, body: { details: { used: 16, wanted: 1 } } });
  });

  it('hold when many ask at the same moment', async () => {
    await allow('cleo', { max_reservations: 3 });
    const answers = await Promise.all(Array.from({ length: 12 }, () => reserve('cleo')));
    expect(answers.filter(({ status }) => status === 202)).toHaveLength(3);
    expect(answers.filter(({ status }) => status === 429)).toHaveLength(9);
  });

  it("hold at the queue's door, where what is too much is a dead letter and its neighbours go on", async () => {
    await allow('dora', { max_reservations: 1 });
    const wish = (user_id: string) => ({ action: 'create_reservation', user_id, ...small });
    for (const user of ['dora', 'dora', 'emil']) await http.world.send(wish(user));
    await http.world.until('all are understood', async () => {
      const { rows } = await http.world.db.query('select 1 from dead_letters where code = $1', ['GPU_QUOTA_EXCEEDED']);
      return (
        rows.length === 1 && (await standing('dora')).reservations.used === 1 && (await standing('emil')).reservations.used === 1
      );
    });
  });

  it('a repeated request takes nothing twice, and what was refused took nothing', async () => {
    await allow('finn', { max_reservations: 1 });
    const send = () => http.post('/v1/reservations', small, { user: 'finn', key: 'once' });
    expect([(await send()).status, (await send()).status]).toEqual([202, 200]);
    expect((await reserve('finn')).status).toBe(429);
    expect((await standing('finn')).reservations.used).toBe(1);
  });

  it('what was counted for a reservation that never came to be is forgotten', async () => {
    const { db } = http.world;
    const claim = { reservationId: 'never', owner: 'gil', gpus: 1, gang: null };
    expect(await db.withTransaction((tx) => claimQuota(tx, [claim]))).toEqual([]);
    expect(await pruneClaims(db, 10)).toBe(0);
    await db.query(`update quota_claims set claimed_at = now() - interval '2 hours' where reservation_id = 'never'`);
    expect(await pruneClaims(db, 10)).toBe(1);
  });

  it('those of all are changed and never removed; ones own can be', async () => {
    const headers = await http.as('operator', { admin: true });
    await setQuota(http.world.db, { user: 'hal', maxReservations: 0, maxGpus: 0, reason: null, setBy: 'test' });
    const remove = (user: string) => http.app.inject({ method: 'DELETE', url: `/v1/admin/quotas/${user}`, headers });
    expect((await remove('hal')).json()).toEqual({ user: 'hal', removed: true });
    expect((await remove('*')).statusCode).toBe(400);
    expect((await http.get('/v1/admin/quotas')).body.quotas.map((quota: { user: string }) => quota.user)).toContain('*');
  });
});

describe('T15: rates', () => {
  it('of one key end with 429 and the seconds to wait, and leave other keys alone', async () => {
    const headers = await http.as('busy');
    const answers = await Promise.all(Array.from({ length: 210 }, () => http.app.inject({ url: '/v1/gpus', headers })));
    expect(answers.filter(({ statusCode }) => statusCode === 200)).toHaveLength(200);
    const refused = answers.find(({ statusCode }) => statusCode === 429)!;
    expect(refused.json()).toMatchObject({ code: 'GPU_RATE_LIMITED', details: { limit: 200, window_seconds: 60 } });
    expect(Number(refused.headers['retry-after'])).toBeGreaterThan(0);
    expect((await http.get('/v1/gpus', 'calm')).status).toBe(200);
  });

  it('of an address count what is refused for its key, and every login; whoever has a good key is not held up elsewhere', async () => {
    const ask = (remoteAddress: string) =>
      http.app.inject({ url: '/v1/gpus', remoteAddress, headers: { authorization: `Bearer gpudev_${'x'.repeat(43)}` } });
    const answers = [];
    for (let index = 0; index < 10; index++) answers.push((await ask('203.0.113.9')).statusCode);
    expect(answers).toEqual([...Array.from({ length: 8 }, () => 401), 429, 429]);
    expect((await ask('203.0.113.10')).statusCode).toBe(401);
    const good = await http.as('neighbour');
    expect((await http.app.inject({ url: '/v1/gpus', remoteAddress: '203.0.113.9', headers: good })).statusCode).toBe(200);
    const login = () =>
      http.app.inject({ method: 'POST', url: '/v1/auth/local-login', remoteAddress: '203.0.113.11', payload: {} });
    for (let index = 0; index < 8; index++) expect((await login()).statusCode).not.toBe(429);
    expect((await login()).statusCode).toBe(429);
    expect((await http.app.inject({ url: '/health/live', remoteAddress: '203.0.113.9' })).statusCode).toBe(200);
  });
});
