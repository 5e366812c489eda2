import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { Database, isRetryableDatabaseError, PoolExhaustedError, type Transaction } from '../../../persistence/database.ts';
import { holdLease } from '../../../persistence/leases.ts';
import { enqueue } from '../../../persistence/mailbox.ts';
import { createTestDatabase, type TestDatabase } from '../../support/postgres.ts';
import { proxyThatEnds } from './proxy.ts';

let test: TestDatabase;
let admin: Database;
const open: Database[] = [];
beforeAll(async () => {
  test = await createTestDatabase();
  admin = database();
  open.pop();
  await admin.query('create table notes (id int primary key, body text)');
});
afterEach(async () => {
  await admin.query('truncate notes');
  for (const db of open.splice(0)) {
    const { waiting, idle, total } = db.stats();
    await db.close();
    expect({ waiting, lent: total - idle }, 'no connection leaks').toEqual({ waiting: 0, lent: 0 });
  }
});
afterAll(async () => {
  await admin.close();
  await test.drop();
});

function database(maxConnections = 4, acquireTimeoutMs = 5_000): Database {
  const db = new Database({ ...test.config, maxConnections, acquireTimeoutMs });
  open.push(db);
  return db;
}
const note = (id: number, body = '') => ['insert into notes values ($1, $2)', [id, body]] as const;
async function notes(): Promise<number[]> {
  return (await admin.query<{ id: number }>('select id from notes order by id')).rows.map((row) => row.id);
}
async function backend(tx: Pick<Transaction, 'query'>): Promise<number> {
  return (await tx.query<{ pid: number }>('select pg_backend_pid() as pid')).rows[0]!.pid;
}

describe('a transaction', () => {
  it('commits when its work resolves and gives what it gave', async () => {
    const result = await database().withTransaction(async (tx) => {
      await tx.query(...note(1));
      return 'done';
    });
    expect(result).toBe('done');
    expect(await notes()).toEqual([1]);
  });

  it('rolls back when its work throws, and throws the same error', async () => {
    const problem = new Error('no');
    const work = database().withTransaction(async (tx) => {
      await tx.query(...note(1));
      throw problem;
    });
    await expect(work).rejects.toBe(problem);
    expect(await notes()).toEqual([]);
  });

  it('rolls back when a statement fails, and its connection serves the next', async () => {
    const db = database(1);
    const work = db.withTransaction(async (tx) => {
      await tx.query(...note(1));
      await tx.query('select 1 / $1::int', [0]);
    });
    await expect(work).rejects.toMatchObject({ code: '22012' });
    expect(await notes()).toEqual([]);
    await db.withTransaction((tx) => tx.query(...note(2)));
    expect(await notes()).toEqual([2]);
  });

  it('is joined by work that is given it: both commit or neither does', async () => {
    const db = database(1);
    const joined = (fail: boolean) =>
      db.withTransaction(async (outer) => {
        await outer.query(...note(1));
        await db.withTransaction(
          async (inner) => {
            expect(inner).toBe(outer);
            await inner.query(...note(2));
          },
          { within: outer },
        );
        if (fail) throw new Error('after the inner one');
      });
    await expect(joined(true)).rejects.toThrow('after the inner one');
    expect(await notes()).toEqual([]);
    await joined(false);
    expect(await notes()).toEqual([1, 2]);
  });

  it('is one of its own for work that is not given it', async () => {
    const db = database(2);
    await expect(
      db.withTransaction(async (tx) => {
        await tx.query(...note(1));
        await db.query(...note(2));
        expect(await backend(tx)).not.toBe(await backend(db));
        throw new Error('only mine');
      }),
    ).rejects.toThrow('only mine');
    expect(await notes()).toEqual([2]);
  });

  it('carries functions of the stores: without it each call stands alone', async () => {
    const db = database();
    const message = (key: string) => [{ actor: 'lamp/x', key, event: { type: 'press' }, sender: 'test' }];
    await expect(
      db.withTransaction(async (tx) => {
        await enqueue(tx, message('joined'));
        await enqueue(db, message('alone'));
        throw new Error('no');
      }),
    ).rejects.toThrow('no');
    expect((await admin.query('select key from mailbox')).rows).toEqual([{ key: 'alone' }]);
  });

  it('refuses writes when it is read-only, and sees one moment', async () => {
    const db = database();
    await admin.query(...note(1));
    await db.withTransaction(
      async (tx) => {
        const count = async () => (await tx.query('select id from notes')).rowCount;
        expect(await count()).toBe(1);
        await admin.query(...note(2));
        expect(await count()).toBe(1);
      },
      { readonly: true },
    );
    await expect(db.withTransaction((tx) => tx.query(...note(3)), { readonly: true })).rejects.toMatchObject({ code: '25006' });
    expect(await notes()).toEqual([1, 2]);
  });

  it('cannot be used after its end', async () => {
    let kept: Transaction | null = null;
    await database().withTransaction(async (tx) => {
      kept = tx;
    });
    await expect(kept!.query('select 1')).rejects.toThrow('This transaction has ended');
  });

  it('is ended by the server when its process stands still in it, so that its locks go', async () => {
    const { rows } = await database().query<{ value: string }>('select current_setting($1) as value', [
      'idle_in_transaction_session_timeout',
    ]);
    expect(rows).toEqual([{ value: '5s' }]);
  });
});

