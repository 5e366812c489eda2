import { request } from 'node:http';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { readCatalogue } from '../../actors/intake/catalogue.ts';
import { momentOf, parseCreate } from '../../actors/intake/create.ts';
import { accept } from '../../actors/intake/doors.ts';
import { type DiskMessages, EventMessage } from '../../actors/intake/messages.ts';
import { Problem } from '../../actors/problem.ts';
import { UserEvent } from '../../machines/reservation.events.ts';
import { assertQueues } from '../../persistence/pgmq.ts';
import { readConfig } from '../../src/config.ts';
import { TestKeys } from '../support/api-keys.ts';
import { buildHttp } from '../../src/http/server.ts';
import { type Body, type Door, startDoor, watchPosts } from '../messages/support.ts';
import { actorOf, create, historyOf, settle } from './support.ts';

let door: Door;
const closers: (() => Promise<unknown>)[] = [];
beforeEach(async () => {
  door = await startDoor();
});
afterEach(async () => {
  for (const close of closers.splice(0)) await close();
  await door?.stop();
});

/** Headers with a key of hers. */
const ann = () => new TestKeys(door.db).as('ann');

async function http() {
  const ok = { ok: true, detail: '' };
  const app = await buildHttp({
    db: door.db,
    kernel: door.kernel,
    logger: false,
    timeScale: 1,
    health: async () => ({ database: ok, queue: ok, tracker: ok }),
    trackerAgeMs: () => 0,
  });
  closers.push(() => app.close());
  return app;
}

async function count(table: 'reservations' | 'actors' | 'disks' | 'capacity_requests'): Promise<number> {
  const { rows } = await door.db.query<Body>(
    `select (select count(*)::int from reservations) as reservations, (select count(*)::int from actors where kind = 'reservation') as actors,
            (select count(*)::int from disks) as disks, (select count(*)::int from capacity_requests) as capacity_requests`,
  );
  return rows[0][table];
}

