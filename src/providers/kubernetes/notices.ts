/** Notices inside a server: files in its home that the shell prompt shows. */
import { WARNINGS } from '../../../machines/reservation.effects.ts';
import type { Notice } from '../../../actors/reservation/ports.ts';
import type { KubernetesClient } from './client.ts';
import { runInside } from './exec.ts';
import { HOME } from './layout.ts';
import { scriptCall } from './scripts.ts';

const FINAL = `${HOME}/EXPIRED_NOTICE.txt`;
const OOM = `${HOME}/OOM_DETECTED.txt`;
const ALL_WARNINGS = WARNINGS.map(warning);

function warning(minutes: number): string {
  return `${HOME}/WARN_EXPIRES_IN_${minutes}MIN.txt`;
}

/** Put the notice there and take away those that it makes obsolete. @throws KubernetesError, or Error if the files cannot be written */
export async function postNotice(client: KubernetesClient, pod: string, notice: Notice): Promise<void> {
  const { path, obsolete } = filesOf(notice);
  if (path !== null) await must(client, pod, scriptCall('notice.sh', path, textOf(notice)));
  if (obsolete.length > 0) await must(client, pod, ['rm', '-f', ...obsolete]);
}

async function must(client: KubernetesClient, pod: string, argv: string[]): Promise<void> {
  const { exitCode, stderr } = await runInside(client, pod, argv);
  if (exitCode !== 0) throw new Error(`the notice could not be written (code ${exitCode}): ${stderr.slice(-300).trim()}`);
}

/** The file that a notice writes, and the files that it replaces. A warning that comes a little late keeps its name. */
export function filesOf({ about, minutesLeft }: Pick<Notice, 'about' | 'minutesLeft'>): {
  path: string | null;
  obsolete: string[];
} {
  switch (about) {
    case 'warning': {
      const [nearest] = [...WARNINGS].sort((left, right) => Math.abs(left - minutesLeft) - Math.abs(right - minutesLeft));
      const path = warning(nearest ?? 5);
      return { path, obsolete: [...ALL_WARNINGS.filter((file) => file !== path), FINAL] };
    }
    case 'final':
      return { path: FINAL, obsolete: ALL_WARNINGS };
    case 'extended':
      return { path: null, obsolete: [...ALL_WARNINGS, FINAL] };
    case 'oom':
      return { path: OOM, obsolete: [] };
  }
}

function textOf({ text, endsAt }: Notice): string {
  return endsAt === null || text.includes(endsAt) ? text : `${text}\nEnds at ${endsAt}.`;
}
