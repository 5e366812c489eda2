/** The HTTP API: a plugin per resource, one set of rules for what comes in, one shape for what goes wrong. */
import swagger from '@fastify/swagger';
import type { FastifyInstance } from 'fastify';
import { v7 as uuidv7 } from 'uuid';
import { CreateDoor } from '../../actors/intake/create-door.ts';
import { DEFAULT_IDENTITY } from '../identity/settings.ts';
import { KeyRing } from '../identity/key-ring.ts';
import { requireAccess } from './access.ts';
import { actorRoutes } from './admin-actors.ts';
import { letterRoutes } from './admin-letters.ts';
import { maintenanceRoutes } from './admin-maintenance.ts';
import { nodeRoutes } from './admin-nodes.ts';
import { releaseRoutes } from './admin-release.ts';
import { auditRoutes } from './audit.ts';
import { authRoutes } from './auth.ts';
import { buildContextRoutes } from './build-contexts.ts';
import { buildLogRoutes } from './build-log.ts';
import { chartRoutes, prepareCharts } from './charts.ts';
import { clusterStatusRoutes } from './cluster-status.ts';
import { collaboratorRoutes } from './collaborators.ts';
import { createRoutes } from './create.ts';
import { deadLetterRoutes } from './dead-letters.ts';
import type { HttpDeps, Server } from './deps.ts';
import { diskSnapshotRoutes } from './disk-snapshots.ts';
import { diskRoutes } from './disks.ts';
import { declareDocs, docsRoutes } from './docs.ts';
import { answerByTag } from './etag.ts';
import { eventRoutes } from './events.ts';
import { newServer } from './fastify.ts';
import { githubRoutes } from './github.ts';
import { gpuRoutes } from './gpus.ts';
import { jobRoutes } from './jobs.ts';
import { keyRoutes } from './keys.ts';
import { userRoutes } from './users.ts';
import { healthRoutes } from './health.ts';
import { historyRoutes } from './history.ts';
import { limitKeys, limitStrangers } from './limits.ts';
import { inspectRoutes } from './inspect.ts';
import { liveRoutes } from './live.ts';
import { machineRoutes } from './machines.ts';
import { metricRoutes } from './metrics.ts';
import { momentRoutes } from './moments.ts';
import { completeDocument, describeRoute, DOCUMENT } from './openapi.ts';
import { BUILT_PAGE, pageRoutes } from './page.ts';
import { QueueViews } from './queue-views.ts';
import { quotaRoutes } from './quotas.ts';
import { realityRoutes } from './reality.ts';
import { ReservationReader } from './reader.ts';
import { reservationRoutes } from './reservations.ts';
import { rootRoutes } from './root.ts';
import { streamRoutes } from './stream.ts';

export type { Health, HealthCheck, HttpDeps } from './deps.ts';

const BODY_LIMIT = 5 * 1024 * 1024;

/**
 * The server, ready to listen or to be injected into. It does not own what `deps` holds: closing it closes no database and no kernel.
 */
export async function buildHttp(deps: HttpDeps): Promise<FastifyInstance> {
  const app = newServer(deps.logger, {
    bodyLimit: BODY_LIMIT,
    ...(deps.answerMs === undefined ? {} : { answerMs: deps.answerMs }),
    keepAliveTimeout: 65_000,
    trustProxy: deps.trustedProxies !== undefined && deps.trustedProxies.length > 0 ? [...deps.trustedProxies] : false,
    forceCloseConnections: 'idle',
    genReqId: (request) => requestId(request.headers['x-request-id']),
    routerOptions: { ignoreTrailingSlash: true },
  });
  // JSON only: a page elsewhere can post text without asking, but not JSON.
  app.removeContentTypeParser('text/plain');
  app.addHook('onRequest', async (request, reply) => {
    void reply.headers({ 'x-request-id': request.id, 'x-content-type-options': 'nosniff', 'cache-control': 'no-store' });
  });
  app.addHook('onResponse', async (request, reply) => {
    const line = { method: request.method, url: request.url, status: reply.statusCode, ms: Math.round(reply.elapsedTime) };
    request.log[request.method === 'GET' ? 'debug' : 'info'](line, 'answered');
  });

  await app.register(swagger, {
    openapi: DOCUMENT,
    transform: describeRoute,
    transformObject: completeDocument,
  });

  answerByTag(app);
  declareDocs(app);
  const identity = deps.identity ?? DEFAULT_IDENTITY;
  const onError = (error: unknown) => app.log.warn({ err: error }, 'the use of keys could not be noted');
  const rates = deps.rates ?? { perKey: 0, perAddress: 0 };
  const countRefused = await limitStrangers(app, rates);
  requireAccess(app, new KeyRing({ db: deps.db, admins: identity.admins, onError }), countRefused);
  limitKeys(app, rates);
  const streams = { open: () => 0 };
  metricRoutes(app, deps, streams);
  await app.register(async (scope) => healthRoutes(scope as unknown as Server, deps));
  if (deps.resources !== false) await registerResources(app, deps, streams);
  await app.ready();
  return app as unknown as FastifyInstance;
}

async function registerResources(app: Server, deps: HttpDeps, streams: { open: () => number }): Promise<void> {
  const reader = new ReservationReader(deps.db, deps.kernel, new QueueViews(deps.db, deps.timeScale));
  const door = new CreateDoor({ db: deps.db, kernel: deps.kernel, see: (db, made) => reader.see(db, made) });
  for (const routes of [
    reservationRoutes,
    createRoutes,
    eventRoutes,
    jobRoutes,
    historyRoutes,
    momentRoutes,
    buildLogRoutes,
    collaboratorRoutes,
    liveRoutes,
    inspectRoutes,
  ]) {
    await app.register(async (scope) => routes(scope as unknown as Server, deps, reader, door));
  }
  await app.register(async (scope) => {
    const all = streamRoutes(scope as unknown as Server, deps, reader);
    streams.open = () => all.count;
  });
  for (const routes of [
    authRoutes,
    keyRoutes,
    userRoutes,
    auditRoutes,
    githubRoutes,
    gpuRoutes,
    clusterStatusRoutes,
    diskRoutes,
    diskSnapshotRoutes,
    machineRoutes,
    chartRoutes,
    deadLetterRoutes,
    letterRoutes,
    maintenanceRoutes,
    nodeRoutes,
    releaseRoutes,
    actorRoutes,
    quotaRoutes,
    realityRoutes,
    buildContextRoutes,
  ]) {
    await app.register(async (scope) => routes(scope as unknown as Server, deps));
  }
  await docsRoutes(app);
  rootRoutes(
    app,
    deps,
    pageRoutes(app, deps.page ?? BUILT_PAGE, { onVisit: prepareCharts, inspector: deps.inspector?.url ?? null }),
  );
}

/** The caller's request id if it is a decent one, else a new one. */
function requestId(given: string | string[] | undefined): string {
  return typeof given === 'string' && /^[\w.-]{1,64}$/.test(given) ? given : uuidv7();
}
