import { afterAll, beforeAll, expect, it } from 'vitest';
import { StreamClient } from '../../../support/listener.ts';
import { type HttpWorld, startHttp } from '../support.ts';
import { type Replica, startReplica } from './support.ts';

let http: HttpWorld;
let here: Replica;
let there: Replica;
let id: string;
beforeAll(async () => {
  http = await startHttp({ fleet: { t4: 1 } });
  here = await startReplica(http.world);
  there = await startReplica(http.world, { streams: { atOnce: 3 } });
  const made = await http.post(
    '/v1/reservations',
    { gpu_type: 't4', duration_hours: 4, no_persistent_disk: true },
    { user: 'ada' },
  );
  id = made.body.id;
  await http.world.reaches(id, 'running');
});
afterAll(async () => {
  await here?.app.close();
  await there?.app.close();
  await http?.stop();
});

/** Messages that change nothing: each is a step of the history all the same. */
let sent = 0;
async function knock(times: number): Promise<void> {
  const event = { type: 'disable_jupyter', by: 'ada' } as { type: string };
  await http.world.kernel.post(
    Array.from({ length: times }, () => ({ actor: `reservation/${id}`, key: `knock:${++sent}`, event, sender: 'test' })),
  );
  http.world.kernel.wake();
}
const listen = async (url: string, lastId?: string) =>
  StreamClient.open(url, { ...(await http.as('ada')), ...(lastId === undefined ? {} : { 'last-event-id': lastId }) });
const settled = () =>
  http.world.until('all is taken', async () => {
    const { rows } = await http.world.db.query<{ n: number }>('select count(*)::int as n from mailbox where actor = $1', [
      `reservation/${id}`,
    ]);
    return rows[0]!.n === 0;
  });
const written = async (): Promise<string[]> =>
  (
    await http.world.db.query<{ seq: number }>('select seq from history where actor = $1 order by seq', [`reservation/${id}`])
  ).rows.map(({ seq }) => `${id}:${seq}`);

it('a client whose connection is cut again and again, and who comes back to another process, has every step once', async () => {
  for (const path of [`/v1/reservations/${id}/stream`, '/v1/stream']) {
    const before = await written();
    const got: string[] = [];
    let client = await listen(`${here.url}${path}`);
    await client.until('it began', ({ lastId }) => lastId !== '');
    for (let round = 0; round < 8; round++) {
      const writing = knock(20);
      await client.until('some came', ({ steps }) => steps.length > 0);
      client.cut();
      await client.over;
      got.push(...client.steps);
      client = await listen(`${[here, there][round % 2]!.url}${path}`, client.lastId);
      await writing;
    }
    await settled();
    const all = await written();
    await client.until('the last came', ({ steps }) => steps.at(-1) === all.at(-1) || got.at(-1) === all.at(-1));
    got.push(...client.steps);
    client.cut();
    // Where the connection was cut within what was read at once, that may come again: it bears the same name.
    expect([...new Set(got)]).toEqual(all.slice(before.length));
    if (path !== '/v1/stream') expect(got).toHaveLength(new Set(got).size);
    expect(client.named('snapshot', 'reset')).toEqual([]);
  }
});

it('more at once than one reading takes comes all the same, in order', async () => {
  const before = (await written()).length;
  const clients = await Promise.all([listen(`${there.url}/v1/reservations/${id}/stream`), listen(`${there.url}/v1/stream`)]);
  for (const client of clients) await client.until('it began', ({ lastId }) => lastId !== '');
  await knock(300);
  await settled();
  const all = (await written()).slice(before);
  for (const client of clients) {
    await client.until('all came', ({ steps }) => steps.length >= all.length);
    expect(client.steps).toEqual(all);
    client.cut();
  }
});

it('comes back over the address too, and the header is newer than that', async () => {
  const all = await written();
  const last = all.length;
  const client = await listen(`${here.url}/v1/reservations/${id}/stream?last_event_id=${last - 3}`);
  await client.until('the rest came', ({ steps }) => steps.length === 3);
  expect(client.steps).toEqual(all.slice(-3));
  const both = await listen(`${here.url}/v1/reservations/${id}/stream?last_event_id=1`, String(last - 1));
  await both.until('the rest came', ({ steps }) => steps.length === 1);
  expect(both.steps).toEqual(all.slice(-1));
  client.cut();
  both.cut();
});

it('tells a client whose place is not known here to begin anew', async () => {
  const places = ['x', `${id}:1@00000000.10:20:`, `-@deadbeef.9:9:`];
  for (const place of places) {
    const client = await listen(`${here.url}/v1/stream`, place);
    await client.until('it began', ({ heard }) => heard.length === 2);
    expect(client.heard.map(({ event }) => event)).toEqual(['reset', 'snapshot']);
    client.cut();
  }
  const beyond = await listen(`${here.url}/v1/reservations/${id}/stream`, '999999');
  await beyond.until('it began', ({ heard }) => heard.length === 2);
  expect(beyond.heard.map(({ event }) => event)).toEqual(['reset', 'snapshot']);
  beyond.cut();
  expect((await listen(`${here.url}/v1/reservations/${id}/stream`, 'x')).status).toBe(400);
});
