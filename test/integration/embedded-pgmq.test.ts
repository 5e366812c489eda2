import pg from 'pg';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { ensurePgmq } from '../../persistence/embedded.ts';
import { pgmqInstallScript } from '../../persistence/embedded/pgmq-archive.ts';
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts';

let database: TestDatabase;
let client: pg.Client;
beforeEach(async () => {
  database = await createTestDatabase();
  client = new pg.Client(database.config);
  await client.connect();
});
afterEach(async () => {
  await client.end();
  await database.drop();
});

/** Every function and relation of the schema pgmq that PGMQ itself brings. */
async function contents(): Promise<string[]> {
  const result = await client.query<{ name: string }>(
    `select oid::regprocedure::text as name from pg_proc where pronamespace = 'pgmq'::regnamespace
     union all
     select oid::regclass::text from pg_class
      where relnamespace = 'pgmq'::regnamespace and relkind in ('r', 'v', 'i') and relname !~ '^[qa]_|_[qa]_|^pgmq|archived'
     order by 1`,
  );
  return result.rows.map((row) => row.name);
}

it('a test database has PGMQ, and asking again changes nothing', async () => {
  const first = await ensurePgmq(client);
  expect(first).toMatchObject({ version: '1.11.1', installedNow: false });
  expect(await ensurePgmq(client)).toEqual(first);
});

it('PGMQ as plain SQL brings the same things as the extension and carries a message', async () => {
  const asTheServerHasIt = await contents();
  await client.query('drop extension if exists pgmq cascade');
  await client.query('drop schema if exists pgmq cascade');
  await client.query(pgmqInstallScript());
  expect(await ensurePgmq(client)).toEqual({ how: 'script', version: '1.11.1', installedNow: false });
  expect(await contents()).toEqual(asTheServerHasIt);
  await client.query(`select pgmq.create('by_script')`);
  await client.query(`select pgmq.enable_notify_insert('by_script', 0)`);
  await client.query(`select pgmq.send('by_script', '{"hello": 1}')`);
  const read = await client.query(`select message from pgmq.read('by_script', 30, 1)`);
  expect(read.rows).toEqual([{ message: { hello: 1 } }]);
});

it('two starters at once install PGMQ once', async () => {
  await client.query('drop extension if exists pgmq cascade');
  await client.query('drop schema if exists pgmq cascade');
  const other = new pg.Client(database.config);
  await other.connect();
  try {
    const both = await Promise.all([ensurePgmq(client), ensurePgmq(other)]);
    expect(both.map((result) => result.installedNow).sort()).toEqual([false, true]);
  } finally {
    await other.end();
  }
});

it('a role that may not install PGMQ is told what to do', async () => {
  await client.query('drop extension if exists pgmq cascade');
  await client.query('drop schema if exists pgmq cascade');
  const role = `poor_${process.pid}`;
  await client.query(`create role ${pg.escapeIdentifier(role)}`);
  try {
    await client.query(`set role ${pg.escapeIdentifier(role)}`);
    await expect(ensurePgmq(client)).rejects.toThrow(/may not install PGMQ .*Install the pgmq extension/);
  } finally {
    await client.query('reset role');
    await client.query(`drop role ${pg.escapeIdentifier(role)}`);
  }
});