describe('what comes in', () => {
  it('R5: a client that aborts before its request is whole sends nothing, and one that repeats a request with its key makes one reservation', async () => {
    const app = await http();
    await app.listen({ host: '127.0.0.1', port: 0 });
    const port = (app.server.address() as { port: number }).port;
    const body = JSON.stringify({ gpu_type: 't4', user_id: 'ann', disk_name: null });
    await new Promise<void>((resolve) => {
      const half = request({
        host: '127.0.0.1',
        port,
        method: 'POST',
        path: '/v1/reservations',
        headers: { 'content-type': 'application/json', 'content-length': body.length },
      });
      half.on('error', () => resolve());
      half.write(body.slice(0, 10), () => half.destroy());
      half.on('close', () => resolve());
    });
    const send = async () =>
      app.inject({
        method: 'POST',
        url: '/v1/reservations',
        headers: { 'idempotency-key': 'try-1', ...(await ann()) },
        payload: { gpu_type: 't4', disk_name: null },
      });
    const [first, again] = [await send(), await send()];
    expect(first.statusCode).toBeLessThan(300);
    expect(again.json().id).toBe(first.json().id);
    expect(await count('actors')).toBe(1);
  });

  it('R7: an ambiguous prefix is a visible 409 with the candidates, and a wildcard is no prefix', async () => {
    const app = await http();
    const ids = ['abcdef12-0000-4000-8000-000000000001', 'abcdef12-1111-4000-8000-000000000002'];
    for (const id of ids) await create(door, { reservation_id: id, gpu_type: 't4' });
    const cancel = async (id: string) =>
      app.inject({
        method: 'POST',
        url: `/v1/reservations/${encodeURIComponent(id)}/events`,
        headers: await ann(),
        payload: { type: 'cancel' },
      });
    const answer = await cancel('abcdef12');
    expect(answer.statusCode).toBe(409);
    expect(answer.json()).toMatchObject({ code: 'GPU_RESERVATION_AMBIGUOUS' });
    for (const id of ids) expect(answer.body).toContain(id);
    for (const wild of ['abcdef12-0000%', '%%%%', 'abcdef12_0000']) {
      expect((await cancel(wild)).statusCode).toBeGreaterThanOrEqual(400);
      await door.send({ action: 'cancel', reservation_id: wild });
    }
    await door.drain();
    expect((await door.letters()).map((letter) => letter.field)).toEqual(['reservation_id', 'reservation_id', 'reservation_id']);
    for (const id of ids) expect((await actorOf(door.db, id)).state).toBe('queued');
    expect((await cancel('abcdef12-0')).statusCode).toBe(200);
    expect((await actorOf(door.db, ids[0]!)).state).toBe('cancelled');
  });

  it("R8: another user's id is refused, even in the same instant, and RESERVATION_ID among the variables names nothing", async () => {
    const mine = await create(door, { gpu_type: 't4' });
    await door.send({ action: 'create_reservation', reservation_id: mine, user_id: 'mallory', gpu_type: 't4' });
    await door.send({
      action: 'create_reservation',
      user_id: 'mallory',
      gpu_type: 't4',
      disk_name: null,
      env_vars: { RESERVATION_ID: mine },
    });
    await door.drain();
    await settle(door);
    expect(await door.letters()).toMatchObject([{ code: 'GPU_ID_TAKEN', field: 'reservation_id' }]);
    expect((await actorOf(door.db, mine)).context.owner).toBe('ann');
    expect(await count('actors')).toBe(2);
    expect(await count('disks')).toBe(0);

    // Both have looked and found the id free before either has committed.
    const id = crypto.randomUUID() as string;
    const take = (user_id: string, before: () => Promise<unknown>) =>
      door.db.withTransaction(async (tx) => {
        const body = { action: 'create_reservation', reservation_id: id, user_id, gpu_type: 't4' };
        await accept(door.kernel, tx, body, { door: 'http', key: null });
        await before();
      });
    const blocked = async () => {
      const { rows } = await door.db.query<Body>(
        `select count(*)::int as n from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()`,
      );
      return rows[0].n;
    };
    let second: Promise<unknown> = Promise.resolve();
    await take('ann', async () => {
      second = take('bob', async () => {}).catch((error: unknown) => error);
      await expect.poll(blocked).toBe(1);
    });
    expect(await second).toMatchObject({ code: 'GPU_ID_TAKEN' });
    expect(await count('disks')).toBe(1);
  });

  it('S16: an unknown action, or a known one in an unknown shape, is an explicit error and never a default', async () => {
    const id = await create(door, { gpu_type: 't4' });
    const wrong: [Body, string][] = [
      [{ action: 'extend_reservatoin', reservation_id: id, extension_hours: 1 }, 'action'],
      [{ action: 'extend', reservation_id: id, hours: 1 }, 'extension_hours'],
      [{ action: 'extend', reservation_id: id, extension_hours: '2' }, 'extension_hours'],
      [{ action: 'add_user', reservation_id: id }, 'github_username'],
      [{ type: 'renewal', user_id: 'ann', gpu_type: 't4' }, 'type'],
      [{ action: ['cancel'], reservation_id: id }, 'action'],
      [{ action: 'constructor', reservation_id: id }, 'action'],
    ];
    for (const [body] of wrong) await door.send(body);
    await door.drain();
    expect((await door.letters()).map((letter) => letter.field)).toEqual(wrong.map(([, field]) => field));
    expect(await count('actors')).toBe(1);
    expect(await historyOf(door.db, id)).toHaveLength(1);
  });

  it('S17: every door knows the same actions by the same names, and both names of an extension mean it', async () => {
    const userEvents = UserEvent.options.map((option) => option.shape.type.value).sort();
    expect(Object.keys(EventMessage).sort()).toEqual(userEvents);
    const app = await http();
    const id = await create(door, { gpu_type: 't4' });
    for (const action of ['extend', 'extend_reservation'])
      await door.send({ action, reservation_id: id, extension_hours: 1, user_id: 'ann' });
    await door.drain();
    await settle(door);
    const byHttp = await app.inject({
      method: 'POST',
      url: `/v1/reservations/${id}/events`,
      headers: await ann(),
      payload: { type: 'extend', extension_hours: 1 },
    });
    expect(byHttp.statusCode).toBe(409);
    const events = (await historyOf(door.db, id)).slice(1).map(({ event: { at: _, ...event }, outcome }) => ({ event, outcome }));
    expect(events).toEqual(
      Array.from({ length: 3 }, () => ({ event: { type: 'extend', by: 'ann', hours: 1 }, outcome: 'ignored' })),
    );
    expect(await count('actors')).toBe(1);
  });

  it('B14: a request means the same through the queue and through HTTP: there is one request model', async () => {
    const app = await http();
    const fields = {
      gpu_type: 't4',
      gpu_count: 2,
      duration_hours: 1.5,
      name: 'box',
      github_user: 'octo',
      jupyter_enabled: true,
      image: 'ubuntu:24.04',
      preserve_entrypoint: true,
      recreate_env: true,
      disk_name: 'work',
      disk_size_gb: 50,
      on_disk_busy: 'fail',
      command: 'make',
      node_labels: { nsight: 'true' },
      env_vars: { A: '1' },
    };
    const answer = await app.inject({
      method: 'POST',
      url: '/v1/reservations',
      headers: await ann(),
      payload: fields,
    });
    expect(answer.statusCode).toBeLessThan(300);
    const queued = await create(door, { ...fields, name: 'box', user_id: 'ann' });
    await settle(door);
    const [one, other] = [(await actorOf(door.db, answer.json().id)).context, (await actorOf(door.db, queued)).context];
    const same = ({ name: _n, secretsRef: _s, ...request }: Body) => request;
    expect(same(one.request)).toEqual(same(other.request));
    expect(one.policy).toEqual(other.policy);
    const { rows } = await door.db.query<Body>(`select distinct value -> 'environment' as e from secrets`);
    expect(rows).toEqual([{ e: { A: '1' } }]);
  });

  it('Q23: a request that no node can ever serve fails at submit, naming what is allowed', async () => {
    const catalogue = await readCatalogue(door.db);
    for (const type of catalogue.values()) {
      const accepted = Array.from({ length: 33 }, (_, gpu_count) => gpu_count).filter((gpu_count) => {
        try {
          parseCreate({ user_id: 'u', gpu_type: type.gpuType, gpu_count }, catalogue);
          return true;
        } catch (error) {
          expect(error).toBeInstanceOf(Problem);
          expect(error).toMatchObject({ field: 'gpu_count', code: 'GPU_COUNT_INVALID' });
          return false;
        }
      });
      expect(accepted, type.gpuType).toEqual(type.maxGpus === 0 ? [0] : [1, 2, 4, 8, 16].filter((each) => each <= type.maxGpus));
    }
    const gang = {
      user_id: 'u',
      gpu_type: 'h100',
      is_multinode: true,
      master_reservation_id: crypto.randomUUID(),
      node_index: 0,
    };
    expect(() => parseCreate({ ...gang, gpu_count: 8, total_nodes: 7 }, catalogue)).toThrow(/total_nodes .* 2 to 6/);
    expect(() => parseCreate({ ...gang, gpu_count: 4, total_nodes: 2 }, catalogue)).toThrow(/whole nodes/);
    expect(() => parseCreate({ ...gang, gpu_type: 't4', gpu_count: 4, total_nodes: 2 }, catalogue)).toThrow(/total_nodes/);
  });
});

