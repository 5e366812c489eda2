/** Configuration of the service: environment variables, checked at start. The names are those operators know. */
import { z } from 'zod';
import { COPY_DEFAULTS } from './providers/local/copy-job.ts';
import { SNAPSHOT_KINDS } from './providers/local/snapshot-kind.ts';
import { IdentityEnvironment, identityOf } from './identity/configuration.ts';
import { AwsEnvironment, awsOf } from './providers/aws/configuration.ts';
import { NameEnvironment, nameSettingsOf } from './providers/aws/name-settings.ts';

const whole = (min: number, max: number, fallback: number) => z.coerce.number().int().min(min).max(max).default(fallback);

/** Address ranges, separated by commas or spaces. */
const ranges = z
  .string()
  .default('')
  .transform((text) => text.split(/[\s,]+/).filter((part) => part !== ''))
  .pipe(z.array(z.union([z.cidrv4(), z.cidrv6()], 'must be address ranges such as 10.0.0.0/8')));

/** A volume that all dev servers mount. */
const SharedVolume = z
  .string()
  .regex(/^(pvc:[a-z0-9][a-z0-9.-]{0,252}|nfs:[A-Za-z0-9.-]+:\/\S*)$/, 'must be pvc:NAME or nfs:SERVER:/PATH')
  .transform((text) => {
    const [kind, name = '', path = ''] = text.split(':');
    return kind === 'pvc' ? { claim: name } : { nfs: { server: name, path } };
  });

/** An image by digest, or by a tag that is a version: it begins with a digit, or with v and a digit. */
function isPinned(image: string): boolean {
  return /^[a-z0-9][\w./:-]*?(:v?\d[\w.-]*(@sha256:[0-9a-f]{64})?|@sha256:[0-9a-f]{64})$/.test(image);
}

