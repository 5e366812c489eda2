import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TerminalError } from '../../../actors/errors.ts';
import { close, diskOf, open } from '../disks/session.ts';
import { type AdminScene, adminScene } from './admin-scene.ts';
import { type HttpWorld, type Json, startHttp } from './support.ts';

/** Whether the storage refuses to delete anything. */
let refusing = false;
let http: HttpWorld;
let admin: AdminScene;
beforeAll(async () => {
  http = await startHttp({
    fleet: { t4: 1 },
    ports: (ports) => {
      const purge: typeof ports.volumes.purge = async (diskId, snapshots) => {
        if (refusing) throw new TerminalError('The storage forbids it');
        await ports.volumes.purge(diskId, snapshots);
      };
      const volumes = new Proxy(ports.volumes, {
        get: (target, name) => {
          if (name === 'purge') return purge;
          const value = Reflect.get(target, name) as unknown;
          return typeof value === 'function' ? (value.bind(target) as unknown) : value;
        },
      });
      return { ...ports, volumes };
    },
  });
  admin = adminScene(http);
});
afterAll(async () => {
  await http?.stop();
});

const letterOf = (query: string): Promise<Json> =>
  http.world.until('there is a dead letter', async () => {
    const { body } = await admin.get(`/dead-letters?${query}`);
    return body.dead_letters[0] ?? null;
  });
const letter = async (id: number): Promise<Json> => (await admin.get(`/dead-letters/${id}`)).body;

describe('a dead letter', () => {
  it('of a queue is sent again with its original body, secrets included, and only once', async () => {
    await http.world.db.query(`update gpu_types set is_active = false where gpu_type = 't4'`);
    const env_vars = { TOKEN: 'a-secret-value' };
    const sent = { action: 'create_reservation', user_id: 'ann', gpu_type: 't4', gpu_count: 1, disk_name: null, env_vars };
    await http.world.send(sent);
    const { id, body, reason } = await letterOf('code=GPU_TYPE_UNKNOWN');
    expect(reason).toContain('t4');
    expect(JSON.stringify(body)).not.toContain('a-secret-value');
    await http.world.db.query(`update gpu_types set is_active = true where gpu_type = 't4'`);
    const replayed = await admin.post(`/dead-letters/${id}/replay`, { reason: 'the type is back' }, 'replay-1');
    expect(replayed).toMatchObject({ status: 200, body: { resolved: 'replayed', resolution: 'the type is back' } });
    expect(await admin.post(`/dead-letters/${id}/replay`, { reason: 'the type is back' }, 'replay-1')).toMatchObject({
      status: 200,
      body: { replayed_as: replayed.body.replayed_as },
    });
    expect(await admin.post(`/dead-letters/${id}/replay`, {})).toMatchObject({
      status: 409,
      body: { code: 'GPU_DEAD_LETTER_RESOLVED', details: { resolved_by: 'operator' } },
    });
    const reservation = await http.world.until('it is accepted', async () => {
      const { body: list } = await http.get('/v1/reservations?status=live', 'ann');
      return list.reservations[0] ?? null;
    });
    const { rows } = await http.world.db.query<Json>('select value from secrets where secret_ref = $1', [reservation.id]);
    expect(rows[0].value.environment).toEqual(env_vars);
    expect((await http.get('/v1/reservations', 'ann')).body.reservations).toHaveLength(1);
    await http.post(`/v1/reservations/${reservation.id}/events`, { type: 'cancel' }, { user: 'ann' });
    await http.world.reaches(reservation.id, 'cancelled');
  });

  it('is dropped with a reason, and the list tells open from closed', async () => {
    await http.world.send({ action: 'dance' });
    const { id } = await letterOf('code=GPU_ACTION_UNKNOWN');
    expect((await admin.post(`/dead-letters/${id}/drop`, {})).body.field).toBe('reason');
    expect(await admin.post(`/dead-letters/${id}/drop`, { reason: 'nobody dances here' })).toMatchObject({
      status: 200,
      body: { resolved: 'dropped', resolved_by: 'operator', resolution: 'nobody dances here' },
    });
    expect((await admin.get('/dead-letters?code=GPU_ACTION_UNKNOWN')).body.dead_letters).toEqual([]);
    const all = await admin.get('/dead-letters?state=all&limit=1');
    expect(all.body.dead_letters).toHaveLength(1);
    expect(
      (await admin.get(`/dead-letters?state=all&limit=1&cursor=${all.body.next_cursor}`)).body.dead_letters[0].id,
    ).toBeLessThan(all.body.dead_letters[0].id);
    expect((await admin.post('/dead-letters/999999/drop', { reason: 'not there' })).body.code).toBe('GPU_DEAD_LETTER_UNKNOWN');
    expect((await http.get('/v1/admin/dead-letters', 'eve')).status).toBe(403);
  });

  it('for an actor goes back into its mailbox under its key, once what spoiled it is gone', async () => {
    const { body: made } = await http.post('/v1/disks', { disk_name: 'spoiled' }, { user: 'ann' });
    const actor = `disk/${made.disk_id}`;
    // A broken rule of the schema, as an operator's mistake would make one.
    await http.world.db.query(`alter table disks add constraint no_deletions check (not is_deleted) not valid`);
    const headers = await http.as('ann');
    await http.app.inject({ method: 'DELETE', url: '/v1/disks/spoiled', headers });
    const { id, source, key } = await letterOf(`actor=${actor}`);
    expect(source).toBe('mailbox');
    expect(key).toMatch(/^op:/);
    await http.world.db.query('alter table disks drop constraint no_deletions');
    expect(await admin.post(`/dead-letters/${id}/replay`, {})).toMatchObject({
      status: 200,
      body: { replayed_as: `${actor} ${key}` },
    });
    await http.world.until('the disk is deleted', async () => (await diskOf(http.world, 'spoiled'))?.state === 'deleted');
    expect((await admin.audited(`dead-letter/${id}`)).map(({ action }) => action)).toEqual(['dead-letter.replay']);
    await http.world.checkClean();
  });
});

