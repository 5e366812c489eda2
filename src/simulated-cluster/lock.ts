import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** Keeps a second process out of a data folder. Throws, naming the process, when one is at work there; a dead one's lock is taken over. */
export function lockFolder(directory: string): () => void {
  const path = join(directory, 'lock');
  const mine = identity(process.pid) ?? String(process.pid);
  try {
    writeFileSync(path, mine, { flag: 'wx' });
  } catch {
    const holder = readFileSync(path, 'utf8').trim();
    const pid = Number(holder.split(' ')[0]);
    if (pid !== process.pid && pid > 0 && identity(pid) === holder) {
      throw new Error(`the folder ${directory} is in use by a simulated cluster with process id ${pid}; stop that one first`);
    }
    writeFileSync(path, mine);
  }
  return () => rmSync(path, { force: true });
}

/** Process id and start time, so that a number given again to another process is not mistaken; undefined when it does not run. */
function identity(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' ? undefined : `${pid} ${fields[19]}`;
  } catch {
    try {
      process.kill(pid, 0);
      // Without /proc (other systems) the number alone must do.
      return process.platform === 'linux' ? undefined : String(pid);
    } catch {
      return undefined;
    }
  }
}