const Environment = z.object({
  POSTGRES_HOST: z.string().min(1).optional(),
  POSTGRES_PORT: whole(1, 65_535, 5432),
  POSTGRES_USER: z.string().min(1).default('gpudev'),
  POSTGRES_PASSWORD: z.string().default(''),
  POSTGRES_DB: z.string().min(1).default('gpudev'),
  DB_POOL_MAX: whole(1, 20, 10),
  DB_ACQUIRE_TIMEOUT_MS: whole(100, 300_000, 10_000),
  /** Queues, and how they are read. */
  QUEUE_NAME: z
    .string()
    .regex(/^[a-z0-9_]{1,40}$/)
    .default('gpu_reservations'),
  DISK_QUEUE_NAME: z
    .string()
    .regex(/^[a-z0-9_]{1,40}$/)
    .default('disk_operations'),
  POLL_INTERVAL_SECONDS: z.coerce.number().min(0.1).max(3_600).default(5),
  VISIBILITY_TIMEOUT_SECONDS: whole(1, 43_200, 300),
  BATCH_SIZE: whole(1, 1_000, 50),
  /** What this process does: answer requests, work, or both. */
  GPU_DEV_ROLE: z.enum(['api', 'processor', 'all']).default('all'),
  /** HTTP. */
  PORT: whole(0, 65_535, 8080),
  GPU_DEV_LISTEN: z.union([z.ipv4(), z.ipv6()]).optional(),
  ...IdentityEnvironment,
  /** How often one may ask, a minute and a replica: with one key; from one address, to log in or with a bad key. 0: any number of times. */
  RATE_LIMIT_PER_KEY: whole(0, 1_000_000, 6_000),
  RATE_LIMIT_PER_ADDRESS: whole(0, 1_000_000, 60),
  ...AwsEnvironment,
  ...NameEnvironment,
  /** The cluster: a kubeconfig file, else the pod's own service account. */
  KUBECONFIG: z.string().min(1).optional(),
  CLUSTER: z.enum(['simulated', 'kube']).default('kube'),
  GPU_DEV_NAMESPACE: z
    .string()
    .regex(/^[a-z0-9-]{1,63}$/)
    .default('gpu-dev'),
  GPU_DEV_CONTAINER_IMAGE: z.string().min(1).optional(),
  GPU_DEV_PRIORITY_CLASS: z
    .string()
    .regex(/^[a-z0-9][a-z0-9.-]{0,252}$/, 'must be the name of a PriorityClass')
    .optional(),
  GPU_DEV_SHARED_VOLUME: SharedVolume.optional(),
  GPU_DEV_STORAGE_CLASS: z
    .string()
    .regex(/^[a-z0-9][a-z0-9.-]{0,252}$/, 'must be the name of a StorageClass')
    .optional(),
  /** How snapshots of disks are taken: by the cluster, as copies by Jobs, or whichever it can. */
  GPU_DEV_SNAPSHOTS: z.enum(['auto', ...SNAPSHOT_KINDS]).default('auto'),
  GPU_DEV_COPY_IMAGE: z
    .string()
    .refine(isPinned, 'must name a version or a digest, none that moves')
    .default(COPY_DEFAULTS.image),
  GPU_DEV_ACCESS_FROM: ranges,
  GPU_DEV_EGRESS_ALLOW: ranges,
  GPU_DEV_EGRESS_DENY: ranges,
  /** Builds of images: the registry, the builder, and where its pods fetch what they build from. */
  BUILDKIT_REGISTRY_URL: z
    .string()
    .regex(/^(https?:\/\/)?[a-z0-9][a-z0-9.-]*(:\d{1,5})?(\/[a-z0-9][a-z0-9._/-]*)?\/?$/)
    .default('registry.gpu-controlplane.svc.cluster.local:5000/gpu-dev'),
  BUILDKIT_REGISTRY_SECRET: z
    .string()
    .regex(/^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/)
    .optional(),
  BUILDKIT_IMAGE: z
    .string()
    .refine(isPinned, 'must name a version or a digest, none that moves')
    .default('moby/buildkit:v0.27.1-rootless'),
  BUILDKIT_ROOTLESS: z.enum(['true', 'false']).default('true'),
  BUILD_CONTEXT_URL: z
    .url({ protocol: /^https?$/ })
    .transform((url) => url.replace(/\/+$/, ''))
    .default('http://build-contexts.gpu-controlplane.svc.cluster.local'),
  /** Port that answers for build contexts alone; none if it is not set. */
  BUILD_CONTEXT_PORT: z.coerce.number().int().min(0).max(65_535).optional(),
  /** Where users' public keys are. */
  GITHUB_URL: z
    .url({ protocol: /^https?$/ })
    .transform((url) => url.replace(/\/+$/, ''))
    .default('https://github.com'),
  /** Whether admins may show reservations to Stately's inspector, and where that is. */
  GPU_DEV_INSPECTOR: z.enum(['true', 'false']).default('false'),
  GPU_DEV_INSPECTOR_URL: z.url({ protocol: /^https?$/ }).default('https://stately.ai/inspect'),
  GPU_DEV_HOME: z.string().min(1).default('.gpu-dev'),
  TIME_SCALE: z.coerce.number().min(1).max(100_000).default(1),
  LOG_LEVEL: z.enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent']).default('info'),
  DRAIN_SECONDS: whole(0, 600, 10),
  /** How often the cluster is compared with the database, and how long what has ended is left alone after it was first seen. */
  RECONCILE_INTERVAL_SECONDS: whole(10, 86_400, 300),
  RECONCILE_GRACE_SECONDS: whole(0, 604_800, 900),
  /** Retention, in days. */
  RETENTION_RESERVATIONS_DAYS: z.coerce.number().min(0).default(90),
  RETENTION_HISTORY_DAYS: z.coerce.number().min(1).default(30),
  RETENTION_EFFECTS_DAYS: z.coerce.number().min(0).default(7),
  RETENTION_DEAD_LETTERS_DAYS: z.coerce.number().min(0).default(90),
  /** Snapshots of each disk that are kept: the newest few, and all of so many days. */
  SNAPSHOT_KEEP_COUNT: whole(1, 1_000, 3),
  SNAPSHOT_KEEP_DAYS: z.coerce.number().min(0).max(3_650).default(7),
});
export type Config = ReturnType<typeof readConfig>;

/** A setting is wrong: the message names the variable and what it may be. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
}

/**
 * Read and check the configuration.
 * @throws ConfigError naming the variable; its value is not repeated, it may be a secret.
 */
