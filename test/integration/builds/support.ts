/** Build contexts as users send them, and the script of a build run as a process. */
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { packContext } from '../../../src/cli/pack.ts';

export const SCRIPT = fileURLToPath(new URL('../../../src/providers/local/build-scripts/build.sh', import.meta.url));

/** A folder with these files. */
export function folderOf(files: Record<string, string | Buffer>): string {
  const folder = mkdtempSync(join(tmpdir(), 'gpu-dev-build-'));
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(join(folder, name, '..'), { recursive: true });
    writeFileSync(join(folder, name), content);
  }
  return folder;
}

/** A build context as the command line sends it: base64 of a tar.gz. */
export function contextOf(files: Record<string, string | Buffer>): string {
  return packContext(folderOf(files));
}

export interface Ran {
  code: number | null;
  /** Everything that it wrote. */
  log: string;
}

/** Run a program to its end. */
export function runProgram(program: string, args: readonly string[], env: NodeJS.ProcessEnv): Promise<Ran> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { env, stdio: ['ignore', 'pipe', 'pipe'] });
    let log = '';
    child.stdout.on('data', (data) => (log += data));
    child.stderr.on('data', (data) => (log += data));
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, log }));
  });
}