describe('a purge that failed for good', () => {
  it('is tried again by an operator, and nobody else', async () => {
    await close(http.world, await open(http.world, 'stuck'));
    refusing = true;
    const headers = await http.as('ann');
    const date = encodeURIComponent(new Date(Date.now() + 200).toISOString());
    await http.app.inject({ method: 'DELETE', url: `/v1/disks/stuck?delete_date=${date}`, headers });
    const failed = await http.world.until('it is given up', async () => {
      const { body } = await admin.get('/effects?status=failed');
      return body.effects.find((each: Json) => each.type === 'disk.purge') ?? null;
    });
    expect(failed.last_error).toBe('The storage forbids it');
    await http.world.until('its owner is told', async () => {
      const { body } = await http.get('/v1/disks/stuck', 'ann');
      return body.state === 'purging' && body.problem === 'The storage forbids it';
    });
    expect((await http.post('/v1/admin/effects/retry', { effect_id: failed.effect_id }, { user: 'ann' })).status).toBe(403);

    const once = await admin.post('/effects/retry', { effect_id: failed.effect_id });
    expect(once.body.effect_id).toBe(`${failed.effect_id}~1`);
    await http.world.until('it failed again', async () =>
      (await admin.get('/effects?status=failed')).body.effects.some((each: Json) => each.effect_id === once.body.effect_id),
    );
    refusing = false;
    const { id } = await letterOf('source=effect');
    expect(await admin.post(`/dead-letters/${id}/replay`, {})).toMatchObject({
      status: 200,
      body: { replayed_as: `${failed.effect_id}~2` },
    });
    await http.world.until('it is purged', async () => (await diskOf(http.world, 'stuck'))?.state === 'purged');
    expect(await admin.post('/effects/retry', { effect_id: failed.effect_id })).toMatchObject({
      status: 409,
      body: { code: 'GPU_REPLAY_REFUSED' },
    });
    expect((await admin.post('/effects/retry', { effect_id: 'disk/none:1:0' })).body.code).toBe('GPU_EFFECT_UNKNOWN');
  });
});

describe('an actor that was set aside', () => {
  it('is shown with its mail, refused while it cannot be revived, and goes on when it can', async () => {
    const { body: made } = await http.post('/v1/disks', { disk_name: 'aside' }, { user: 'ann' });
    const actor = `disk/${made.disk_id}`;
    const state = (value: string) =>
      http.world.db.query(`update actors set snapshot = jsonb_set(snapshot, '{value}', to_jsonb($2::text)) where actor = $1`, [
        actor,
        value,
      ]);
    await state('nowhere');
    const headers = await http.as('ann');
    await http.app.inject({ method: 'DELETE', url: '/v1/disks/aside', headers });
    const aside = await http.world.until('it is set aside', async () => {
      const { body } = await admin.get('/quarantine');
      return body.actors.find((each: Json) => each.actor === actor) ?? null;
    });
    expect(aside).toMatchObject({ mail: 1 });
    expect(await admin.post('/quarantine/release', { actor })).toMatchObject({
      status: 409,
      body: { code: 'GPU_ACTOR_NOT_REVIVED' },
    });
    expect((await admin.get(`/verifications?actor=${actor}`)).body).toMatchObject({ ok: false, actors: 1 });
    await state('idle');
    expect(await admin.post('/quarantine/release', { actor, reason: 'the row is mended' })).toMatchObject({
      status: 200,
      body: { actor, mail: 1 },
    });
    await http.world.until('its mail is read', async () => (await diskOf(http.world, 'aside'))?.state === 'deleted');
    expect((await admin.post('/quarantine/release', { actor: 'disk/none' })).body.code).toBe('GPU_ACTOR_UNKNOWN');
  });

  it('and all others are verified page by page', async () => {
    let cursor: string | null = null;
    let actors = 0;
    do {
      const { status, body }: Json = await admin.get(`/verifications?limit=10${cursor === null ? '' : `&cursor=${cursor}`}`);
      expect(status).toBe(200);
      expect(body.problems).toEqual([]);
      actors += body.actors;
      cursor = body.next_cursor;
    } while (cursor !== null);
    const { rows } = await http.world.db.query<{ n: number }>('select count(*)::int as n from actors');
    expect(actors).toBe(rows[0]!.n);
  });
});

