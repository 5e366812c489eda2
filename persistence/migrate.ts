/** Brings a database to the schema of this version: PGMQ, then every file of migrations/ in order. */
import { readdirSync } from 'node:fs';
import { dirname, join, parse } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
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
 * How long a migration may stand in line for a table, in milliseconds. Others who want that table stand behind it meanwhile: with a backup
 * that reads it for minutes in front, the old version would stand still for as long.
 */
const TABLE_WAIT_MS = 2_000;
/** How long the others are left alone before the next try, in milliseconds. */
const BETWEEN_TRIES_MS = 5_000;
const LOCK_NOT_AVAILABLE = '55P03';

/** Somebody whose transaction is longer than we wait, and the tables that it has locked. */
export interface TableHolder {
  pid: number;
  application: string;
  state: string | null;
  since: Date;
  tables: string[];
}

const FIND_HOLDERS = `
  select a.pid, a.application_name as application, a.state, a.xact_start as since, array_agg(distinct c.relname::text order by c.relname::text) as tables
    from pg_locks l join pg_stat_activity a using (pid) join pg_class c on c.oid = l.relation
   where l.granted and l.database = (select oid from pg_database where datname = current_database()) and c.relkind in ('r', 'p')
     and c.relnamespace = 'public'::regnamespace and a.pid <> pg_backend_pid() and a.xact_start < clock_timestamp() - make_interval(secs => $1)
   group by a.pid, a.application_name, a.state, a.xact_start order by a.xact_start`;

/** What a caller may want to know or set otherwise. */
export interface MigrateOptions {
  /** A table is in use by somebody who keeps it: nothing was changed, and it is tried again. Told with those who keep tables. */
  onBusy?: (holders: readonly TableHolder[]) => void;
  betweenTriesMs?: number;
}

/**
 * Run what is missing of the migrations. Concurrent starters wait for each other; a database of a newer version is refused. Who keeps a table
 * is waited for, as long as it takes, and in portions, so that the old version goes on.
 * @returns names of the migrations that ran.
 * @throws if the server has no PGMQ and none can be installed, or a migration fails (nothing of it stays).
 */
export async function migrate(connectionString: string, options: MigrateOptions = {}): Promise<string[]> {
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
    const before = await migrationsOf(client);
    refuseNewer(before);
    await ensurePgmq(client);
    await client.query(`set lock_timeout = ${TABLE_WAIT_MS}`);
    await runMissing(client, options);
    return (await migrationsOf(client)).filter((name) => !before.includes(name));
  } finally {
    await client.end();
  }
}

async function runMissing(client: pg.Client, { onBusy, betweenTriesMs = BETWEEN_TRIES_MS }: MigrateOptions): Promise<void> {
  for (;;) {
    try {
      await runner({
        dbClient: client,
        dir: FOLDER,
        direction: 'up',
        migrationsTable: 'schema_migrations',
        noLock: true,
        log: () => {},
      });
      return;
    } catch (error) {
      if (!(error instanceof pg.DatabaseError) || error.code !== LOCK_NOT_AVAILABLE) throw error;
      // Each migration has a transaction of its own, which the runner leaves open when it fails: with it stay the tables it has locked.
      await client.query('rollback');
      onBusy?.((await client.query<TableHolder>(FIND_HOLDERS, [TABLE_WAIT_MS / 1_000])).rows);
      await pause(betweenTriesMs);
    }
  }
}

/** Names of the migrations that ran, in their order. */
async function migrationsOf(client: pg.Client): Promise<string[]> {
  const { rows: tables } = await client.query<{ there: boolean }>(`select to_regclass('schema_migrations') is not null as there`);
  if (tables[0]?.there !== true) return [];
  const { rows } = await client.query<{ name: string }>('select name from schema_migrations order by id');
  return rows.map(({ name }) => name);
}

/** A migration that ran and is not ours came with a newer version: we do not know what it changed. */
function refuseNewer(ran: readonly string[]): void {
  const ours = readdirSync(FOLDER).map((file) => parse(file).name);
  const foreign = ran.filter((name) => !ours.includes(name));
  if (foreign.length === 0) return;
  throw new Error(
    `The database is of a newer version of gpu-dev (it has ${foreign.join(', ')}). Start that version, or restore the backup made before it.`,
  );
}
