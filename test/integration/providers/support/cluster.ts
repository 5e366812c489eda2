/** A simulated cluster of its own for a test file: a real process, reached over HTTP through a wire that tests may cut. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { createClient, type KubernetesClient } from '../../../../src/providers/kubernetes/client.ts';

const MAIN = new URL('../../../../src/simulated-cluster/main.ts', import.meta.url).pathname;

export interface TestCluster {
  /** Straight to the cluster. */
  client: KubernetesClient;
  /** A client whose connections go over a wire of its own. */
  wired(options?: { requestTimeoutMs?: number }): Promise<{ client: KubernetesClient; wire: Wire }>;
  /** Call an endpoint of the simulation that is no part of Kubernetes. Default POST. */
  simulate(path: string, body?: unknown, method?: string): Promise<unknown>;
  stop(): Promise<void>;
}

/** A small fleet with short delays, so that tests wait for conditions and not for time. */
const SETTINGS = {
  fleet: { h100: 2, 'cpu-x86': 1 },
  delays: {
    schedule: 5,
    pull: 10,
    start: 5,
    ready: 10,
    terminate: 20,
    snapshot: 50,
    job: 100,
    provision: 10,
    attach: 5,
    detach: 10,
    collect: 5,
  },
};

export async function startCluster(settings: Record<string, unknown> = {}): Promise<TestCluster> {
  const folder = await mkdtemp(join(tmpdir(), 'gpu-dev-cluster-'));
  const kubeconfig = join(folder, 'kubeconfig');
  const { port, process: child } = await startProcess(folder, kubeconfig, { ...SETTINGS, ...settings });
  const wires: Wire[] = [];
  const client = createClient({ kubeconfig });
  return {
    client,
    async wired(options = {}) {
      const wire = await Wire.to(port);
      wires.push(wire);
      const file = join(folder, `kubeconfig-${wires.length}`);
      await writeFile(file, (await readFile(kubeconfig, 'utf8')).replaceAll(`:${port}`, `:${wire.port}`));
      return { wire, client: createClient({ kubeconfig: file, ...options }) };
    },
    async simulate(path, body, method = 'POST') {
      const answer = await fetch(`http://127.0.0.1:${port}${path}`, {
        method,
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(body ?? {}),
      });
      const text = await answer.text();
      if (!answer.ok) throw new Error(`${path}: ${answer.status} ${text}`);
      return text === '' ? null : JSON.parse(text);
    },
    async stop() {
      await Promise.all(wires.map((wire) => wire.close()));
      await end(child);
      await rm(folder, { recursive: true, force: true });
    },
  };
}

async function startProcess(
  folder: string,
  kubeconfig: string,
  settings: unknown,
): Promise<{ port: number; process: ChildProcess }> {
  const args = [
    MAIN,
    '--port',
    '0',
    '--data',
    join(folder, 'data'),
    '--kubeconfig',
    kubeconfig,
    '--settings',
    JSON.stringify(settings),
  ];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = once(child, 'exit').then(([code]) => {
    throw new Error(`the simulated cluster ended with code ${code}`);
  });
  const ready = (async () => {
    for await (const line of createInterface(child.stdout!)) {
      const said = JSON.parse(line) as { ready?: boolean; port?: number };
      if (said.ready && said.port !== undefined) return said.port;
    }
    throw new Error('the simulated cluster said nothing');
  })();
  const port = await Promise.race([ready, ended]);
  ended.catch(() => undefined);
  child.stdout?.resume();
  return { port, process: child };
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, 'exit');
  child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), 3000);
  await gone;
  clearTimeout(timer);
}

/** A TCP connection to the cluster that can be cut, refused or swallowed, as networks do. */
export class Wire {
  readonly #target: number;
  readonly #server = createServer((socket) => this.#accept(socket));
  readonly #pairs = new Set<[Socket, Socket]>();
  #mode: 'open' | 'refusing' | 'swallowing' = 'open';
  /** Connections accepted so far. */
  accepted = 0;

  private constructor(target: number) {
    this.#target = target;
  }

  static async to(target: number): Promise<Wire> {
    const wire = new Wire(target);
    wire.#server.listen(0, '127.0.0.1');
    await once(wire.#server, 'listening');
    return wire;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  #accept(near: Socket): void {
    near.on('error', () => near.destroy());
    if (this.#mode === 'refusing') {
      near.destroy();
      return;
    }
    this.accepted += 1;
    const far = connect(this.#target, '127.0.0.1');
    const pair: [Socket, Socket] = [near, far];
    this.#pairs.add(pair);
    far.on('error', () => near.destroy());
    near.on('data', (data) => this.#mode !== 'swallowing' && far.write(data));
    far.on('data', (data) => this.#mode !== 'swallowing' && near.write(data));
    const close = (): void => {
      near.destroy();
      far.destroy();
      this.#pairs.delete(pair);
    };
    near.on('close', close);
    far.on('close', close);
  }

  /** End all connections; new ones are welcome. */
  cut(): void {
    for (const [near, far] of this.#pairs) {
      near.destroy();
      far.destroy();
    }
  }

  /** End all connections and take no new ones until `mend`. */
  refuse(): void {
    this.#mode = 'refusing';
    this.cut();
  }

  /** Keep all connections open and let nothing through: a black hole. */
  swallow(): void {
    this.#mode = 'swallowing';
  }

  mend(): void {
    this.#mode = 'open';
  }

  async close(): Promise<void> {
    this.cut();
    this.#server.close();
    await once(this.#server, 'close');
  }
}
