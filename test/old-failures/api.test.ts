// Old failures of the API: what it told, whom it refused, and what it told them.
import { v7 as uuidv7 } from 'uuid';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type HttpWorld, startHttp } from '../integration/http/support.ts';
import { findBuiltSql } from '../repository/sql-check.ts';
import { keyFor } from '../support/api-keys.ts';
import { StreamClient } from '../support/listener.ts';
import { startReplica, type Replica } from '../integration/http/streams/support.ts';

let http: HttpWorld;
let replica: Replica;
beforeAll(async () => {
  http = await startHttp({ fleet: { t4: 1 } });
  replica = await startReplica(http.world);
});
afterAll(async () => {
  await replica?.app.close();
  await http?.stop();
});

const reserve = async (user: string, more: object = {}): Promise<string> =>
  (await http.post('/v1/reservations', { gpu_type: 't4', duration_hours: 4, no_persistent_disk: true, ...more }, { user })).body
    .id;

it('S31: a client of any version, or of none, may cancel, extend and let go, at every door', async () => {
  for (const version of ['0.0.1', 'unknown', undefined]) {
    const id = await reserve('ada', version === undefined ? {} : { version });
    await http.world.reaches(id, 'running');
    const message = { user_id: 'ada', reservation_id: id, ...(version === undefined ? {} : { version }) };
    await http.world.send({ action: 'extend', extension_hours: 1, ...message });
    await http.world.until('it is extended', async () => (await http.world.reservation(id))?.['total_hours'] === 5);
    await http.world.send({ action: 'cancel', ...message });
    await http.world.reaches(id, 'cancelled');
    const disk = { user_id: 'ada', disk_name: `old-${version ?? 'none'}`.replaceAll('.', '-'), operation_id: uuidv7() };
    await http.world.send({ action: 'create_disk', ...disk, ...(version === undefined ? {} : { version }) }, 'disk_operations');
    await http.world.send({ action: 'delete_disk', ...disk, operation_id: uuidv7(), version: '0.0.1' }, 'disk_operations');
    await http.world.until('it is deleted', async () => {
      const { rows } = await http.world.db.query<{ is_deleted: boolean }>('select is_deleted from disks where disk_name = $1', [
        disk.disk_name,
      ]);
      return rows[0]?.is_deleted === true;
    });
  }
  const { rows } = await http.world.db.query('select 1 from dead_letters');
  expect(rows).toEqual([]);
});

it('S35: whoever is refused is told the true cause: an ended reservation, or a key that ended, was revoked or is none', async () => {
  const id = await reserve('bob');
  await http.world.reaches(id, 'running');
  await http.post(`/v1/reservations/${id}/events`, { type: 'cancel' }, { user: 'bob' });
  await http.world.reaches(id, 'cancelled');
  const ended = await http.post(`/v1/reservations/${id}/events`, { type: 'extend', extension_hours: 1 }, { user: 'bob' });
  expect(ended.body).toMatchObject({ status: 409, code: 'GPU_EVENT_IGNORED', details: { state: 'cancelled', accepts: [] } });
  expect(ended.body.detail).toContain('cancelled');
  const client = await StreamClient.open(`${replica.url}/v1/reservations/${id}/stream`, await http.as('bob'));
  expect(await client.over).toBe(true);
  expect(client.named('end')[0]!.json.reservation).toMatchObject({
    state: 'cancelled',
    failure_reason: 'Cancelled by its owner',
  });

  const ask = (authorization?: string) =>
    http.app.inject({ url: `/v1/reservations/${id}`, headers: authorization === undefined ? {} : { authorization } });
  const key = await keyFor(http.world.db, 'bob', { ttlHours: 1 });
  const expired = await keyFor(http.world.db, 'bob', { ttlHours: 2 });
  await http.world.db.query(
    `update api_keys set created_at = now() - interval '3 hours', expires_at = now() - interval '1 hour'
      where expires_at > now() + interval '90 minutes' and expires_at < now() + interval '150 minutes'`,
  );
  expect((await ask(`Bearer ${key}`)).statusCode).toBe(200);
  expect((await ask(`Bearer ${expired}`)).json()).toMatchObject({ status: 401, code: 'GPU_KEY_EXPIRED' });
  expect((await ask(`Bearer ${expired.slice(0, -4)}AAAA`)).json()).toMatchObject({ status: 401, code: 'GPU_KEY_INVALID' });
  expect((await ask()).json()).toMatchObject({ status: 401, code: 'GPU_KEY_MISSING' });
});

