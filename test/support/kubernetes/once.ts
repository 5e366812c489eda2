// Work that several test runs on one machine must not do at the same time.
import { linkSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { identify, isRunning, type ProcessIdentity } from '../../../persistence/embedded/processes.ts';

const LOOK_AGAIN_MS = 500;

/**
 * Do `work` while no other process holds the lock of this folder. A holder that died lets go.
 * @param waiting told once, with the process waited for
 */
export async function exclusively<T>(folder: string, work: () => Promise<T>, waiting: (pid: number) => void): Promise<T> {
  mkdirSync(folder, { recursive: true });
  const lock = join(folder, 'lock');
  const mine = join(folder, `lock-of-${process.pid}`);
  writeFileSync(mine, JSON.stringify(identify(process.pid)));
  let told = false;
  try {
    while (!taken(mine, lock)) {
      const holder = holderOf(lock);
      if (holder !== undefined && isRunning(holder)) {
        if (!told) waiting(holder.pid);
        told = true;
        await pause(LOOK_AGAIN_MS);
      } else putAside(lock, `${mine}-dead`, holder);
    }
  } finally {
    rmSync(mine, { force: true });
  }
  try {
    return await work();
  } finally {
    rmSync(lock, { force: true });
  }
}

/** A hard link is made or not, and shows its whole content at once. */
function taken(mine: string, lock: string): boolean {
  try {
    linkSync(mine, lock);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
}

/** Remove a dead process's lock. Should another have taken its place at this very moment, that one is put back. */
function putAside(lock: string, aside: string, dead: ProcessIdentity | undefined): void {
  try {
    renameSync(lock, aside);
  } catch {
    return;
  }
  const found = holderOf(aside);
  if (found?.pid !== dead?.pid || found?.startedAt !== dead?.startedAt) taken(aside, lock);
  rmSync(aside, { force: true });
}

function holderOf(lock: string): ProcessIdentity | undefined {
  try {
    return (JSON.parse(readFileSync(lock, 'utf8')) as ProcessIdentity | null) ?? undefined;
  } catch {
    return undefined;
  }
}
