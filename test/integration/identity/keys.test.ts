import { createHash } from 'node:crypto';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { hashKey } from '../../../src/identity/api-key.ts';
import { FRESH_MS, KeyRing } from '../../../src/identity/key-ring.ts';
import { DEFAULT_IDENTITY } from '../../../src/identity/settings.ts';
import { type HttpWorld, type Json, startHttp } from '../http/support.ts';

let http: HttpWorld;
let base: string;
beforeAll(async () => {
  http = await startHttp(
    { fleet: { t4: 1 } },
    { identity: { ...DEFAULT_IDENTITY, local: true, admins: ['operator', 'root'], keyTtlHours: 4, keysPerUser: 10 } },
  );
  await http.app.listen({ host: '127.0.0.1', port: 0 });
  base = `http://127.0.0.1:${(http.app.server.address() as AddressInfo).port}`;
});
afterAll(async () => {
  await http?.stop();
});

const bearer = (key: string) => ({ authorization: `Bearer ${key}` });
async function ask(
  method: 'GET' | 'POST' | 'DELETE',
  url: string,
  key: string,
  body?: unknown,
): Promise<{ status: number; body: Json }> {
  const answer = await http.app.inject({
    method,
    url,
    headers: bearer(key),
    ...(body === undefined ? {} : { payload: body as object }),
  });
  return { status: answer.statusCode, body: answer.json() };
}
const local = (body: unknown = {}, headers: Record<string, string> = {}) =>
  http.post('/v1/auth/local-login', body, { user: null, headers });
async function login(username: string): Promise<Json> {
  const { status, body } = await local({ username });
  expect(status).toBe(200);
  return body;
}

