import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { armCrashPoints } from '../../actors/kernel/crash-points.ts';
import { QueueDoor } from '../../actors/intake/queue-door.ts';
import { Kernel } from '../../actors/kernel/kernel.ts';
import { sweepDeadlines } from '../../actors/kernel/sweeper.ts';
import { gpuDevKinds, type Ports } from '../../actors/kinds.ts';
import { ReservationEvent } from '../../machines/reservation.events.ts';
import { Database } from '../../persistence/database.ts';
import { readTotals } from '../../persistence/insight.ts';
import { type Body, type Door, startDoor } from '../messages/support.ts';
import { createTestDatabase } from '../support/postgres.ts';
import { oneOfEach } from './sample.ts';
import { actorOf, addNodes, create, historyOf, openPool, post, settle } from './support.ts';

let door: Door;
let now: Date;
const at = (time: string) => {
  now = new Date(`2026-11-20T${time}Z`);
};
const EVENTS = oneOfEach(ReservationEvent);

beforeEach(async () => {
  at('10:00:00');
  door = await startDoor({ kernel: { clock: { now: () => now } } });
});
afterEach(async () => {
  armCrashPoints(null);
  await door?.stop();
});

/** A reservation brought to running by the events of its pod; no cluster is needed for that. */
async function running(fields: Record<string, unknown> = {}): Promise<string> {
  await addNodes(door.db, 'h100', ['n1', 'n2', 'n3']);
  await openPool(door, 'h100');
  const id = await create(door, fields);
  await settle(door);
  const connection = { host: 'h', port: 1, podName: 'p', node: 'n1', sshCommand: 'ssh' };
  await post(door, id, { type: 'pod.created', generation: 1, uid: 'u', name: 'p', connection });
  await post(door, id, { type: 'pod.ready', generation: 1, uid: 'u' });
  expect((await actorOf(door.db, id)).state).toBe('running');
  return id;
}

async function deadlinesOf(id: string): Promise<Record<string, string>> {
  const { rows } = await door.db.query<Body>('select name, due_at from deadlines where actor = $1', [`reservation/${id}`]);
  return Object.fromEntries(rows.map((row) => [row.name, row.due_at.toISOString()]));
}

