import { randomUUID } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { MACHINES } from '../../../src/lifecycle/charts.ts';
import { Traffic } from '../../../src/lifecycle/traffic.ts';
import { Board, type NodeView } from '../../../src/live/board.ts';
import { type HttpWorld, type Json, startHttp } from './support.ts';

let http: HttpWorld;
let url: string;
beforeAll(async () => {
  http = await startHttp({ fleet: { t4: 3, a100: 1 } });
  url = await http.app.listen({ host: '127.0.0.1', port: 0 });
});
afterAll(async () => {
  await http?.stop();
});

interface Listening {
  events: { name: string; data: Json }[];
  /** The latest event of this name that fits. */
  until(name: string, fits: (data: Json) => boolean): Promise<Json>;
  over: Promise<void>;
  stop(): void;
}

async function listen(path: string, user: string | null): Promise<Listening> {
  const abort = new AbortController();
  const headers = user === null ? await http.as('operator', { admin: true }) : await http.as(user);
  const answer = await fetch(`${url}${path}`, { headers, signal: abort.signal });
  expect(answer.status, path).toBe(200);
  expect(answer.headers.get('content-type')).toContain('text/event-stream');
  const events: Listening['events'] = [];
  const read = async () => {
    let text = '';
    for await (const chunk of answer.body!.pipeThrough(new TextDecoderStream())) {
      text += chunk;
      const frames = text.split('\n\n');
      text = frames.pop()!;
      for (const frame of frames) {
        const name = /^event: (.*)$/m.exec(frame)?.[1];
        const data = /^data: (.*)$/m.exec(frame)?.[1];
        if (name !== undefined && data !== undefined) events.push({ name, data: JSON.parse(data) });
      }
    }
  };
  const over = read().catch(() => {});
  return {
    events,
    over,
    stop: () => abort.abort(),
    until: (name, fits) =>
      http.world.until(
        `${path} tells ${name}`,
        async () => events.findLast((event) => event.name === name && fits(event.data))?.data ?? null,
      ),
  };
}

const withoutId = ({ id: _, ...rest }: Json): Json => rest;

const reserve = async (user: string, wishes: object = {}): Promise<string> => {
  const body = { gpu_type: 't4', gpu_count: 1, duration_hours: 4, no_persistent_disk: true, ...wishes };
  const answer = await http.post('/v1/reservations', body, { user });
  expect(answer, JSON.stringify(answer.body)).toMatchObject({ status: 202 });
  return answer.body.id;
};

