// A real Postgres 18 with PGMQ for a laptop and for tests. It is a process of its own: it outlives whoever started it, and the next
// start takes it over instead of fighting it.
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { prepareBinaries } from './embedded/binaries.ts';
import { type Places, placesOf, preparePlaces } from './embedded/places.ts';
import { freePort, isPortFree, whoListens } from './embedded/ports.ts';
import { type ProcessIdentity, signal, waitUntilGone } from './embedded/processes.ts';
import {
  createDataFolder,
  DATABASE,
  findRunning,
  lastLogLines,
  removeStaleLock,
  spawnServer,
  USER,
  waitUntilReady,
} from './embedded/server.ts';

export { ensurePgmq, type PgmqInstallation } from './embedded/ensure-pgmq.ts';
export { folderOutsideHome } from './embedded/places.ts';

/** What to start. */
export type EmbeddedPostgresOptions = {
  /** Folder for the password, the log, the remembered port and (unless we are root) the data. Made when missing. */
  readonly dataDir: string;
  /** A port that must be used, or undefined (or 0) for the one used last time, else any free one. */
  readonly port?: number | undefined;
  /** Where the server writes its log; by default postgres.log in `dataDir`. The folder must exist. */
  readonly logFile?: string | undefined;
  /** Told in a line what happens; nothing is printed otherwise. */
  readonly log?: ((message: string) => void) | undefined;
};

/** A server that accepts connections on 127.0.0.1. */
export type EmbeddedPostgres = {
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly password: string;
  /** The file that keeps the password, readable for its owner only. */
  readonly passwordFile: string;
  readonly database: string;
  readonly pid: number;
  /** Start time of the process, so that a later owner of the same pid is not mistaken for it. */
  readonly startedAt: string;
  /** True when it was running already. */
  readonly adopted: boolean;
  /** postgres:// address of `database`, password included: never log it. */
  readonly url: string;
  /** Fast shutdown: open transactions are rolled back. Resolves when the process is gone; throws after 30 s. */
  stop(): Promise<void>;
};

const READY_TIMEOUT_MS = 60_000;
const STOP_TIMEOUT_MS = 30_000;
const START_ATTEMPTS = 5;

/**
 * Starts the server of `dataDir`, or takes over the one that runs there. Data is kept across restarts, with fsync on. Throws a
 * readable error when a given port is busy, when the data cannot be used, or when the server does not come up.
 */
export async function startEmbeddedPostgres(options: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  const log = options.log ?? (() => undefined);
  const places = preparePlaces(options.dataDir, options.logFile);
  await settleOutsideData(places, log);
  const password = keptPassword(places);
  const running = findRunning(places);
  if (running !== undefined) {
    await waitUntilReady(places, running.identity, { port: running.port, password }, READY_TIMEOUT_MS);
    if (options.port && options.port !== running.port)
      log(`the port stays ${running.port} until it is stopped, not ${options.port}`);
    rememberPort(places, running.port);
    return handle(places, running.identity, running.port, password, true);
  }

  const binaries = prepareBinaries(places.binaries, places.owner !== undefined);
  createDataFolder(places, binaries, password);
  if (removeStaleLock(places)) log('removed the lock file of a Postgres that no longer runs');
  for (let attempt = 1; ; attempt++) {
    const port = await choosePort(places, options.port, log);
    const logBefore = existsSync(places.log) ? readFileSync(places.log, 'utf8').length : 0;
    const identity = spawnServer(places, binaries, port);
    try {
      await waitUntilReady(places, identity, { port, password }, READY_TIMEOUT_MS);
      rememberPort(places, port);
      return handle(places, identity, port, password, false);
    } catch (error) {
      if (attempt >= START_ATTEMPTS || !passesByItself(places, logBefore)) throw error;
      log('Postgres could not start at once, trying again');
      await new Promise((resolve) => setTimeout(resolve, 300 * attempt));
    }
  }
}

/** The server that runs for `dataDir`, if any: its pid, start time and port. Looks only, starts nothing. */
export function findEmbeddedPostgres(dataDir: string): (ProcessIdentity & { readonly port: number }) | undefined {
  const running = findRunning(placesOf(dataDir));
  return running === undefined ? undefined : { ...running.identity, port: running.port };
}

/** Stops the server of `dataDir` if one runs (fast shutdown). Returns whether one did. Throws when it does not end in 30 s. */
export async function stopEmbeddedPostgres(dataDir: string): Promise<boolean> {
  const running = findRunning(placesOf(dataDir));
  if (running === undefined) return false;
  await stop(running.identity);
  return true;
}

async function stop(identity: ProcessIdentity): Promise<void> {
  if (!signal(identity, 'SIGINT')) return;
  if (!(await waitUntilGone(identity, STOP_TIMEOUT_MS))) {
    throw new Error(`Postgres (pid ${identity.pid}) did not stop in ${STOP_TIMEOUT_MS / 1000} s`);
  }
}

