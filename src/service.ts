/** Wires everything together, starts it in order, and drains it in reverse. */
import { userInfo } from 'node:os';
import type { FastifyInstance } from 'fastify';
import type pino from 'pino';
import { Tracker } from '../actors/gpu-pool/tracker.ts';
import { removeOrphans } from '../actors/gpu-pool/orphans.ts';
import { QueueDoor } from '../actors/intake/queue-door.ts';
import { Kernel } from '../actors/kernel/kernel.ts';
import { gpuDevKinds, type Ports } from '../actors/kinds.ts';
import { Database } from '../persistence/database.ts';
import { migrate } from '../persistence/migrate.ts';
import { assertQueues, enableNotifications, insertChannel } from '../persistence/pgmq.ts';
import type { ClusterEvents } from '../actors/gpu-pool/ports.ts';
import type { Config } from './config.ts';
import { buildHttp } from './http/server.ts';
import { Housekeeper } from './housekeeper.ts';
import { healthOf } from './health.ts';

/** The outside world, as providers make it. */
export interface Providers extends Omit<Ports, 'db'> {
  connectEvents: () => ClusterEvents;
  /** Whether the API server answers 404 for the node; throws if it cannot tell. */
  confirmNodeGone: (node: string) => Promise<boolean>;
}

export interface Service {
  /** Where HTTP listens. */
  port: number;
  db: Database;
  kernel: Kernel;
  http: FastifyInstance;
  /** Drain: no new requests, finish what runs, close. */
  stop(): Promise<void>;
}

/** How long time limits wait at most for the first view of the cluster after a start, in milliseconds. */
const CATCH_UP_MS = 5_000;

/** Type of the connection string node-pg-migrate and our own migrations use. */
function urlOf({ host, port, user, password, database }: Config['database']): string {
  const part = encodeURIComponent;
  return `postgres://${part(user)}:${part(password)}@${host}:${port}/${part(database)}`;
}

/**
 * Start the service.
 * @throws if the database cannot be reached or migrated, or a queue has no consumer.
 */
export async function startService(config: Config, providersOf: (db: Database) => Providers, log: pino.Logger): Promise<Service> {
  const migrated = await migrate(urlOf(config.database));
  if (migrated.length > 0) log.info({ migrated }, 'the database was migrated');
  const db = new Database({ ...config.database, applicationName: 'gpu-dev service' });
  await db.init();
  const queues = [config.queues.reservations, config.queues.disks];
  await assertQueues(db, queues);
  for (const queue of queues) await enableNotifications(db, queue);

  const providers = providersOf(db);
  const doors = new Map<string, QueueDoor>();
  const since = performance.now();
  let tracker: Tracker | null = null;
  const kernel = new Kernel({
    db,
    kinds: gpuDevKinds({ db, ...providers }),
    timeScale: config.timeScale,
    holdDeadlines: () => tracker?.settled !== true && performance.now() - since < CATCH_UP_MS,
    listen: Object.fromEntries(queues.map((queue) => [insertChannel(queue), () => doors.get(queue)?.wake()])),
    onReconnect: () => {
      for (const door of doors.values()) door.wake(true);
    },
    onError: (where, error) => log.warn({ err: error, loop: where }, 'a loop failed and goes on'),
    onEffectFailure: ({ effectId, type, error, final }) =>
      log[final ? 'error' : 'warn']({ effectId, type, err: error }, 'an effect failed'),
  });
  for (const queue of queues) {
    const { pollMs, visibilitySeconds, batchSize } = config.queues;
    const onError = (error: unknown) => log.warn({ err: error, queue }, 'the queue door failed and goes on');
    doors.set(queue, new QueueDoor({ db, kernel, queue, pollMs, visibilitySeconds, batchSize, onError }));
  }
  tracker = new Tracker({
    db,
    kernel,
    connect: providers.connectEvents,
    confirmGone: async (server) => !(await providers.servers.exists(server)),
    confirmNodeGone: providers.confirmNodeGone,
    onServers: (pods) => {
      const onError = (error: unknown) => log.warn({ err: error }, 'a pod of an ended reservation could not be removed');
      return removeOrphans(db, providers.servers, pods, onError).then(
        (removed) => removed.length > 0 && log.warn({ removed }, 'pods of ended reservations were removed'),
        (error: unknown) => log.warn({ err: error }, 'orphans could not be looked for'),
      );
    },
    onError: (error) => log.warn({ err: error }, 'the tracker failed and goes on'),
  });
  const tracking = tracker;
  const housekeeper = new Housekeeper({
    db,
    queues,
    retention: config.retention,
    onError: (error) => log.warn({ err: error }, 'housekeeping failed'),
  });

  await openPools(db, kernel);
  const http = await buildHttp({
    db,
    kernel,
    logger: log,
    timeScale: config.timeScale,
    cluster: config.cluster,
    health: () => healthOf({ db, queues, tracker: tracking }),
    trackerAgeMs: () => tracking.ageMs(),
  });
  await kernel.start();
  for (const door of doors.values()) door.start();
  tracking.start();
  housekeeper.start();
  await http.listen({ host: '127.0.0.1', port: config.port });
  const address = http.server.address();
  const port = typeof address === 'object' && address !== null ? address.port : config.port;
  log.info({ port, user: userInfo().username, timeScale: config.timeScale }, 'ready');

  let stopping: Promise<void> | null = null;
  const stop = async () => {
    await http.close();
    await Promise.all([...doors.values()].map((door) => door.stop()));
    await tracking.stop();
    await housekeeper.stop();
    await kernel.stop(config.drainMs);
    await db.close();
    log.info('drained');
  };
  return { port, db, kernel, http, stop: () => (stopping ??= stop()) };
}

/** Every active GPU type has its pool. Those that exist take the message for the duplicate it is. */
async function openPools(db: Database, kernel: Kernel): Promise<void> {
  const { rows } = await db.query<{ gpu_type: string }>('select gpu_type from gpu_types where is_active order by gpu_type');
  await kernel.post(
    rows.map(({ gpu_type: gpuType }) => ({
      actor: `gpu-pool/${gpuType}`,
      key: 'opened',
      event: { type: 'pool.opened', gpuType } as { type: string },
      sender: 'service',
    })),
  );
}
