/** What the HTTP API needs, and the type of its server. */
import type {
  FastifyBaseLogger,
  FastifyInstance,
  RawReplyDefaultExpression,
  RawRequestDefaultExpression,
  RawServerDefault,
} from 'fastify';
import type { ZodTypeProvider } from 'fastify-type-provider-zod';
import type { Logger } from 'pino';
import type { Kernel } from '../../actors/kernel/kernel.ts';
import type { Database } from '../../persistence/database.ts';
import type { IdentitySettings } from '../identity/settings.ts';
import type { ContentsStore } from '../disk-contents-store.ts';
import type { RateLimits } from './limits.ts';
import type { StreamsSettings } from './streams.ts';

/** State of one thing the service stands on. */
export interface HealthCheck {
  ok: boolean;
  /** A sentence: what it is, or what is wrong. */
  detail: string;
}

/** Whether the service can do its work. */
export interface Health {
  database: HealthCheck;
  queue: HealthCheck;
  tracker: HealthCheck;
}

export interface HttpDeps {
  db: Database;
  kernel: Kernel;
  /** False logs nothing. */
  logger: Logger | false;
  /** How people show who they are. Left out: by nothing but a key that exists. */
  identity?: IdentitySettings;
  /** Addresses of proxies whose word on the client is taken. */
  trustedProxies?: readonly string[];
  /** How many times faster than the calendar reserved hours run. */
  timeScale: number;
  /** False leaves only health and numbers. Left out: true. */
  resources?: boolean;
  health: () => Promise<Health>;
  /** Age of what the tracker knows, in milliseconds; null if it has seen nothing yet. */
  trackerAgeMs: () => number | null;
  /** What the dev servers run on: a simulated pod has no shell, and people are told. */
  cluster?: 'simulated' | 'kube';
  /** Stately's inspector, to which admins may show a reservation; null or left out: nowhere. */
  inspector?: { url: string } | null;
  /** Where what is on disks is kept, but for what the database holds; null or left out: nowhere. */
  contents?: Pick<ContentsStore, 'owns' | 'get'> | null;
  /** Folder of the page for people as it was built. Left out: where the build puts it. */
  page?: string;
  /** How often one may ask. Left out: any number of times. */
  rates?: RateLimits;
  /** How long an answer may take, in milliseconds; for tests. */
  answerMs?: number;
  /** How many streams there may be, and how often they are looked after. */
  streams?: Pick<StreamsSettings, 'limits' | 'every' | 'patienceMs' | 'atOnce'>;
}

/** The server with types taken from zod schemas. */
export type Server = FastifyInstance<
  RawServerDefault,
  RawRequestDefaultExpression,
  RawReplyDefaultExpression,
  FastifyBaseLogger,
  ZodTypeProvider
>;
