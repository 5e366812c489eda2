/**
 * A whole gpu-dev in one process for tests: its own database, a simulated cluster over HTTP, the real providers, kernel, tracker and queue
 * doors, all with their loops running. Waits are on conditions.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { removeOrphans } from '../../actors/gpu-pool/orphans.ts';
import { Tracker, type TrackerSettings } from '../../actors/gpu-pool/tracker.ts';
import { QueueDoor } from '../../actors/intake/queue-door.ts';
import { verifyAll } from '../../actors/kernel/fold.ts';
import { Kernel, type KernelSettings } from '../../actors/kernel/kernel.ts';
import { gpuDevKinds, type Ports } from '../../actors/kinds.ts';
import { Database } from '../../persistence/database.ts';
import { enableNotifications, insertChannel } from '../../persistence/pgmq.ts';
import { createClient, type KubernetesClient } from '../../src/providers/kubernetes/client.ts';
import { KubernetesEvents } from '../../src/providers/kubernetes/cluster-events.ts';
import { KubernetesDevServers } from '../../src/providers/kubernetes/dev-servers.ts';
import { nodeGone } from '../../src/providers/kubernetes/nodes.ts';
import { JobBuilder } from '../../src/providers/local/builds.ts';
import { LocalKeys } from '../../src/providers/local/keys.ts';
import { LocalVolumes } from '../../src/providers/local/volumes.ts';
import { type Cluster, createCluster } from '../../src/simulated-cluster/cluster.ts';
import { type Front, serve } from '../../src/simulated-cluster/http-server.ts';
import { clearFaults, isHolding } from './faults.ts';
import { PATIENCE_MS } from './patience.ts';
import { createTestDatabase, type TestDatabase } from './postgres.ts';

export interface WorldOptions {
  /** Nodes by GPU type. */
  fleet?: Record<string, number>;
  timeScale?: number;
  delays?: Record<string, number>;
  /** False: a cluster that takes no snapshots of volumes. */
  volumeSnapshots?: boolean;
  kernel?: Partial<KernelSettings>;
  tracker?: Partial<TrackerSettings>;
  ports?: (ports: Ports) => Ports;
  /** A migrated database to use instead of a fresh one. */
  database?: TestDatabase;
}

export interface World {
  db: Database;
  kernel: Kernel;
  cluster: Cluster;
  front: Front;
  client: KubernetesClient;
  tracker: Tracker;
  database: TestDatabase;
  errors: unknown[];
  /** Send a message as any producer would. @returns its msg_id. */
  send(body: unknown, queue?: string): Promise<number>;
  /** A row of the read model, or null. */
  reservation(id: string): Promise<ReservationRow | null>;
  /** Wait until the reservation is in one of these states. */
  reaches(id: string, ...states: string[]): Promise<ReservationRow>;
  /** Wait until `check` gives something other than null or false. */
  until<T>(what: string, check: () => Promise<T | null | false>, ms?: number): Promise<T>;
  /** A POST to the simulation's own controls. */
  simulate(path: string, body?: unknown): Promise<unknown>;
  /** Whether a fault of the kind `hold` keeps a call. */
  isHolding(): Promise<boolean>;
  /** End the faults of the cluster, and let what they hold go on. */
  clearFaults(): Promise<void>;
  pods(): Promise<string[]>;
  /** Every history folds; no slot, name, effect or deadline is left of ended reservations. */
  checkClean(): Promise<void>;
  stop(): Promise<void>;
}

// biome-ignore lint/suspicious/noExplicitAny: tests look at whatever column they need.
export type ReservationRow = Record<string, any>;

export const NO_DELAYS = {
  schedule: 1,
  pull: 5,
  start: 1,
  init: 1,
  ready: 2,
  terminate: 5,
  snapshot: 20,
  job: 30,
  provision: 2,
  attach: 1,
  detach: 1,
  collect: 1,
};

