// A whole world with the HTTP API on it, and short ways to ask.
import type { FastifyInstance, InjectOptions } from 'fastify';
import { buildHttp, type Health, type HttpDeps } from '../../../src/http/server.ts';
import { DEFAULT_IDENTITY } from '../../../src/identity/settings.ts';
import { type KeyWishes, TestKeys } from '../../support/api-keys.ts';
import { startWorld, type World, type WorldOptions } from '../../support/world.ts';

// biome-ignore lint/suspicious/noExplicitAny: tests look at whatever field they need.
export type Json = any;
export interface Answer {
  status: number;
  headers: Record<string, unknown>;
  body: Json;
}
export interface HttpWorld {
  world: World;
  app: FastifyInstance;
  health: Health;
  /** Headers with a key of this user. */
  as(user: string, wishes?: KeyWishes): Promise<{ authorization: string }>;
  /** As this user; without one as an operator, who may see everything; null: as nobody. */
  get(url: string, user?: string | null): Promise<Answer>;
  post(
    url: string,
    body: unknown,
    options?: { user?: string | null; key?: string; headers?: Record<string, string> },
  ): Promise<Answer>;
  stop(): Promise<void>;
}

/** Who asks when a test does not say. */
export const OPERATOR = 'operator';

export const HEALTHY: Health = {
  database: { ok: true, detail: 'answers' },
  queue: { ok: true, detail: 'gpu_reservations' },
  tracker: { ok: true, detail: 'seen just now' },
};

export async function startHttp(options: WorldOptions = {}, deps: Partial<HttpDeps> = {}): Promise<HttpWorld> {
  const world = await startWorld(options);
  const health = structuredClone(HEALTHY);
  const app = await buildHttp({
    db: world.db,
    kernel: world.kernel,
    logger: false,
    timeScale: options.timeScale ?? 1,
    identity: { ...DEFAULT_IDENTITY, local: true, admins: [OPERATOR] },
    health: async () => health,
    trackerAgeMs: () => world.tracker.ageMs(),
    ...deps,
  });
  const ask = async (request: InjectOptions): Promise<Answer> => {
    const response = await app.inject(request);
    const json = String(response.headers['content-type']).includes('json');
    return { status: response.statusCode, headers: response.headers, body: json ? response.json() : response.payload };
  };
  const keys = new TestKeys(world.db);
  const of = async (user: string | null | undefined): Promise<{ authorization?: string }> =>
    user === null ? {} : user === undefined ? keys.as(OPERATOR, { admin: true }) : keys.as(user);
  return {
    world,
    app,
    health,
    as: (user, wishes) => keys.as(user, wishes),
    get: async (url, user) => ask({ method: 'GET', url, headers: await of(user) }),
    post: async (url, body, { user, key, headers } = {}) =>
      ask({
        method: 'POST',
        url,
        payload: body as object,
        headers: {
          ...(await of(user)),
          ...(key === undefined ? {} : { 'idempotency-key': key }),
          ...headers,
        },
      }),
    stop: async () => {
      await app.close();
      await world.stop();
    },
  };
}
