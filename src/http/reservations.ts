/** GET /v1/reservations and what hangs below one: the list, the view, the Jupyter token. */
import type { FastifyRequest } from 'fastify';
import { z } from 'zod';
import { findJupyterToken } from '../../persistence/reservations.ts';
import { GITHUB_NAME } from '../../machines/reservation.events.ts';
import { Problem } from '../errors.ts';
import { principalOf } from './access.ts';
import { MOMENT, NAME, openCursor, sealCursor } from './cursor.ts';
import type { HttpDeps, Server } from './deps.ts';
import { problems } from './problems.ts';
import type { ReservationReader } from './reader.ts';
import { LIVE, ReservationView, STATES } from './reservation-view.ts';
import { userOfList } from './user.ts';

export const ById = z.object({
  id: z.string().max(100).meta({ description: 'A full id, or a unique beginning of one (4 characters at least).' }),
});

const ListQuery = z.object({
  status: z
    .string()
    .max(200)
    .optional()
    .meta({ description: 'States, separated by commas; `live` stands for all that have not ended.' }),
  user: z.string().max(128).optional().meta({ description: 'Owner; another than oneself, or `*` for all, is for admins.' }),
  gpu_type: z.string().max(64).optional(),
  shared_with: z.string().regex(GITHUB_NAME, 'must be a GitHub user name').optional().meta({
    description:
      "Those to which this GitHub user was added: one's own; of anybody if it is one's own proven name, or for admins.",
  }),
  shared: z.enum(['true', 'false']).optional().meta({ description: '`true`: those of others that one was let into.' }),
  limit: z.coerce.number().int().min(1).max(500).default(50),
  cursor: z.string().max(200).optional().meta({ description: '`next_cursor` of the page before.' }),
});

export function reservationRoutes(app: Server, deps: HttpDeps, reader: ReservationReader): void {
  app.get(
    '/v1/reservations',
    {
      config: { access: { scope: 'read', on: 'self' } },
      schema: {
        tags: ['reservations'],
        summary: 'List reservations, newest first',
        querystring: ListQuery,
        response: {
          200: z.object({ reservations: z.array(ReservationView), next_cursor: z.string().nullable() }),
          ...problems(400, 401, 403, 503),
        },
      },
    },
    async (request) => {
      const { status, user, gpu_type: gpuType, shared_with: sharedWith, shared, limit, cursor } = request.query;
      const { views, next } = await reader.list({
        statuses: status === undefined || status === '' ? null : statesOf(status),
        ...whose(request, user, sharedWith, shared),
        gpuType: gpuType?.toLowerCase() ?? null,
        limit,
        after: placeOf(cursor),
      });
      return { reservations: views, next_cursor: next === null ? null : sealCursor(next.place, next.id) };
    },
  );

  app.get(
    '/v1/reservations/:id',
    {
      config: { access: { scope: 'read', on: 'reservation', role: 'view' }, etag: true },
      schema: {
        tags: ['reservations'],
        summary: 'One reservation',
        params: ById,
        response: { 200: ReservationView, ...problems(401, 403, 404, 409, 503) },
      },
    },
    async (request) => reader.mustView((await reader.open(request, request.params.id)).id),
  );

  app.get(
    '/v1/reservations/:id/jupyter-token',
    {
      // Whoever has the token can run code there.
      config: { access: { scope: 'reserve', on: 'reservation', role: 'attach' } },
      schema: {
        tags: ['reservations'],
        summary: 'The Jupyter token of a reservation, for those who may attach to it',
        params: ById,
        response: {
          200: z.object({ id: z.string(), state: z.string(), url: z.string().nullable(), token: z.string() }),
          ...problems(401, 403, 404, 409, 503),
        },
      },
    },
    async (request) => {
      const { id, owner } = await reader.open(request, request.params.id);
      const view = await reader.mustView(id);
      const secret = await findJupyterToken(deps.db, id);
      if (secret === null || secret.owner !== owner) {
        throw new Problem('GPU_NOT_FOUND', 'This reservation has no Jupyter token; it may have ended long ago');
      }
      return { id: view.id, state: view.jupyter.state, url: view.jupyter.url, token: secret.token };
    },
  );
}

/** Whose reservations a list shows. Into whose one was let, everybody may ask for themselves. */
function whose(request: FastifyRequest, user: string | undefined, sharedWith: string | undefined, shared: string | undefined) {
  const principal = principalOf(request);
  if (shared === 'true') {
    const member = { userId: principal.userId, github: principal.github };
    return { user: user === undefined || user === '*' ? null : user, sharedWith: sharedWith ?? null, member };
  }
  const own = sharedWith !== undefined && sharedWith.toLowerCase() === principal.github?.toLowerCase();
  const all = own || (sharedWith !== undefined && principal.admin);
  const wished = all && user === undefined ? '*' : user;
  return {
    user: own && wished === '*' ? null : userOfList(request, wished),
    sharedWith: sharedWith ?? null,
    member: null,
  };
}

function statesOf(list: string): string[] {
  const states = list.split(',').map((state) => state.trim().toLowerCase());
  const unknown = states.find((state) => state !== 'live' && !(STATES as readonly string[]).includes(state));
  if (unknown !== undefined) {
    throw new Problem('GPU_FIELD_INVALID', `The field status: ${unknown.slice(0, 40)} is no state`, {
      field: 'status',
      details: { allowed: [...STATES, 'live'] },
    });
  }
  return states.flatMap((state) => (state === 'live' ? LIVE : [state]));
}

/** Where the page before ended. @throws Problem if this is no cursor of ours */
function placeOf(cursor: string | undefined): { place: string; id: string } | null {
  const found = openCursor(cursor, MOMENT, NAME);
  return found === null ? null : { place: found[0], id: found[1] };
}