describe('an API key', () => {
  it('has 256 random bits, is told once, and is kept as its SHA-256 alone', async () => {
    const [one, two] = [await login('ada'), await login('ada')];
    expect(one.api_key).toMatch(/^gpudev_[A-Za-z0-9_-]{43}$/);
    expect(Buffer.from(one.api_key.slice(7), 'base64url')).toHaveLength(32);
    expect(one.api_key).not.toBe(two.api_key);
    const { rows } = await http.world.db.query<Json>('select * from api_keys where key_hash = $1', [hashKey(one.api_key)]);
    expect(rows).toMatchObject([
      { key_hash: createHash('sha256').update(one.api_key).digest('hex'), key_prefix: one.api_key.slice(0, 13) },
    ]);
    const { rows: tables } = await http.world.db.query<Json>(
      `select table_name from information_schema.tables where table_schema = 'public' and table_type = 'BASE TABLE'
          and query_to_xml(format('select * from %I', table_name), false, false, '')::text like '%' || $1 || '%'`,
      [one.api_key],
    );
    expect(tables).toEqual([]);
    expect(JSON.stringify((await ask('GET', '/v1/keys', one.api_key)).body)).not.toContain(one.api_key.slice(13));
  });

  it('is asked for: none, a wrong one, one that is over and one that was revoked are 401, and each says what it is', async () => {
    const { api_key: key } = await login('bea');
    const me = async (authorization?: string) => {
      const answer = await http.app.inject({ url: '/v1/me', headers: authorization === undefined ? {} : { authorization } });
      return [answer.statusCode, answer.json().code, answer.headers['www-authenticate']];
    };
    expect(await me()).toEqual([401, 'GPU_KEY_MISSING', 'Bearer']);
    for (const wrong of [
      'Bearer x',
      `Basic ${key}`,
      key,
      `Bearer ${key}x`,
      `Bearer gpudev_${'A'.repeat(43)}`,
      `Bearer ${key.slice(0, -1)}`,
    ]) {
      expect(await me(wrong), wrong).toEqual([401, 'GPU_KEY_INVALID', 'Bearer']);
    }
    expect((await me(`bearer ${key}`))[0]).toBe(200);
    await http.world.db.query(
      `update api_keys set created_at = now() - interval '5 hours', expires_at = now() - interval '1 second' where key_hash = $1`,
      [hashKey(key)],
    );
    http.app.keyRing.forget();
    expect(await me(`Bearer ${key}`)).toEqual([401, 'GPU_KEY_EXPIRED', 'Bearer']);
  });

  it('expires when it says so, though it was just found', async () => {
    let now = Date.now();
    const ring = new KeyRing({ db: http.world.db, admins: [], now: () => now });
    const { api_key: key, expires_at: end } = await login('cleo');
    now = Date.parse(end) - 1_000;
    expect((await ring.principalOf(`Bearer ${key}`))?.user).toBe('cleo');
    // What is kept ends with the key: the database is asked again, whose clock decides.
    await http.world.db.query(
      `update api_keys set created_at = created_at - interval '5 hours', expires_at = now() where key_hash = $1`,
      [hashKey(key)],
    );
    now = Date.parse(end);
    await expect(ring.principalOf(`Bearer ${key}`)).rejects.toThrow(/expired/);
    await ring.close();
  });

  it('that is revoked ends at once here, and within seconds elsewhere', async () => {
    let now = Date.now();
    const elsewhere = new KeyRing({ db: http.world.db, admins: [], now: () => now });
    const { api_key: key } = await login('dan');
    expect(await elsewhere.stillHolds(`Bearer ${key}`)).toBe(true);
    const { body } = await ask('GET', '/v1/keys', key);
    const revoked = await ask('DELETE', `/v1/keys/${body.keys[0].id}`, key);
    expect([revoked.status, revoked.body.revoked_at]).toEqual([200, expect.any(String)]);
    expect(await ask('GET', '/v1/me', key)).toMatchObject({ status: 401, body: { code: 'GPU_KEY_INVALID' } });
    now += FRESH_MS + 1;
    expect(await elsewhere.stillHolds(`Bearer ${key}`)).toBe(false);
    await elsewhere.close();
  });

  it('is rotated: the new one works, the old one until it ends, or no more if that is wished', async () => {
    const { api_key: first } = await login('eli');
    const rotated = await ask('POST', '/v1/keys/rotate', first);
    expect(rotated).toMatchObject({
      status: 200,
      body: { username: 'eli', ttl_hours: 4, key_prefix: expect.any(String), user_id: expect.any(Number) },
    });
    expect((await ask('GET', '/v1/me', first)).status).toBe(200);
    const last = await ask('POST', '/v1/keys/rotate', rotated.body.api_key, { revoke: true });
    expect((await ask('GET', '/v1/me', rotated.body.api_key)).status).toBe(401);
    expect((await ask('GET', '/v1/me', last.body.api_key)).body.username).toBe('eli');
    await http.world.db.query(`update api_keys set authenticated_at = now() - interval '31 days' where key_hash = $1`, [
      hashKey(last.body.api_key),
    ]);
    expect(await ask('POST', '/v1/keys/rotate', last.body.api_key)).toMatchObject({
      status: 403,
      body: { code: 'GPU_KEY_TOO_OLD' },
    });
  });

  it('makes others that may do less, never more, and cannot revoke one that may do more', async () => {
    const { api_key: key } = await login('fred');
    const narrow = await ask('POST', '/v1/keys', key, { scopes: ['read'], ttl_hours: 0.5, description: 'a screen' });
    expect(narrow).toMatchObject({ status: 201, body: { scopes: ['read'], ttl_hours: 0.5 } });
    const small = narrow.body.api_key;
    expect(await ask('POST', '/v1/keys', small, { scopes: ['read', 'reserve'] })).toMatchObject({
      status: 403,
      body: { code: 'GPU_SCOPE_MISSING' },
    });
    expect(await ask('POST', '/v1/keys', key, { scopes: ['admin'] })).toMatchObject({
      status: 403,
      body: { code: 'GPU_SCOPE_MISSING' },
    });
    expect(await ask('POST', '/v1/keys', key, { ttl_hours: 5 })).toMatchObject({ status: 400, body: { field: 'ttl_hours' } });
    expect((await ask('POST', '/v1/keys/rotate', small)).body).toMatchObject({ scopes: ['read'], ttl_hours: 0.5 });
    const wish = { gpu_type: 't4', duration_hours: 1 };
    expect(await ask('POST', '/v1/reservations', small, wish)).toMatchObject({
      status: 403,
      body: { code: 'GPU_SCOPE_MISSING' },
    });
    const { keys } = (await ask('GET', '/v1/keys', key)).body;
    const mine = keys.find((one: Json) => one.current).id;
    expect(await ask('DELETE', `/v1/keys/${mine}`, small)).toMatchObject({ status: 403, body: { code: 'GPU_SCOPE_MISSING' } });
    const { api_key: other } = await login('gwen');
    expect(await ask('DELETE', `/v1/keys/${mine}`, other)).toMatchObject({ status: 404, body: { code: 'GPU_KEY_UNKNOWN' } });
  });

  it('is one of so many that a user may have at once; who logs in gets one in the place of the login unused for longest', async () => {
    const [first, second] = [await login('max'), await login('max')];
    const asked = await Promise.all(
      Array.from({ length: 15 }, () => ask('POST', '/v1/keys', second.api_key, { scopes: ['read'] })),
    );
    expect(asked.map(({ status }) => status).sort()).toEqual([...Array(8).fill(201), ...Array(7).fill(409)]);
    const refused = asked.find(({ status }) => status === 409)!.body;
    expect(refused).toMatchObject({ code: 'GPU_KEYS_TOO_MANY', details: { maximum: 10, first_ends_at: first.expires_at } });
    expect((await ask('POST', '/v1/keys/rotate', second.api_key, {})).body.code).toBe('GPU_KEYS_TOO_MANY');
    // A key in the place of another is none more.
    const rotated = await ask('POST', '/v1/keys/rotate', second.api_key, { revoke: true });
    expect(rotated).toMatchObject({
      status: 200,
      body: { scopes: ['read', 'reserve', 'disks'], ttl_hours: expect.closeTo(4, 2) },
    });
    expect((await ask('GET', '/v1/me', rotated.body.api_key)).status).toBe(200);
    const third = await login('max');
    http.app.keyRing.forget();
    expect((await ask('GET', '/v1/me', first.api_key)).body.code).toBe('GPU_KEY_INVALID');
    const fourth = await login('max');
    http.app.keyRing.forget();
    expect((await ask('GET', '/v1/me', third.api_key)).body.code).toBe('GPU_KEY_INVALID');
    const { keys } = (await ask('GET', '/v1/keys', fourth.api_key)).body;
    const usable = keys.filter((key: Json) => key.revoked_at === null);
    expect(usable).toHaveLength(10);
    const { rows } = await http.world.db.query<Json>(
      `select details ->> 'because' as because from audit_log where actor = 'max' and action = 'key.revoke' and details ? 'because'`,
    );
    expect(rows).toEqual(Array(2).fill({ because: 'a user has 10 keys at most' }));
    // Others have their own; and one that is revoked makes room.
    const [one] = usable.filter((key: Json) => key.source === 'key' && key.scopes.length === 1);
    expect((await ask('DELETE', `/v1/keys/${one.id}`, fourth.api_key)).status).toBe(200);
    expect((await ask('POST', '/v1/keys', fourth.api_key, {})).status).toBe(201);
  });

  it('R5: is one in the end, however often the request for it is sent, and another request may not bear the same key', async () => {
    const once = { 'idempotency-key': 'from-my-laptop' };
    const lost = await local({ username: 'ria' }, once);
    const got = await local({ username: 'ria' }, once);
    expect([lost.status, got.status]).toEqual([200, 200]);
    expect(got.body.api_key).not.toBe(lost.body.api_key);
    const { api_key: key } = got.body;
    expect((await ask('GET', '/v1/me', lost.body.api_key)).body.code).toBe('GPU_KEY_INVALID');
    const make = (body: Json, path = '/v1/keys') => http.post(path, body, { user: null, key: 'another', headers: bearer(key) });
    const made = await Promise.all(Array.from({ length: 4 }, () => make({ scopes: ['read'] })));
    expect(made.map(({ status }) => status)).toEqual([201, 201, 201, 201]);
    const usable = async () =>
      (await ask('GET', '/v1/keys', key)).body.keys.filter((each: Json) => each.revoked_at === null).length;
    expect(await usable()).toBe(2);
    expect(await make({ scopes: ['reserve'] })).toMatchObject({ status: 409, body: { code: 'GPU_IDEMPOTENCY_CONFLICT' } });
    expect(await usable()).toBe(2);
    // Each route has keys of its own, and each user.
    for (let round = 0; round < 2; round++) expect((await make({}, '/v1/keys/rotate')).status).toBe(200);
    expect(await usable()).toBe(3);
    expect((await local({ username: 'ron' }, once)).status).toBe(200);
    expect(await usable()).toBe(3);
  });

  it('shows when it was used last, written down now and then', async () => {
    const { api_key: key } = await login('hugo');
    const used = async () => (await ask('GET', '/v1/keys', key)).body.keys[0].last_used_at;
    expect(await used()).toBeNull();
    const ring = new KeyRing({ db: http.world.db, admins: [] });
    await ring.principalOf(`Bearer ${key}`);
    await ring.close();
    expect(Math.abs(Date.now() - Date.parse(await used()))).toBeLessThan(60_000);
  });

  it('is asked of the database once in a burst', async () => {
    let asked = 0;
    const db = {
      query: (text: string, values: unknown[]) => {
        asked++;
        return http.world.db.query(text, values);
      },
    };
    const ring = new KeyRing({ db: db as never, admins: [] });
    const { api_key: key } = await login('iris');
    await ring.principalOf(`Bearer ${key}`);
    for (let n = 0; n < 100; n++) await ring.principalOf(`Bearer ${key}`);
    expect(asked).toBe(1);
    await ring.close();
  });
});

