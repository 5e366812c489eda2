// PGMQ in any Postgres >= 15: as an extension where the server has it, as plain SQL where it does not.
import type { ClientBase } from 'pg';
import { PGMQ_VERSION, pgmqInstallScript } from './pgmq-archive.ts';

/** How PGMQ is there: the extension, the same SQL in the schema pgmq without the extension, and whether this call put it there. */
export type PgmqInstallation = {
  readonly how: 'extension' | 'script';
  readonly version: string;
  readonly installedNow: boolean;
};

/** Two starters must not install at once; any constant will do as long as nobody else locks it. */
const INSTALL_LOCK = 715_001_111;
/** The first release with enable_notify_insert(queue, throttle) and its throttle table. */
const OLDEST_SUPPORTED = [1, 8];

const REMEDY =
  'Install the pgmq extension on that server (https://github.com/pgmq/pgmq), or let a role with CREATE on the database run the migrations once.';

/**
 * Makes sure the schema pgmq with its functions is there, on a connected client of the database in question. Safe to call
 * again and from several processes at once, inside a transaction or outside. Throws a readable error when the server is older
 * than Postgres 15, its PGMQ is too old, or the role may not install it. What is already there is never replaced.
 */
export async function ensurePgmq(client: ClientBase): Promise<PgmqInstallation> {
  const version = await client.query<{ n: number; text: string }>(
    `select current_setting('server_version_num')::int as n, current_setting('server_version') as text`,
  );
  const server = version.rows[0];
  if (server === undefined || server.n < 150_000) {
    throw new Error(`gpu-dev needs Postgres 15 or newer; this server is ${server?.text ?? 'of an unknown version'}.`);
  }
  await client.query('select pg_advisory_lock($1)', [INSTALL_LOCK]);
  try {
    return await installUnlessThere(client);
  } catch (error) {
    if ((error as { code?: string }).code === '42501') {
      throw new Error(`this role may not install PGMQ (${(error as Error).message}). ${REMEDY}`, { cause: error });
    }
    throw error;
  } finally {
    // In a transaction that failed this fails too, and the lock goes with the connection.
    await client.query('select pg_advisory_unlock($1)', [INSTALL_LOCK]).catch(() => undefined);
  }
}

async function installUnlessThere(client: ClientBase): Promise<PgmqInstallation> {
  const found = await client.query<{
    installed: string | null;
    available: string | null;
    send: string | null;
    notify: string | null;
  }>(
    `select (select extversion from pg_extension where extname = 'pgmq') as installed,
            (select default_version from pg_available_extensions where name = 'pgmq') as available,
            to_regprocedure('pgmq.send(text, jsonb)')::text as send,
            to_regprocedure('pgmq.enable_notify_insert(text, integer)')::text as notify`,
  );
  const { installed = null, available = null, send = null, notify = null } = found.rows[0] ?? {};
  if (installed !== null) {
    refuseOld(installed, `alter extension pgmq update`);
    return { how: 'extension', version: installed, installedNow: false };
  }
  if (send !== null) {
    if (notify === null)
      throw new Error('the schema pgmq of this database holds a PGMQ that is too old. Upgrade it to 1.8 or newer.');
    return { how: 'script', version: PGMQ_VERSION, installedNow: false };
  }
  if (available !== null) {
    refuseOld(available, 'a newer package of the extension on the server');
    await client.query('create extension if not exists pgmq');
    return { how: 'extension', version: available, installedNow: true };
  }
  // One simple query is one transaction: either all of PGMQ is there afterwards, or nothing.
  await client.query(pgmqInstallScript());
  return { how: 'script', version: PGMQ_VERSION, installedNow: true };
}

function refuseOld(version: string, remedy: string): void {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  const [oldestMajor = 0, oldestMinor = 0] = OLDEST_SUPPORTED;
  if (major > oldestMajor || (major === oldestMajor && minor >= oldestMinor)) return;
  throw new Error(`PGMQ ${version} on this server is too old: gpu-dev needs ${OLDEST_SUPPORTED.join('.')} or newer (${remedy}).`);
}