describe('a reservation', () => {
  it('R2: that runs never goes back: what belongs to earlier steps is ignored, whoever sends it and however late', async () => {
    const id = await running();
    const order = [
      'queued',
      'building',
      'provisioning',
      'running',
      'extending',
      'snapshotting',
      'expired',
      'failed',
      'cancelled',
    ];
    for (const event of EVENTS.filter(
      ({ type }) => !/^(cancel|pod\.(gone|died)|gang\.broken)$/.test(type) && !type.startsWith('deadline.'),
    )) {
      await post(door, id, { ...event, ...('uid' in event ? { uid: 'u' } : {}) });
      const { state } = await actorOf(door.db, id);
      expect(['running', 'extending'], event.type).toContain(state);
    }
    const early = (await historyOf(door.db, id)).filter(
      ({ type, from }) =>
        ['running', 'extending'].includes(from) &&
        /^(capacity|disk|image|gang|pod\.(scheduled|waiting|started|unschedulable))/.test(type),
    );
    expect(early.length).toBeGreaterThan(15);
    for (const entry of early) expect(entry.outcome, entry.type).toBe('ignored');
    await post(door, id, { type: 'cancel', by: null });
    const ranks = (await historyOf(door.db, id)).map(({ to }) => order.indexOf(to));
    for (let index = 1; index < ranks.length; index++) {
      if (ranks[index]! < ranks[index - 1]!)
        expect([ranks[index - 1], ranks[index]]).toEqual([order.indexOf('extending'), order.indexOf('running')]);
    }
  });

  it('R3: that has ended stays ended, whatever event arrives', async () => {
    const id = await create(door, { gpu_type: 't4' });
    await post(door, id, { type: 'cancel', by: null });
    const before = await actorOf(door.db, id);
    expect(before).toMatchObject({ state: 'cancelled', status: 'done' });
    expect(EVENTS.length).toBeGreaterThan(55);
    for (const event of EVENTS) await post(door, id, event);
    const after = await actorOf(door.db, id);
    expect({ ...after, seq: 0 }).toEqual({ ...before, seq: 0 });
    const outcomes = (await historyOf(door.db, id)).slice(2);
    expect(outcomes).toHaveLength(EVENTS.length);
    expect(new Set(outcomes.map((entry) => entry.outcome))).toEqual(new Set(['ignored']));
    const { rows } = await door.db.query<Body>(
      'select status::text, reservation_ended from reservations where reservation_id = $1',
      [id],
    );
    expect(rows[0].status).toBe('cancelled');
    expect(rows[0].reservation_ended.toISOString()).toBe(now.toISOString());
  });

  it('R9: that has ended is guarded by the database itself, not by a function that another may shadow', async () => {
    const id = await create(door, { gpu_type: 't4' });
    await post(door, id, { type: 'cancel', by: null });
    const actor = `reservation/${id}`;
    for (const change of [
      `update actors set status = 'active' where actor = $1`,
      `update actors set state = 'running' where actor = $1`,
      `update actors set snapshot = jsonb_set(snapshot, '{value}', '"running"') where actor = $1`,
    ])
      await expect(door.db.query(change, [actor])).rejects.toMatchObject({ code: 'GD001' });
    await expect(
      door.db.query(`update reservations set status = 'running' where reservation_id = $1`, [id]),
    ).rejects.toMatchObject({ code: '23514' });
  });

  it('R10: changes together with its history, its row and what it asked for, or not at all', async () => {
    const id = await create(door, { gpu_type: 't4' });
    const seen = async () => ({
      actor: await actorOf(door.db, id),
      history: (await historyOf(door.db, id)).length,
      row: (await door.db.query<Body>('select status::text, updated_at from reservations where reservation_id = $1', [id])).rows,
      mail: (await door.db.query<Body>('select count(*)::int as n from mailbox')).rows,
      deadlines: await deadlinesOf(id),
    });
    await door.kernel.post([
      { actor: `reservation/${id}`, key: 'c', event: { type: 'cancel', by: null } as { type: string }, sender: 'test' },
    ]);
    const before = await seen();
    for (const crash of ['turn.locked', 'turn.stepped', 'turn.beforeCommit'] as const) {
      armCrashPoints((point) => {
        if (point === crash) throw Object.assign(new Error('the process died'), { code: '57P01' });
      });
      await expect(door.kernel.pump(`reservation/${id}`)).rejects.toThrow('died');
      armCrashPoints(null);
      expect(await seen(), crash).toEqual(before);
    }
    await door.kernel.pump(`reservation/${id}`);
    const after = await seen();
    expect(after.actor).toMatchObject({ state: 'cancelled', seq: before.actor.seq + 1 });
    expect(after.history).toBe(before.history + 1);
    expect(after.row[0].status).toBe('cancelled');
    expect(after.deadlines).toEqual({});
  });

  it('S8: hears of a message to it that became a dead letter, goes on, and can still be ended', async () => {
    const id = await running();
    await door.kernel.post([
      { actor: `reservation/${id}`, key: 'bad', event: { type: 'pod.oom', uid: 7 } as { type: string }, sender: 'test' },
    ]);
    await settle(door);
    expect((await door.letters()).map(({ source, key }) => ({ source, key }))).toEqual([{ source: 'mailbox', key: 'bad' }]);
    const { context, state } = await actorOf(door.db, id);
    expect(state).toBe('running');
    expect(context.lost).toEqual([expect.stringContaining('The event pod.oom could not be processed')]);
    await post(door, id, { type: 'cancel', by: null });
    await post(door, id, { type: 'pod.gone', generation: 1, proof: '404' });
    await post(door, id, { type: 'access.removed', generation: 1 });
    await settle(door);
    expect((await actorOf(door.db, id)).state).toBe('cancelled');
    expect((await door.db.query('select 1 from gpu_slots where reservation_id is not null')).rowCount).toBe(0);
  });

  it('S11: that waited long in the queue has its whole time in each later step: limits start at entry of the state', async () => {
    await openPool(door, 'h100');
    const id = await create(door, {});
    expect((await deadlinesOf(id))['queued']).toBe('2026-11-27T10:00:00.000Z');
    at('15:00:00');
    await addNodes(door.db, 'h100', ['n1']);
    await openPool(door, 'h100');
    await door.kernel.post([
      { actor: 'gpu-pool/h100', key: 'n', event: { type: 'nodes.changed', nodes: [] } as { type: string }, sender: 'test' },
    ]);
    await settle(door);
    expect(await actorOf(door.db, id)).toMatchObject({ state: 'provisioning' });
    expect(await deadlinesOf(id)).toEqual({ podPending: '2026-11-20T15:10:00.000Z' });
    at('15:09:00');
    await post(door, id, { type: 'pod.scheduled', generation: 1, uid: 'u', node: 'n' });
    expect(await deadlinesOf(id)).toEqual({ imagePull: '2026-11-20T15:39:00.000Z' });
    at('15:30:00');
    await post(door, id, { type: 'pod.started', generation: 1, uid: 'u' });
    expect(await deadlinesOf(id)).toEqual({ readyProbe: '2026-11-20T15:35:00.000Z' });
  });

  it('S30: keeps the type it asked for, canonical from the start, through its whole life', async () => {
    const id = await running({ gpu_type: ' H100 ' });
    const types = async () =>
      (await door.db.query<Body>('select gpu_type from reservations where reservation_id = $1', [id])).rows[0].gpu_type;
    expect(await types()).toBe('h100');
    await post(door, id, { type: 'pod.died', generation: 1, uid: 'u', reason: 'gone' });
    expect(await types()).toBe('h100');
    expect((await actorOf(door.db, id)).context.request.gpuType).toBe('h100');
    await expect(
      door.db.query(`update reservations set gpu_type = 'Unknown' where reservation_id = $1`, [id]),
    ).rejects.toMatchObject({ code: '23503' });
    const upper = `insert into gpu_types select (jsonb_populate_record(t, '{"gpu_type": "B300"}')).* from gpu_types t where gpu_type = 'b300'`;
    await expect(door.db.query(upper)).rejects.toMatchObject({ code: '23514' });
  });

  it('S34: expires at a time that is a time: nonsense in a message changes nothing, and nonsense in storage is set aside, not ended', async () => {
    const nonsense = { expires_at: 'soon', created_at: 'yesterday', requested_at: '31.12.', submitted_at: '' };
    const id = await running({ ...nonsense, duration_hours: 4 });
    expect((await deadlinesOf(id))['expiry']).toBe('2026-11-20T14:00:00.000Z');
    const other = await running();
    await door.db.query(`update actors set snapshot = jsonb_set(snapshot, '{context,expiresAt}', '"garbage"') where actor = $1`, [
      `reservation/${other}`,
    ]);
    at('18:30:00');
    await sweepDeadlines(door.db, { now: () => now });
    await settle(door).catch(() => {});
    expect(await actorOf(door.db, other)).toMatchObject({ state: 'running', status: 'active' });
    expect((await actorOf(door.db, other)).quarantined_at).not.toBeNull();
    expect((await actorOf(door.db, id)).value).toEqual({ running: 'grace' });
  });
});

