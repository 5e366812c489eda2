import { afterAll, beforeAll, expect, it } from 'vitest';
import { Kernel } from '../../../actors/kernel/kernel.ts';
import { Database } from '../../../persistence/database.ts';
import { buildHttp } from '../../../src/http/server.ts';
import { TestKeys } from '../../support/api-keys.ts';
import { createTestDatabase, type TestDatabase } from '../../support/postgres.ts';
import { HEALTHY } from './support.ts';

let test: TestDatabase;
let db: Database;
beforeAll(async () => {
  test = await createTestDatabase();
  db = new Database({ ...test.config, maxConnections: 1, acquireTimeoutMs: 1_000 });
});
afterAll(async () => {
  await db.close();
  await test.drop();
});

it('a database that does not answer is a 503 that may be tried again, and /metrics still answers', async () => {
  const kernel = new Kernel({ db, kinds: [] });
  const app = await buildHttp({ db, kernel, logger: false, timeScale: 1, health: async () => HEALTHY, trackerAgeMs: () => null });
  const headers = await new TestKeys(db).as('ada');
  await db.withConnection(async () => {
    const answer = await app.inject({ url: '/v1/gpus', headers });
    expect(answer.statusCode).toBe(503);
    expect(answer.headers['retry-after']).toBe('1');
    expect(answer.json()).toMatchObject({ code: 'GPU_DATABASE_BUSY', status: 503 });
    const metrics = await app.inject('/metrics');
    expect(metrics.payload).toMatch(/^gpu_dev_database_up 0$/m);
    expect(metrics.payload).toMatch(/^gpu_dev_tracker_age_seconds Nan$/m);
  });
  expect((await app.inject({ url: '/v1/gpus', headers })).statusCode).toBe(200);
  await app.close();
});

it('an error that is ours tells nothing of itself', async () => {
  const kernel = new Kernel({ db, kinds: [] });
  const app = await buildHttp({ db, kernel, logger: false, timeScale: 1, health: async () => HEALTHY, trackerAgeMs: () => null });
  await db.query('alter table gpu_types rename to gpu_types_hidden');
  const answer = await app.inject({ url: '/v1/gpus', headers: await new TestKeys(db).as('ada') });
  expect(answer.statusCode).toBe(500);
  expect(answer.json()).toMatchObject({ code: 'GPU_INTERNAL', detail: 'Something went wrong here', details: {} });
  await db.query('alter table gpu_types_hidden rename to gpu_types');
  await app.close();
});
