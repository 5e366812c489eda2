import { randomUUID } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { armCrashPoints } from '../../actors/kernel/crash-points.ts';
import { type Body, type Door, fresh, messageOf, startDoor } from './support.ts';

let door: Door;
beforeEach(async () => {
  door = await startDoor();
});
afterEach(async () => {
  armCrashPoints(null);
  await door?.stop();
});

/** The request as the actor remembers it, after its turn. */
async function requestOf(id: string): Promise<Body> {
  await door.kernel.pump(`reservation/${id}`);
  const { rows } = await door.db.query<Body>(`select snapshot #> '{context,request}' as r from actors where actor = $1`, [
    `reservation/${id}`,
  ]);
  return rows[0]?.r;
}

async function ids(): Promise<string[]> {
  const { rows } = await door.db.query<{ id: string }>(
    `select substr(actor, 13) as id from actors where kind = 'reservation' order by actor`,
  );
  return rows.map((row) => row.id);
}

/** Make a reservation that is born. @returns its id. */
async function born(owner: string, id = randomUUID() as string): Promise<string> {
  await door.send({ action: 'create_reservation', reservation_id: id, user_id: owner, gpu_type: 't4', disk_name: null });
  await door.drain();
  await door.kernel.pump(`reservation/${id}`);
  return id;
}

describe('a create', () => {
  it('means the same with its fields in another order', async () => {
    const body = fresh('create-api');
    const turned = Object.fromEntries(Object.entries({ ...body, reservation_id: randomUUID() }).reverse());
    await door.send(body);
    await door.send(turned);
    await door.drain();
    const [one, other] = [await requestOf(body.reservation_id), await requestOf(turned['reservation_id'] as string)];
    // The second wants a name that the first has, and is known by its own id: all else is the same.
    expect({ ...other, name: one.name, secretsRef: one.secretsRef }).toEqual(one);
    expect(one).not.toEqual(other);
  });

  it('gets the documented defaults where fields are left out or null', async () => {
    const bare = await door.send({ action: 'create_reservation', user_id: 'u' });
    expect(bare).toBeGreaterThan(0);
    await door.drain();
    const [id] = await ids();
    expect(await requestOf(id!)).toMatchObject({
      gpuType: 'a100',
      gpuCount: 1,
      durationHours: 8,
      disk: { name: 'default', onBusy: 'wait' },
      jupyter: false,
      image: null,
      gang: null,
    });
    expect((await door.db.query<Body>('select size_gb from disks')).rows).toEqual([{ size_gb: 200 }]);
    expect(id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7/);
    const cpu = await born('v');
    expect(cpu).toBeDefined();
    await door.send({
      type: 'reservation',
      user_id: 'u',
      gpu_type: 'CPU-x86',
      gpu_count: null,
      duration_hours: null,
      disk_name: 'none',
    });
    await door.drain();
    const last = (await ids()).find((each) => each !== id && each !== cpu);
    expect(await requestOf(last!)).toMatchObject({ gpuType: 'cpu-x86', gpuCount: 0, durationHours: 8, disk: null });
  });

  it('reads the environment keys of producers that know no fields for them, and a field wins over its key', async () => {
    const env = {
      GPU_TYPE: 'T4',
      GPU_COUNT: '2',
      GITHUB_USER: 'octo',
      JUPYTER_ENABLED: 'true',
      POD_NAME: 'My_Box',
      PRESERVE_ENTRYPOINT: '1',
    };
    await door.send({ action: 'create_reservation', user_id: 'u', env_vars: env, github_user: 'field-wins' });
    await door.drain();
    const [id] = await ids();
    expect(await requestOf(id!)).toMatchObject({
      gpuType: 't4',
      gpuCount: 2,
      githubUser: 'field-wins',
      jupyter: true,
      preserveEntrypoint: true,
      name: 'my-box',
    });
  });

  it('keeps fields that nobody knows, with secrets masked', async () => {
    const body = fresh('create-cli', { spot: true, ref: 'main', nested: { deep: [1, { api_key: 'hush' }] } });
    await door.send(body);
    await door.drain();
    expect((await requestOf(body.reservation_id)).extra).toEqual({
      spot: true,
      ref: 'main',
      nested: { deep: [1, { api_key: '[secret]' }] },
    });
  });

  it('sent twice with one id or one key makes one reservation; two keyless sends make two', async () => {
    const withId = fresh('create-cli');
    await door.send(withId);
    await door.send(withId);
    await door.drain();
    expect(await ids()).toHaveLength(1);
    const keyed = { action: 'create_reservation', user_id: 'u', gpu_type: 't4', idempotency_key: 'monday' };
    await door.send(keyed);
    await door.send({ ...keyed });
    await door.drain();
    expect(await ids()).toHaveLength(2);
    // The key is the sender's own: somebody else's monday is another reservation.
    await door.send({ ...keyed, user_id: 'other' });
    const keyless = { action: 'create_reservation', user_id: 'u', gpu_type: 't4' };
    await door.send(keyless);
    await door.send(keyless);
    await door.drain();
    expect(await ids()).toHaveLength(5);
    expect(await door.letters()).toEqual([]);
  });

  it('sent twice while the first is ended does not bring it back', async () => {
    const body = fresh('create-cli');
    await door.send(body);
    await door.send({ action: 'cancel', reservation_id: body.reservation_id });
    await door.send(body);
    await door.drain();
    await door.kernel.pump(`reservation/${body.reservation_id}`);
    const { rows } = await door.db.query<Body>('select state, status, seq from actors where actor = $1', [
      `reservation/${body.reservation_id}`,
    ]);
    expect(rows).toEqual([{ state: 'cancelled', status: 'done', seq: 2 }]);
  });
});