describe('many at once', () => {
  it('S24: one broken row is set aside with a number for it, and everything else expires on time', async () => {
    const ids = [await running(), await running(), await running()];
    await door.db.query(`update actors set snapshot = jsonb_set(snapshot, '{context,warned}', 'null') where actor = $1`, [
      `reservation/${ids[1]}`,
    ]);
    at('18:01:00');
    await sweepDeadlines(door.db, { now: () => now });
    await door.kernel.start();
    await expect
      .poll(async () => Promise.all(ids.map(async (id) => (await actorOf(door.db, id)).value)))
      .toEqual([{ running: 'grace' }, { running: 'serving' }, { running: 'grace' }]);
    await expect.poll(async () => (await readTotals(door.db)).quarantined).toBe(1);
    const { rows: waiting } = await door.db.query<Body>('select held from mailbox where actor = $1', [`reservation/${ids[1]}`]);
    expect(waiting.length).toBeGreaterThan(0);
    expect(waiting.every(({ held }) => held)).toBe(true);
  });

  it('S26: nothing is capped: 1,200 deadlines that are due fire in one sweep, the oldest first', async () => {
    const actors = Array.from({ length: 1_200 }, (_, index) => `reservation/${index}`);
    await door.db.query(
      `insert into actors (actor, kind, machine_version, status) select a, 'reservation', 1, 'unborn' from unnest($1::text[]) as a`,
      [actors],
    );
    await door.db.query(
      `insert into deadlines (actor, name, due_at, set_seq) select a, 'expiry', $2::timestamptz - make_interval(secs => place), 1
         from unnest($1::text[]) with ordinality as d(a, place)`,
      [actors, now],
    );
    expect(await sweepDeadlines(door.db, { now: () => now })).toBe(1_200);
    const { rows } = await door.db.query<Body>('select actor from mailbox order by id');
    expect(rows).toHaveLength(1_200);
    expect(rows[0].actor).toBe('reservation/1199');
    expect(rows.at(-1).actor).toBe('reservation/0');
  });

  it('R20: any number of pollers over one database takes each message once', async () => {
    await door.stop();
    const database = await createTestDatabase();
    door = await startDoor({ database });
    const replicas = Array.from({ length: 3 }, () => {
      const db = new Database({ ...database.config, maxConnections: 4 });
      const kernel = new Kernel({ db, kinds: gpuDevKinds({ db } as unknown as Ports), pollMs: 50 });
      const settings = {
        db,
        kernel,
        queue: 'gpu_reservations',
        visibilitySeconds: 300,
        pollMs: 20,
        batchSize: 3,
        onError: (e: unknown) => void door.errors.push(e),
      };
      return { db, kernel, door: new QueueDoor(settings) };
    });
    for (const replica of replicas) {
      await replica.kernel.start();
      replica.door.start();
    }
    const ids = Array.from({ length: 60 }, () => crypto.randomUUID() as string);
    await Promise.all(
      ids.map(async (id, index) => {
        const create = { action: 'create_reservation', user_id: `user-${index}`, gpu_type: 't4', disk_name: null };
        await door.send({ ...create, reservation_id: id });
        await door.send({ action: 'add_user', reservation_id: id, github_username: 'bob' });
      }),
    );
    await openPool(door, 't4');
    await expect
      .poll(async () => (await door.db.query<Body>('select count(*)::int as n from capacity_requests')).rows[0].n, {
        timeout: 15_000,
      })
      .toBe(60);
    await expect
      .poll(
        async () =>
          (await door.db.query<Body>(`select count(*)::int as n from history where event ->> 'type' = 'add_user'`)).rows[0].n,
      )
      .toBe(60);
    for (const replica of replicas) {
      await replica.door.stop();
      await replica.kernel.stop(0);
    }
    const { rows } = await door.db.query<Body>(
      `select event ->> 'type' as type, count(*)::int as n, count(distinct actor)::int as actors from history
        where actor like 'reservation/%' group by 1 order by 1`,
    );
    expect(rows).toEqual([
      { type: 'add_user', n: 60, actors: 60 },
      { type: 'reservation.submitted', n: 60, actors: 60 },
    ]);
    expect(replicas.reduce((sum, replica) => sum + replica.door.stats.accepted, 0)).toBe(120);
    expect(door.errors).toEqual([]);
    expect(await door.letters()).toEqual([]);
    for (const replica of replicas) await replica.db.close();
  });
});
