/** Every error leaves as a problem document, whatever it was. */
import { STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { v7 as uuidv7 } from 'uuid';
import { z } from 'zod';
import { documentOf, Problem, type ProblemCode, problemOf } from '../errors.ts';
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
  .meta({ id: 'Problem', description: 'A problem document (RFC 9457).' });

/** Error answers that a route may give, for its schema. */
export function problems<S extends number>(...statuses: S[]): Record<S, typeof ProblemBody> {
  return Object.fromEntries(statuses.map((status) => [status, ProblemBody])) as Record<S, typeof ProblemBody>;
}

/** Answer errors and unknown paths. What was our fault is logged in full; what goes out holds nothing that is not meant for senders. */
export function answerProblems(app: Server): void {
  app.setErrorHandler(answerError);
  app.setNotFoundHandler((request, reply) =>
    send(new Problem('GPU_NOT_FOUND', `There is nothing at ${request.method} ${pathOf(request)}`), request, reply),
  );
}

/** Answer an error, also one that comes before any route was found. */
export function answerError(error: unknown, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const problem = problemOf(error);
  if (problem.status >= 500) request.log.error({ err: error }, problem.message);
  return send(problem, request, reply);
}

/** What Node's server refuses before there is a request, by its code. */
const BROKEN: Record<string, { code: ProblemCode; detail: string }> = {
  HPE_HEADER_OVERFLOW: { code: 'GPU_HEADERS_TOO_LARGE', detail: 'The headers are larger than 16 kB' },
  ERR_HTTP_REQUEST_TIMEOUT: { code: 'GPU_REQUEST_TIMEOUT', detail: 'The request did not arrive in time' },
};

/** Answer on a connection whose request cannot be read, and close it. */
export function answerBroken(error: Error & { code?: string }, socket: Socket): void {
  if (error.code === 'ECONNRESET' || socket.destroyed) return;
  const { code, detail } = BROKEN[error.code ?? ''] ?? { code: 'GPU_REQUEST_INVALID' as const, detail: 'The request is no HTTP' };
  const problem = new Problem(code, detail);
  const body = JSON.stringify(documentOf(problem, '', uuidv7()));
  const head = `HTTP/1.1 ${problem.status} ${STATUS_CODES[problem.status]}\r\nconnection: close\r\ncontent-type: application/problem+json; charset=utf-8\r\ncontent-length: ${Buffer.byteLength(body)}`;
  if (socket.writable) socket.end(`${head}\r\n\r\n${body}`);
  else socket.destroy(error);
}

function send(problem: Problem, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const wait = problem.details['retry_after'] ?? RETRY_AFTER[problem.status];
  if (wait !== undefined) void reply.header('retry-after', String(wait));
  return reply
    .code(problem.status)
    .headers({ 'x-request-id': request.id, 'x-content-type-options': 'nosniff', 'cache-control': 'no-store' })
    .header('content-type', 'application/problem+json; charset=utf-8')
    .serializer((body: unknown) => JSON.stringify(body))
    .send(documentOf(problem, pathOf(request), request.id));
}

function pathOf(request: FastifyRequest): string {
  return request.url.split('?', 1)[0]!.slice(0, 200);
}
