/** The service as a process over a real Kubernetes API server (with stand-ins for its nodes), and everything it asks of it counted. */
import { randomUUID } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Database } from '../../persistence/database.ts';
import { Program } from '../../test/crash/support/process.ts';
import { Api } from '../../test/support/kubernetes/api.ts';
import { FaultProxy } from '../../test/support/kubernetes/fault-proxy.ts';
import type { Fleet } from '../../test/support/kubernetes/fleet.ts';
import { writeKubeconfig } from '../../test/support/kubernetes/kubeconfig.ts';
import { type ClusterProcess, startClusterProcess } from '../../test/support/kubernetes/process.ts';
import { ensurePrograms } from '../../test/support/kubernetes/programs.ts';
import type { BenchServer } from './server.ts';
import type { Wish } from './stage.ts';
import { databaseEnvironment } from '../../test/support/database-environment.ts';

const SERVICE = fileURLToPath(new URL('../../src/main.ts', import.meta.url));

export class RealStage {
  readonly db: Database;
  readonly api: Api;
  /** Between the service and the API server. It only counts. */
  readonly proxy: FaultProxy;
  readonly #server: BenchServer;
  readonly #database: string;
  readonly #folder: string;
  readonly #cluster: ClusterProcess;
  readonly #services: Program[] = [];

  private constructor(server: BenchServer, database: string, folder: string, cluster: ClusterProcess, proxy: FaultProxy) {
    this.#server = server;
    this.#database = database;
    this.#folder = folder;
    this.#cluster = cluster;
    this.proxy = proxy;
    this.api = new Api(cluster.facts);
    this.db = new Database({ ...server.at(database), maxConnections: 4, applicationName: 'gpu-dev bench' });
  }

  /** @throws Error if this machine cannot have the programs of a control plane. */
  static async start(server: BenchServer, fleet: Fleet, delays: Record<string, number> = {}): Promise<RealStage> {
    const programs = await ensurePrograms((text) => process.stderr.write(`${text}\n`));
    if ('missing' in programs) throw new Error(programs.missing);
    const folder = join(server.folder, `real-${randomUUID()}`);
    await mkdir(folder);
    const cluster = await startClusterProcess({ programs: programs.folder, folder, fleet, delays });
    const { server: address, caFile, certificateKey } = cluster.facts;
    const proxy = await FaultProxy.to({ server: address, caFile, certificateKey });
    const stage = new RealStage(server, await server.create(), folder, cluster, proxy);
    await stage.api.ensure('/api/v1/namespaces', { metadata: { name: 'gpu-dev' } });
    const account = '/api/v1/namespaces/gpu-dev/serviceaccounts/default';
    await stage.until('its namespace is complete', async () => (await stage.api.call('GET', account)).status === 200);
    return stage;
  }

  /** Start a service and wait until it can work. @param counted whether it goes through the proxy */
  async service(counted = true): Promise<Program> {
    const kubeconfig = join(this.#folder, `kubeconfig-${this.#services.length}`);
    writeKubeconfig(kubeconfig, { ...this.#cluster.facts, ...(counted ? { server: this.proxy.url } : {}) }, 'gpu-dev');
    const program = Program.spawn([SERVICE], {
      PATH: process.env['PATH'],
      ...databaseEnvironment(this.#server.at(this.#database)),
      KUBECONFIG: kubeconfig,
      // Keys come from this machine's own folder; the cluster is as real as it gets here.
      CLUSTER: 'simulated',
      GPU_DEV_HOME: this.#folder,
      PORT: '0',
      LOG_LEVEL: 'warn',
    });
    this.#services.push(program);
    const ready = await program.ready();
    if (ready === null) throw new Error(`The service did not start: ${program.log}`);
    const url = `http://127.0.0.1:${ready['port']}/health/ready`;
    await this.until('the service is healthy', async () => (await fetch(url)).status === 200, 120_000);
    return program;
  }

  async send(wishes: readonly Wish[]): Promise<void> {
    await this.db.query(`select pgmq.send_batch('gpu_reservations', $1::jsonb[])`, [wishes.map((wish) => JSON.stringify(wish))]);
  }

  async count(text: string, values: readonly unknown[] = []): Promise<number> {
    const { rows } = await this.db.query<{ n: number }>(text, values);
    return Number(rows[0]!.n);
  }

  async until(what: string, check: () => Promise<boolean> | boolean, ms = 60_000): Promise<void> {
    const end = performance.now() + ms;
    while (!(await check())) {
      if (performance.now() > end) {
        throw new Error(
          `Waited ${ms} ms in vain until ${what}\n${this.#services.map(({ log }) => log.slice(-2_000)).join('\n')}`,
        );
      }
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  async stop(): Promise<void> {
    await Promise.all(this.#services.map((program) => program.kill()));
    await this.proxy.close();
    this.api.close();
    await this.#cluster.stop();
    await this.db.close();
    await this.#server.drop(this.#database);
  }
}