export function readConfig(environment: NodeJS.ProcessEnv) {
  const present = Object.fromEntries(Object.entries(environment).filter(([, value]) => value !== undefined && value !== ''));
  const parsed = Environment.safeParse(present);
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!;
    throw new ConfigError(`The environment variable ${issue.path.join('.')}: ${issue.message}`);
  }
  const env = parsed.data;
  const inCluster = present['KUBERNETES_SERVICE_HOST'] !== undefined;
  const host = env.POSTGRES_HOST ?? (inCluster ? 'postgres-primary.gpu-controlplane.svc.cluster.local' : undefined);
  if (host === undefined) {
    throw new ConfigError(
      'The environment variable POSTGRES_HOST is not set. To run everything embedded on this machine, use: npm start',
    );
  }
  const aws = awsOf(env, present);
  if (aws?.calls.region === '')
    throw new ConfigError('The environment variable AWS_REGION is not set, and CLOUD_PROVIDER is aws');
  return {
    database: {
      host,
      port: env.POSTGRES_PORT,
      user: env.POSTGRES_USER,
      password: env.POSTGRES_PASSWORD,
      database: env.POSTGRES_DB,
      maxConnections: env.DB_POOL_MAX,
      acquireTimeoutMs: env.DB_ACQUIRE_TIMEOUT_MS,
    },
    queues: {
      reservations: env.QUEUE_NAME,
      disks: env.DISK_QUEUE_NAME,
      names: [env.QUEUE_NAME, env.DISK_QUEUE_NAME],
      pollMs: env.POLL_INTERVAL_SECONDS * 1_000,
      visibilitySeconds: env.VISIBILITY_TIMEOUT_SECONDS,
      batchSize: env.BATCH_SIZE,
    },
    role: env.GPU_DEV_ROLE,
    port: env.PORT,
    listen: env.GPU_DEV_LISTEN ?? (inCluster ? '0.0.0.0' : '127.0.0.1'),
    identity: identityOf(env),
    rates: { perKey: env.RATE_LIMIT_PER_KEY, perAddress: env.RATE_LIMIT_PER_ADDRESS },
    aws,
    names: namesOf(env, aws?.calls ?? null),
    cluster: env.CLUSTER,
    kubeconfig: env.KUBECONFIG,
    namespace: env.GPU_DEV_NAMESPACE,
    defaultImage: env.GPU_DEV_CONTAINER_IMAGE,
    priorityClass: env.GPU_DEV_PRIORITY_CLASS ?? null,
    sharedVolume: env.GPU_DEV_SHARED_VOLUME ?? null,
    storageClass: env.GPU_DEV_STORAGE_CLASS ?? null,
    snapshots: env.GPU_DEV_SNAPSHOTS,
    copyImage: env.GPU_DEV_COPY_IMAGE,
    network: {
      accessFrom: env.GPU_DEV_ACCESS_FROM,
      egressAllow: env.GPU_DEV_EGRESS_ALLOW,
      egressDeny: env.GPU_DEV_EGRESS_DENY,
    },
    builds: {
      repository: withPath(env.BUILDKIT_REGISTRY_URL.replace(/^https?:\/\//, '')),
      insecure: env.BUILDKIT_REGISTRY_URL.startsWith('http://'),
      registrySecret: env.BUILDKIT_REGISTRY_SECRET ?? null,
      builderImage: env.BUILDKIT_IMAGE,
      rootless: env.BUILDKIT_ROOTLESS === 'true',
      contextUrl: env.BUILD_CONTEXT_URL,
    },
    buildContextPort: env.BUILD_CONTEXT_PORT,
    githubUrl: env.GITHUB_URL,
    inspector: env.GPU_DEV_INSPECTOR === 'true' ? { url: env.GPU_DEV_INSPECTOR_URL } : null,
    home: env.GPU_DEV_HOME,
    timeScale: env.TIME_SCALE,
    logLevel: env.LOG_LEVEL,
    drainMs: env.DRAIN_SECONDS * 1_000,
    reconcile: { everyMs: env.RECONCILE_INTERVAL_SECONDS * 1_000, graceMs: env.RECONCILE_GRACE_SECONDS * 1_000 },
    retention: {
      reservationsDays: env.RETENTION_RESERVATIONS_DAYS,
      historyDays: env.RETENTION_HISTORY_DAYS,
      effectsDays: env.RETENTION_EFFECTS_DAYS,
      deadLettersDays: env.RETENTION_DEAD_LETTERS_DAYS,
    },
    snapshotRetention: { keepCount: env.SNAPSHOT_KEEP_COUNT, keepDays: env.SNAPSHOT_KEEP_DAYS },
  };
}

function namesOf(...given: Parameters<typeof nameSettingsOf>) {
  try {
    return nameSettingsOf(...given);
  } catch (error) {
    throw new ConfigError((error as Error).message);
  }
}

/** A registry without a path gets one of ours. */
function withPath(registry: string): string {
  const trimmed = registry.replace(/\/+$/, '');
  return trimmed.includes('/') ? trimmed : `${trimmed}/gpu-dev`;
}
