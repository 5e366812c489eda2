/** Where processes are killed: a database, a simulated cluster as a process, a clock that the test moves, and workers over them. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Database, type DatabaseSettings } from '../../../persistence/database.ts';
import { NO_DELAYS } from '../../support/world.ts';
import { createTestDatabase } from '../../support/postgres.ts';
import { makeScratch, removeScratch } from '../../support/scratch.ts';
import { PodWatch } from './pods.ts';
import { Program } from './process.ts';
import { databaseEnvironment } from '../../support/database-environment.ts';
import { clearFaults, isHolding } from '../../support/faults.ts';
import { PATIENCE_MS } from '../../support/patience.ts';

const CLUSTER = fileURLToPath(new URL('../../../src/simulated-cluster/main.ts', import.meta.url));
export const WORKER = fileURLToPath(new URL('../worker.ts', import.meta.url));
export const SERVICE = fileURLToPath(new URL('../../../src/main.ts', import.meta.url));

export interface SceneOptions {
  fleet?: Record<string, number>;
  /** A migrated database to use; else a fresh one of the test run's server, dropped at the end. */
  database?: DatabaseSettings;
}

// biome-ignore lint/suspicious/noExplicitAny: tests look at whatever column they need.
type Row = Record<string, any>;

export class Scene {
  readonly folder: string;
  readonly db: Database;
  readonly cluster: Program;
  readonly clusterUrl: string;
  readonly watch = new PodWatch();
  readonly #clock: string;
  readonly #programs: Program[] = [];
  readonly #drop: () => Promise<void>;
  #offset = 0;

