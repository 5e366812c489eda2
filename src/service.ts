/** Wires everything together, starts it in order, and drains it in reverse. */
import { userInfo } from 'node:os';
import type { FastifyInstance } from 'fastify';
import type pino from 'pino';
import type { ClusterEvents } from '../actors/gpu-pool/ports.ts';
import { Kernel } from '../actors/kernel/kernel.ts';
import { gpuDevKinds, type Ports } from '../actors/kinds.ts';
import { ClusterDoubt, type ClusterGuard } from '../actors/reality/cluster-guard.ts';
import type { CloudDisks } from '../actors/reality/cloud-ports.ts';
import type { Reality } from '../actors/reality/ports.ts';
import type { KeySource } from '../actors/reservation/ports.ts';
import { REALITY_CHANNEL } from '../actors/reality/reconciler.ts';
import { settleForeignSteps } from '../persistence/changes.ts';
import { Database, isRetryableDatabaseError } from '../persistence/database.ts';
import { forgetOldNodes } from '../persistence/gpu-nodes.ts';
import { migrate, type TableHolder } from '../persistence/migrate.ts';
import { serveDomain } from '../persistence/names.ts';
import { assertQueues, enableNotifications, insertChannel } from '../persistence/pgmq.ts';
import type { Config } from './config.ts';
import type { ContentsStore } from './disk-contents-store.ts';
import { healthOf } from './health.ts';
import { buildContextServer } from './http/build-contexts.ts';
import { buildHttp } from './http/server.ts';
import { Processor } from './processor.ts';
import type { Remains } from './rebuild/ports.ts';
import { GithubKeys } from './providers/local/github-keys.ts';

