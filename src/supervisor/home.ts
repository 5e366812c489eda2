// The folder of one instance: everything it keeps is below it, and nothing is deleted from a folder that is not ours.
import { existsSync, linkSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { identify, isRunning, type ProcessIdentity } from '../../persistence/embedded/processes.ts';
import { folderOutsideHome } from '../../persistence/embedded.ts';

const MARKER = '.gpu-dev-home';
/** Put there by a person: they may come before us, and they stay when the rest is wiped. */
const BY_HAND = new Set(['keys.json', 'settings.json']);

/** Paths inside the folder of an instance. */
export type Home = {
  readonly path: string;
  readonly postgres: string;
  readonly cluster: string;
  readonly kubeconfig: string;
  readonly logs: string;
  /** Who runs: one file per process, written by the supervisor. */
  readonly run: string;
  /** What to connect to, for `gpu-dev env` and people. */
  readonly instanceFile: string;
};

/** The paths of an instance's folder; touches nothing. */
export function homeAt(path: string): Home {
  return {
    path,
    postgres: join(path, 'postgres'),
    cluster: join(path, 'cluster'),
    kubeconfig: join(path, 'kubeconfig'),
    logs: join(path, 'logs'),
    run: join(path, 'run'),
    instanceFile: join(path, 'instance.json'),
  };
}

/** Makes the folder, or checks that it is one of ours. Throws when it holds something else: it might be wiped one day. */
export function prepareHome(home: Home): void {
  const marker = join(home.path, MARKER);
  if (existsSync(home.path) && !existsSync(marker) && readdirSync(home.path).some((name) => !BY_HAND.has(name))) {
    throw new Error(`${home.path} is not empty and not a folder of gpu-dev: choose another with --home or GPU_DEV_HOME.`);
  }
  mkdirSync(home.path, { recursive: true, mode: 0o700 });
  if (!existsSync(marker)) writeFileSync(marker, 'This folder belongs to gpu-dev. `npm start -- --fresh` wipes it.\n');
  for (const folder of [home.run, home.logs]) mkdirSync(folder, { recursive: true, mode: 0o700 });
}

/**
 * Deletes what the instance keeps, the data of root's Postgres included. The supervisor's lock and files put there by hand stay. The
 * caller has stopped what runs from it. Throws when the folder has no marker of ours.
 */
export function wipeHome(home: Home): void {
  if (!existsSync(join(home.path, MARKER))) throw new Error(`${home.path} is not a folder of gpu-dev: nothing was deleted.`);
  const outside = folderOutsideHome(home.postgres);
  if (outside !== undefined) rmSync(outside, { recursive: true, force: true });
  for (const name of readdirSync(home.path)) {
    if (name !== MARKER && !BY_HAND.has(name) && join(home.path, name) !== home.run)
      rmSync(join(home.path, name), { recursive: true, force: true });
  }
  for (const name of readdirSync(home.run)) if (name !== 'supervisor.json') rmSync(join(home.run, name), { force: true });
  prepareHome(home);
}

/** Keeps a second supervisor out. Returns how to let go; throws with the pid of the one that has it. */
export function lockHome(home: Home): () => void {
  const file = join(home.run, 'supervisor.json');
  const draft = `${file}.${process.pid}`;
  for (let attempt = 0; attempt < 5; attempt++) {
    const holder = readIdentity(file);
    if (holder !== undefined && isRunning(holder)) {
      throw new Error(
        `gpu-dev runs from ${home.path} already (pid ${holder.pid}). Stop it first with Ctrl-C or kill ${holder.pid}; ` +
          'to run another beside it, give it a folder and a port of its own: GPU_DEV_HOME=.gpu-dev-2 PORT=0 npm start',
      );
    }
    rmSync(file, { force: true });
    writeFileSync(draft, JSON.stringify(identify(process.pid)));
    try {
      // A link either makes the name or fails: of two starters at once, one is told.
      linkSync(draft, file);
      return () => rmSync(file, { force: true });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    } finally {
      rmSync(draft, { force: true });
    }
  }
  throw new Error(`could not lock ${home.path}: several starts at once?`);
}

/** A process remembered in a file of `run`, or undefined. It need not run any more. */
export function readIdentity(file: string): (ProcessIdentity & { readonly port?: number }) | undefined {
  const found = readJson(file) as { pid?: unknown; startedAt?: unknown; port?: unknown } | undefined;
  if (typeof found?.pid !== 'number' || typeof found.startedAt !== 'string') return undefined;
  return { pid: found.pid, startedAt: found.startedAt, ...(typeof found.port === 'number' ? { port: found.port } : {}) };
}

/** Parsed JSON of a file, or undefined when it is missing or not JSON. */
export function readJson(file: string): unknown {
  try {
    return JSON.parse(readFileSync(file, 'utf8'));
  } catch {
    return undefined;
  }
}

/** Writes JSON so that a reader, or a kill, never meets half of it. */
export function writeJson(file: string, value: unknown): void {
  const draft = `${file}.draft`;
  writeFileSync(draft, `${JSON.stringify(value, null, 2)}\n`, { mode: 0o600 });
  renameSync(draft, file);
}