describe('a local login', () => {
  const send = async (headers: Record<string, string>, remoteAddress = '127.0.0.1') => {
    const answer = await http.app.inject({
      method: 'POST',
      url: '/v1/auth/local-login',
      payload: { username: 'eve' },
      headers,
      remoteAddress,
    });
    return [answer.statusCode, answer.json().code];
  };

  it('is for those at this machine: not from elsewhere, not through a proxy, not for a web page', async () => {
    expect((await send({}))[0]).toBe(200);
    expect((await fetch(`${base}/v1/auth/local-login`, { method: 'POST' })).status).toBe(200);
    const off = [403, 'GPU_LOGIN_OFF'];
    expect(await send({}, '10.0.0.7')).toEqual(off);
    expect(await send({}, '::ffff:10.0.0.7')).toEqual(off);
    for (const name of ['x-forwarded-for', 'forwarded', 'x-real-ip', 'via', 'x-forwarded-proto'])
      expect(await send({ [name]: '127.0.0.1' }), name).toEqual(off);
    expect(await send({ host: 'rebound.example:8080' })).toEqual(off);
    expect(await send({ host: '127.0.0.1.nip.example' })).toEqual(off);
    expect(await send({ origin: 'http://127.0.0.1:3000' })).toEqual(off);
    expect(await send({ 'sec-fetch-site': 'cross-site' })).toEqual(off);
    expect(await send({ host: 'localhost:8080', origin: 'http://localhost:3000' })).toEqual(off);
    expect(await send({ host: 'rebound.example:8080', origin: 'http://rebound.example:8080' })).toEqual(off);
    // The service's own page is at this machine as much as its user.
    expect((await send({ host: 'localhost:8080', origin: 'http://localhost:8080', 'sec-fetch-site': 'same-origin' }))[0]).toBe(
      200,
    );
    expect((await send({ host: 'localhost:8080' }))[0]).toBe(200);
  });

  it('is refused by a service that listens for others, or does not run in local mode', async () => {
    const { app } = await startHttpOn('0.0.0.0', true);
    const { app: strict } = await startHttpOn('127.0.0.1', false);
    for (const one of [app, strict]) {
      const answer = await one.inject({ method: 'POST', url: '/v1/auth/local-login', payload: {} });
      expect([answer.statusCode, answer.json().code]).toEqual([403, 'GPU_LOGIN_OFF']);
      await one.close();
    }
  });

  async function startHttpOn(host: string, isLocal: boolean) {
    const { buildHttp } = await import('../../../src/http/server.ts');
    const { db, kernel } = http.world;
    const identity = { ...DEFAULT_IDENTITY, local: isLocal };
    const app = await buildHttp({
      db,
      kernel,
      logger: false,
      timeScale: 1,
      identity,
      health: async () => http.health,
      trackerAgeMs: () => 0,
    });
    await app.listen({ host, port: 0 });
    return { app };
  }

  it('makes whoever started the service an admin, and nobody else', async () => {
    expect((await login('root')).scopes).toContain('admin');
    expect((await login('nobody')).scopes).not.toContain('admin');
    const { body } = await ask('GET', '/v1/users', (await login('root')).api_key);
    expect(body.users.map((one: Json) => one.username)).toEqual(expect.arrayContaining(['root', 'nobody']));
  });

  it('T4: leaves a disabled user disabled', async () => {
    const { api_key: key, user_id: id } = await login('judy');
    const headers = bearer((await login('root')).api_key);
    await http.app.inject({ method: 'PATCH', url: `/v1/users/${id}`, headers, payload: { is_active: false } });
    expect((await local({ username: 'judy' })).body).toMatchObject({ status: 403, code: 'GPU_USER_DISABLED' });
    expect(await ask('GET', '/v1/me', key)).toMatchObject({ status: 403, body: { code: 'GPU_USER_DISABLED' } });
  });

  it('cannot take the name of a user who logs in with AWS', async () => {
    await http.world.db.query(`insert into api_users (username, account, name) values ('kurt', '123456789012', 'kurt')`);
    expect((await local({ username: 'kurt' })).body).toMatchObject({ status: 409, code: 'GPU_NAME_TAKEN' });
  });
});

describe('T2: what is not allowed has the code that says so, and is never an error of ours', () => {
  it('on every path that changes a reservation', async () => {
    const wish = { gpu_type: 't4', duration_hours: 1, no_persistent_disk: true };
    const { id } = (await http.post('/v1/reservations', wish, { user: 'owner' })).body;
    for (const [path, body] of [
      [`/v1/jobs/${id}/cancel`, undefined],
      [`/v1/jobs/${id}/extend`, { extension_hours: 1 }],
      [`/v1/jobs/${id}/jupyter/enable`, undefined],
      [`/v1/jobs/${id}/jupyter/disable`, undefined],
      [`/v1/jobs/${id}/users`, { github_username: 'octocat' }],
      [`/v1/reservations/${id}/events`, { type: 'cancel' }],
    ] as [string, unknown][]) {
      const answer = await http.post(path, body, { user: 'stranger' });
      expect([answer.status, answer.body.code], path).toEqual([404, 'GPU_RESERVATION_UNKNOWN']);
      expect((await http.post(path, body, { user: null })).status, path).toBe(401);
    }
    expect((await http.get(`/v1/reservations/${id}`, 'owner')).body.state).not.toBe('cancelled');
  });
});
