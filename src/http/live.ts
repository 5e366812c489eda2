/** GET /v1/live: what the pages show of the whole, as server-sent events: the charts' numbers, the board, and what operators look at. */
import type { FastifyReply } from 'fastify';
import { z } from 'zod';
import { endedKeys } from '../../persistence/viewers.ts';
import { Problem } from '../errors.ts';
import { MACHINES } from '../lifecycle/charts.ts';
import { Board, type BoardFrame, boardPatch } from '../live/board.ts';
import { Lifecycle } from '../live/lifecycle.ts';
import { readOperations } from '../live/operations.ts';
import { Topic } from '../live/topic.ts';
import { principalOf } from './access.ts';
import type { HttpDeps, Server } from './deps.ts';
import { EventStream } from './event-stream.ts';
import { problems } from './problems.ts';

const TOPICS = ['lifecycle', 'board', 'operations'] as const;
/** Readings of one topic come no closer together, whoever watches. */
const EVERY_MS = 1_000;
const BEAT_MS = 15_000;
const RIGHTS_MS = 5_000;
const PER_KEY = 50;
const IN_ALL = 2_000;

export function liveRoutes(app: Server, deps: HttpDeps): void {
  const topics = topicsOf(deps, (error) => app.log.warn({ err: error }, 'a live topic could not be read'));
  const watching = new Map<EventStream, number>();
  const beat = setInterval(() => {
    for (const stream of watching.keys()) stream.beat(null);
  }, BEAT_MS).unref();
  const rights = setInterval(() => {
    if (watching.size === 0) return;
    endedKeys(deps.db, [...new Set(watching.values())]).then(
      (ended) => {
        for (const [stream, key] of watching) if (ended.includes(key)) stream.finish();
      },
      (error: unknown) => app.log.warn({ err: error }, 'keys of open streams could not be looked at'),
    );
  }, RIGHTS_MS).unref();
  app.addHook('preClose', async () => {
    for (const timer of [beat, rights]) clearInterval(timer);
    for (const topic of Object.values(topics)) topic.stop();
    for (const stream of watching.keys()) stream.finish();
  });

  app.get(
    '/v1/live',
    {
      exposeHeadRoute: false,
      config: { access: { scope: 'read', on: 'service' } },
      schema: {
        tags: ['service'],
        summary: 'What the pages show of the whole, as server-sent events',
        description:
          'Each topic comes whole at first, as an event of its name, and then as it changes, at most once a second: `lifecycle` (counts of ' +
          'states, transitions of the last minute), `board` (types, nodes, holders and lines; changes as `board.patch`) and, for admins, ' +
          '`operations`. A connection that was lost is opened anew and starts with the whole.',
        querystring: z.object({
          topics: z
            .string()
            .max(100)
            .default('lifecycle')
            .meta({ description: `Of ${TOPICS.join(', ')}, separated by commas.` }),
        }),
        response: { 200: z.string().meta({ description: 'text/event-stream' }), ...problems(400, 401, 403, 429, 503) },
      },
    },
    async (request, reply) => {
      const { admin, keyId } = principalOf(request);
      const wanted = wantedOf(request.query.topics, admin);
      if ([...watching.values()].filter((key) => key === keyId).length >= PER_KEY || watching.size >= IN_ALL) {
        throw new Problem('GPU_STREAMS_TOO_MANY', 'No more of these streams can be opened at present');
      }
      const stream = new EventStream();
      watching.set(stream, keyId);
      stream.once('close', () => watching.delete(stream));
      // A client that goes, or is too slow, is no error of ours.
      stream.on('error', () => {});
      for (const name of wanted) topics[name === 'board' && admin ? 'boardOfAdmins' : name].join(stream);
      return send(reply, stream);
    },
  );
}

function topicsOf(deps: HttpDeps, onError: (error: unknown) => void) {
  const { db, timeScale } = deps;
  const common = { everyMs: EVERY_MS, onError };
  const lifecycle = new Lifecycle(db, MACHINES);
  const board = new Board(db, timeScale);
  const boardTopic = (withIds: boolean) =>
    new Topic<BoardFrame>({ ...common, name: 'board', read: () => board.read(withIds), patch: boardPatch });
  return {
    lifecycle: new Topic({ ...common, name: 'lifecycle', read: () => lifecycle.read() }),
    board: boardTopic(false),
    boardOfAdmins: boardTopic(true),
    operations: new Topic({ ...common, name: 'operations', read: () => readOperations(deps) }),
  };
}

function wantedOf(list: string, admin: boolean): (typeof TOPICS)[number][] {
  const names = [...new Set(list.split(',').map((name) => name.trim()))];
  const unknown = names.find((name) => !(TOPICS as readonly string[]).includes(name));
  if (unknown !== undefined) {
    throw new Problem('GPU_FIELD_INVALID', `The field topics: ${unknown.slice(0, 40)} is none`, {
      field: 'topics',
      details: { allowed: [...TOPICS] },
    });
  }
  if (names.includes('operations') && !admin) throw new Problem('GPU_ADMIN_ONLY', 'The topic operations is for admins');
  return names as (typeof TOPICS)[number][];
}

function send(reply: FastifyReply, stream: EventStream): FastifyReply {
  return reply.header('content-type', 'text/event-stream; charset=utf-8').header('x-accel-buffering', 'no').send(stream);
}
