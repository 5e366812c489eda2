/** The service as its users run it: a process of its own, beside a simulated cluster as another, over a database of the bench's server. */
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type pg from 'pg';
import { Database } from '../../persistence/database.ts';
import { Program } from '../../test/crash/support/process.ts';
import { PodTimes } from './pod-times.ts';
import { familySeconds, processorSeconds } from './processor.ts';
import type { BenchServer } from './server.ts';
import { databaseEnvironment } from '../../test/support/database-environment.ts';

const CLUSTER = fileURLToPath(new URL('../../src/simulated-cluster/main.ts', import.meta.url));
const SERVICE = fileURLToPath(new URL('../../src/main.ts', import.meta.url));

export interface StageOptions {
  fleet: Record<string, number>;
  /** Delays of the simulated nodes in milliseconds; the rest is the simulation's own. */
  delays?: Record<string, number>;
}

export interface ServiceProcess {
  program: Program;
  url: string;
}

/** What people send. */
export interface Wish {
  action?: string;
  [field: string]: unknown;
}

const STATES = `
  select r.status::text as status, r.substate, r.failure_reason as reason, count(*)::int as n, (select count(*)::int from pgmq.q_gpu_reservations) as queued,
         (select count(*)::int from mailbox) as mail, (select count(*)::int from effects where status = 'pending') as effects,
         (select min(reason) from dead_letters) as dead
    from reservations r group by 1, 2, 3 order by n desc limit 10`;

export class Stage {
  readonly folder: string;
  readonly db: Database;
  readonly pods = new PodTimes();
  readonly #server: BenchServer;
  readonly #database: string;
  readonly #cluster: Program;
  readonly #url: string;
  readonly #services: Program[] = [];

  private constructor(server: BenchServer, folder: string, database: string, cluster: Program, port: number) {
    this.folder = folder;
    this.#server = server;
    this.#database = database;
    this.#cluster = cluster;
    this.#url = `http://127.0.0.1:${port}`;
    this.db = new Database({ ...server.at(database), maxConnections: 6, applicationName: 'gpu-dev bench' });
  }

  static async start(server: BenchServer, { fleet, delays = {} }: StageOptions): Promise<Stage> {
    const folder = join(server.folder, `stage-${randomUUID()}`);
    await mkdir(folder);
    const cluster = Program.spawn(
      [
        CLUSTER,
        ...['--data', join(folder, 'cluster')],
        ...['--kubeconfig', join(folder, 'kubeconfig')],
        ...['--settings', JSON.stringify({ fleet, delays })],
      ],
      { PATH: process.env['PATH'] },
    );
    const ready = await cluster.ready();
    if (ready === null) throw new Error(`The simulated cluster did not start: ${cluster.log}`);
    const stage = new Stage(server, folder, await server.create(), cluster, Number(ready['port']));
    await stage.pods.start(stage.#url);
    return stage;
  }

  /** Start a service and wait until it is ready. `extra` are further variables of its environment, `flags` options of its Node. */
  async service(extra: NodeJS.ProcessEnv = {}, flags: readonly string[] = []): Promise<ServiceProcess> {
    const program = Program.spawn([...flags, SERVICE], {
      PATH: process.env['PATH'],
      ...databaseEnvironment(this.#server.at(this.#database)),
      KUBECONFIG: join(this.folder, 'kubeconfig'),
      CLUSTER: 'simulated',
      GPU_DEV_HOME: this.folder,
      PORT: '0',
      LOG_LEVEL: 'warn',
      ...extra,
    });
    this.#services.push(program);
    const ready = await program.ready();
    if (ready === null) throw new Error(`The service did not start: ${program.log}`);
    return { program, url: `http://127.0.0.1:${ready['port']}` };
  }

  /** Wait until the service says that it can work, the tracker included. */
  async healthy({ url }: ServiceProcess): Promise<void> {
    await this.until('the service is healthy', async () => (await fetch(`${url}/health/ready`)).status === 200);
  }

  /** Processor time used so far by each part, in seconds. */
  processor(): Record<'service' | 'cluster' | 'postgres', number> {
    const service = this.#services.reduce((sum, { child }) => sum + processorSeconds(child.pid!), 0);
    return { service, cluster: processorSeconds(this.#cluster.child.pid!), postgres: familySeconds(this.#server.pid) };
  }

  /** A call of the simulation's own controls. */
  async simulate(method: 'GET' | 'POST' | 'DELETE', path: string, body?: unknown): Promise<unknown> {
    const response = await fetch(`${this.#url}/simulation${path}`, {
      method,
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
    return response.json();
  }

  /** A request as any producer would send it. */
  async send(wish: Wish): Promise<void> {
    await this.db.query(`select pgmq.send('gpu_reservations', $1::jsonb)`, [JSON.stringify(wish)]);
  }

  async sendAll(wishes: readonly Wish[]): Promise<void> {
    await this.db.query(`select pgmq.send_batch('gpu_reservations', $1::jsonb[])`, [wishes.map((wish) => JSON.stringify(wish))]);
  }

  /** Wait until `check` says so. @throws after `ms`, with the services' last words. */
  async until(what: string, check: () => Promise<boolean> | boolean, ms = 60_000): Promise<void> {
    const end = performance.now() + ms;
    while (!(await check())) {
      if (performance.now() > end) {
        const logs = this.#services.map((program) => program.log.slice(-2_000)).join('\n');
        const { rows } = await this.db.query(STATES);
        throw new Error(`Waited ${ms} ms in vain until ${what}\n${JSON.stringify(rows)}\n${logs}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  /** Run `work` on a connection of its own, with the server's own settings. */
  connected<T>(work: (client: pg.Client) => Promise<T>): Promise<T> {
    return this.#server.connected(this.#database, work);
  }

  /** Whole numbers that a statement answers with. */
  async count(text: string, values: readonly unknown[] = []): Promise<number> {
    const { rows } = await this.db.query<{ n: number }>(text, values);
    return Number(rows[0]!.n);
  }

  async stop(): Promise<void> {
    await Promise.all(this.#services.map((program) => program.kill()));
    this.pods.stop();
    await this.#cluster.kill();
    await this.db.close();
    await this.#server.drop(this.#database);
  }
}

/** A create of one GPU for some hours, without a disk unless asked. */
export function create(fields: Wish = {}): Wish & { reservation_id: string } {
  return {
    action: 'create_reservation',
    reservation_id: randomUUID(),
    user_id: 'bench',
    gpu_type: 'h100',
    gpu_count: 1,
    duration_hours: 8,
    disk_name: null,
    ...fields,
  };
}

/** Memory of a process in MB (10^6 bytes): now, and at most so far. */
export function memoryOf(pid: number): { now: number; peak: number } {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const of = (name: string) => (Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(status)?.[1] ?? 0) * 1024) / 1e6;
  return { now: of('VmRSS'), peak: of('VmHWM') };
}