/** The outside world, as providers make it. */
export interface Providers extends Omit<Ports, 'db'> {
  connectEvents: () => ClusterEvents;
  /** Whether the cluster is the one that this database commands. All of the above is done through it. */
  guard: Pick<ClusterGuard, 'confirm' | 'doubt'>;
  /** What the cluster really has, to compare the database with. */
  reality: Reality;
  /** Disks in a cloud, to compare the database with as well; null: they are on the cluster. */
  cloudDisks?: CloudDisks | null;
  /** Where it is kept what is on disks; null: in the database. */
  contents?: ContentsStore | null;
  /** What remains on the cluster and in the cloud when the database is lost, and where records of it are kept; left out: nowhere. */
  remains?: Remains;
  /** Whether the API server answers 404 for the node; throws if it cannot tell. */
  confirmNodeGone: (node: string) => Promise<boolean>;
  /** What is missing for the work to be done, in words for the operator. @throws if that cannot be told now. */
  findObstacles: () => Promise<string[]>;
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

/** The service cannot start, and trying again will not help: the message says what an operator must do. */
export class StartError extends Error {
  override readonly name = 'StartError';
}

/** How long nobody may have looked at the cluster for what is known of its nodes to count at a start, in seconds. */
const NODES_KEEP_S = 60;
/** How long time limits wait at most for the first view of the cluster after a start, in milliseconds. */
const CATCH_UP_MS = 5_000;
/** Effects that are handled at once: most take a connection to the API server, and two thousand servers may start together. */
const HANDLERS = 256;

/** Type of the connection string node-pg-migrate and our own migrations use. */
function urlOf({ host, port, user, password, database }: Config['database']): string {
  const part = encodeURIComponent;
  return `postgres://${part(user)}:${part(password)}@${host}:${port}/${part(database)}`;
}

/**
 * Start the service in its role. `api` answers requests and takes the turns that they ask for; `processor` does all the rest, and answers
 * for its health only; `all` does both.
 * @throws StartError if the database cannot be reached, rights on the cluster are missing, or it is not the cluster that the database commands; else if it cannot be migrated, or a queue has
 * no consumer.
 */
export async function startService(config: Config, providersOf: (db: Database) => Providers, log: pino.Logger): Promise<Service> {
  const db = await openDatabase(config, log);
  const { names } = config.queues;
  const works = config.role !== 'api';
  const providers = providersOf(db);
  if (works) await refuseObstacles(providers, log);
  if (works) await refuseOtherCluster(providers, log);

  if (works) await serveDomain(db, config.names.domain);

  let processor: Processor | null = null;
  const since = performance.now();
  const kernel = new Kernel({
    db,
    kinds: gpuDevKinds({ db, snapshotRetention: config.snapshotRetention, ...providers }),
    timeScale: config.timeScale,
    // Who only answers requests leaves effects to those who work.
    effectConcurrency: works ? HANDLERS : 0,
    holdDeadlines: () => processor?.tracker.settled !== true && performance.now() - since < CATCH_UP_MS,
    listen: {
      ...Object.fromEntries(names.map((queue) => [insertChannel(queue), () => processor?.wake(queue)])),
      [REALITY_CHANNEL]: () => processor?.wakeReconciler(),
    },
    onReconnect: () => processor?.wake(),
    onError: (where, error) => log.warn({ err: error, loop: where }, 'a loop failed and goes on'),
    onEffectFailure: ({ effectId, type, error, final }) =>
      log[final ? 'error' : 'warn']({ effectId, type, err: error }, 'an effect failed'),
  });
  if (works) processor = new Processor({ config, db, kernel, providers, log });
  const tracker = processor?.tracker ?? null;

  await openPools(db, kernel);
  const http = await buildHttp({
    db,
    kernel,
    logger: log,
    timeScale: config.timeScale,
    cluster: config.cluster,
    inspector: config.inspector,
    contents: providers.contents ?? null,
    identity: { ...config.identity, proofKeys: proofKeysOf(config, providers) },
    trustedProxies: config.identity.trustedProxies,
    rates: config.rates,
    resources: config.role !== 'processor',
    health: () => healthOf({ db, queues: names, tracker, guard: works ? providers.guard : null }),
    trackerAgeMs: () => tracker?.ageMs() ?? null,
  });
  if (works) await kernel.start();
  processor?.start();
  const contexts = config.buildContextPort === undefined || config.role === 'processor' ? null : buildContextServer(db, log);
  await contexts?.listen({ host: config.listen, port: config.buildContextPort ?? 0 });
  await http.listen({ host: config.listen, port: config.port });
  const address = http.server.address();
  const port = typeof address === 'object' && address !== null ? address.port : config.port;
  log.info({ port, role: config.role, user: userInfo().username, timeScale: config.timeScale }, 'ready');

  let stopping: Promise<void> | null = null;
  const stop = async () => {
    await Promise.all([http.close(), contexts?.close()]);
    await processor?.stop();
    await kernel.stop(config.drainMs);
    await db.close();
    log.info('drained');
  };
  return { port, db, kernel, http, stop: () => (stopping ??= stop()) };
}

/** A name is proven by keys as they are now: nothing that was read before counts. */
function proofKeysOf({ cluster, githubUrl }: Config, { keys }: Providers): KeySource {
  return cluster === 'simulated' ? keys : new GithubKeys({ baseUrl: githubUrl, freshMs: 0, staleMs: 0 });
}

async function openDatabase({ database, queues }: Config, log: pino.Logger): Promise<Database> {
  let migrated: string[];
  try {
    const onBusy = (holders: readonly TableHolder[]) => log.warn({ holders }, 'the migration waits for a table that is in use');
    migrated = await migrate(urlOf(database), { onBusy });
  } catch (error) {
    if (!(error instanceof Error) || !(isRetryableDatabaseError(error) || isRefusal(error))) throw error;
    const { host, port, user, database: name } = database;
    throw new StartError(`Postgres at ${host}:${port} does not serve ${user} with the database ${name}: ${error.message}`, {
      cause: error,
    });
  }
  if (migrated.length > 0) log.info({ migrated }, 'the database was migrated');
  const db = new Database({ ...database, applicationName: 'gpu-dev service' });
  await db.init();
  const foreign = await settleForeignSteps(db);
  if (foreign > 0) log.info({ foreign }, 'the database came from another server; its steps are no news');
  await assertQueues(db, queues.names);
  for (const queue of queues.names) await enableNotifications(db, queue);
  // Before the first turn here: a restored backup knows nothing of servers that are younger, and the tracker counts these.
  await forgetOldNodes(db, { seconds: NODES_KEEP_S, reason: 'not seen since the service started' });
  return db;
}

/** SQLSTATEs by which Postgres refuses a user, a password or a database. */
const REFUSALS = ['28000', '28P01', '3D000', '42501'];

function isRefusal(error: Error): boolean {
  return REFUSALS.includes(String((error as { code?: unknown }).code));
}

/** @throws StartError that names everything that is missing. A cluster that does not answer may come later. */
async function refuseObstacles(providers: Providers, log: pino.Logger): Promise<void> {
  let obstacles: string[];
  try {
    obstacles = await providers.findObstacles();
  } catch (error) {
    log.warn({ err: error }, 'the cluster did not answer at the start; rights were not checked');
    return;
  }
  if (obstacles.length > 0) throw new StartError(`The cluster lacks what the service needs:\n- ${obstacles.join('\n- ')}`);
}

/** @throws StartError if the cluster is another one than this database commands. One that does not answer may come later, and is asked then. */
async function refuseOtherCluster(providers: Providers, log: pino.Logger): Promise<void> {
  try {
    await providers.guard.confirm(performance.now());
  } catch (error) {
    if (error instanceof ClusterDoubt) throw new StartError(error.message, { cause: error });
    log.warn({ err: error }, 'the cluster did not say at the start which one it is; it is asked before anything is done there');
  }
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