describe('what the pages watch', () => {
  it('lifecycle: everybody is counted in their state, and every transition of the last minute on its way', async () => {
    const watched = await listen('/v1/live?topics=lifecycle', 'ada');
    const gang = {
      gpu_type: 'a100',
      gpu_count: 8,
      is_multinode: true,
      total_nodes: 2,
      node_index: 0,
      master_reservation_id: randomUUID(),
    };
    const member = await reserve('ada', gang);
    const ids = await Promise.all(Array.from({ length: 5 }, () => reserve('ada')));
    for (const id of ids) await http.world.reaches(id, 'running');
    const { counts } = await watched.until('lifecycle', ({ counts }) => counts.reservation?.['running.serving'] === 5);
    expect(counts['gpu-pool'].open).toBeGreaterThan(0);
    const sum = (traffic: Json, ...parts: string[]): number =>
      Object.entries(traffic.reservation ?? {})
        .filter(([id]) => parts.every((part) => id.includes(part)))
        .reduce((total, [, taken]) => total + Number(taken), 0);
    const { traffic } = await watched.until('lifecycle', ({ traffic }) => sum(traffic, 'pod.ready') === 5);
    const ways = Object.entries(traffic.reservation).filter(([id]) => id.includes('deciding|always'));
    expect(Object.fromEntries(ways)).toEqual({
      'reservation.queued.deciding|always|1': 1,
      'reservation.queued.deciding|always|4': 5,
      'reservation.provisioning.deciding|always|1': 5,
    });
    expect(traffic.reservation['reservation.queued.capacity|capacity.granted|0']).toBe(5);
    expect(traffic['gpu-pool']['gpu-pool.open|capacity.requested|0']).toBeGreaterThanOrEqual(5);
    watched.stop();

    // Whoever begins to look in the middle of a life reads where it was before.
    const { db } = http.world;
    const [id] = ids;
    const { rows } = await db.query<{ leaf: string }>(
      `with ready as (select min(seq) as seq from history where actor = $1 and event->>'type' = 'pod.ready'),
            old as (update history h set at = at - interval '5 minutes' from ready where h.actor = $1 and h.seq < ready.seq returning h.seq, h.leaf)
       select leaf from old where leaf is not null order by seq desc limit 1`,
      [`reservation/${id}`],
    );
    const late = new Traffic(MACHINES);
    await late.refresh(db);
    const before = sum({ reservation: late.perMinute()['reservation'] }, 'pod.ready');
    expect(before).toBe(5);
    expect(
      sum({ reservation: late.perMinute()['reservation'] }, `provisioning.${rows[0]!.leaf}|pod.ready`),
    ).toBeGreaterThanOrEqual(1);
    expect(Object.values(late.perMinute()['reservation']!).every(Number.isInteger)).toBe(true);

    for (const each of [...ids.slice(1), member]) {
      await http.post(`/v1/reservations/${each}/events`, { type: 'cancel' }, { user: 'ada' });
      await http.world.reaches(each, 'cancelled');
    }
  });

  it('board: who holds what until when, changes alone after the first, and ids for admins only', async () => {
    const plain = await listen('/v1/live?topics=board', 'ada');
    const admins = await listen('/v1/live?topics=board', null);
    const first = await plain.until('board', ({ nodes }) => nodes.length === 4);
    expect(first.types.find((type: Json) => type.gpu_type === 't4')).toMatchObject({ total: 12 });
    const id = await reserve('bob', { name: 'seen-by-all', duration_hours: 2 });
    const patch = await plain.until('board.patch', ({ nodes }) =>
      nodes.some((node: Json) => node.holds.some((hold: Json) => hold.state === 'running' && hold.user === 'bob')),
    );
    expect(patch.nodes.length).toBeLessThanOrEqual(2);
    const hold = patch.nodes.flatMap((node: Json) => node.holds).find((each: Json) => each.user === 'bob');
    expect(hold).toMatchObject({ name: 'seen-by-all', slots: [expect.any(Number)], planned: false });
    const row = await http.world.reservation(id);
    expect(hold.until).toBe(row!['expires_at'].toISOString());
    expect(JSON.stringify(plain.events)).not.toContain(id);
    await admins.until('board.patch', (data) => JSON.stringify(data).includes(id));
    expect(plain.events.filter(({ name }) => name === 'board')).toHaveLength(1);
    plain.stop();
    admins.stop();
  });

  it('board: what is read by parts is what is read at once, and nodes on which nothing happened are not read anew', async () => {
    const { db, until, reaches, simulate } = http.world;
    const parts = new Board(db, 1);
    const agrees = (what: string, fits: (nodes: readonly NodeView[]) => boolean) =>
      until(`${what} is seen`, async () => {
        const [known, { nodes }] = [(await parts.read(true)).nodes, await new Board(db, 1).read(true)];
        return fits(nodes) && isDeepStrictEqual(known, nodes);
      });
    const holds = (nodes: readonly NodeView[], id: string) => nodes.flatMap((node) => node.holds).find((hold) => hold.id === id);
    const other = (nodes: readonly NodeView[]) => nodes.find(({ gpu_type: type }) => type === 'a100');
    const before = other((await parts.read(true)).nodes);
    const id = await reserve('zoe');
    const { expires_at: ends } = await reaches(id, 'running');
    await agrees('a start', (nodes) => holds(nodes, id)?.until === ends.toISOString());
    await http.post(`/v1/reservations/${id}/events`, { type: 'extend', extension_hours: 2 }, { user: 'zoe' });
    await agrees('an extension', (nodes) => Date.parse(holds(nodes, id)?.until ?? '') === ends.getTime() + 2 * 3_600_000);
    await http.post(`/v1/reservations/${id}/events`, { type: 'cancel' }, { user: 'zoe' });
    await agrees('an end', (nodes) => holds(nodes, id) === undefined);
    expect(other((await parts.read(true)).nodes)).toBe(before);
    await simulate(`/nodes/${before!.node}/lose`);
    await agrees('a node that is lost', (nodes) => other(nodes)?.health === 'unhealthy');
    await simulate(`/nodes/${before!.node}/recover`);
    await agrees('its return', (nodes) => other(nodes)?.health === 'ok');
  });

  it('board: the line, with places and estimates', async () => {
    const big = { gpu_type: 'a100', gpu_count: 8, duration_hours: 1 };
    await http.world.reaches(await reserve('eve', big), 'running');
    await reserve('eve', big);
    const watched = await listen('/v1/live?topics=board', 'ada');
    const { waiting } = await watched.until('board', ({ waiting }) => waiting.length > 0);
    expect(waiting[0]).toMatchObject({
      gpu_type: 'a100',
      position: 1,
      user: 'eve',
      slots: 8,
      hours: 1,
      estimated_start: expect.any(String),
    });
    watched.stop();

    const ids = [await reserve('ada', big), await reserve('bob', big)];
    const part = async (user: string | undefined, query: string) => (await http.get(`/v1/gpus/a100/queue?${query}`, user)).body;
    await http.world.until('three wait', async () => (await part('ada', '')).waiting.length === 3);
    const { waiting: all } = await part(undefined, '');
    expect(all.map(({ position, user }: Json) => [position, user])).toEqual([
      [1, 'eve'],
      [2, 'ada'],
      [3, 'bob'],
    ]);
    const two = await part('ada', 'limit=2');
    expect(two).toEqual({ waiting: [withoutId(all[0]), all[1]], next_after: 2 });
    expect(await part('ada', 'after=2&limit=2')).toEqual({ waiting: [withoutId(all[2])], next_after: null });
    expect((await http.get('/v1/gpus/none/queue', 'ada')).status).toBe(404);
    for (const [index, user] of ['ada', 'bob'].entries()) {
      await http.post(`/v1/reservations/${ids[index]}/events`, { type: 'cancel' }, { user });
    }
  });

  it('operations are for admins, unknown topics nobody’s', async () => {
    const refused = await http.get('/v1/live?topics=operations', 'ada');
    expect([refused.status, refused.body.code]).toEqual([403, 'GPU_ADMIN_ONLY']);
    const unknown = await http.get('/v1/live?topics=board,gossip', 'ada');
    expect([unknown.status, unknown.body.code, unknown.body.field]).toEqual([400, 'GPU_FIELD_INVALID', 'topics']);
    expect((await http.get('/v1/live', null)).status).toBe(401);
    const watched = await listen('/v1/live?topics=operations', null);
    const frame = await watched.until('operations', () => true);
    expect(frame).toMatchObject({ replicas: 1, health: { database: { ok: true } }, totals: { quarantined: 0 } });
    expect(frame.leases.map(({ name }: Json) => name)).toContain('tracker');
    watched.stop();
  });

  it('effects of a reservation are for those who may see it, and end with that right', async () => {
    const id = await reserve('finn');
    const watched = await listen(`/v1/reservations/${id}/live?topics=effects,build-log`, 'finn');
    const effects = await watched.until('effects', (list) => list.length > 0);
    expect(effects[0]).toMatchObject({ type: 'pod.create', lane: expect.any(String) });
    expect(await watched.until('build-log', () => true)).toEqual({ state: null, lines: [] });
    expect((await http.get(`/v1/reservations/${id}/live`, 'gus')).status).toBe(404);
    await http.world.db.query(
      `update api_keys set is_active = false, revoked_at = now() from api_users u where u.user_id = api_keys.user_id and u.name = 'finn'`,
    );
    await Promise.race([watched.over, pause(20_000).then(() => expect.fail('the stream goes on'))]);
  });
});

