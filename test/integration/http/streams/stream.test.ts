import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { StreamClient } from '../../../support/listener.ts';
import { type HttpWorld, startHttp } from '../support.ts';
import { type Replica, startReplica } from './support.ts';

let http: HttpWorld;
let here: Replica;
beforeAll(async () => {
  http = await startHttp({ fleet: { t4: 2, h100: 1 } });
  here = await startReplica(http.world, { streams: { every: { places: 50, rights: 50, beat: 50 } } });
});
afterAll(async () => {
  await here?.app.close();
  await http?.stop();
});

const reserve = async (user: string, more: object = {}) =>
  (await http.post('/v1/reservations', { gpu_type: 't4', duration_hours: 4, no_persistent_disk: true, ...more }, { user })).body;
const listen = async (path: string, user: string, lastId?: string) =>
  StreamClient.open(`${here.url}${path}`, {
    ...(await http.as(user)),
    ...(lastId === undefined ? {} : { 'last-event-id': lastId }),
  });
const history = async (id: string, user: string): Promise<string[]> =>
  (await http.get(`/v1/reservations/${id}/history`, user)).body.entries.map((one: { seq: number }) => `${id}:${one.seq}`);

describe('GET /v1/reservations/:id/stream', () => {
  it('tells where it stands, then every step, and ends with it', async () => {
    const { id } = await reserve('ada');
    const client = await listen(`/v1/reservations/${id}/stream`, 'ada');
    expect([client.status, client.response.headers['content-type']]).toEqual([200, 'text/event-stream; charset=utf-8']);
    await client.until('it runs', ({ heard }) =>
      heard.some(({ json }) => json.state === 'running' || json.reservations?.[0].state === 'running'),
    );
    await http.post(`/v1/reservations/${id}/events`, { type: 'cancel' }, { user: 'ada' });
    expect(await client.over).toBe(true);
    const [first] = client.heard;
    expect(first).toMatchObject({ event: 'snapshot', json: { more: false, reservations: [{ id, user_id: 'ada' }] } });
    const last = client.heard.at(-1)!;
    expect(last).toMatchObject({ event: 'end', json: { state: 'cancelled', reservation: { id, state: 'cancelled' } } });
    const from = Number(first!.id) + 1;
    expect(client.steps).toEqual(Array.from({ length: Number(last.id) - from + 1 }, (_, index) => `${id}:${from + index}`));
    // Whoever comes back has seen it all, and need not ask again.
    const again = await listen(`/v1/reservations/${id}/stream`, 'ada', last.id);
    expect(again.status).toBe(204);
    const late = await listen(`/v1/reservations/${id}/stream`, 'ada');
    expect(await late.over).toBe(true);
    expect(late.heard.map(({ event }) => event)).toEqual(['snapshot', 'end']);
  });
});

describe('GET /v1/stream', () => {
  it('tells of all reservations of the user, and of nobody else', async () => {
    const mine = await listen('/v1/stream', 'bob');
    await mine.until('the snapshot is there', ({ heard }) => heard.length === 1);
    expect(mine.heard[0]!.json).toEqual({ reservations: [], more: false });
    const made = [await reserve('bob'), await reserve('eve'), await reserve('bob')];
    for (const { id, user_id: user } of made) await http.post(`/v1/reservations/${id}/events`, { type: 'cancel' }, { user });
    await mine.until('both have ended', (client) => client.named('end').length === 2);
    const wanted = (await Promise.all([made[0]!, made[2]!].map(({ id }) => history(id, 'bob')))).flat();
    await mine.until('all is told', ({ steps }) => steps.length >= wanted.length);
    expect([...mine.steps].sort()).toEqual(wanted.sort());
    mine.cut();
  });
});
