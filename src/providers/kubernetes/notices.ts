/** Notices inside a server: files in its home that the shell prompt shows. */
import type { Notice } from '../../../actors/reservation/ports.ts';
import type { KubernetesClient } from './client.ts';
import { type Ran, runInside } from './exec.ts';
import { HOME } from './startup.ts';

const FINAL = `${HOME}/EXPIRED_NOTICE.txt`;
const OOM = `${HOME}/OOM_DETECTED.txt`;
const warning = (minutes: number): string => `${HOME}/WARN_EXPIRES_IN_${minutes}MIN.txt`;
/** Warnings are given at up to an hour before the end; a scaled clock rounds to any minute of it. */
const WARNINGS = Array.from({ length: 60 }, (_, index) => warning(index + 1));

/** Put the notice there and take away those that it makes obsolete. @throws KubernetesError, or Error if the files cannot be written */
export async function postNotice(client: KubernetesClient, pod: string, notice: Notice): Promise<void> {
  const { path, obsolete } = filesOf(notice);
  if (path !== null) await write(client, pod, path, textOf(notice));
  const old = obsolete.filter((file) => file !== path);
  if (old.length > 0) expectSuccess(await runInside(client, pod, ['rm', '-f', ...old]), 'removing old notices');
}

/** The file that a notice writes, and the files that it replaces. */
export function filesOf(notice: Pick<Notice, 'about' | 'minutesLeft'>): { path: string | null; obsolete: string[] } {
  switch (notice.about) {
    case 'warning':
      return { path: warning(Math.min(60, Math.max(1, Math.round(notice.minutesLeft)))), obsolete: [...WARNINGS, FINAL] };
    case 'final':
      return { path: FINAL, obsolete: WARNINGS };
    case 'extended':
      return { path: null, obsolete: [...WARNINGS, FINAL] };
    case 'oom':
      return { path: OOM, obsolete: [] };
  }
}

function textOf({ text, endsAt }: Notice): string {
  return endsAt === null || text.includes(endsAt) ? `${text}\n` : `${text}\nEnds at ${endsAt}.\n`;
}

/** The text and the path are arguments, never part of the script. */
async function write(client: KubernetesClient, pod: string, path: string, text: string): Promise<void> {
  expectSuccess(await runInside(client, pod, ['sh', '-c', 'printf %s "$1" > "$2"', 'sh', text, path]), `writing ${path}`);
}

function expectSuccess({ exitCode, stderr }: Ran, doing: string): void {
  if (exitCode !== 0) throw new Error(`${doing} ended with code ${exitCode}: ${stderr.slice(-300).trim()}`);
}