describe('releasing the GPUs of a server that does not answer', () => {
  it('says first what is lost, needs the id once more, and keeps the word in history and audit', async () => {
    const id = (await admin.reserve('ann', { disk_name: 'held', gpu_count: 2 })).body.id;
    const { node_name: node } = await http.world.reaches(id, 'running');
    await http.world.simulate(`/nodes/${node}/lose`);
    const asked = await admin.post(`/reservations/${id}/release`, { reason: 'the rack has no power' });
    expect(asked).toMatchObject({ status: 409, body: { code: 'GPU_CONFIRMATION_NEEDED', details: { confirm: id } } });
    expect(asked.body.details.would_lose.join(' ')).toMatch(/2 slots of t4 .* held/s);
    expect((await http.world.reservation(id))?.['status']).toBe('running');
    expect(await admin.post(`/reservations/${id}/release`, { reason: 'the rack has no power', confirm: 'yes' })).toMatchObject({
      status: 409,
    });
    const done = await admin.post(`/reservations/${id}/release`, { reason: 'the rack has no power', confirm: id }, 'release-1');
    expect(done).toMatchObject({ status: 200, body: { id, freed: true } });
    expect(done.body.slots).toHaveLength(2);
    const { rows } = await http.world.db.query('select 1 from gpu_slots where reservation_id = $1', [id]);
    expect(rows).toEqual([]);
    expect((await http.world.reservation(id))?.['status']).toBe('snapshotting');
    const history = (await http.get(`/v1/reservations/${id}/history`)).body.entries ?? [];
    expect(JSON.stringify(history)).toContain('operator:operator');
    expect(await admin.audited(`reservation/${id}`)).toContainEqual(
      expect.objectContaining({ actor: 'operator', action: 'reservation.release' }),
    );
    expect(await admin.post(`/reservations/${id}/release`, { reason: 'again', confirm: id })).toMatchObject({
      status: 409,
      body: { code: 'GPU_NOTHING_TO_RELEASE' },
    });
    // Its pod goes when the node is back, and its disk is whole: the next session has it.
    await http.world.simulate(`/nodes/${node}/recover`);
    const ended = await http.world.reaches(id, 'failed');
    expect(ended['failure_reason']).toContain('the word of operator: the rack has no power');
    await http.world.until('the disk is free', async () => (await diskOf(http.world, 'held'))?.state === 'idle');
    await close(http.world, await open(http.world, 'held'));
    await http.world.until('nothing is left', () =>
      http.world.checkClean().then(
        () => true,
        () => false,
      ),
    );
  });

  it('works for one whose actor was set aside, by the pool itself', async () => {
    const id = (await admin.reserve('ann')).body.id;
    await http.world.reaches(id, 'running');
    await http.world.db.query(`update actors set quarantined_at = now(), quarantine_reason = 'test' where actor = $1`, [
      `reservation/${id}`,
    ]);
    expect(await admin.post(`/reservations/${id}/release`, { reason: 'gone for good', confirm: id })).toMatchObject({
      status: 200,
      body: { freed: true },
    });
    await admin.post('/quarantine/release', { actor: `reservation/${id}` });
    await http.world.reaches(id, 'failed');
  });
});

it('an operator cancels and extends for others', async () => {
  const id = (await admin.reserve('ann')).body.id;
  await http.world.reaches(id, 'running');
  expect((await http.post(`/v1/reservations/${id}/events`, { type: 'extend', extension_hours: 1 })).status).toBe(200);
  expect((await http.post(`/v1/reservations/${id}/events`, { type: 'cancel' })).status).toBe(200);
  const ended = await http.world.reaches(id, 'cancelled');
  expect(ended['failure_reason']).toContain('operator');
  expect(await letter(1)).toMatchObject({ id: 1 });
});
