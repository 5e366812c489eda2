/** Brings a database to the schema of this version: PGMQ, then every file of migrations/ in order. */
import { readdirSync } from 'node:fs';
import { dirname, join, parse } from 'node:path';
import { fileURLToPath } from 'node:url';
import { runner } from 'node-pg-migrate';
import pg from 'pg';
import { ensurePgmq } from './embedded.ts';

const FOLDER = join(dirname(fileURLToPath(import.meta.url)), 'migrations');

/** Key of the advisory lock under which one starter migrates while others wait. */
const LOCK = 7_202_611_21;

/** How long a connection may take: whoever starts us wants to hear of a server that does not answer, in milliseconds. */
const CONNECT_MS = 5_000;

/**
 * Run what is missing of the migrations. Concurrent starters wait for each other; a database of a newer version is refused.
 * @returns names of the migrations that ran.
 * @throws if the server has no PGMQ and none can be installed, or a migration fails (nothing of it stays).
 */
export async function migrate(connectionString: string): Promise<string[]> {
  const client = new pg.Client({
    connectionString,
    application_name: 'gpu-dev migrate',
    options: '-c TimeZone=UTC',
    connectionTimeoutMillis: CONNECT_MS,
  });
  // A connection that dies between two statements fails the next one; without a listener it would end the process.
  client.on('error', () => {});
  await client.connect();
  try {
    // node-pg-migrate's own lock rejects the second of two starters, so it waits here instead.
    await client.query('select pg_advisory_lock($1)', [LOCK]);
    await refuseNewer(client);
    await ensurePgmq(client);
    const ran = await runner({
      dbClient: client,
      dir: FOLDER,
      direction: 'up',
      migrationsTable: 'schema_migrations',
      noLock: true,
      log: () => {},
    });
    return ran.map((migration) => migration.name);
  } finally {
    await client.end();
  }
}

/** A migration that ran and is not ours came with a newer version: we do not know what it changed. */
async function refuseNewer(client: pg.Client): Promise<void> {
  const { rows: tables } = await client.query<{ there: boolean }>(`select to_regclass('schema_migrations') is not null as there`);
  if (tables[0]?.there !== true) return;
  const ours = readdirSync(FOLDER).map((file) => parse(file).name);
  const { rows } = await client.query<{ name: string }>(
    'select name from schema_migrations where name <> all($1::text[]) order by id',
    [ours],
  );
  if (rows.length === 0) return;
  const names = rows.map((row) => row.name).join(', ');
  throw new Error(
    `The database is of a newer version of gpu-dev (it has ${names}). Start that version, or restore the backup made before it.`,
  );
}
