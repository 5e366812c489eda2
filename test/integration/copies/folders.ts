/** The copy script as a process between two folders, and what two folders have in common. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const SCRIPT = fileURLToPath(new URL('../../../src/providers/local/copy-scripts/copy.sh', import.meta.url));

export interface Try {
  mode: 'save' | 'fill';
  source: string;
  target: string;
  /** Folder of its own for its notes. */
  work: string;
  snapshot?: string;
  run?: string;
  /** Folder with programs that come before the system's. */
  path?: string;
  /** A copy of the script. */
  script?: string;
  /** How it is to tell what is on the disk. */
  contents?: string;
}

export interface Ended {
  code: number | null;
  /** What it told whoever waits for the pod. */
  message: string;
  said: string;
}

/** Begin a copy. Its messages are in `work`. */
export function begin({
  mode,
  source,
  target,
  work,
  snapshot = 'snap-1',
  run = 'first',
  path,
  script = SCRIPT,
  contents,
}: Try): ChildProcess {
  const env = {
    PATH: path === undefined ? process.env['PATH'] : `${path}:${process.env['PATH']}`,
    SOURCE: source,
    TARGET: target,
    WORK: work,
    SNAPSHOT: snapshot,
    RUN: run,
    RESULT_FILE: join(work, 'result'),
    PROGRESS_SECONDS: '0.05',
    ...(contents === undefined ? {} : { CONTENTS: contents }),
  };
  // A process group of its own: all of it is killed together, as a container is.
  return spawn('/bin/sh', [script, mode], { env, stdio: ['ignore', 'pipe', 'pipe'], detached: true });
}

/** Copy, and wait for the end. */
export async function copy(what: Try): Promise<Ended> {
  const child = begin(what);
  let said = '';
  for (const stream of [child.stdout!, child.stderr!]) stream.on('data', (data: Buffer) => (said += data.toString()));
  const [code] = (await once(child, 'exit')) as [number | null];
  return { code, message: code === 0 ? '' : readFileSync(join(what.work, 'result'), 'utf8'), said };
}

/** End a copy as the end of its node would: at once, with all that it began. */
export async function killed(child: ChildProcess): Promise<void> {
  const gone = once(child, 'exit');
  process.kill(-child.pid!, 'SIGKILL');
  await gone;
}

/**
 * Everything that can be told of a folder's entries, as text: type, mode, owner, group, links, size, time to the nanosecond, name, where a
 * symbolic link leads, and the sum of contents. Names are quoted.
 */
export function listing(folder: string): string[] {
  const run = (command: string, args: string[]) => {
    const { status, stdout, stderr } = spawnSync(command, args, { cwd: folder, encoding: 'utf8', maxBuffer: 2 ** 26 });
    if (status !== 0) throw new Error(`${command}: ${stderr}`);
    return stdout.split('\0').filter((line) => line !== '');
  };
  const own = ['!', '-path', './.gpu-dev-copy', '!', '-path', './lost+found'];
  // The size of a folder is the file system's own affair.
  const folders = run('find', ['.', ...own, '-type', 'd', '-printf', '%y %m %U %G %T@ %p\\0']);
  const others = run('find', ['.', ...own, '!', '-type', 'd', '-printf', '%y %m %U %G %n %s %T@ %p -> %l\\0']);
  const sums = run('find', ['.', ...own, '-type', 'f', '-exec', 'sha256sum', '-z', '{}', '+']);
  return [...folders, ...others, ...sums].sort();
}

/** What the mark of a volume says. */
export const markOf = (volume: string): string => readFileSync(join(volume, '.gpu-dev-copy'), 'utf8').trim();
