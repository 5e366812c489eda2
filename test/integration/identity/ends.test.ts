// What has ended stays ended, and what cannot be stored is told so.
import { afterAll, beforeAll, expect, it } from 'vitest';
import { buildHttp } from '../../../src/http/server.ts';
import { type HttpWorld, startHttp } from '../http/support.ts';

let http: HttpWorld;
beforeAll(async () => {
  http = await startHttp({ fleet: { t4: 1 } });
});
afterAll(async () => {
  await http?.stop();
});

it('a key that was revoked elsewhere makes no new one, though this replica still knows it as good', async () => {
  const headers = await http.as('rita');
  const { world } = http;
  const there = await buildHttp({
    ...{ db: world.db, kernel: world.kernel, logger: false, timeScale: 1 },
    ...{ health: async () => http.health, trackerAgeMs: () => 0 },
  });
  try {
    expect((await there.inject({ url: '/v1/me', headers })).statusCode).toBe(200);
    const [own] = (await http.app.inject({ url: '/v1/keys', headers })).json().keys;
    expect((await http.app.inject({ method: 'DELETE', url: `/v1/keys/${own.id}`, headers })).statusCode).toBe(200);
    for (const url of ['/v1/keys/rotate', '/v1/keys']) {
      const answer = await there.inject({ method: 'POST', url, headers });
      expect([url, answer.statusCode, answer.json().code]).toEqual([url, 401, 'GPU_KEY_INVALID']);
    }
  } finally {
    await there.close();
  }
});

it('who is an admin no more loses the keys that could do what admins may', async () => {
  const chief = await http.as('chief', { admin: true });
  const operator = await http.as('operator', { admin: true });
  expect((await http.app.inject({ url: '/v1/reservations?user=*', headers: chief })).statusCode).toBe(200);
  const { users } = (await http.app.inject({ url: '/v1/users', headers: operator })).json();
  const { user_id: id } = users.find((user: { username: string }) => user.username === 'chief');
  const payload = { is_admin: false };
  expect((await http.app.inject({ method: 'PATCH', url: `/v1/users/${id}`, headers: operator, payload })).statusCode).toBe(200);
  expect((await http.app.inject({ url: '/v1/me', headers: chief })).statusCode).toBe(401);
  expect((await http.get('/v1/me', 'chief')).status).toBe(200);
});

it('half of a character is refused at the door, with the field named', async () => {
  const wish = { gpu_type: 't4', duration_hours: 1, env_vars: { TOKEN: 'sesame', OTHER: '\ud800' } };
  const answer = await http.post('/v1/reservations', wish, { user: 'ann' });
  expect(answer).toMatchObject({ status: 400, body: { code: 'GPU_FIELD_INVALID', field: 'env_vars.OTHER' } });
  expect(JSON.stringify(answer.body)).not.toContain('sesame');
  const cursor = Buffer.from(JSON.stringify(['2026-13-45 10:00:00+00', crypto.randomUUID()])).toString('base64url');
  expect((await http.get(`/v1/reservations?cursor=${cursor}`, 'ann')).status).toBe(400);
});
