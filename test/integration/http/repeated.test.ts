import { v7 as uuidv7 } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type HttpWorld, startHttp } from './support.ts';

let http: HttpWorld;
beforeAll(async () => {
  http = await startHttp({ fleet: { t4: 2 } });
});
afterAll(async () => {
  await http?.stop();
});

const WISH = { gpu_type: 't4', gpu_count: 1, duration_hours: 4, no_persistent_disk: true, env_vars: { A: '1' } };
const letters = async (id: string) =>
  (
    await http.world.db.query<{ code: string; field: string }>('select code, field from dead_letters where body::text like $1', [
      `%${id}%`,
    ])
  ).rows;

describe('a create that comes again', () => {
  const post = (more: object, key?: string, path = '/v1/reservations') =>
    http.post(path, { ...WISH, ...more }, key === undefined ? { user: 'ada' } : { user: 'ada', key });

  it('with the same wish is the same reservation, however it is written', async () => {
    const first = await post({ created_at: '2026-01-01T00:00:00Z', version: '1' }, 'same');
    const again = await post({ version: '2', duration_hours: 4.0, whatever: 1 }, 'same');
    expect([first.status, again.status]).toEqual([202, 200]);
    expect(again.body.id).toBe(first.body.id);
    expect([first.headers['idempotency-replayed'], again.headers['idempotency-replayed']]).toEqual([undefined, 'true']);
  });

  it('R5: with another wish under the same key is refused, at every path, and changes nothing', async () => {
    const { id } = (await post({}, 'other')).body;
    for (const more of [
      { duration_hours: 5 },
      { gpu_count: 2 },
      { env_vars: { A: '2' } },
      { no_persistent_disk: false },
      { name: 'x' },
    ]) {
      const refused = await post(more, 'other');
      expect(refused.body).toMatchObject({ status: 409, code: 'GPU_IDEMPOTENCY_CONFLICT', field: 'idempotency_key' });
    }
    const job = await post({ instance_type: 'x', env_vars: { GPU_TYPE: 't4' } }, 'other', '/v1/jobs/submit');
    expect(job.body).toMatchObject({ status: 409, code: 'GPU_IDEMPOTENCY_CONFLICT' });
    expect((await http.get(`/v1/reservations/${id}`)).body).toMatchObject({ duration_hours: 4, gpu_count: 1 });
    // Keys belong to a user.
    expect((await http.post('/v1/reservations', { ...WISH, duration_hours: 5 }, { user: 'eve', key: 'other' })).status).toBe(202);
  });

  it('by the queue with another wish is set aside with the reason; the same again is not', async () => {
    const id = uuidv7();
    const message = { action: 'create_reservation', user_id: 'ada', reservation_id: id, ...WISH };
    await http.world.send({ ...message, submitted_at: '2026-01-01T00:00:00Z' });
    await http.world.send({ ...message, submitted_at: '2026-01-01T00:00:09Z', _metadata: { retry_count: 1 } });
    await http.world.send({ ...message, duration_hours: 2 });
    await http.world.until('it is set aside', async () => (await letters(id)).length > 0);
    expect(await letters(id)).toEqual([{ code: 'GPU_IDEMPOTENCY_CONFLICT', field: 'reservation_id' }]);
    expect((await http.world.reaches(id, 'running'))['duration_hours']).toBe(4);
  });
});

describe('an event that comes again', () => {
  it('is taken once; another under its key is refused, by HTTP and by the queue', async () => {
    const { id } = (await http.post('/v1/reservations', WISH, { user: 'ada' })).body;
    await http.world.reaches(id, 'running');
    const send = (body: object, key: string) => http.post(`/v1/reservations/${id}/events`, body, { user: 'ada', key });
    expect((await send({ type: 'extend', extension_hours: 1 }, 'e1')).status).toBe(200);
    expect((await send({ type: 'extend', extension_hours: 1 }, 'e1')).status).toBe(200);
    for (const body of [{ type: 'extend', extension_hours: 2 }, { type: 'cancel' }]) {
      expect((await send(body, 'e1')).body).toMatchObject({
        status: 409,
        code: 'GPU_IDEMPOTENCY_CONFLICT',
        field: 'idempotency_key',
      });
    }
    const both = await Promise.all([
      send({ type: 'add_user', github_username: 'a' }, 'e2'),
      send({ type: 'add_user', github_username: 'b' }, 'e2'),
    ]);
    expect(both.map(({ status }) => status).sort()).toEqual([200, 409]);
    await http.world.send({ action: 'cancel', user_id: 'ada', reservation_id: id, operation_id: 'e1' });
    await http.world.until('it is set aside', async () =>
      (await letters(id)).some(({ code }) => code === 'GPU_IDEMPOTENCY_CONFLICT'),
    );
    const { body } = await http.get(`/v1/reservations/${id}`);
    expect(body).toMatchObject({ state: 'running', total_hours: 5 });
    expect(body.secondary_users).toHaveLength(1);
  });
});