describe('a reservation at any time', () => {
  it('is folded anew for every step, agrees with what was stored, and shows no secret', async () => {
    const id = await reserve('hal', { env_vars: { TOKEN: 'canary-1' }, jupyter_enabled: true });
    await http.world.reaches(id, 'running');
    await http.post(`/v1/reservations/${id}/events`, { type: 'cancel' }, { user: 'hal' });
    await http.world.reaches(id, 'cancelled');
    const { entries } = (await http.get(`/v1/reservations/${id}/history`, 'hal')).body;
    const moments: Json[] = [];
    for (const { seq } of entries) moments.push((await http.get(`/v1/reservations/${id}/at/${seq}`, 'hal')).body);
    expect(moments.map(({ matches, problem }) => [matches, problem])).toEqual(entries.map(() => [true, null]));
    expect(moments[0]).toMatchObject({ seq: 1, last_seq: entries.length, before: [], type: 'reservation.submitted' });
    expect(moments.at(-1)).toMatchObject({ states: ['cancelled'], accepts: [] });
    for (const [index, moment] of moments.entries()) if (index > 0) expect(moment.before).toEqual(moments[index - 1].states);
    const granted = moments.find(({ type }) => type === 'capacity.granted');
    expect(granted.asked).toContainEqual({ do: 'effect', what: 'pod.create', at: null });
    expect(granted.deadlines.map(({ name }: Json) => name)).toContain('podPending');
    expect(granted.changes.map(({ path }: Json) => path).join(' ')).toMatch(/grant/);
    expect(JSON.stringify(moments)).not.toContain('canary-1');

    const { spans } = (await http.get(`/v1/reservations/${id}/timeline`, 'hal')).body;
    const paths = spans.map(({ path }: Json) => path);
    expect(paths[0]).toBe('queued.capacity');
    expect(paths).toContain('running.serving');
    expect(paths.at(-1)).toBe('cancelled');
    spans.forEach((span: Json, index: number) => {
      expect(span.left_at).toBe(spans[index + 1]?.entered_at ?? null);
    });
  });

  it('is told to be wrong where history or the stored snapshot says otherwise, and cannot be told without its beginning', async () => {
    const id = await reserve('ian');
    await http.world.reaches(id, 'running');
    const { db } = http.world;
    const actor = `reservation/${id}`;
    const at = async (seq: number) => (await http.get(`/v1/reservations/${id}/at/${seq}`, 'ian')).body;
    const last = (await at(1)).last_seq;
    await db.query(`update actors set snapshot = jsonb_set(snapshot, '{context,oom,count}', '7') where actor = $1`, [actor]);
    expect(await at(last)).toMatchObject({ matches: false, problem: 'The fold differs from the stored snapshot' });
    expect(await at(last - 1)).toMatchObject({ matches: true });
    await db.query(`update history set to_state = 'failed' where actor = $1 and seq = 2`, [actor]);
    expect(await at(2)).toMatchObject({ matches: false, problem: expect.stringContaining('History says it went to failed') });
    await db.query('delete from history where actor = $1 and seq = 1', [actor]);
    expect(await at(3)).toMatchObject({ matches: null, problem: 'Earlier steps are kept no longer', states: [] });
    expect((await http.get(`/v1/reservations/${id}/at/1`, 'ian')).status).toBe(404);
    expect((await http.get(`/v1/reservations/${id}/at/9999`, 'ian')).status).toBe(404);
    expect((await http.get(`/v1/reservations/${id}/at/2`, 'ada')).status).toBe(404);
  });
});