it('T8: no field name and no value of a request becomes part of a statement', async () => {
  const planted = 'await db.query(`update reservations set $' + '{fields.join()} where reservation_id = $1`, [id]);';
  expect(findBuiltSql({ path: 'planted.ts', text: planted })).toHaveLength(1);
  const hostile = ["x'; drop table reservations; --", '"user_id" = user_id or 1=1', 'status) from reservations --'];
  const id = await reserve('carl');
  for (const text of hostile) {
    const query = encodeURIComponent(text);
    for (const path of ['/v1/reservations?status=', '/v1/reservations?cursor=', '/v1/jobs?status=', '/v1/disks?cursor='])
      expect([path, (await http.get(`${path}${query}`, 'carl')).status]).toEqual([path, 400]);
    expect((await http.get(`/v1/reservations?gpu_type=${query}`, 'carl')).body.reservations).toEqual([]);
    const wish = { gpu_type: 't4', duration_hours: 1, no_persistent_disk: true, [text]: text };
    const taken = await http.post('/v1/reservations', wish, { user: 'carl' });
    expect(taken.status).toBe(202);
    expect((await http.post(`/v1/reservations/${id}/events`, { type: 'cancel', [text]: 1 }, { user: 'carl' })).status).toBe(400);
  }
  expect((await http.get(`/v1/reservations/${id}`, 'carl')).body.user_id).toBe('carl');
});

it('T13: an error of ours tells strangers nothing of what is inside', async () => {
  const SECRET = 'sesame-in-the-database';
  await http.world.db.query(
    `create function betray() returns trigger language plpgsql as $$ begin raise exception 'password=${SECRET} at /var/lib/postgresql'; end $$`,
  );
  await http.world.db.query('create trigger betray before insert on secrets for each row execute function betray()');
  try {
    for (const path of ['/v1/reservations', '/v1/jobs/submit']) {
      const wish = {
        gpu_type: 't4',
        duration_hours: 1,
        no_persistent_disk: true,
        instance_type: 'x',
        env_vars: { TOKEN: SECRET },
      };
      const answer = await http.post(path, wish, { user: 'dora' });
      expect(answer.body).toEqual({
        type: 'urn:gpu-dev:problem:GPU_INTERNAL',
        title: 'Something went wrong here',
        status: 500,
        code: 'GPU_INTERNAL',
        detail: 'Something went wrong here',
        field: null,
        details: {},
        instance: path,
        request_id: answer.headers['x-request-id'],
      });
    }
  } finally {
    await http.world.db.query('drop trigger betray on secrets');
  }
  // Nor does a refusal repeat what it refuses: it may be a secret in the wrong place.
  const wrong = await http.post(
    '/v1/reservations',
    { gpu_type: 't4', env_vars: { 'A B': SECRET }, duration_hours: SECRET },
    { user: 'dora' },
  );
  expect(wrong.status).toBe(400);
  expect(JSON.stringify(wrong.body)).not.toContain(SECRET);
  const broken = await http.app.inject({
    method: 'POST',
    url: '/v1/reservations',
    headers: { ...(await http.as('dora')), 'content-type': 'application/json' },
    payload: `{"a": "${SECRET}"`,
  });
  expect([broken.statusCode, broken.json().code, broken.body.includes(SECRET)]).toEqual([400, 'GPU_BODY_INVALID', false]);
});
