// Requests for keys that are sent again, by whom they come, and what they end.
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { run } from '../../../src/cli/program.ts';
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

it('R5: a rotation that revokes can be sent again when its answer was lost, by the key that it revoked, and by that alone', async () => {
  const old = await login('tess');
  const again = () => rotate(old, { revoke: true }, 'lost');
  const lost = await again();
  expect(lost.status).toBe(200);
  expect(await me(old)).toBe(401);
  // Only as it was: another request, another body, another key.
  for (const [body, once] of [[{ revoke: true }], [{ revoke: true }, 'other']] as const)
    expect((await rotate(old, body, once)).body).toMatchObject({ status: 401, code: 'GPU_KEY_INVALID' });
  expect((await rotate(old, {}, 'lost')).body).toMatchObject({ status: 409, code: 'GPU_IDEMPOTENCY_CONFLICT' });
  expect((await send('POST', '/v1/keys', old, { revoke: true }, 'lost')).status).toBe(401);

  const sent = await Promise.all([again(), again(), again()]);
  expect(sent.map(({ status }) => status)).toEqual([200, 200, 200]);
  const made = [lost, ...sent].map(({ body }) => body.api_key as string);
  const taken = await Promise.all(made.map(me));
  expect(taken.filter((status) => status === 200)).toHaveLength(1);
  expect(await me(old)).toBe(401);
  const { rows } = await http.world.db.query<Json>(
    `select details ->> 'key' as key from audit_log where actor = 'tess' and action = 'key.revoke' order by id`,
  );
  expect(rows.map(({ key }) => key).filter((key) => key === old.slice(0, 13))).toHaveLength(1);
  expect(rows).toHaveLength(4);

  // Whoever uses the new key has got it: the old one has no say any more.
  await http.world.db.query(
    `update api_keys k set last_used_at = now() from api_users u where u.user_id = k.user_id and u.name = 'tess' and k.is_active`,
  );
  expect((await again()).status).toBe(401);
});

it('R5: nor does a key rotate that has ended otherwise, or too long ago', async () => {
  for (const [user, change] of [
    ['uma', 'update api_keys set is_active = false, revoked_at = coalesce(revoked_at, now()) where user_id = $1'],
    [
      'val',
      `update api_keys set revoked_at = revoked_at - interval '6 minutes', created_at = created_at - interval '6 minutes' where user_id = $1`,
    ],
    ['wim', `update api_keys set expires_at = created_at + interval '1 microsecond' where user_id = $1`],
  ] as const) {
    const old = await login(user);
    const { status, body } = await rotate(old, { revoke: true }, 'lost');
    expect(status).toBe(200);
    await http.world.db.query(change, [body.user_id]);
    http.app.keyRing.forget();
    expect([user, (await rotate(old, { revoke: true }, 'lost')).status]).toEqual([user, 401]);
  }
});

it('R5: gpu-dev keys rotate does not lose the key when the answer is lost', async () => {
  let lose = 1;
  const service = createServer(async (request, response) => {
    const body = Buffer.concat(await request.toArray());
    const { method, url, headers } = request;
    const answer = await http.app.inject({
      method: method as 'POST',
      url: url!,
      headers: headers as Record<string, string>,
      payload: body,
    });
    if (lose-- > 0) return void request.socket.destroy();
    response.writeHead(answer.statusCode, { 'content-type': String(answer.headers['content-type']) }).end(answer.payload);
  });
  await new Promise<void>((listening) => service.listen(0, '127.0.0.1', listening));
  try {
    let out = '';
    const exit = await run(['keys', 'rotate', '--json'], {
      environment: {
        HOME: '/nowhere',
        GPU_DEV_URL: `http://127.0.0.1:${(service.address() as AddressInfo).port}`,
        GPU_DEV_API_KEY: await login('xena'),
      },
      directory: '/nowhere',
      out: { write: (text) => (out += text) },
      err: { write: (text) => (out += text) },
      interrupted: new AbortController().signal,
    });
    expect([exit, out]).toEqual([0, expect.stringContaining('api_key')]);
    expect(await me((JSON.parse(out) as Json).api_key)).toBe(200);
  } finally {
    service.closeAllConnections();
    await new Promise((closed) => service.close(closed));
  }
});
