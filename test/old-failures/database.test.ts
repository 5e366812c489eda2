import pg from 'pg';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Database, PoolExhaustedError } from '../../persistence/database.ts';
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts';

let database: TestDatabase;
let db: Database;
beforeEach(async () => {
  database = await createTestDatabase();
  db = new Database({ ...database.config, maxConnections: 2, acquireTimeoutMs: 300 });
});
afterEach(async () => {
  await db.close();
  await database.drop();
});

const whole = () => {
  const { total, idle, waiting } = db.stats();
  expect({ lent: total - idle, waiting }).toEqual({ lent: 0, waiting: 0 });
};

describe('B13: the pool', () => {
  it('B13: gets every connection back after health checks that failed, however they failed', async () => {
    const admin = new pg.Client(database.url);
    await admin.connect();
    const broken = [
      () => db.query('select 1 / 0'),
      () => db.query('select * from there_is_no_such_table'),
      () => db.withTransaction(async (tx) => tx.query('select $1::uuid', ['not one'])),
      () => db.withTransaction(async () => Promise.reject(new Error('the check itself'))),
      () => db.withConnection(async () => Promise.reject(new Error('the check itself'))),
      () => db.query('select pg_terminate_backend(pg_backend_pid())'),
      () =>
        db.withTransaction(async (tx) => {
          const { rows } = await tx.query<{ pid: number }>('select pg_backend_pid() as pid');
          await admin.query('select pg_terminate_backend($1)', [rows[0]!.pid]);
          await tx.query('select 1');
        }),
    ];
    for (let round = 0; round < 5; round++) {
      for (const check of broken) await expect(check()).rejects.toThrow();
      whole();
    }
    expect((await db.query('select 1 as one')).rows).toEqual([{ one: 1 }]);
    await admin.end();
  });

  it('B13: that is exhausted gives an error in time and never a deadlock, and works again as soon as one is given back', async () => {
    let release = () => {};
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    const holders = [db.withTransaction(() => held), db.withConnection(() => held)];
    await expect(db.init()).rejects.toThrow(PoolExhaustedError);
    const crowd = await Promise.allSettled(Array.from({ length: 20 }, () => db.query('select 1')));
    for (const each of crowd)
      expect(each).toMatchObject({ status: 'rejected', reason: { message: expect.stringContaining('within 300 ms') } });
    release();
    await Promise.all(holders);
    await db.init();
    whole();
  });

  it('B13: is not needed twice by a call that joins a transaction it is given', async () => {
    const one = new Database({ ...database.config, maxConnections: 1, acquireTimeoutMs: 300 });
    const seen = await one.withTransaction(async (outer) => {
      await outer.query('create temporary table t (n int)');
      await one.withTransaction(async (inner) => inner.query('insert into t values (1)'), { within: outer });
      return (await outer.query('select n from t')).rows;
    });
    expect(seen).toEqual([{ n: 1 }]);
    await one.close();
  });
});
