/** GET /v1/build-contexts/:hash: what a build is made from, once for each token, to the pod that has it. */
import type { FastifyInstance } from 'fastify';
import type { Logger } from 'pino';
import { z } from 'zod';
import { giveBackToken, redeemToken, TOKEN } from '../../persistence/build-contexts.ts';
import type { Database } from '../../persistence/database.ts';
import { Problem } from '../errors.ts';
import type { HttpDeps, Server } from './deps.ts';
import { newServer } from './fastify.ts';
import { PacedBody } from './paced-body.ts';
import { problems } from './problems.ts';

const Hash = z.object({ hash: z.string().regex(/^[0-9a-f]{6,64}$/) });

/** As long as a build may take: nobody builds from what comes later. */
const LONGEST_MS = 15 * 60_000;

/** @param patienceMs how long a pod may take nothing of its context, in milliseconds; left out: a minute */
export function buildContextRoutes(app: Server, { db, patienceMs }: Pick<HttpDeps, 'db'> & { patienceMs?: number }): void {
  app.get(
    '/v1/build-contexts/:hash',
    {
      // A large one over a slow link takes its time; what stands still is cut off by itself.
      config: { access: 'public', answerMs: LONGEST_MS },
      schema: {
        tags: ['service'],
        summary: 'A build context as tar.gz, for the pod of its build: `Authorization: Bearer <token>`, once',
        params: Hash,
        response: { ...problems(400, 401, 404, 410, 503) },
      },
    },
    async (request, reply) => {
      const { hash } = request.params;
      const token = tokenOf(request.headers.authorization);
      const found = token === null ? 'unknown' : await redeemToken(db, token, hash);
      if (token === null || found === 'unknown') {
        void reply.header('www-authenticate', 'Bearer');
        throw new Problem('GPU_BUILD_TOKEN_INVALID', 'No such token opens this build context');
      }
      if (found === 'spent') throw new Problem('GPU_BUILD_TOKEN_SPENT', 'This token was used, or its time or its build is over');
      if (found === 'gone') throw new Problem('GPU_NOT_FOUND', 'This build context is not kept any more');
      // A connection that breaks took nothing: the pod may ask again.
      reply.raw.once('close', () => {
        if (!reply.raw.writableFinished)
          giveBackToken(db, token).catch((error: unknown) => request.log.warn({ err: error }, 'a token was not given back'));
      });
      return reply
        .header('content-type', 'application/gzip')
        .header('content-length', found.length)
        .send(new PacedBody(found, patienceMs) as never);
    },
  );
}

function tokenOf(header: string | undefined): string | null {
  const [, token] = /^Bearer ([0-9a-f]{64})$/i.exec(header ?? '') ?? [];
  return token !== undefined && TOKEN.test(token) ? token : null;
}

/**
 * A server for build contexts and nothing else. Pods of builds run strangers' code; on a port of its own they reach this and no more of the API.
 */
export function buildContextServer(
  db: Database,
  log: Logger | false,
  { patienceMs, ...limits }: { patienceMs?: number; answerMs?: number } = {},
): FastifyInstance {
  const app = newServer(log, { forceCloseConnections: true, ...limits });
  buildContextRoutes(app, { db, ...(patienceMs === undefined ? {} : { patienceMs }) });
  return app as unknown as FastifyInstance;
}
