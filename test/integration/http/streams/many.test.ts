import { afterAll, beforeAll, expect, it } from 'vitest';
import { Database } from '../../../../persistence/database.ts';
import { StreamClient } from '../../../support/listener.ts';
import { type HttpWorld, startHttp } from '../support.ts';
import { type Replica, startReplica } from './support.ts';

/** Counts what is asked of the database. */
class CountingDatabase extends Database {
  asked = 0;
  override query: Database['query'] = (text, values) => {
    this.asked++;
    return super.query(text, values);
  };
}

const CROWD = 300;
let http: HttpWorld;
let here: Replica;
let db: CountingDatabase;
let id: string;
beforeAll(async () => {
  http = await startHttp({ fleet: { t4: 1 } });
  db = new CountingDatabase({ ...http.world.database.config, maxConnections: 4 });
  here = await startReplica(http.world, { db, streams: { limits: { perUser: CROWD, total: CROWD } } });
  id = (await http.post('/v1/reservations', { gpu_type: 't4', duration_hours: 4, no_persistent_disk: true }, { user: 'ada' }))
    .body.id;
  await http.world.reaches(id, 'running');
});
afterAll(async () => {
  await here?.app.close();
  await db?.close();
  await http?.stop();
});

let sent = 0;
/** One step after another, each heard by all before the next is made. @returns what was asked of the database for all of them. */
async function steps(clients: readonly StreamClient[], count: number): Promise<number> {
  const before = db.asked;
  for (let n = 0; n < count; n++) {
    const event = { type: 'disable_jupyter', by: 'ada' } as { type: string };
    const heard = clients.map(({ steps }) => steps.length);
    await http.world.kernel.post([{ actor: `reservation/${id}`, key: `knock:${++sent}`, event, sender: 'test' }]);
    http.world.kernel.wake();
    await Promise.all(clients.map((client, index) => client.until('the step came', (one) => one.steps.length > heard[index]!)));
  }
  return db.asked - before;
}

it('what happens is read once, however many listen', async () => {
  const paths = [`/v1/reservations/${id}/stream`, '/v1/stream'];
  const open = async (n: number) => {
    const client = await StreamClient.open(`${here.url}${paths[n % 2]}`, await http.as('ada'));
    await client.until('it began', ({ heard }) => heard.length > 0);
    return client;
  };
  const first = await open(0);
  const ofOne = await steps([first], 10);
  const crowd = [first];
  for (let n = 1; n < CROWD; n++) crowd.push(await open(n));
  const ofAll = await steps(crowd, 10);
  // A slow look now and then, beside what a step costs; not one query more for each who listens.
  expect(ofAll).toBeLessThan(ofOne + 60);
  const told = new Set(crowd.map(({ steps }) => steps.slice(-10).join()));
  expect(told.size).toBe(1);
  for (const client of crowd) client.cut();
});
