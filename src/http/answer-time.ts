/**
 * How long an answer may take. Fastify has a limit of its own (`handlerTimeout`), but it ends with the body of the request: a POST had none, and
 * each of them paid for an abortion that nobody had asked for (fastify/fastify#6725).
 */
import type { FastifyReply, FastifyRequest } from 'fastify';
import { Problem } from '../errors.ts';
import type { Server } from './deps.ts';

declare module 'fastify' {
  interface FastifyContextConfig {
    /** How long the answer of this route may take, in milliseconds. Left out: as long as any. */
    answerMs?: number;
    /** The answer of this route goes on for as long as its client likes: only its beginning must come in time. */
    endless?: boolean;
  }
}

/** How long an answer may still take, and since when that runs. */
interface Clock {
  timer: NodeJS.Timeout;
  since: number;
  leftMs: number;
}

/**
 * Answer for whoever takes longer than `milliseconds`, or than its route may: with GPU_TIMEOUT, or, if the answer has begun, by closing the
 * connection. The time in which the body comes does not count; for that there is `requestTimeout`.
 */
export function limitAnswers(app: Server, milliseconds: number): void {
  const clocks = new WeakMap<FastifyRequest, Clock>();
  const start = (request: FastifyRequest, reply: FastifyReply) => {
    const { answerMs = milliseconds } = request.routeOptions.config;
    const leftMs = clocks.get(request)?.leftMs ?? answerMs;
    clocks.set(request, { timer: setTimeout(giveUp, leftMs, request, reply), since: performance.now(), leftMs });
  };
  const stop = (request: FastifyRequest) => {
    const clock = clocks.get(request);
    if (clock === undefined) return;
    clearTimeout(clock.timer);
    clock.leftMs = Math.max(1, clock.leftMs - (performance.now() - clock.since));
  };
  app.addHook('onRequest', (request, reply, done) => {
    start(request, reply);
    // Of the answer: that of a request comes with the end of its body.
    reply.raw.once('close', () => stop(request));
    done();
  });
  app.addHook('preParsing', (request, _reply, _payload, done) => {
    stop(request);
    done();
  });
  app.addHook('preValidation', (request, reply, done) => {
    if (!reply.raw.closed) start(request, reply);
    done();
  });
}

function giveUp(request: FastifyRequest, reply: FastifyReply): void {
  if (reply.sent) return;
  const problem = new Problem('GPU_TIMEOUT', 'The answer took too long');
  if (!reply.raw.headersSent) return void reply.send(problem);
  if (request.routeOptions.config.endless) return;
  request.log.error({ err: problem }, 'an answer that had begun took too long');
  reply.raw.destroy(problem);
}
