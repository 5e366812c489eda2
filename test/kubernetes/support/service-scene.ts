/** The service as a process over a real API server: a database of its own, and a proxy on its way to the cluster that makes bad days. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { Database } from '../../../persistence/database.ts';
import { LABEL } from '../../../src/providers/kubernetes/objects.ts';
import { Program } from '../../crash/support/process.ts';
import { SERVICE, WORKER } from '../../crash/support/scene.ts';
import type { Loose } from '../../support/kubernetes/api.ts';
import type { FaultProxy } from '../../support/kubernetes/fault-proxy.ts';
import type { RealCluster } from '../../support/kubernetes/real-cluster.ts';
import { configOf, follow } from '../../support/kubernetes/stand-ins/follow.ts';
import { createTestDatabase } from '../../support/postgres.ts';
import { makeScratch, removeScratch } from '../../support/scratch.ts';
import { databaseEnvironment } from '../../support/database-environment.ts';
import { PATIENCE_MS } from '../../support/patience.ts';

/** Dev servers as the API server tells of them, by reservation: now, ever, and most at once. */
class Pods {
  readonly now = new Map<string, Set<string>>();
  readonly ever = new Map<string, Set<string>>();
  readonly most = new Map<string, number>();

  take(pod: Loose, gone: boolean): void {
    const id = pod.metadata.labels?.[LABEL.reservation];
    if (id === undefined) return;
    const now = this.now.get(id) ?? new Set();
    this.now.set(id, now);
    if (gone) now.delete(pod.metadata.uid);
    else now.add(pod.metadata.uid);
    this.ever.set(id, (this.ever.get(id) ?? new Set()).add(pod.metadata.uid));
    this.most.set(id, Math.max(this.most.get(id) ?? 0, now.size));
  }
}

export class ServiceScene {
  readonly cluster: RealCluster;
  readonly db: Database;
  readonly proxy: FaultProxy;
  readonly watch = new Pods();
  /** How long `until` and `reaches` wait at most. */
  patienceMs = PATIENCE_MS;
  readonly #kubeconfig: string;
  readonly #folder: string;
  readonly #drop: () => Promise<void>;
  readonly #programs: Program[] = [];
  #unwatch: () => Promise<void> = async () => undefined;
  #offset = 0;

