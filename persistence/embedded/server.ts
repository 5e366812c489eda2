// One Postgres server as a process: its first birth, its start, who it is, and its end.
import { spawn, spawnSync } from 'node:child_process';
import { chownSync, closeSync, existsSync, openSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import pg from 'pg';
import type { Binaries } from './binaries.ts';
import type { Places } from './places.ts';
import { commandLine, identify, isRunning, type ProcessIdentity } from './processes.ts';

/** The role and database every embedded server is born with. */
export const USER = 'gpudev';
export const DATABASE = 'gpudev';

/** What postmaster.pid says about the server of a data folder, when that server really runs. */
export type RunningServer = { readonly identity: ProcessIdentity; readonly port: number; readonly ready: boolean };

/** Makes the data folder (initdb) unless there is one. All or nothing: a half-made folder is never taken for a whole one. */
export function createDataFolder(places: Places, binaries: Binaries, password: string): void {
  if (existsSync(join(places.data, 'PG_VERSION'))) return;
  const draft = `${places.data}.draft`;
  const passwordFile = join(places.folder, 'initdb-password');
  rmSync(draft, { recursive: true, force: true });
  rmSync(passwordFile, { force: true });
  writeFileSync(passwordFile, `${password}\n`, { mode: 0o600 });
  if (places.owner !== undefined) chownSync(passwordFile, places.owner.uid, places.owner.gid);
  try {
    const result = spawnSync(
      binaries.initdb,
      // The locale is Postgres's own, so that texts sort alike on every machine.
      [
        `--pgdata=${draft}`,
        `--username=${USER}`,
        `--pwfile=${passwordFile}`,
        '--auth=scram-sha-256',
        '--encoding=UTF8',
        '--locale=C',
        '--locale-provider=builtin',
        '--builtin-locale=C.UTF-8',
        '--set=timezone=UTC',
        '--set=log_timezone=UTC',
      ],
      { ...places.owner, cwd: places.folder, env: serverEnvironment(), encoding: 'utf8' },
    );
    if (result.error) throw new Error(`initdb could not be run: ${result.error.message}`, { cause: result.error });
    if (result.status !== 0)
      throw new Error(`initdb failed (${result.signal ?? result.status}):\n${lastLines(result.stderr, 15)}`);
  } finally {
    rmSync(passwordFile, { force: true });
  }
  renameSync(draft, places.data);
}

/** Starts the server as a process of its own that outlives us. It need not be ready yet. */
export function spawnServer(places: Places, binaries: Binaries, port: number): ProcessIdentity {
  const log = openSync(places.log, 'a', 0o600);
  try {
    const child = spawn(
      binaries.postgres,
      [
        '-D',
        places.data,
        ...['-c', `port=${port}`],
        ...['-c', 'listen_addresses=127.0.0.1'],
        // Nobody looks for a socket file, and its folder would be one more place to own.
        ...['-c', 'unix_socket_directories='],
        ...['-c', 'max_connections=200'],
        ...['-c', 'log_min_messages=warning'],
      ],
      { ...places.owner, cwd: places.folder, env: serverEnvironment(), detached: true, stdio: ['ignore', log, log] },
    );
    child.on('error', () => undefined);
    child.unref();
    const identity = child.pid === undefined ? undefined : identify(child.pid);
    if (identity === undefined) throw new Error(`Postgres could not be started:\n${lastLogLines(places)}`);
    return identity;
  } finally {
    closeSync(log);
  }
}

/** The server that runs on this data folder, or undefined: also when postmaster.pid is left over from a dead one. */
export function findRunning(places: Pick<Places, 'data'>): RunningServer | undefined {
  let lines: string[];
  try {
    lines = readFileSync(join(places.data, 'postmaster.pid'), 'utf8').split('\n');
  } catch {
    return undefined;
  }
  const identity = identify(Number(lines[0]));
  // The pid may belong to somebody else by now; only a Postgres on exactly this folder counts.
  if (identity === undefined || !commandLine(identity.pid).includes(` -D ${places.data} `)) return undefined;
  return { identity, port: Number(lines[3]), ready: lines[7]?.trim() === 'ready' };
}

/** Removes a lock file that no server stands behind. Postgres itself would refuse to start when its pid was given to another process. */
export function removeStaleLock(places: Pick<Places, 'data'>): boolean {
  const lock = join(places.data, 'postmaster.pid');
  if (!existsSync(lock) || findRunning(places) !== undefined) return false;
  rmSync(lock, { force: true });
  return true;
}

/**
 * Waits until the server on this port accepts our password and serves our data folder, and makes the database if it is missing.
 * Milliseconds. Throws with the server's last log lines when it dies or does not come up.
 */
export async function waitUntilReady(
  places: Pick<Places, 'data' | 'log'>,
  identity: ProcessIdentity,
  login: { port: number; password: string },
  timeoutMs: number,
): Promise<void> {
  const end = Date.now() + timeoutMs;
  for (;;) {
    if (!isRunning(identity)) throw new Error(`Postgres ended while starting:\n${lastLogLines(places)}`);
    // The lock file tells first who we would be talking to: another server may sit on that port.
    const running = findRunning(places);
    if (running?.identity.pid === identity.pid && running.ready && running.port === login.port) {
      try {
        await createDatabase(login);
        return;
      } catch (error) {
        const code = (error as { code?: string }).code ?? '';
        if (code === '28P01') {
          throw new Error(`the running Postgres (pid ${identity.pid}) does not accept the password kept for it`, {
            cause: error,
          });
        }
        // 57P03: still starting. ECONNREFUSED and ECONNRESET: not quite listening yet.
        if (!['57P03', 'ECONNREFUSED', 'ECONNRESET'].includes(code)) throw error;
      }
    }
    if (Date.now() > end) throw new Error(`Postgres did not become ready in ${timeoutMs / 1000} s:\n${lastLogLines(places)}`);
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}

async function createDatabase(login: { port: number; password: string }): Promise<void> {
  const client = new pg.Client({ host: '127.0.0.1', user: USER, database: 'postgres', connectionTimeoutMillis: 5_000, ...login });
  await client.connect();
  try {
    const found = await client.query('select 1 from pg_database where datname = $1', [DATABASE]);
    if (found.rowCount === 0) await client.query(`create database ${pg.escapeIdentifier(DATABASE)}`);
  } finally {
    await client.end();
  }
}

/** The end of the server's log, for an error message. */
export function lastLogLines(places: Pick<Places, 'log'>, count = 12): string {
  try {
    return lastLines(readFileSync(places.log, 'utf8'), count);
  } catch {
    return '(no log)';
  }
}

function lastLines(text: string, count: number): string {
  return text
    .trimEnd()
    .split('\n')
    .slice(-count)
    .map((line) => `  ${line}`)
    .join('\n');
}

/** The server must not take a PGDATA, PGPORT or locale from the shell it was started in. */
function serverEnvironment(): NodeJS.ProcessEnv {
  return { PATH: process.env.PATH ?? '/usr/bin:/bin', LC_ALL: 'C', TZ: 'UTC' };
}