describe('charts', () => {
  it('come with a tag, and not again to those who have them', async () => {
    const { status, headers, body } = await http.get('/v1/machines/reservation/graph', 'ada');
    expect([status, body.machine]).toEqual([200, 'reservation']);
    const again = await http.app.inject({
      url: '/v1/machines/reservation/graph',
      headers: { ...(await http.as('ada')), 'if-none-match': String(headers['etag']) },
    });
    expect([again.statusCode, again.body]).toEqual([304, '']);
    expect((await http.get('/v1/machines/nothing/graph', 'ada')).body.code).toBe('GPU_MACHINE_UNKNOWN');
  });

  it('tell who is in a state, page by page: users themselves, admins everybody', async () => {
    const ids = [await reserve('jan'), await reserve('jan')];
    for (const id of ids) await http.world.reaches(id, 'running', 'queued');
    const path = (await http.world.reservation(ids[0]!))!['status'];
    const own = (await http.get(`/v1/machines/reservation/states/${path}`, 'jan')).body.residents;
    expect(own.map(({ user_id }: Json) => user_id).every((user: string) => user === 'jan')).toBe(true);
    expect((await http.get(`/v1/machines/reservation/states/${path}?user=*`, 'jan')).status).toBe(403);
    const seen: string[] = [];
    let cursor: string | null = null;
    do {
      const next: string = cursor === null ? '' : `&cursor=${cursor}`;
      const { body } = await http.get(`/v1/machines/reservation/states/${path}?user=*&limit=1${next}`);
      seen.push(...body.residents.map(({ id }: Json) => id));
      cursor = body.next_cursor;
    } while (cursor !== null);
    expect(new Set(seen).size).toBe(seen.length);
    expect(seen).toEqual(expect.arrayContaining(own.map(({ id }: Json) => id)));
    expect((await http.get('/v1/machines/gpu-pool/states/open', 'jan')).body.residents.map(({ id }: Json) => id)).toContain('t4');
    expect((await http.get('/v1/machines/reservation/states/nowhere', 'jan')).body.code).toBe('GPU_NOT_FOUND');
    expect((await http.get('/v1/machines/disk/states/idle', 'jan')).status).toBe(200);
  });
});