  private constructor(
    cluster: RealCluster,
    db: Database,
    way: { proxy: FaultProxy; kubeconfig: string },
    drop: () => Promise<void>,
  ) {
    this.cluster = cluster;
    this.db = db;
    this.proxy = way.proxy;
    this.#kubeconfig = way.kubeconfig;
    this.#drop = drop;
    this.#folder = makeScratch('service');
    writeFileSync(this.#clock, '0');
  }

  /** @param cluster one of the file's own: the service looks at all nodes */
  static async start(cluster: RealCluster): Promise<ServiceScene> {
    const { config, drop } = await createTestDatabase();
    const db = new Database({ ...config, maxConnections: 4, applicationName: 'gpu-dev test' });
    const scene = new ServiceScene(cluster, db, await cluster.faulty(), drop);
    const path = cluster.path('pods');
    const followed = follow(cluster.api, configOf(cluster.access), path, {
      changed: (pod) => scene.watch.take(pod, false),
      deleted: (pod) => scene.watch.take(pod, true),
    });
    scene.#unwatch = followed.stop;
    await followed.listed;
    return scene;
  }

  get #clock(): string {
    return join(this.#folder, 'clock');
  }

  /** The service itself. */
  service(extra: NodeJS.ProcessEnv = {}): Promise<Program> {
    return this.#started(SERVICE, extra);
  }

  /** The service without HTTP, whose clock `advance` moves. */
  worker(extra: NodeJS.ProcessEnv = {}): Promise<Program> {
    return this.#started(WORKER, { TEST_CLOCK: this.#clock, ...extra });
  }

  async #started(script: string, extra: NodeJS.ProcessEnv): Promise<Program> {
    const program = Program.spawn([script], {
      PATH: process.env['PATH'],
      ...databaseEnvironment(this.db.settings),
      KUBECONFIG: this.#kubeconfig,
      GPU_DEV_NAMESPACE: this.cluster.namespace,
      // Only about where keys come from: GitHub is not asked.
      CLUSTER: 'simulated',
      GPU_DEV_HOME: this.#folder,
      NODE_COMPILE_CACHE: join(this.#folder, 'compiled'),
      PORT: '0',
      POLL_INTERVAL_SECONDS: '0.5',
      LOG_LEVEL: 'warn',
      ...extra,
    });
    this.#programs.push(program);
    if ((await program.ready()) === null) throw new Error(`The service did not start: ${program.log}`);
    return program;
  }

  /** Wait until the service knows so many nodes. */
  async knows(nodes: number): Promise<void> {
    await this.until(`${nodes} nodes are known`, async () => (await this.db.query('select 1 from nodes')).rowCount === nodes);
  }

  /** Move the clock of all workers forward. */
  advance(minutes: number): void {
    this.#offset += minutes * 60_000;
    writeFileSync(this.#clock, String(this.#offset));
  }

  async send(body: unknown): Promise<void> {
    await this.db.query(`select pgmq.send('gpu_reservations', $1::jsonb)`, [JSON.stringify(body)]);
  }

  /** Ask for a server: one h100 for an hour, with the user's own disk. @returns its id */
  async submit(fields: Record<string, unknown> = {}): Promise<string> {
    const id = crypto.randomUUID() as string;
    const base = { action: 'create_reservation', reservation_id: id, user_id: `user-${id.slice(0, 8)}`, gpu_type: 'h100' };
    await this.send({ ...base, gpu_count: 1, duration_hours: 1, disk_name: 'default', ...fields });
    return id;
  }

  async cancel(id: string): Promise<void> {
    await this.send({ action: 'cancel', reservation_id: id });
  }

  async reservation(id: string): Promise<Loose> {
    const sql = 'select *, status::text as status from reservations where reservation_id = $1';
    return (await this.db.query<Record<string, unknown>>(sql, [id])).rows[0] ?? null;
  }

  async reaches(id: string, ...states: string[]): Promise<Loose> {
    return this.until(`${id} is ${states.join(' or ')}`, async () => {
      const row = await this.reservation(id);
      return row !== null && states.includes(row.status) ? row : null;
    });
  }

  /** Types of the events that were applied to a reservation, in order. */
  async history(id: string): Promise<string[]> {
    const sql = `select event->>'type' as type from history where actor = $1 and outcome = 'applied' order by seq`;
    return (await this.db.query<{ type: string }>(sql, [`reservation/${id}`])).rows.map(({ type }) => type);
  }

  /** What an actor had done, and how often that was tried and taken over, in words. */
  async efforts(actor: string): Promise<string[]> {
    const sql = `select concat_ws(' ', type, status, attempts || ' tries', takeovers || ' takeovers', last_error) as words from effects
                  where actor = $1 order by seq`;
    return (await this.db.query<{ words: string }>(sql, [actor])).rows.map(({ words }) => words);
  }

  /** Wait until `check` gives something other than null or false. */
  async until<T>(what: string, check: () => Promise<T | null | false>, ms = this.patienceMs): Promise<T> {
    for (const end = Date.now() + ms; ; ) {
      const found = await check();
      if (found !== null && found !== false) return found;
      if (Date.now() > end) throw new Error(`Waited ${ms} ms in vain until ${what}.\n${await this.#report()}`);
      await pause(20);
    }
  }

  async stop(): Promise<void> {
    await Promise.all(this.#programs.map((program) => program.kill()));
    await this.#unwatch();
    await this.db.close();
    await this.#drop();
    await removeScratch(this.#folder);
  }

  async #report(): Promise<string> {
    const { rows: actors } = await this.db.query(
      `select actor, snapshot->'value' as value from actors where kind in ('reservation', 'disk') and status <> 'done' limit 8`,
    );
    const { rows: effects } = await this.db.query(
      `select effect_id, type, attempts, last_error from effects where status = 'pending' limit 8`,
    );
    const logs = this.#programs.map(({ log }) => log.slice(-1_500)).filter((log) => log !== '');
    return `${JSON.stringify(actors)}\n${JSON.stringify(effects)}\n${logs.join('\n--\n')}`;
  }
}
