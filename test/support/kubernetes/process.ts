// The process that holds a real cluster, seen from the one that started it.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { Access } from './api.ts';
import type { MainOptions } from './main.ts';

const MAIN = fileURLToPath(new URL('./main.ts', import.meta.url));
const STOP_MS = 10_000;

/** Short delays of the stand-ins in milliseconds: tests wait for conditions, and the shorter these take the better. */
export const QUICK_DELAYS = {
  pull: 5,
  start: 5,
  init: 5,
  ready: 10,
  terminate: 20,
  snapshot: 50,
  job: 50,
  crashBackoff: 50,
  crashBackoffMax: 500,
};

export interface ClusterProcess {
  facts: Access & {
    kubeconfig: string;
    /** Key of the API server's certificate, for a proxy that shows the same one. */
    certificateKey: string;
    /** Where tests tell what befalls pods, nodes and the API server. */
    control: string;
  };
  stop(): Promise<void>;
}

/** @throws Error with the last words of the process if it ends before it is ready */
export async function startClusterProcess(
  options: Pick<MainOptions, 'programs' | 'folder' | 'fleet' | 'snapshots'> & { delays?: Record<string, number> },
): Promise<ClusterProcess> {
  const text = JSON.stringify({ ...options, delays: { ...QUICK_DELAYS, ...options.delays } } satisfies MainOptions);
  const child = spawn(process.execPath, [MAIN, text], { stdio: ['pipe', 'pipe', 'pipe'] });
  let tail = '';
  child.stderr.on('data', (data: Buffer) => {
    tail = (tail + data.toString()).slice(-2_000);
    if (process.env.GPU_DEV_KUBERNETES_LOG) process.stderr.write(data);
  });
  const gone = once(child, 'exit');
  const line = await Promise.race([once(createInterface({ input: child.stdout }), 'line'), gone.then(() => null)]);
  if (line === null) throw new Error(`the Kubernetes cluster did not start: ${tail.trim()}`);
  const { ready: _ready, ...facts } = JSON.parse(String(line[0])) as ClusterProcess['facts'] & { ready: true };
  return {
    facts,
    async stop() {
      child.stdin.end();
      const force = setTimeout(() => child.kill('SIGKILL'), STOP_MS);
      await gone;
      clearTimeout(force);
    },
  };
}