describe('numbers and times', () => {
  it('B8: hours are plain numbers all the way: a decimal stays what it was', async () => {
    const app = await http();
    for (const hours of [0.1, 0.25, 1 / 3, 1.1, 7.7]) {
      const id = await create(door, { gpu_type: 't4', duration_hours: hours });
      expect((await actorOf(door.db, id)).context.request.durationHours).toBe(hours);
      const { rows } = await door.db.query<Body>('select duration_hours from reservations where reservation_id = $1', [id]);
      expect(rows[0].duration_hours).toBe(hours);
      const answer = await app.inject({ method: 'GET', url: `/v1/reservations/${id}`, headers: await ann() });
      expect(answer.json().duration_hours).toBe(hours);
    }
  });

  it('B11: hours below one are hours, not zero', async () => {
    const id = await create(door, { gpu_type: 't4', duration_hours: 0.5 });
    await door.send({ action: 'extend', reservation_id: id, extension_hours: 0.5 });
    await door.drain();
    expect((await door.mail(id)).at(-1)!.event).toMatchObject({ type: 'extend', by: null, hours: 0.5 });
    await door.send({ action: 'extend', reservation_id: id, extension_hours: 0 });
    await door.drain();
    expect(await door.letters()).toMatchObject([{ field: 'extension_hours' }]);
  });

  it('B12: a time without a zone is UTC, wherever the process believes to be', async () => {
    const before = process.env['TZ'];
    closers.push(async () => {
      if (before === undefined) delete process.env['TZ'];
      else process.env['TZ'] = before;
    });
    for (const zone of ['America/Los_Angeles', 'Asia/Kolkata', 'UTC']) {
      process.env['TZ'] = zone;
      expect(momentOf('2026-11-20T10:00:00')).toBe('2026-11-20T10:00:00.000Z');
      expect(momentOf('2026-11-20T10:00:00+05:30')).toBe('2026-11-20T04:30:00.000Z');
      const { rows } = await door.db.query<Body>(
        `select timestamp '2026-11-20 10:00:00.5' as naive, timestamptz '2026-11-20 10:00:00+02' as zoned`,
      );
      expect(rows[0].naive.toISOString()).toBe('2026-11-20T10:00:00.500Z');
      expect(rows[0].zoned.toISOString()).toBe('2026-11-20T08:00:00.000Z');
      const id = await create(door, { gpu_type: 't4', created_at: '2026-11-20T10:00:00' });
      const sent = await door.db.query<Body>('select sent_at from history where actor = $1', [`reservation/${id}`]);
      expect(sent.rows[0].sent_at.toISOString()).toBe('2026-11-20T10:00:00.000Z');
    }
    const { rows } = await door.db.query<Body>(
      `select table_name, column_name from information_schema.columns where table_schema = 'public' and data_type = 'timestamp without time zone'
        and table_name <> 'schema_migrations'`,
    );
    expect(rows).toEqual([]);
  });
});

