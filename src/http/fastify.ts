/** A Fastify server with the rules that all of ours share: how input is checked, how answers are written, how errors leave. */
import Fastify, { type FastifyServerOptions, LogController } from 'fastify';
import { serializerCompiler, type ZodTypeProvider } from 'fastify-type-provider-zod';
import type { Logger } from 'pino';
import type { ZodType } from 'zod';
import { check } from '../../actors/intake/messages.ts';
import { limitAnswers } from './answer-time.ts';
import type { Server } from './deps.ts';
import { answerBroken, answerError, answerProblems } from './problems.ts';

/** A request must have arrived whole within this time, and its answer have been given within the other. */
const RECEIVE_MS = 30_000;
const ANSWER_MS = 20_000;

/** What Fastify takes, and how long an answer may take, in milliseconds. */
export type ServerSettings = FastifyServerOptions & { answerMs?: number };

/** A server without routes. @param logger false logs nothing */
export function newServer(logger: Logger | false, { answerMs = ANSWER_MS, ...options }: ServerSettings = {}): Server {
  const app = Fastify({
    ...(logger === false ? { logger: false as const } : { loggerInstance: logger }),
    // One line per request is enough, and reads are not news.
    logController: new LogController({ disableRequestLogging: true }),
    requestTimeout: RECEIVE_MS,
    frameworkErrors: (error, request, reply) => void answerError(error, request, reply as never),
    clientErrorHandler: answerBroken,
    ...options,
  }).withTypeProvider<ZodTypeProvider>() as unknown as Server;
  // One way of checking at every door, so that the same mistake has the same words in HTTP and in the dead letters.
  app.setValidatorCompiler<ZodType>(({ schema }) => (value) => {
    try {
      return { value: check(schema, value) };
    } catch (error) {
      return { error: error as Error };
    }
  });
  app.setSerializerCompiler(serializerCompiler);
  answerProblems(app);
  limitAnswers(app, answerMs);
  return app;
}
