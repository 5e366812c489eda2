import { afterAll, beforeAll, expect, it } from 'vitest';
import { StreamClient } from '../../../support/listener.ts';
import { type HttpWorld, startHttp } from '../support.ts';
import { type Replica, startReplica } from './support.ts';

let http: HttpWorld;
let here: Replica;
beforeAll(async () => {
  http = await startHttp({ fleet: { t4: 1 } });
  here = await startReplica(http.world, {
    streams: { limits: { perUser: 3, total: 5 }, every: { beat: 40, places: 40, rights: 40 }, patienceMs: 1_000 },
  });
});
afterAll(async () => {
  await here?.app.close();
  await http?.stop();
});

const listen = async (path: string, user: string) => StreamClient.open(`${here.url}${path}`, await http.as(user));
const reserve = async (user: string, more: object = {}): Promise<string> =>
  (await http.post('/v1/reservations', { gpu_type: 't4', duration_hours: 4, no_persistent_disk: true, ...more }, { user })).body
    .id;
const allGone = () => http.world.until('nobody listens', async () => (await openStreams()) === 0);
const openStreams = async (): Promise<number> =>
  Number(/^gpu_dev_streams (\d+)$/m.exec(await (await fetch(`${here.url}/metrics`)).text())![1]);

it('has a limit for each user, whatever their keys, and for all, told with what to do', async () => {
  const first = await Promise.all([1, 2, 3].map(() => listen('/v1/stream', 'ada')));
  const fourth = await listen('/v1/stream', 'ada');
  expect([fourth.status, fourth.response.headers['retry-after']]).toEqual([429, '5']);
  const otherKey = await http.as('ada', { scopes: ['read'] });
  expect((await StreamClient.open(`${here.url}/v1/stream`, otherKey)).status).toBe(429);
  const others = await Promise.all([1, 2].map(() => listen('/v1/stream', 'bob')));
  expect((await listen('/v1/stream', 'eve')).status).toBe(429);
  for (const client of [...first, ...others]) client.cut();
  await allGone();
  const again = await listen('/v1/stream', 'ada');
  expect(again.status).toBe(200);
  again.cut();
  await allGone();
});

it('shows that it lives, and moves on the place to come back to while nothing happens', async () => {
  const client = await listen('/v1/stream', 'ada');
  await client.until('it began', ({ lastId }) => lastId.startsWith('snapshot@'));
  await client.until('it lives', ({ lastId }) => lastId.startsWith('-@'));
  expect(client.heard).toHaveLength(1);
  client.cut();
  await allGone();
});

it('ends with its key, at once when the key is revoked', async () => {
  const headers = await http.as('carl', { ttlHours: 1 });
  const client = await StreamClient.open(`${here.url}/v1/stream`, headers);
  await client.until('it began', ({ heard }) => heard.length === 1);
  await http.world.db.query(
    'update api_keys set is_active = false, revoked_at = now() where user_id = (select user_id from api_users where name = $1)',
    ['carl'],
  );
  expect(await client.over).toBe(true);
  await allGone();
});

it('goes on for longer than an answer may take', async () => {
  const hasty = await startReplica(http.world, { answerMs: 300, streams: { every: { beat: 30 } } });
  const client = await StreamClient.open(`${hasty.url}/v1/stream`, await http.as('ada'));
  const begun = Date.now();
  await client.until('it has gone on', () => Date.now() - begun > 1_000);
  expect(client.lastId).toMatch(/^-@/);
  client.cut();
  await hasty.app.close();
});

it('is nothing to a stranger: the reservation of another is not there', async () => {
  const id = await reserve('ada');
  expect((await listen(`/v1/reservations/${id}/stream`, 'eve')).status).toBe(404);
  expect((await listen('/v1/stream?user=ada', 'eve')).status).toBe(403);
  expect((await listen('/v1/stream?user=*', 'eve')).status).toBe(403);
  const client = await StreamClient.open(`${here.url}/v1/stream`);
  expect([client.status, client.response.headers['www-authenticate']]).toEqual([401, 'Bearer']);
  const head = await fetch(`${here.url}/v1/stream`, { method: 'HEAD', headers: await http.as('ada') });
  expect(head.status).toBe(404);
  await http.post(`/v1/reservations/${id}/events`, { type: 'cancel' }, { user: 'ada' });
  await http.world.reaches(id, 'cancelled');
});

it('tells those who wait when their place changes', async () => {
  const first = await reserve('ada', { gpu_count: 4 });
  await http.world.reaches(first, 'running');
  const second = await reserve('bob', { gpu_count: 4 });
  const third = await reserve('dora', { gpu_count: 4 });
  const client = await listen(`/v1/reservations/${third}/stream`, 'dora');
  await client.until('it waits', ({ heard }) => heard.some(({ json }) => json.reservations?.[0].position === 2));
  await http.post(`/v1/reservations/${second}/events`, { type: 'cancel' }, { user: 'bob' });
  await client.until('it moved up', (one) => one.named('position').some(({ json }) => json.position === 1));
  expect(client.named('position').at(-1)!.json).toMatchObject({ reservation_id: third, position: 1 });
  for (const [id, user] of [
    [first, 'ada'],
    [third, 'dora'],
  ] as const)
    await http.post(`/v1/reservations/${id}/events`, { type: 'cancel' }, { user });
  await client.over;
  await allGone();
});

it('a client that does not read is cut off, costs others nothing, and comes back to the rest', async () => {
  const id = await reserve('ada');
  await http.world.reaches(id, 'running');
  const path = `/v1/reservations/${id}/stream`;
  const [slow, swift] = [await listen(path, 'ada'), await listen(path, 'ada')];
  await Promise.all([slow, swift].map((client) => client.until('it began', ({ heard }) => heard.length > 0)));
  slow.response.pause();
  slow.response.socket.pause();
  // More than all the buffers between can hold: told by steps of long reasons, which stand behind all that may come of itself.
  await http.world.db.query(
    `insert into history (actor, seq, key, event, outcome, reason, machine_version, sender, at)
     select $1, 1000000 + n, 'filled:' || n, '{"type": "cancel"}', 'ignored', repeat('x', 2000), 1, 'test', now()
       from generate_series(1, 9000) as n`,
    [`reservation/${id}`],
  );
  await swift.until('all came', ({ lastId }) => lastId === '1009000');
  await http.world.until('the slow one is cut off', async () => (await openStreams()) === 1);
  slow.response.socket.resume();
  slow.response.resume();
  expect(await slow.over).toBe(false);
  const got = slow.steps.length;
  expect(got).toBeLessThan(9000);
  const again = await StreamClient.open(`${here.url}${path}`, { ...(await http.as('ada')), 'last-event-id': slow.lastId });
  await again.until('the rest came', ({ lastId }) => lastId === '1009000');
  expect([...slow.steps, ...again.steps]).toEqual(swift.steps);
  for (const client of [swift, again]) client.cut();
});

it('a service that drains ends its streams in order', async () => {
  const closing = await startReplica(http.world);
  const client = await StreamClient.open(`${closing.url}/v1/stream`, await http.as('ada'));
  await client.until('it began', ({ heard }) => heard.length === 1);
  await closing.app.close();
  expect(await client.over).toBe(true);
});