  private constructor(folder: string, database: DatabaseSettings, cluster: Program, port: number, drop: () => Promise<void>) {
    this.folder = folder;
    this.db = new Database({ ...database, maxConnections: 4, applicationName: 'gpu-dev test' });
    this.cluster = cluster;
    this.clusterUrl = `http://127.0.0.1:${port}`;
    this.#drop = drop;
    this.#clock = join(folder, 'clock');
    writeFileSync(this.#clock, '0');
  }

  static async start(options: SceneOptions = {}): Promise<Scene> {
    const folder = makeScratch('crash');
    const fresh = options.database === undefined ? await createTestDatabase() : null;
    const settings = { fleet: options.fleet ?? { h100: 2 }, delays: NO_DELAYS };
    const cluster = Program.spawn(
      [
        CLUSTER,
        '--data',
        join(folder, 'cluster'),
        '--kubeconfig',
        join(folder, 'kubeconfig'),
        '--settings',
        JSON.stringify(settings),
      ],
      process.env,
    );
    const ready = await cluster.ready();
    if (ready === null) throw new Error(`The simulated cluster did not start: ${cluster.log}`);
    const drop = fresh === null ? async () => {} : fresh.drop;
    const scene = new Scene(folder, options.database ?? fresh!.config, cluster, Number(ready['port']), drop);
    await scene.watch.start(scene.clusterUrl);
    return scene;
  }

  /** The environment of a service over this scene. */
  environment(extra: NodeJS.ProcessEnv = {}): NodeJS.ProcessEnv {
    return {
      PATH: process.env['PATH'],
      ...databaseEnvironment(this.db.settings),
      KUBECONFIG: join(this.folder, 'kubeconfig'),
      CLUSTER: 'simulated',
      GPU_DEV_HOME: this.folder,
      NODE_COMPILE_CACHE: join(this.folder, 'compiled'),
      PORT: '0',
      POLL_INTERVAL_SECONDS: '0.5',
      LOG_LEVEL: 'warn',
      ...extra,
    };
  }

  /** Start a worker, without waiting for it to be ready. */
  worker(extra: NodeJS.ProcessEnv = {}): Program {
    return this.program(WORKER, { TEST_CLOCK: this.#clock, ...extra });
  }

  program(script: string, extra: NodeJS.ProcessEnv = {}): Program {
    const program = Program.spawn([script], this.environment(extra));
    this.#programs.push(program);
    return program;
  }

  /** Move the clock of all workers forward. */
  advance(minutes: number): void {
    this.#offset += minutes * 60_000;
    writeFileSync(this.#clock, String(this.#offset));
  }

  /** Use the simulation's own controls: look (no body), or do. */
  async simulate(path: string, body?: unknown): Promise<unknown> {
    const init = body === undefined ? {} : { method: 'POST', body: JSON.stringify(body) };
    const response = await fetch(`${this.clusterUrl}/simulation${path}`, init);
    if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
    return response.json();
  }

  /** Whether a fault of the kind `hold` keeps a call. */
  isHolding(): Promise<boolean> {
    return isHolding(this.clusterUrl);
  }

  /** @throws with its last words if the cluster has ended: nobody kills it here. */
  requireCluster(): void {
    const { ended, log } = this.cluster;
    if (ended !== null) throw new Error(`The simulated cluster has ended: ${JSON.stringify(ended)}\n${log.slice(-5_000)}`);
  }

  /** End the faults of the cluster, and let what they hold go on. */
  clearFaults(): Promise<void> {
    return clearFaults(this.clusterUrl);
  }

  async send(body: unknown): Promise<void> {
    await this.db.query(`select pgmq.send('gpu_reservations', $1::jsonb)`, [JSON.stringify(body)]);
  }

  async reservation(id: string): Promise<Row | null> {
    const { rows } = await this.db.query<Row>('select *, status::text as status from reservations where reservation_id = $1', [
      id,
    ]);
    return rows[0] ?? null;
  }

  /** Wait until `check` gives something other than null or false. Errors of a database that is away are waited out. */
  async until<T>(what: string, check: () => Promise<T | null | false>, ms = PATIENCE_MS): Promise<T> {
    const end = Date.now() + ms;
    let problem: unknown = null;
    for (;;) {
      this.requireCluster();
      try {
        const found = await check();
        if (found !== null && found !== false) return found;
        problem = null;
      } catch (error) {
        problem = error;
      }
      if (Date.now() > end) throw new Error(`Waited ${ms} ms in vain until ${what}. ${await this.#report(problem)}`);
      await pause(20);
    }
  }

  async reaches(id: string, ...states: string[]): Promise<Row> {
    return this.until(`${id} is ${states.join(' or ')}`, async () => {
      const row = await this.reservation(id);
      return row !== null && states.includes(row['status']) ? row : null;
    });
  }

  /** Names of the VolumeSnapshots of the cluster. */
  async snapshots(): Promise<string[]> {
    const response = await fetch(`${this.clusterUrl}/apis/snapshot.storage.k8s.io/v1/namespaces/gpu-dev/volumesnapshots`);
    const { items } = (await response.json()) as { items: { metadata: { name: string } }[] };
    return items.map((item) => item.metadata.name);
  }

  async stop(): Promise<void> {
    await Promise.all(this.#programs.map((program) => program.kill()));
    this.watch.stop();
    await this.db.close();
    await this.cluster.kill();
    await this.#drop();
    await removeScratch(this.folder);
  }

  async #report(problem: unknown): Promise<string> {
    const { rows } = await this.db
      .query<Row>(
        `select actor, state, snapshot->'value' as value, seq from actors where kind in ('reservation', 'disk') and status <> 'done' order by updated_at desc limit 8`,
      )
      .catch(() => ({ rows: [] }));
    const { rows: effects } = await this.db
      .query<Row>(`select effect_id, type, attempts, last_error, lease_until, next_at from effects where status = 'pending'`)
      .catch(() => ({ rows: [] }));
    const logs = this.#programs
      .map((program) => program.log.slice(-1_500))
      .filter((log) => log !== '')
      .join('\n--\n');
    return `${problem === null ? '' : String(problem)}\n${JSON.stringify(rows)}\n${JSON.stringify(effects)}\n${logs}`;
  }
}