/** Start a world; stop it when done. */
export async function startWorld(options: WorldOptions = {}): Promise<World> {
  const database = options.database ?? (await createTestDatabase());
  const folder = mkdtempSync(join(tmpdir(), 'gpu-dev-world-'));
  const errors: unknown[] = [];
  const cluster = createCluster({
    now: Date.now(),
    settings: {
      fleet: options.fleet ?? { h100: 2, a100: 1, t4: 1, 'cpu-x86': 1 },
      delays: { ...NO_DELAYS, ...options.delays },
      volumeSnapshots: options.volumeSnapshots ?? true,
    },
  });
  cluster.tick(Date.now());
  const front = await serve(cluster, 0);
  const kubeconfig = join(folder, 'kubeconfig');
  writeFileSync(kubeconfig, JSON.stringify(kubeconfigOf(front.port)));
  const client = createClient({ kubeconfig });
  const db = new Database({ ...database.config, maxConnections: 8 });
  const keys = new LocalKeys({ home: folder, sshFolder: join(folder, 'ssh') });
  const base: Ports = {
    db,
    servers: new KubernetesDevServers({ client }),
    keys,
    volumes: new LocalVolumes({ client }),
    builder: new JobBuilder({ client }),
  };
  const ports = options.ports?.(base) ?? base;
  const onError = (error: unknown) => void errors.push(error);
  const doors = new Map<string, QueueDoor>();
  const queues = ['gpu_reservations', 'disk_operations'];
  const kernel = new Kernel({
    db,
    kinds: gpuDevKinds(ports),
    timeScale: options.timeScale ?? 1,
    listen: Object.fromEntries(queues.map((queue) => [insertChannel(queue), () => doors.get(queue)?.wake()])),
    onError: (_where, error) => onError(error),
    onEffectFailure: ({ error }) => onError(error),
    ...options.kernel,
  });
  for (const queue of queues) {
    await enableNotifications(db, queue);
    doors.set(queue, new QueueDoor({ db, kernel, queue, visibilitySeconds: 300, pollMs: 500, batchSize: 1, onError }));
  }
  const tracker = new Tracker({
    db,
    kernel,
    connect: () => new KubernetesEvents({ client }),
    confirmGone: async (server) => !(await ports.servers.exists(server)),
    confirmNodeGone: (node) => nodeGone(client, node),
    onServers: (pods) => removeOrphans(db, ports.servers, pods, onError),
    onError,
    ...options.tracker,
  });
  const { rows } = await db.query<{ gpu_type: string }>('select gpu_type from gpu_types order by 1');
  await kernel.post(
    rows.map(({ gpu_type }) => ({
      actor: `gpu-pool/${gpu_type}`,
      key: 'opened',
      event: { type: 'pool.opened', gpuType: gpu_type } as { type: string },
      sender: 'test',
    })),
  );
  await kernel.start();
  for (const door of doors.values()) door.start();
  tracker.start();

  const until: World['until'] = async (what, check, ms = PATIENCE_MS) => {
    const end = Date.now() + ms;
    for (;;) {
      const found = await check();
      if (found !== null && found !== false) return found;
      if (Date.now() > end) {
        const last = errors.slice(-3).map((error) => (error instanceof Error ? (error.stack ?? error.message) : String(error)));
        throw new Error(`Waited ${ms} ms in vain until ${what}. Last errors: ${last.join('\n') || 'none'}`);
      }
      await pause(10);
    }
  };
  const reservation = async (id: string) =>
    (await db.query<ReservationRow>('select *, status::text as status from reservations where reservation_id = $1', [id]))
      .rows[0] ?? null;
  const world: World = {
    db,
    kernel,
    cluster,
    front,
    client,
    tracker,
    database,
    errors,
    until,
    reservation,
    send: async (body, queue = 'gpu_reservations') =>
      (await db.query<{ send: number }>('select pgmq.send($1, $2::jsonb) as send', [queue, JSON.stringify(body)])).rows[0]!.send,
    reaches: async (id, ...states) => {
      let last: ReservationRow | null = null;
      return until(`${id} is ${states.join(' or ')}`, async () => {
        last = await reservation(id);
        return last !== null && states.includes(last['status']) ? last : null;
      }).catch((error: Error) => {
        throw new Error(
          `${error.message}; it is ${last?.['status']}.${last?.['substate']}: ${last?.['current_detailed_status']}`,
        );
      });
    },
    simulate: async (path, body) => {
      const response = await fetch(`http://127.0.0.1:${front.port}/simulation${path}`, {
        method: 'POST',
        body: JSON.stringify(body ?? {}),
      });
      const text = await response.text();
      if (!response.ok) throw new Error(`${path}: ${response.status} ${text}`);
      return text === '' ? null : JSON.parse(text);
    },
    isHolding: () => isHolding(`http://127.0.0.1:${front.port}`),
    clearFaults: () => clearFaults(`http://127.0.0.1:${front.port}`),
    pods: async () => (await client.core.listNamespacedPod({ namespace: 'gpu-dev' })).items.map((pod) => pod.metadata!.name!),
    checkClean: () => checkClean(world),
    stop: async () => {
      for (const door of doors.values()) await door.stop();
      await tracker.stop();
      await kernel.stop(2_000);
      await db.close();
      await front.close();
      await database.drop();
      rmSync(folder, { recursive: true, force: true });
    },
  };
  await until('the fleet is known', async () => {
    const { rows: known } = await db.query<{ n: number }>('select count(*)::int as n from gpu_availability where total > 0');
    return known[0]!.n >= Object.keys(options.fleet ?? { a: 1, b: 1, c: 1, d: 1 }).length;
  });
  return world;
}

