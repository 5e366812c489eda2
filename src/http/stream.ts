/** GET /v1/stream and GET /v1/reservations/:id/stream: what happens, as server-sent events. */
import type { FastifyRequest } from 'fastify';
import { z } from 'zod';
import { endedKeys, sharedWith, viewersOf } from '../../persistence/viewers.ts';
import { Problem } from '../errors.ts';
import { principalOf } from './access.ts';
import type { HttpDeps, Server } from './deps.ts';
import { sendEvents } from './event-stream.ts';
import { problems } from './problems.ts';
import type { ReservationReader } from './reader.ts';
import { ById } from './reservations.ts';
import { StreamOfOne } from './stream-of-one.ts';
import type { Listening } from './stream-session.ts';
import { Streams } from './streams.ts';
import { userOfList } from './user.ts';

const LAST_ID = 'last-event-id';

const Resume = {
  last_event_id: z
    .string()
    .max(2_500)
    .optional()
    .meta({ description: 'Id of the last event that you have, for those who cannot set the header Last-Event-ID.' }),
};

const EVENTS =
  'Events: `snapshot` (where things stand, at the start), `step` (one of the history), `warning` (a step too: the end is near), `end` (the ' +
  'step that ended it), `position` (a place in a queue has changed), `reset` (your last id cannot be continued; a snapshot follows). ' +
  'A comment every 15 s shows that the connection lives. ';

const Text = { 200: z.string().meta({ description: 'text/event-stream' }) };

export function streamRoutes(app: Server, deps: HttpDeps, reader: ReservationReader): Streams {
  const { db, kernel } = deps;
  const streams = new Streams({
    db,
    kernel,
    reader,
    rights: {
      endedKeys: (keys) => endedKeys(db, keys),
      viewersOf: (ids) => viewersOf(db, ids),
      sharedWith: (user) => sharedWith(db, user),
    },
    ...deps.streams,
    onError: (error) => app.log.warn({ err: error }, 'streams failed and go on'),
  });
  app.addHook('preClose', async () => streams.close());
  app.addHook('onClose', () => streams.stop());

  app.get(
    '/v1/reservations/:id/stream',
    {
      exposeHeadRoute: false,
      config: { access: { scope: 'read', on: 'reservation', role: 'view' }, endless: true },
      schema: {
        tags: ['reservations'],
        summary: 'What happens to a reservation, as server-sent events, until it ends',
        description:
          `${EVENTS}Ids are the numbers of the steps. With a Last-Event-ID every later step is sent, each once. After the \`end\` the stream is ` +
          'over: who asks for what comes after it gets 204.',
        params: ById,
        querystring: z.object(Resume),
        response: { ...Text, 204: z.null().meta({ description: 'It has ended, and you have its last step.' }) },
      },
    },
    async (request, reply) => {
      const by = listening(request);
      const { id, owner } = await reader.open(request, request.params.id);
      const lastId = lastIdOf(request, request.query.last_event_id);
      if (lastId !== null && !/^\d{1,15}$/.test(lastId)) throw malformed('the number of a step');
      const after = lastId === null ? null : Number(lastId);
      if (after !== null && (await StreamOfOne.isOver(db, id, after))) return reply.code(204).send(null);
      return sendEvents(reply, await streams.ofOne(by, { id, owner }, after));
    },
  );

  app.get(
    '/v1/stream',
    {
      exposeHeadRoute: false,
      config: { access: { scope: 'read', on: 'self' }, endless: true },
      schema: {
        tags: ['reservations'],
        summary: 'What happens to all your reservations, as server-sent events',
        description:
          `${EVENTS}An id names a step before its \`@\` (reservation and number), and behind it the place where to go on. With a Last-Event-ID ` +
          'every step is sent that was committed since; around that place some may come twice, with the same name. Steps of one reservation ' +
          'come in their order.',
        querystring: z.object({
          ...Resume,
          user: z.string().max(128).optional().meta({ description: 'Whose, `*` for everybody: for admins.' }),
        }),
        response: { ...Text, ...problems(400, 503) },
      },
    },
    async (request, reply) => {
      const by = listening(request);
      const lastId = lastIdOf(request, request.query.last_event_id);
      return sendEvents(reply, await streams.ofMany(by, userOfList(request, request.query.user), lastId));
    },
  );
  return streams;
}

function listening(request: FastifyRequest): Listening {
  const { user, admin, keyId } = principalOf(request);
  return { user, admin, keyId };
}

/** The header is what browsers send when they come back, so it is newer than what stands in the address. */
function lastIdOf(request: FastifyRequest, inQuery: string | undefined): string | null {
  const header = request.headers[LAST_ID];
  const id = typeof header === 'string' && header !== '' ? header : inQuery;
  return id === undefined || id === '' ? null : id;
}

function malformed(what: string): Problem {
  return new Problem('GPU_FIELD_INVALID', `The Last-Event-ID must be ${what}, as a stream has given it`, {
    field: 'last_event_id',
  });
}
