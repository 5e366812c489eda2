import { randomInt } from 'node:crypto';
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { type Cluster, createCluster } from './cluster.ts';
import { serve } from './http-server.ts';
import { Journal } from './journal.ts';
import { lockFolder } from './lock.ts';

const USAGE = `usage: node src/simulated-cluster/main.ts [--port N] [--data DIR] [--kubeconfig FILE] [--settings FILE|JSON]
  --port N           on 127.0.0.1; 0 (the default) takes a free one
  --data DIR         where the cluster is kept (default .gpu-dev/cluster)
  --kubeconfig FILE  written at start, so that kubectl and clients find the way
  --settings X       a JSON file or JSON itself: fleet, delays, seed and so on`;

/** Starts the cluster of a folder as the command line says, and serves it until SIGTERM or SIGINT. */
export async function run(): Promise<void> {
  const { values } = parseArgs({
    options: {
      port: { type: 'string', default: '0' },
      data: { type: 'string', default: '.gpu-dev/cluster' },
      kubeconfig: { type: 'string' },
      settings: { type: 'string' },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(`${USAGE}\n`);
    return;
  }
  const directory = resolve(values.data);
  mkdirSync(directory, { recursive: true });
  const unlock = lockFolder(directory);
  const journal = new Journal(directory);
  const cluster = createCluster({
    now: Date.now(),
    settings: readSettings(values.settings),
    restore: (store) => journal.load(store),
  });
  journal.open(cluster.world.store);
  cluster.subscribe((commit) => journal.append(commit));
  cluster.tick(Date.now());
  const front = await serve(cluster, Number(values.port));
  if (values.kubeconfig !== undefined) writeKubeconfig(resolve(values.kubeconfig), front.port);
  let stopping = false;
  const stop = (): void => {
    if (stopping) return;
    stopping = true;
    void front.close().then(() => finish(cluster, journal, unlock));
  };
  process.on('SIGTERM', stop);
  process.on('SIGINT', stop);
  process.stdout.write(`${JSON.stringify({ ready: true, port: front.port })}\n`);
}

async function finish(cluster: Cluster, journal: Journal, unlock: () => void): Promise<void> {
  await journal.fold(cluster.world.store);
  journal.close();
  unlock();
  process.exit(0);
}

function readSettings(text: string | undefined): object {
  // Without a seed of its own every new cluster gets another one: two clusters must not give out the same uids.
  const seed = randomInt(2 ** 31);
  if (text === undefined) return { seed };
  return { seed, ...JSON.parse(text.trimStart().startsWith('{') ? text : readFileSync(text, 'utf8')) };
}

function writeKubeconfig(path: string, port: number): void {
  // JSON is YAML too. client-node asks for skipTLSVerify before it talks plain http.
  const config = {
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name: 'simulated', cluster: { server: `http://127.0.0.1:${port}`, 'insecure-skip-tls-verify': true } }],
    users: [{ name: 'simulated', user: {} }],
    contexts: [{ name: 'simulated', context: { cluster: 'simulated', user: 'simulated', namespace: 'gpu-dev' } }],
    'current-context': 'simulated',
  };
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(`${path}.tmp`, `${JSON.stringify(config, null, 2)}\n`, { mode: 0o600 });
  renameSync(`${path}.tmp`, path);
}
