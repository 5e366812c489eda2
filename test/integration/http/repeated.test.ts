import { v7 as uuidv7 } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type HttpWorld, startHttp } from './support.ts';

let http: HttpWorld;
beforeAll(async () => {
  http = await startHttp({ fleet: { t4: 6 } });
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

  const job = { instance_type: 'x', env_vars: { GPU_TYPE: 't4', GPU_COUNT: '1' } };

  it('R5: has one key: where the header names one, no field names another, at every path', async () => {
    const differs = (field: string) => ({ status: 400, code: 'GPU_FIELD_INVALID', field });
    for (const [path, wish] of [
      ['/v1/reservations', {}],
      ['/v1/jobs/submit', job],
    ] as const) {
      const own = { ...wish, user_id: 'ada' };
      expect((await post({ ...own, idempotency_key: 'b' }, 'a', path)).body).toMatchObject(differs('idempotency_key'));
      expect((await post({ ...own, operation_id: 'b' }, 'a', path)).body).toMatchObject(differs('operation_id'));
      const both = { ...own, idempotency_key: 'a', operation_id: 'b' };
      expect((await post(both, 'a', path)).body).toMatchObject(differs('operation_id'));
      const key = `one ${path}`;
      const made = await post({ ...own, operation_id: key, idempotency_key: key }, key, path);
      expect(made.status).toBe(202);
      for (const fields of [{ operation_id: key }, { idempotency_key: key }]) {
        const again = await post({ ...own, ...fields }, undefined, path);
        expect([again.status, again.headers['location']]).toEqual([200, made.headers['location']]);
      }
      // Without a header an operation_id goes first, as in messages of the queues.
      const old = await post({ ...own, operation_id: key, idempotency_key: `${key} of old` }, undefined, path);
      expect([old.status, old.headers['location']]).toEqual([200, made.headers['location']]);
    }
  });

  it('R5: by a key leads to the id that came with the key, and to no other', async () => {
    const chosen = uuidv7();
    const conflict = { status: 409, code: 'GPU_IDEMPOTENCY_CONFLICT', field: 'idempotency_key' };
    const first = await post({ reservation_id: chosen }, 'with an id');
    expect([first.status, first.body.id]).toEqual([202, chosen]);
    for (const more of [{ reservation_id: chosen }, {}]) {
      const again = await post(more, 'with an id');
      expect([again.status, again.body.id]).toEqual([200, chosen]);
    }
    expect((await post({ reservation_id: uuidv7() }, 'with an id')).body).toMatchObject(conflict);
    expect((await post({ duration_hours: 5 }, 'with an id')).body).toMatchObject(conflict);
    const other = { ...job, env_vars: { ...job.env_vars, RESERVATION_ID: uuidv7() } };
    expect((await post(other, 'with an id', '/v1/jobs/submit')).body).toMatchObject(conflict);
    // A key that came alone leads to the id that it was given.
    const { id } = (await post({}, 'alone')).body;
    expect((await post({ reservation_id: uuidv7() }, 'alone')).body).toMatchObject(conflict);
    expect((await post({ reservation_id: id }, 'alone')).body).toMatchObject({ id });
    const both = await Promise.all(Array.from({ length: 4 }, () => post({ reservation_id: uuidv7() }, 'at once')));
    expect(both.map(({ status }) => status).sort()).toEqual([202, 409, 409, 409]);
    // Keys belong to a user, and those who have none of their own name the id: so does gpu-dev.
    const eve = await http.post('/v1/reservations', { ...WISH, reservation_id: uuidv7() }, { user: 'eve', key: 'with an id' });
    expect(eve.status).toBe(202);
    const own = uuidv7();
    expect((await post({ reservation_id: own }, own)).body).toMatchObject({ id: own });
  });

  it('by the queue is known by its id, whatever key is beside it', async () => {
    const ids = [uuidv7(), uuidv7()];
    for (const id of ids)
      await http.world.send({ action: 'create_reservation', user_id: 'quentin', reservation_id: id, operation_id: 'q', ...WISH });
    for (const id of ids)
      await http.world.until('it is there', async () => (await http.get(`/v1/reservations/${id}`)).status === 200);
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