/** What was asked of a reservation after its create. */
async function asked(id: string) {
  return (await door.mail(id)).filter(({ event }) => event.type !== 'reservation.submitted');
}

describe('an event for a reservation', () => {
  it('sent twice with a key acts once, and without a key twice', async () => {
    const id = await born('ann');
    const extend = { action: 'extend', reservation_id: id, extension_hours: 1, operation_id: 'op-1' };
    await door.send(extend);
    await door.send(extend);
    await door.drain();
    expect(await asked(id)).toHaveLength(1);
    await door.kernel.pump(`reservation/${id}`);
    await door.send(extend);
    await door.drain();
    await door.kernel.pump(`reservation/${id}`);
    const applied = () =>
      door.db.query<Body>(`select key from history where actor = $1 and event ->> 'type' = 'extend'`, [`reservation/${id}`]);
    expect((await applied()).rows).toEqual([{ key: 'op:op-1' }]);
    for (let send = 0; send < 2; send++) await door.send({ action: 'extend', reservation_id: id, extension_hours: 1 });
    await door.drain();
    await door.kernel.pump(`reservation/${id}`);
    expect((await applied()).rows).toHaveLength(3);
  });

  it('redelivered after a crash between read and commit acts once', async () => {
    const id = await born('ann');
    await door.send({ action: 'cancel', reservation_id: id });
    let crashes = 0;
    armCrashPoints((point) => {
      if (point !== 'intake.beforeCommit') return;
      crashes++;
      throw Object.assign(new Error('the process died'), { code: '57P01' });
    });
    await expect(door.consume()).rejects.toThrow('died');
    armCrashPoints(null);
    expect(crashes).toBe(1);
    expect(await asked(id)).toEqual([]);
    expect(await door.waiting()).toBe(1);
    await door.drain();
    expect(await asked(id)).toHaveLength(1);
    expect(await door.waiting()).toBe(0);
  });

  it('finds its reservation by a unique prefix, also in capital letters', async () => {
    const id = await born('ann', 'ab12cd34-0000-4000-8000-000000000001');
    await door.send({ type: 'cancellation', reservation_id: 'AB12cd', user_id: 'ann' });
    await door.drain();
    expect((await asked(id)).map((each) => each.event.type)).toEqual(['cancel']);
  });

  it('with an ambiguous prefix is refused with the candidates, and those of others are none', async () => {
    const mine = ['ab12cd34-0000-4000-8000-000000000001', 'ab12cd35-0000-4000-8000-000000000002'];
    for (const id of mine) await born('ann', id);
    await born('bob', 'ab12cd36-0000-4000-8000-000000000003');
    await door.send({ action: 'cancel', reservation_id: 'ab12', user_id: 'ann' });
    await door.drain();
    const [letter] = await door.letters();
    expect(letter).toMatchObject({ code: 'GPU_RESERVATION_AMBIGUOUS', field: 'reservation_id' });
    for (const id of mine) expect(letter.reason).toContain(id);
    expect(letter.reason).not.toContain('ab12cd36');
    for (const id of mine) expect(await asked(id)).toEqual([]);
  });

  it('with an unknown prefix is refused at once', async () => {
    await door.send({ action: 'cancel', reservation_id: 'beef', user_id: 'ann' });
    await door.drain();
    expect(await door.letters()).toMatchObject([{ code: 'GPU_RESERVATION_UNKNOWN', field: 'reservation_id' }]);
  });

  it("for somebody else's reservation is refused, whether by id or by prefix", async () => {
    const id = await born('ann', 'ab12cd34-0000-4000-8000-000000000001');
    await door.send({ action: 'cancel', reservation_id: id, user_id: 'mallory' });
    await door.send({ action: 'cancel', reservation_id: 'ab12cd34', user_id: 'mallory' });
    await door.drain();
    expect((await door.letters()).map((each) => each.code)).toEqual(['GPU_NOT_OWNER', 'GPU_RESERVATION_UNKNOWN']);
    expect(await asked(id)).toEqual([]);
  });

  it('that comes before its create is held and applied behind it', async () => {
    const id = randomUUID();
    await door.send({ action: 'cancel', reservation_id: id, user_id: 'ann' });
    await door.drain();
    expect(await asked(id)).toMatchObject([{ event: { type: 'cancel' }, held: true }]);
    await born('ann', id);
    const { rows } = await door.db.query<Body>(
      'select event ->> $2 as type, outcome from history where actor = $1 order by seq',
      [`reservation/${id}`, 'type'],
    );
    expect(rows).toEqual([
      { type: 'reservation.submitted', outcome: 'applied' },
      { type: 'cancel', outcome: 'applied' },
    ]);
  });

  it('that comes before a create of somebody else is held, and then refused', async () => {
    const id = randomUUID();
    await door.send({ action: 'cancel', reservation_id: id, user_id: 'mallory' });
    await door.drain();
    await born('ann', id);
    const { rows } = await door.db.query<Body>('select outcome, reason from history where actor = $1 and seq = 2', [
      `reservation/${id}`,
    ]);
    expect(rows).toEqual([{ outcome: 'refused', reason: 'The reservation belongs to another user' }]);
  });
});

describe('an event for a full id that nobody creates', () => {
  it('becomes a dead letter after 60 seconds, not before', async () => {
    await door.stop();
    let now = new Date('2026-11-20T10:00:00Z');
    door = await startDoor({ kernel: { clock: { now: () => now } } });
    const id = randomUUID();
    await door.send({ ...messageOf('valid', 'cancel'), reservation_id: id });
    await door.drain();
    now = new Date('2026-11-20T10:00:59Z');
    await door.kernel.runOnce();
    expect(await door.letters()).toEqual([]);
    expect(await asked(id)).toHaveLength(1);
    now = new Date('2026-11-20T10:01:01Z');
    await door.kernel.runOnce();
    expect(await door.letters()).toMatchObject([
      { source: 'mailbox', actor: `reservation/${id}`, code: 'GPU_RESERVATION_UNKNOWN', field: 'reservation_id' },
    ]);
    expect(await asked(id)).toEqual([]);
  });
});