export function kubeconfigOf(port: number) {
  return {
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name: 's', cluster: { server: `http://127.0.0.1:${port}`, 'insecure-skip-tls-verify': true } }],
    users: [{ name: 's', user: {} }],
    contexts: [{ name: 's', context: { cluster: 's', user: 's', namespace: 'gpu-dev' } }],
    'current-context': 's',
  };
}

const LEFT_BEHIND = `
    select 'slots' as what, count(*)::int as n from gpu_slots s join actors a on a.actor = 'reservation/' || s.reservation_id where a.status = 'done'
     union all select 'requests', count(*)::int from capacity_requests r join actors a on a.actor = 'reservation/' || r.reservation_id where a.status = 'done'
     union all select 'names', count(*)::int from domain_mappings m join actors a on a.actor = 'reservation/' || m.reservation_id where a.status = 'done'
     union all select 'deadlines', count(*)::int from deadlines d join actors a using (actor) where a.status = 'done'
     union all select 'effects', count(*)::int from effects e join actors a using (actor) where a.status = 'done' and e.status = 'pending'
     union all select 'disks', count(*)::int from disks d join actors a on a.actor = 'reservation/' || d.reservation_id where a.status = 'done'
     union all select 'mail', count(*)::int from mailbox`;

const EFFECTS_LEFT = `
  select effect_id || ' ' || type || ' ' || coalesce(last_error, '') as effect
    from effects e join actors a using (actor) where a.status = 'done' and e.status = 'pending' limit 5`;

async function checkClean({ db, kernel }: World): Promise<void> {
  for await (const result of verifyAll(db, kernel.kinds)) if (!result.ok) throw new Error(`${result.actor}: ${result.problem}`);
  for (const end = Date.now() + PATIENCE_MS; ; await pause(20)) {
    const { rows } = await db.query<{ what: string; n: number }>(LEFT_BEHIND);
    const left = rows.filter((row) => row.n > 0);
    if (left.length === 0) return;
    if (Date.now() < end) continue;
    const { rows: effects } = await db.query<{ effect: string }>(EFFECTS_LEFT);
    const told = [...left.map((row) => `${row.n} ${row.what}`), ...effects.map(({ effect }) => effect)];
    throw new Error(`Left behind: ${told.join(', ')}`);
  }
}