function handle(places: Places, identity: ProcessIdentity, port: number, password: string, adopted: boolean): EmbeddedPostgres {
  const at = { host: '127.0.0.1', port, user: USER, password, database: DATABASE };
  return {
    ...at,
    passwordFile: places.passwordFile,
    pid: identity.pid,
    startedAt: identity.startedAt,
    adopted,
    url: `postgres://${USER}:${password}@127.0.0.1:${port}/${DATABASE}`,
    // A restart by somebody else changes the process; what runs on the folder is what must stop.
    stop: () => stop(findRunning(places)?.identity ?? identity),
  };
}

/**
 * Root's data is not below `dataDir`, so the two can part. When the folder was moved, its data follows. When it was deleted (a fresh clone
 * in the place of an old one), the data that is left belongs to nobody: it is put aside, and its server stopped.
 */
async function settleOutsideData(places: Places, log: (message: string) => void): Promise<void> {
  if (places.folder === places.home) return;
  const known = rememberedState(places);
  if (!existsSync(places.passwordFile) && known === undefined && existsSync(places.data)) {
    const running = findRunning(places);
    if (running !== undefined) await stop(running.identity);
    const aside = `${places.data}.before-${new Date().toISOString().replaceAll(':', '-')}`;
    renameSync(places.data, aside);
    log(`${places.home} is new, but data of an earlier one was left: it is now in ${aside}`);
  }
  if (known?.folder !== undefined && known.folder !== places.folder && !existsSync(places.data) && existsSync(known.folder)) {
    const from = readFileSync(join(known.folder, 'belongs-to'), 'utf8').trim();
    if (existsSync(join(from, 'password'))) {
      throw new Error(
        `${places.home} is a copy of ${from}, and the data of that one is in ${known.folder}: start with an empty folder`,
      );
    }
    const running = findRunning({ data: join(known.folder, 'data') });
    if (running !== undefined) await stop(running.identity);
    renameSync(join(known.folder, 'data'), places.data);
    rmSync(known.folder, { recursive: true, force: true });
    log(`took over the data of ${from}, which was moved here`);
  }
}

/** The password is random, made once, and readable for its owner only. */
function keptPassword(places: Places): string {
  if (existsSync(places.passwordFile)) return readFileSync(places.passwordFile, 'utf8').trim();
  if (existsSync(places.data)) {
    throw new Error(
      `the password of the database in ${places.data} is missing (${places.passwordFile}). Put it back, or start afresh.`,
    );
  }
  const password = randomBytes(24).toString('base64url');
  writeFileSync(places.passwordFile, `${password}\n`, { mode: 0o600, flag: 'wx' });
  return password;
}

async function choosePort(places: Places, wanted: number | undefined, log: (message: string) => void): Promise<number> {
  if (wanted) {
    if (await comesFree(wanted)) return wanted;
    throw new Error(
      `port ${wanted}, asked for Postgres, is in use by ${whoListens(wanted) ?? 'another process'}. Free it or choose another.`,
    );
  }
  const last = rememberedPort(places);
  if (last !== undefined) {
    if (await comesFree(last)) return last;
    log(`port ${last}, used by Postgres last time, is taken by ${whoListens(last) ?? 'another process'}: using another`);
  }
  return freePort();
}

/** A server that was killed may have just forked: for a moment its child holds the port still. */
const PORT_MS = 3_000;

async function comesFree(port: number): Promise<boolean> {
  const end = performance.now() + PORT_MS;
  while (!(await isPortFree(port))) {
    if (performance.now() > end) return false;
    await pause(50);
  }
  return true;
}

function rememberedPort(places: Places): number | undefined {
  const port = rememberedState(places)?.port;
  return typeof port === 'number' && port > 0 && port < 65_536 ? port : undefined;
}

function rememberedState(places: Places): { port?: number; folder?: string } | undefined {
  try {
    return JSON.parse(readFileSync(places.stateFile, 'utf8')) as { port?: number; folder?: string };
  } catch {
    return undefined;
  }
}

function rememberPort(places: Places, port: number): void {
  const draft = `${places.stateFile}.draft`;
  writeFileSync(draft, `${JSON.stringify({ port, folder: places.folder })}\n`);
  renameSync(draft, places.stateFile);
}

/** A port taken since we looked, or a killed server whose last children still hold its shared memory: both pass by themselves. */
function passesByItself(places: Places, logBefore: number): boolean {
  const written = existsSync(places.log) ? readFileSync(places.log, 'utf8').slice(logBefore) : lastLogLines(places);
  return /Address already in use|shared memory block .* is still in use|could not bind/.test(written);
}
