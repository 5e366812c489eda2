// Requests for keys that are sent again, by whom they come, and what they end.
import { afterAll, beforeAll, expect, it } from 'vitest';
import { DEFAULT_IDENTITY } from '../../../src/identity/settings.ts';
import { type HttpWorld, type Json, startHttp } from '../http/support.ts';

let http: HttpWorld;
beforeAll(async () => {
  const identity = { ...DEFAULT_IDENTITY, local: true, admins: ['operator'], keysPerUser: 4 };
  http = await startHttp({ fleet: { t4: 1 } }, { identity });
});
afterAll(async () => {
  await http?.stop();
});

interface Answer {
  status: number;
  body: Json;
}
const send = async (method: 'GET' | 'POST', url: string, key: string, body?: object, once?: string): Promise<Answer> => {
  const headers = { authorization: `Bearer ${key}`, ...(once === undefined ? {} : { 'idempotency-key': once }) };
  const answer = await http.app.inject({ method, url, headers, ...(body === undefined ? {} : { payload: body }) });
  return { status: answer.statusCode, body: answer.json() };
};
const login = async (username: string, once?: string): Promise<string> => {
  const headers = once === undefined ? {} : { 'idempotency-key': once };
  return (await http.post('/v1/auth/local-login', { username }, { user: null, headers })).body.api_key;
};
const rotate = (key: string, body: object, once?: string) => send('POST', '/v1/keys/rotate', key, body, once);
/** 200 if the key is taken on this replica. */
const me = async (key: string) => (await send('GET', '/v1/me', key)).status;

it('a key that a request made cannot send that request again: it is another one, and the key stays', async () => {
  for (const [path, body, made] of [
    ['/v1/keys/rotate', {}, 200],
    ['/v1/keys', { scopes: ['read'] }, 201],
  ] as const) {
    const nightly = (key: string) => send('POST', path, key, body, 'nightly');
    const first = await nightly(await login('noa'));
    expect(first.status).toBe(made);
    const again = await nightly(first.body.api_key);
    expect(again).toMatchObject({ status: 409, body: { code: 'GPU_IDEMPOTENCY_CONFLICT', field: 'idempotency_key' } });
    http.app.keyRing.forget();
    expect(await me(first.body.api_key)).toBe(200);
  }
});

it('a key that ended before is not said to end again', async () => {
  const own = await login('pam');
  const lost = await send('POST', '/v1/keys', own, { scopes: ['read'] }, 'once');
  const { keys } = (await send('GET', '/v1/keys', own)).body;
  const { id } = keys.find((key: Json) => key.key_prefix === lost.body.key_prefix);
  const headers = { authorization: `Bearer ${own}` };
  expect((await http.app.inject({ method: 'DELETE', url: `/v1/keys/${id}`, headers })).statusCode).toBe(200);
  expect((await send('POST', '/v1/keys', own, { scopes: ['read'] }, 'once')).status).toBe(201);
  const { rows } = await http.world.db.query<Json>(
    `select 1 from audit_log where actor = 'pam' and action = 'key.revoke' and object = $1`,
    [`key/${id}`],
  );
  expect(rows).toHaveLength(1);
});

it('R5: a key that another took the place of ends at once on the replica that made the other', async () => {
  const ends = async (make: () => Promise<string>, old: string) => {
    expect(await me(old)).toBe(200);
    expect(await me(await make())).toBe(200);
    expect(await me(old)).toBe(401);
  };
  const own = await login('quin');
  const create = async () => (await send('POST', '/v1/keys', own, {}, 'again')).body.api_key;
  await ends(create, await create());
  const rotated = async () => (await rotate(own, {}, 'again')).body.api_key;
  await ends(rotated, await rotated());
  await ends(() => login('rex', 'again'), await login('rex', 'again'));
  // One login too many: the one that was unused for longest ends.
  const logins: string[] = [];
  for (let round = 0; round < 4; round++) logins.push(await login('sol'));
  const taken = async () => (await Promise.all(logins.map(me))).filter((status) => status === 200).length;
  expect(await taken()).toBe(4);
  expect(await me(await login('sol'))).toBe(200);
  expect(await taken()).toBe(3);
});
