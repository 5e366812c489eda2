/** Brings a database to the schema of this version: PGMQ, then every file of migrations/ in order. */
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { runner } from 'node-pg-migrate';
import pg from 'pg';
import { ensurePgmq } from './embedded.ts';

/** Key of the advisory lock under which one starter migrates while others wait. */
const LOCK = 7_202_611_21;

/**
 * Run what is missing of the migrations. Concurrent starters wait for each other; a database of a newer version is refused.
 * @returns names of the migrations that ran.
 * @throws if the server has no PGMQ and none can be installed, or a migration fails (nothing of it stays).
 */
export async function migrate(connectionString: string): Promise<string[]> {
  const client = new pg.Client({ connectionString, application_name: 'gpu-dev migrate', options: '-c TimeZone=UTC' });
  await client.connect();
  try {
    // node-pg-migrate's own lock rejects the second of two starters, so it waits here instead.
    await client.query('select pg_advisory_lock($1)', [LOCK]);
    await ensurePgmq(client);
    const ran = await runner({
      dbClient: client,
      dir: join(dirname(fileURLToPath(import.meta.url)), 'migrations'),
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