describe('the pool', () => {
  it('tells of exhaustion by an error in time, and nested work never waits for ever', async () => {
    const db = database(1, 1_000);
    const began = Date.now();
    const nested = db.withTransaction(async (tx) => {
      await tx.query(...note(1));
      await db.withTransaction((other) => other.query(...note(2)));
    });
    await expect(nested).rejects.toBeInstanceOf(PoolExhaustedError);
    await expect(nested).rejects.toMatchObject({ code: 'GPU_DATABASE_BUSY' });
    expect(Date.now() - began).toBeLessThan(3_000);
    expect(await notes()).toEqual([]);
    await db.query(...note(3));
    expect(await notes()).toEqual([3]);
  });

  it('serves more callers than it has connections, one after the other', async () => {
    const db = database(3);
    await Promise.all(Array.from({ length: 40 }, (_, id) => db.withTransaction((tx) => tx.query(...note(id)))));
    expect(await notes()).toHaveLength(40);
    expect(db.stats()).toMatchObject({ max: 3, waiting: 0 });
    expect(db.stats().total).toBeLessThanOrEqual(3);
  });

  it('gets every connection back from checks that fail (B13)', async () => {
    const db = database(2, 1_000);
    const checks = await Promise.allSettled(Array.from({ length: 30 }, () => db.query('select 1 / $1::int', [0])));
    expect(checks.every((check) => check.status === 'rejected')).toBe(true);
    const lent = await Promise.allSettled(
      Array.from({ length: 30 }, () => db.withConnection(() => Promise.reject(new Error('the check failed')))),
    );
    expect(lent.every((check) => check.status === 'rejected')).toBe(true);
    expect(db.stats()).toMatchObject({ waiting: 0 });
    await Promise.all([db.query('select 1'), db.query('select 1')]);
  });

  it('replaces connections that the server ended, idle or at work', async () => {
    const db = database(2);
    const idle = await backend(db);
    await admin.query('select pg_terminate_backend($1)', [idle]);
    const problem = db.withTransaction(async (tx) => {
      await admin.query('select pg_terminate_backend($1)', [await backend(tx)]);
      await tx.query(...note(1));
    });
    await expect(problem).rejects.toSatisfy(isRetryableDatabaseError);
    await db.withTransaction((tx) => tx.query(...note(2)));
    expect(await notes()).toEqual([2]);
    expect(await backend(db)).not.toBe(idle);
  });

  it('survives a connection that the server ends in the same packet that opens it', async () => {
    const { port, count } = await proxyThatEnds(test.config, 3);
    const db = new Database({ ...test.config, port, maxConnections: 2 });
    open.push(db);
    for (let attempt = 0; attempt < 3; attempt++) await expect(db.query('select 1')).rejects.toSatisfy(isRetryableDatabaseError);
    expect((await db.query('select 1 as one')).rows).toEqual([{ one: 1 }]);
    expect(count()).toBe(3);
  });

  it('never lends a connection whose transaction could not be rolled back', async () => {
    const db = database(1);
    const problem = db.withTransaction(async (tx) => {
      await tx.query(...note(1));
      await admin.query('select pg_terminate_backend($1)', [await backend(tx)]);
      throw new Error('for a reason of its own');
    });
    await expect(problem).rejects.toThrow('for a reason of its own');
    await db.query(...note(2));
    expect(await notes()).toEqual([2]);
  });

  it('refuses work after it was closed, and may be closed twice', async () => {
    const db = database();
    await db.init();
    await db.close();
    await db.close();
    await expect(db.query('select 1')).rejects.toThrow();
  });

  it('says that a server that is not there may be tried again', async () => {
    const away = new Database({ ...test.config, port: 1 });
    await expect(away.init()).rejects.toSatisfy(isRetryableDatabaseError);
    await away.close();
  });
});

describe('errors', () => {
  it('are retryable when the database was at fault and not when the statement was', async () => {
    const db = database();
    await db.query(...note(1));
    const error = await db.query(...note(1)).catch((caught: unknown) => caught);
    expect(isRetryableDatabaseError(error)).toBe(false);
    let holding = 0;
    const { promise: bothHold, resolve: goOn } = Promise.withResolvers<void>();
    const deadlock = await Promise.allSettled(
      [
        ['a', 'b'],
        ['b', 'a'],
      ].map((order, index) =>
        db.withTransaction(async (tx) => {
          await tx.query('set local deadlock_timeout = 50');
          for (const name of order) {
            await tx.query('select pg_advisory_xact_lock(hashtext($1))', [name]);
            if (++holding === 2) goOn();
            await bothHold;
          }
          return index;
        }),
      ),
    );
    const lost = deadlock.filter((result) => result.status === 'rejected');
    expect(lost).toHaveLength(1);
    expect(isRetryableDatabaseError(lost[0]!.reason)).toBe(true);
  });
});

describe('time', () => {
  it('without a zone is read as UTC, whatever the zone of the process', async () => {
    const before = process.env.TZ;
    process.env.TZ = 'Asia/Tokyo';
    try {
      const { rows } = await database().query(
        `select timestamp '2026-11-20 09:14:07.12' as bare, $1::timestamptz as given, timestamptz '2026-11-20 09:14:07+02' as zoned`,
        ['2026-11-20T09:14:07.120'],
      );
      expect(rows[0]).toEqual({
        bare: new Date('2026-11-20T09:14:07.120Z'),
        given: new Date('2026-11-20T09:14:07.120Z'),
        zoned: new Date('2026-11-20T07:14:07Z'),
      });
    } finally {
      if (before === undefined) delete process.env.TZ;
      else process.env.TZ = before;
    }
  });

  it('is stored with its zone in every column', async () => {
    const { rows } = await admin.query(
      `select table_name, column_name from information_schema.columns where table_schema = 'public' and data_type = 'timestamp without time zone'
          and table_name <> 'schema_migrations'`,
    );
    expect(rows).toEqual([]);
  });

  it("of a lease is the database server's", async () => {
    expect(await holdLease(database(), 'clock', 'me', 1)).toBe(1);
  });
});
