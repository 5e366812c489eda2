/** Jupyter inside a server: started and stopped by the server's own script, reached by a Service of its own. It always has a token. */
import { TerminalError } from '../../../actors/errors.ts';
import type { Secret } from '../../../actors/secret.ts';
import type { KubernetesClient } from './client.ts';
import { runInside } from './exec.ts';
import { PORTS } from './layout.ts';
import { scriptCall } from './scripts.ts';

const NOT_INSTALLED = 127;
/** Longer than the script waits for Jupyter to answer. */
const LIMIT_MS = 45_000;

/**
 * Success means that Jupyter answers. The token goes by standard input: no list of processes and no audit log shows it.
 * @throws TerminalError if the image has no Jupyter, Error with its last words if it does not come up, KubernetesError
 */
export async function startInside(client: KubernetesClient, pod: string, token: Secret<string>): Promise<void> {
  const value = token.reveal();
  if (value === '') throw new TerminalError('Jupyter needs a token');
  const { exitCode, stderr } = await runInside(client, pod, scriptCall('jupyter.sh', 'start', String(PORTS.jupyter)), {
    stdin: `${value}\n`,
    timeoutMs: LIMIT_MS,
  });
  if (exitCode === NOT_INSTALLED) throw new TerminalError('This image has no Jupyter');
  if (exitCode !== 0) throw new Error(`Jupyter did not start: ${stderr.replaceAll(value, '[secret]').slice(-500).trim()}`);
}

export async function stopInside(client: KubernetesClient, pod: string): Promise<void> {
  const { exitCode, stderr } = await runInside(client, pod, scriptCall('jupyter.sh', 'stop'));
  if (exitCode !== 0) throw new Error(`Jupyter could not be stopped: ${stderr.slice(-300).trim()}`);
}
