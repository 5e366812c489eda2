/** GET /v1/live and /v1/reservations/:id/live: what the pages show, as server-sent events: the charts' numbers, the board, what operators look at. */
import type { FastifyReply } from 'fastify';
import { z } from 'zod';
import type { Queryable } from '../../persistence/database.ts';
import { endedKeys } from '../../persistence/viewers.ts';
import { Problem } from '../errors.ts';
import { MACHINES } from '../lifecycle/charts.ts';
import { Board, type BoardFrame, boardPatch } from '../live/board.ts';
import { Lifecycle } from '../live/lifecycle.ts';
import { readOperations } from '../live/operations.ts';
import { OwnTopics } from '../live/own.ts';
import { Topic } from '../live/topic.ts';
import { principalOf } from './access.ts';
import type { HttpDeps, Server } from './deps.ts';
import { EventStream, sendEvents } from './event-stream.ts';
import { problems } from './problems.ts';
import type { ReservationReader } from './reader.ts';
import { ById } from './reservations.ts';

const TOPICS = ['lifecycle', 'board', 'disks', 'operations'] as const;
const OF_ONE = ['effects', 'build-log'] as const;
const Text = z.string().meta({ description: 'text/event-stream' });
type Joinable = Pick<Topic<unknown>, 'join'>;

/** Readings of one topic come no closer together, whoever watches; those of one user or reservation further apart. */
const EVERY_MS = 1_000;
const OWN_EVERY_MS = 1_500;
const BEAT_MS = 15_000;
const RIGHTS_MS = 5_000;
const PER_KEY = 50;
const IN_ALL = 2_000;

/** Who watches, by which key, and whether they still may. */
interface Watcher {
  keyId: number;
  stillMay: (() => Promise<boolean>) | null;
}

export function liveRoutes(app: Server, deps: HttpDeps, reader: ReservationReader): void {
  const onError = (error: unknown) => app.log.warn({ err: error }, 'a live topic could not be read');
  const topics = topicsOf(deps, onError);
  const own = new OwnTopics(deps.db, { everyMs: OWN_EVERY_MS, onError });
  const watching = new Map<EventStream, Watcher>();
  const beat = setInterval(() => {
    for (const stream of watching.keys()) stream.beat(null);
  }, BEAT_MS).unref();
  const rights = setInterval(() => {
    if (watching.size > 0) endUnlawful(deps.db, watching).catch(onError);
  }, RIGHTS_MS).unref();
  app.addHook('preClose', async () => {
    for (const timer of [beat, rights]) clearInterval(timer);
    for (const topic of Object.values(topics)) topic.stop();
    own.stop();
    for (const stream of watching.keys()) stream.finish();
  });

  const begin = (
    reply: FastifyReply,
    keyId: number,
    wanted: readonly Joinable[],
    stillMay: Watcher['stillMay'],
  ): FastifyReply => {
    if ([...watching.values()].filter((each) => each.keyId === keyId).length >= PER_KEY || watching.size >= IN_ALL) {
      throw new Problem('GPU_STREAMS_TOO_MANY', 'No more of these streams can be opened at present');
    }
    const stream = new EventStream();
    watching.set(stream, { keyId, stillMay });
    stream.once('close', () => watching.delete(stream));
    // A client that goes, or is too slow, is no error of ours.
    stream.on('error', () => {});
    for (const topic of wanted) topic.join(stream);
    return sendEvents(reply, stream);
  };

  app.get(
    '/v1/live',
    {
      exposeHeadRoute: false,
      config: { access: { scope: 'read', on: 'service' }, endless: true },
      schema: {
        tags: ['service'],
        summary: 'What the pages show of the whole, as server-sent events',
        description:
          'Each topic comes whole at first, as an event of its name, and then as it changes, at most once a second: `lifecycle` (counts of ' +
          'states, transitions of the last minute), `board` (types, nodes, holders and lines; changes as `board.patch`), `disks` (your own) ' +
          'and, for admins, `operations`. A connection that was lost is opened anew and starts with the whole.',
        querystring: z.object({ topics: listOf(TOPICS, 'lifecycle') }),
        response: { 200: Text, ...problems(400, 401, 403, 429, 503) },
      },
    },
    async (request, reply) => {
      const { admin, keyId, user } = principalOf(request);
      const wanted = namesIn(request.query.topics, TOPICS);
      if (wanted.includes('operations') && !admin) throw new Problem('GPU_ADMIN_ONLY', 'The topic operations is for admins');
      const joined = wanted.map((name) => {
        if (name === 'disks') return own.disks(user);
        return topics[name === 'board' && admin ? 'boardOfAdmins' : name];
      });
      return begin(reply, keyId, joined, null) as never;
    },
  );

  app.get(
    '/v1/reservations/:id/live',
    {
      exposeHeadRoute: false,
      config: { access: { scope: 'read', on: 'reservation', role: 'view' }, endless: true },
      schema: {
        tags: ['reservations'],
        summary: 'Effects and build log of a reservation as they change, as server-sent events',
        description: 'Topics: `effects`, `build-log` (more lines as `build-log.patch`); whole at first, as in `/v1/live`.',
        params: ById,
        querystring: z.object({ topics: listOf(OF_ONE, 'effects') }),
        response: { 200: Text, ...problems(400, 401, 403, 404, 409, 429, 503) },
      },
    },
    async (request, reply) => {
      const { id } = await reader.open(request, request.params.id);
      const wanted = namesIn(request.query.topics, OF_ONE);
      const joined = wanted.map((name) => (name === 'effects' ? own.effects(id) : own.buildLog(id)));
      const stillMay = () =>
        reader.open(request, id).then(
          () => true,
          (error: unknown) => !(error instanceof Problem),
        );
      return begin(reply, principalOf(request).keyId, joined, stillMay) as never;
    },
  );
}

/** Streams end with the key that they were opened with, and with the right to see what they show. */
async function endUnlawful(db: Queryable, watching: ReadonlyMap<EventStream, Watcher>): Promise<void> {
  const ended = new Set(await endedKeys(db, [...new Set([...watching.values()].map(({ keyId }) => keyId))]));
  for (const [stream, { keyId, stillMay }] of watching) {
    if (ended.has(keyId) || (stillMay !== null && !(await stillMay()))) stream.finish();
  }
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

function listOf(names: readonly string[], fallback: string) {
  return z
    .string()
    .max(100)
    .default(fallback)
    .meta({ description: `Of ${names.join(', ')}, separated by commas.` });
}

/** @throws Problem if one of them is none */
function namesIn<N extends string>(list: string, known: readonly N[]): N[] {
  const names = [...new Set(list.split(',').map((name) => name.trim()))];
  const unknown = names.find((name) => !(known as readonly string[]).includes(name));
  if (unknown === undefined) return names as N[];
  throw new Problem('GPU_FIELD_INVALID', `The field topics: ${unknown.slice(0, 40)} is none`, {
    field: 'topics',
    details: { allowed: [...known] },
  });
}
