import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type HttpWorld, startHttp } from './support.ts';

let http: HttpWorld;
let id: string;
beforeAll(async () => {
  http = await startHttp({ fleet: { t4: 1 } });
  const made = await http.post(
    '/v1/reservations',
    { gpu_type: 't4', duration_hours: 20, no_persistent_disk: true, env_vars: { WANDB_API_KEY: 'sesame' } },
    { user: 'ada' },
  );
  id = made.body.id;
  await http.world.reaches(id, 'running');
});
afterAll(async () => {
  await http?.stop();
});

const send = (body: object, user = 'ada', key?: string) =>
  http.post(`/v1/reservations/${id}/events`, body, key === undefined ? { user } : { user, key });

describe('POST /v1/reservations/:id/events', () => {
  it('extends a running server and answers with the decision', async () => {
    const before = (await http.get(`/v1/reservations/${id}`)).body;
    const answer = await send({ type: 'extend', extension_hours: 2 });
    expect(answer.status).toBe(200);
    expect(answer.body).toMatchObject({ applied: true, reservation: { state: 'running', total_hours: 22 } });
    expect(answer.body.reservation.last_extension).toMatchObject({ hours: 2, granted: true, reason: null });
    expect(Date.parse(answer.body.reservation.expires_at) - Date.parse(before.expires_at)).toBe(2 * 3_600_000);
  });

  it('acts once for a repeated key, and gives the same answer', async () => {
    const first = await send({ type: 'extend', extension_hours: 1 }, 'ada', 'more');
    const again = await send({ type: 'extend', extension_hours: 1 }, 'ada', 'more');
    expect([first.status, again.status]).toEqual([200, 200]);
    expect(again.body.reservation.total_hours).toBe(23);
  });

  it('refuses an extension beyond the limit with the reason, and nothing changes', async () => {
    const answer = await send({ type: 'extend', extension_hours: 40 });
    expect([answer.status, answer.body.code]).toEqual([409, 'GPU_EXTENSION_REFUSED']);
    expect(answer.body.detail).toBe('23 h are granted and 40 h more would pass the limit of 48 h');
    expect(answer.body.details).toMatchObject({ state: 'running', substate: 'serving' });
    expect((await http.get(`/v1/reservations/${id}`)).body.total_hours).toBe(23);
  });

  it('adds a user once, and tells what it accepts when it takes nothing', async () => {
    const added = await send({ type: 'add_user', github_username: 'octocat' });
    expect(added.body).toMatchObject({ applied: true, reservation: { secondary_users: ['octocat'] } });
    await http.world.until('the user is known to the server', async () =>
      (await http.get(`/v1/reservations/${id}/history`)).body.effects.every(
        (one: { status: string }) => one.status !== 'pending',
      ),
    );
    const ignored = await send({ type: 'disable_jupyter' });
    expect([ignored.status, ignored.body.code]).toEqual([409, 'GPU_EVENT_IGNORED']);
    expect(ignored.body.details).toMatchObject({ state: 'running', state_met: 'running' });
    expect(ignored.body.details.accepts).toContain('enable_jupyter');
  });

  it('N10: who was added finds the server, and how to log in to it, by their own name', async () => {
    const listed = async (name: string) => (await http.get(`/v1/reservations?status=live&shared_with=${name}`)).body.reservations;
    const found = await listed('OctoCat');
    expect(found.map((one: { id: string }) => one.id)).toEqual([id]);
    expect(found[0].ssh_command).toMatch(/^ssh -p \d+ dev@/);
    expect(await listed('stranger')).toEqual([]);
    expect((await http.get("/v1/reservations?shared_with=a'b")).status).toBe(400);
  });

  it('removes a user who was added, whatever the case, and nobody else', async () => {
    expect((await http.get(`/v1/reservations/${id}`)).body.accepts).toContain('remove_user');
    expect((await send({ type: 'remove_user', github_username: 'stranger' })).body.code).toBe('GPU_EVENT_IGNORED');
    const removed = await send({ type: 'remove_user', github_username: 'Octocat' });
    expect(removed.body).toMatchObject({ applied: true, reservation: { secondary_users: [] } });
    expect(removed.body.reservation.accepts).not.toContain('remove_user');
  });

  it('is closed: other types and other fields are refused, the reserved ones too', async () => {
    for (const type of [
      'xstate.stop',
      'xstate.init',
      'pod.died',
      'reservation.submitted',
      'deadline.expiry',
      'Cancel',
      '',
      null,
      7,
    ]) {
      const answer = await send({ type });
      expect([answer.status, answer.body.code, answer.body.field]).toEqual([400, 'GPU_FIELD_INVALID', 'type']);
    }
    expect((await send({ type: 'extend' })).body).toMatchObject({ code: 'GPU_FIELD_MISSING', field: 'extension_hours' });
    expect((await send({ type: 'extend', extension_hours: -1 })).body).toMatchObject({ status: 400, field: 'extension_hours' });
    expect((await send({ type: 'extend', hours: 1 })).status).toBe(400);
    expect((await send({ type: 'cancel', force: true })).body).toMatchObject({ status: 400, code: 'GPU_FIELD_INVALID' });
    expect((await send({ type: 'add_user', github_username: '../x' })).body).toMatchObject({
      status: 400,
      field: 'github_username',
    });
  });

  it('is for the owner only (R7), named, and only of what exists', async () => {
    expect((await send({ type: 'cancel' }, 'eve')).body).toMatchObject({ status: 404, code: 'GPU_RESERVATION_UNKNOWN' });
    expect((await http.post(`/v1/reservations/${id}/events`, { type: 'cancel' }, { user: null })).body).toMatchObject({
      status: 401,
      code: 'GPU_KEY_MISSING',
    });
    const unknown = await http.post(
      '/v1/reservations/00000000-0000-4000-8000-000000000000/events',
      { type: 'cancel' },
      { user: 'ada' },
    );
    expect(unknown.body).toMatchObject({ status: 404, code: 'GPU_RESERVATION_UNKNOWN' });
    expect((await http.get(`/v1/reservations/${id}`)).body.state).toBe('running');
  });

  it('switches Jupyter, whose token only its owner sees', async () => {
    expect((await send({ type: 'enable_jupyter' })).body.reservation.jupyter.state).toBe('starting');
    const on = await http.world.until('Jupyter is on', async () => {
      const { body } = await http.get(`/v1/reservations/${id}`);
      return body.jupyter.state === 'on' ? body : null;
    });
    const token = await http.get(`/v1/reservations/${id}/jupyter-token`, 'ada');
    expect(token.body).toMatchObject({ id, state: 'on', url: on.jupyter.url });
    expect(token.body.token).toMatch(/^[0-9a-f]{64}$/);
    expect(JSON.stringify(on)).not.toContain(token.body.token);
    expect((await http.get(`/v1/reservations/${id}/jupyter-token`, 'eve')).status).toBe(404);
    expect((await http.get(`/v1/reservations/${id}/jupyter-token`, null)).status).toBe(401);
  });

  it('shows the history with effects and deadlines, and no secret in it', async () => {
    const { body } = await http.get(`/v1/reservations/${id}/history`);
    expect(body.entries[0]).toMatchObject({
      seq: 1,
      type: 'reservation.submitted',
      outcome: 'applied',
      from: null,
      to: 'queued',
      sender: 'http',
    });
    expect(body.entries.map((one: { seq: number }) => one.seq)).toEqual(
      body.entries.map((_: unknown, index: number) => index + 1),
    );
    expect(
      body.entries.some(
        (one: { outcome: string; reason: string }) => one.outcome === 'ignored' && one.reason === 'Not expected in running',
      ),
    ).toBe(true);
    expect(body.effects.find((one: { type: string }) => one.type === 'pod.create')).toMatchObject({ status: 'done' });
    expect(body.deadlines.map((one: { name: string }) => one.name)).toEqual(['warn30', 'warn15', 'warn5', 'expiry']);
    expect(JSON.stringify(body)).not.toContain('sesame');
    const page = await http.get(`/v1/reservations/${id}/history?after=2&limit=2`);
    expect(page.body.entries.map((one: { seq: number }) => one.seq)).toEqual([3, 4]);
    expect(page.body.next_after).toBe(4);
  });

  it('cancels, and an ended reservation takes nothing more (R3)', async () => {
    const answer = await send({ type: 'cancel' });
    expect(answer.body).toMatchObject({
      applied: true,
      reservation: { state: 'snapshotting', failure_reason: 'Cancelled by its owner' },
    });
    await http.world.reaches(id, 'cancelled');
    const late = await send({ type: 'extend', extension_hours: 1 });
    expect([late.status, late.body.code, late.body.details.accepts]).toEqual([409, 'GPU_EVENT_IGNORED', []]);
    expect((await http.get(`/v1/reservations/${id}`)).body).toMatchObject({ state: 'cancelled', accepts: [] });
    await http.world.checkClean();
  });

  it('answers 202 while another holds the reservation, and the event is taken afterwards', async () => {
    const made = await http.post(
      '/v1/reservations',
      { gpu_type: 't4', gpu_count: 4, duration_hours: 1, no_persistent_disk: true },
      { user: 'bob' },
    );
    await http.world.reaches(made.body.id, 'running');
    const { promise: released, resolve: release } = Promise.withResolvers<void>();
    const { promise: isHeld, resolve: hold } = Promise.withResolvers<void>();
    const holding = http.world.db.withTransaction(async (tx) => {
      await tx.query('select 1 from actors where actor = $1 for update', [`reservation/${made.body.id}`]);
      hold();
      await released;
    });
    await isHeld;
    try {
      const answer = await http.post(`/v1/reservations/${made.body.id}/events`, { type: 'cancel' }, { user: 'bob' });
      expect([answer.status, answer.body.applied, answer.body.reservation.state]).toEqual([202, false, 'running']);
    } finally {
      release();
      await holding;
    }
    await http.world.reaches(made.body.id, 'cancelled');
  });
});
