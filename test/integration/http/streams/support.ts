// The API on a real socket, as often as needed over one world: streams cannot be heard without one.
import type { AddressInfo } from 'node:net';
import type { FastifyInstance } from 'fastify';
import { buildHttp, type HttpDeps } from '../../../../src/http/server.ts';
import type { World } from '../../../support/world.ts';
import { DEFAULT_IDENTITY } from '../../../../src/identity/settings.ts';
import { HEALTHY, OPERATOR } from '../support.ts';

export interface Replica {
  app: FastifyInstance;
  url: string;
}

/** One more process that answers requests, as far as the API can tell. */
export async function startReplica(world: World, deps: Partial<HttpDeps> = {}, port = 0): Promise<Replica> {
  const app = await buildHttp({
    db: world.db,
    kernel: world.kernel,
    logger: false,
    timeScale: 1,
    identity: { ...DEFAULT_IDENTITY, local: true, admins: [OPERATOR] },
    health: async () => HEALTHY,
    trackerAgeMs: () => 0,
    ...deps,
  });
  await app.listen({ host: '127.0.0.1', port });
  return { app, url: `http://127.0.0.1:${(app.server.address() as AddressInfo).port}` };
}