describe('queues', () => {
  it('S5: every queue that exists has a consumer, and the service does not start without its queues', async () => {
    const { queues } = readConfig({ POSTGRES_HOST: 'localhost' });
    const { rows } = await door.db.query<Body>('select queue_name from pgmq.list_queues() order by 1');
    expect(rows.map((row) => row.queue_name)).toEqual([queues.disks, queues.reservations].sort());
    await assertQueues(door.db, [queues.disks, queues.reservations]);
    await door.db.query(`select pgmq.drop_queue('disk_operations')`);
    await expect(assertQueues(door.db, [queues.disks, queues.reservations])).rejects.toThrow(/disk_operations does not exist/);
  });

  it('S6: a message whose handling failed is kept and tried again, and then has its effect', async () => {
    let failures = 2;
    watchPosts(door.kernel, () => {
      if (failures-- > 0) throw new Error('out of luck');
    });
    const id = crypto.randomUUID();
    await door.send({ action: 'create_reservation', reservation_id: id, user_id: 'ann', gpu_type: 't4' });
    for (let attempt = 1; attempt <= 3; attempt++) {
      expect(await door.waiting()).toBe(1);
      await door.consume();
      await door.db.query('update pgmq.q_gpu_reservations set vt = now()');
    }
    expect(await door.waiting()).toBe(0);
    expect(await door.mail(id)).toHaveLength(1);
    expect(await door.letters()).toEqual([]);
  });

  it('S14: the outcome of every disk operation can be read, with its error in words', async () => {
    await door.stop();
    door = await startDoor({ door: { queue: 'disk_operations' } });
    const app = await http();
    const bodies: Record<keyof typeof DiskMessages, Body> = {
      create_disk: { disk_name: 'a b'.replace(' ', '-') },
      delete_disk: { disk_name: 'nowhere' },
      undelete_disk: { disk_name: 'nowhere' },
      clone_disk: { source_disk: 'nowhere', target_disk: 'copy' },
      rename_disk: { disk_name: 'nowhere', new_name: 'somewhere' },
      restore_disk: { disk_name: 'nowhere', snapshot_id: 'snap-1' },
    };
    for (const [action, body] of Object.entries(bodies))
      await door.send({ action, operation_id: `op-${action}`, user_id: 'ann', ...body });
    await door.send({ action: 'create_disk', operation_id: 'op-again', user_id: 'ann', disk_name: 'a-b' });
    await door.drain();
    await settle(door);
    const answer = async (id: string) =>
      (await app.inject({ method: 'GET', url: `/v1/operations/${id}`, headers: await ann() })).json();
    expect(await answer('op-create_disk')).toMatchObject({ status: 'completed', error: null });
    expect(await answer('op-delete_disk')).toMatchObject({ status: 'failed', error: 'There is no disk called nowhere' });
    expect(await answer('op-clone_disk')).toMatchObject({ status: 'failed', error: 'There is no disk called nowhere' });
    expect(await answer('op-again')).toMatchObject({ status: 'failed', error: 'A disk called a-b exists already' });
    await door.send({ action: 'delete_disk', operation_id: 'op-again', user_id: 'mallory', disk_name: 'x' });
    await door.drain();
    expect(await door.letters()).toMatchObject([{ code: 'GPU_ID_TAKEN', field: 'operation_id' }]);
  });
});
