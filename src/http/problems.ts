/** Every error leaves as a problem document, whatever it was. */
import type { FastifyReply, FastifyRequest } from 'fastify';
import { z } from 'zod';
import { documentOf, Problem, problemOf } from '../errors.ts';
import type { Server } from './deps.ts';

/** When the same request may be worth another try, in seconds. */
const RETRY_AFTER: Record<number, string> = { 429: '5', 503: '1' };

/** Schema of an error, for the API description. */
export const ProblemBody = z
  .object({
    type: z.string(),
    title: z.string(),
    status: z.number().int(),
    code: z.string(),
    detail: z.string(),
    field: z.string().nullable(),
    details: z.record(z.string(), z.unknown()),
    instance: z.string(),
    request_id: z.string(),
  })
  .meta({ description: 'A problem document (RFC 9457).' });

/** Error answers that a route may give, for its schema. */
export function problems<S extends number>(...statuses: S[]): Record<S, typeof ProblemBody> {
  return Object.fromEntries(statuses.map((status) => [status, ProblemBody])) as Record<S, typeof ProblemBody>;
}

/** Answer errors and unknown paths. What was our fault is logged in full; what goes out holds nothing that is not meant for senders. */
export function answerProblems(app: Server): void {
  app.setErrorHandler((error, request, reply) => {
    const problem = problemOf(error);
    if (problem.status >= 500) request.log.error({ err: error }, problem.message);
    return send(problem, request, reply);
  });
  app.setNotFoundHandler((request, reply) =>
    send(new Problem('GPU_NOT_FOUND', `There is nothing at ${request.method} ${pathOf(request)}`), request, reply),
  );
}

function send(problem: Problem, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const wait = RETRY_AFTER[problem.status];
  if (wait !== undefined) void reply.header('retry-after', wait);
  return reply
    .code(problem.status)
    .header('content-type', 'application/problem+json; charset=utf-8')
    .serializer((body: unknown) => JSON.stringify(body))
    .send(documentOf(problem, pathOf(request), request.id));
}

function pathOf(request: FastifyRequest): string {
  return request.url.split('?', 1)[0]!.slice(0, 200);
}
