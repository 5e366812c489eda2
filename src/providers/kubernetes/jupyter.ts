/** Jupyter inside a server: started and stopped by exec, reached by a Service of its own. It always has a token. */
import { TerminalError } from '../../../actors/errors.ts';
import type { Secret } from '../../../actors/secret.ts';
import type { KubernetesClient } from './client.ts';
import { runInside } from './exec.ts';
import { HOME, USER } from './startup.ts';

export const JUPYTER_PORT = 8888;
const NOT_INSTALLED = 127;

/**
 * The token comes by stdin, so that no list of processes and no audit log shows it. Success means that Jupyter answers:
 * a start that fails a second later must not count as on.
 */
const START = `read -r JUPYTER_TOKEN; export JUPYTER_TOKEN
run=/run/gpu-dev; mkdir -p "$run"
alive() { [ -f "$run/jupyter.pid" ] && kill -0 "$(cat "$run/jupyter.pid")" 2>/dev/null; }
command -v jupyter >/dev/null || { echo "this image has no jupyter" >&2; exit ${NOT_INSTALLED}; }
if ! alive; then
  cd /workspace
  user=root; id ${USER.name} >/dev/null 2>&1 && user=${USER.name} && export HOME=${HOME} USER=${USER.name} LOGNAME=${USER.name}
  nohup su -m -s /bin/sh "$user" -c 'exec jupyter lab --ip=0.0.0.0 --port=${JUPYTER_PORT} --no-browser --allow-root --ServerApp.root_dir=/workspace' > "$run/jupyter.log" 2>&1 < /dev/null &
  echo $! > "$run/jupyter.pid"
fi
for second in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
  python3 -c 'import urllib.request; urllib.request.urlopen("http://127.0.0.1:${JUPYTER_PORT}/api", timeout=2)' 2>/dev/null && exit 0
  alive || break
  sleep 1
done
tail -n 5 "$run/jupyter.log" >&2; exit 1`;

const STOP = `pid=/run/gpu-dev/jupyter.pid
[ -f "$pid" ] && { pkill -TERM -P "$(cat "$pid")" 2>/dev/null; kill "$(cat "$pid")" 2>/dev/null; rm -f "$pid"; }
exit 0`;

/** @throws TerminalError if the image has no Jupyter, Error if it does not come up, KubernetesError */
export async function startInside(client: KubernetesClient, pod: string, token: Secret<string>): Promise<void> {
  const value = token.reveal();
  if (value === '') throw new TerminalError('Jupyter needs a token');
  const { exitCode, stderr } = await runInside(client, pod, ['sh', '-c', START], { stdin: `${value}\n`, timeoutMs: 45_000 });
  if (exitCode === NOT_INSTALLED) throw new TerminalError('This image has no Jupyter');
  if (exitCode !== 0) throw new Error(`Jupyter did not start: ${stderr.replaceAll(value, '[secret]').slice(-500).trim()}`);
}

export async function stopInside(client: KubernetesClient, pod: string): Promise<void> {
  await runInside(client, pod, ['sh', '-c', STOP]);
}
