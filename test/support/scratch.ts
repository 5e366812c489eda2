// Folders of a test run. What a killed run leaves behind (folders, a Postgres, other processes) is tidied up by the next one.
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { identify, isRunning, type ProcessIdentity, signal } from '../../persistence/embedded/processes.ts';
import { folderOutsideHome, stopEmbeddedPostgres } from '../../persistence/embedded.ts';

const PREFIX = 'gpu-dev-test-';
const OWNER = 'belongs-to-run.json';
/** Linux's file system in memory, and how much must be free there for a test run to use it, in bytes. In a container it is often tiny. */
const MEMORY = '/dev/shm';
const MEMORY_NEEDED = 6 * 2 ** 30;

/**
 * A new empty folder for one test. A Postgres belongs into its subfolder `postgres`, a whole instance into `home`: these are the places
 * that are looked at when the run is killed. Remove it with `removeScratch`.
 */
export function makeScratch(name: string): string {
  return makeFolder(tmpdir(), name);
}

/** The same in memory; undefined where there is too little of it. */
export function makeScratchInMemory(name: string): string | undefined {
  if (!existsSync(MEMORY)) return undefined;
  const { bavail, bsize } = statfsSync(MEMORY);
  return bavail * bsize < MEMORY_NEEDED ? undefined : makeFolder(MEMORY, name);
}

function makeFolder(parent: string, name: string): string {
  const folder = mkdtempSync(join(parent, `${PREFIX}${name}-`));
  writeFileSync(join(folder, OWNER), JSON.stringify(identify(process.pid)));
  return folder;
}

/** Stops what runs from the folder and deletes it, with the data that root's Postgres keeps elsewhere. */
export async function removeScratch(folder: string): Promise<void> {
  for (const home of [folder, join(folder, 'home')]) {
    for (const file of listOf(join(home, 'run'))) {
      const known = identityIn(join(home, 'run', file));
      if (known !== undefined && known.pid !== process.pid) signal(known, 'SIGKILL');
    }
    // Of several Postgres servers in one test, each has a folder with a name of this beginning.
    for (const name of listOf(home).filter((entry) => entry.startsWith('postgres'))) {
      await stopEmbeddedPostgres(join(home, name));
      const outside = folderOutsideHome(join(home, name));
      if (outside !== undefined) rmSync(outside, { recursive: true, force: true });
    }
  }
  rmSync(folder, { recursive: true, force: true });
}

/** Removes the folders of runs that ended without doing so. Folders of other users, and of runs that go on, are left alone. */
export async function sweepScratch(): Promise<void> {
  const folders = [tmpdir(), MEMORY].flatMap((parent) => listOf(parent).map((name) => join(parent, name)));
  for (const folder of folders) {
    if (!basename(folder).startsWith(PREFIX)) continue;
    const owner = identityIn(join(folder, OWNER));
    if (owner === undefined || isRunning(owner)) continue;
    await removeScratch(folder).catch(() => undefined);
  }
}

function listOf(folder: string): string[] {
  return existsSync(folder) ? readdirSync(folder) : [];
}

function identityIn(file: string): ProcessIdentity | undefined {
  try {
    const { pid, startedAt } = JSON.parse(readFileSync(file, 'utf8')) as ProcessIdentity;
    return { pid, startedAt };
  } catch {
    return undefined;
  }
}
