/** GET /v1/reservations and what hangs below one: the list, the view, the Jupyter token. */
import { z } from 'zod';
import { findJupyterToken } from '../../persistence/reservations.ts';
import { GITHUB_NAME } from '../../machines/reservation.events.ts';
import { Problem } from '../errors.ts';
import type { HttpDeps, Server } from './deps.ts';
import { problems } from './problems.ts';
import type { ReservationReader } from './reader.ts';
import { ReservationView, STATES } from './reservation-view.ts';
import { requireUser, userOfHeader } from './user.ts';

export const ById = z.object({
  id: z.string().max(100).meta({ description: 'A full id, or a unique beginning of one (4 characters at least).' }),
});

const ListQuery = z.object({
  status: z
    .string()
    .max(200)
    .optional()
    .meta({ description: 'States, separated by commas; `live` stands for all that have not ended.' }),
  user: z.string().max(128).optional().meta({ description: 'Owner; `*` for all. Without it, the user of the header.' }),
  gpu_type: z.string().max(64).optional(),
  shared_with: z
    .string()
    .regex(GITHUB_NAME, 'must be a GitHub user name')
    .optional()
    .meta({ description: 'Those of anybody, unless `user` says whose, to which this GitHub user was added.' }),
  limit: z.coerce.number().int().min(1).max(500).default(50),
  cursor: z.string().max(200).optional().meta({ description: '`next_cursor` of the page before.' }),
});

const LIVE = ['queued', 'building', 'provisioning', 'running', 'extending', 'snapshotting'];

export function reservationRoutes(app: Server, deps: HttpDeps, reader: ReservationReader): void {
  app.get(
    '/v1/reservations',
    {
      schema: {
        tags: ['reservations'],
        summary: 'List reservations, newest first',
        querystring: ListQuery,
        response: {
          200: z.object({ reservations: z.array(ReservationView), next_cursor: z.string().nullable() }),
          ...problems(400, 503),
        },
      },
    },
    async (request) => {
      const { status, user, gpu_type: gpuType, shared_with: sharedWith, limit, cursor } = request.query;
      const { views, next } = await reader.list({
        statuses: status === undefined || status === '' ? null : statesOf(status),
        user: user === '*' ? null : (user ?? (sharedWith === undefined ? userOfHeader(request) : null)),
        gpuType: gpuType?.toLowerCase() ?? null,
        sharedWith: sharedWith ?? null,
        limit,
        after: cursor === undefined ? null : openCursor(cursor),
      });
      return { reservations: views, next_cursor: next === null ? null : sealCursor(next) };
    },
  );

  app.get(
    '/v1/reservations/:id',
    {
      schema: {
        tags: ['reservations'],
        summary: 'One reservation',
        params: ById,
        response: { 200: ReservationView, ...problems(404, 409, 503) },
      },
    },
    async (request) => reader.mustView(await reader.resolve(request.params.id, userOfHeader(request))),
  );

  app.get(
    '/v1/reservations/:id/jupyter-token',
    {
      schema: {
        tags: ['reservations'],
        summary: 'The Jupyter token of a reservation, for its owner',
        params: ById,
        response: {
          200: z.object({ id: z.string(), state: z.string(), url: z.string().nullable(), token: z.string() }),
          ...problems(401, 403, 404, 409, 503),
        },
      },
    },
    async (request) => {
      const user = requireUser(request);
      const view = await reader.mustView(await reader.resolve(request.params.id, user));
      if (view.user_id !== user) throw new Problem('GPU_NOT_OWNER', 'Only its owner may see the token of a reservation');
      const secret = await findJupyterToken(deps.db, view.id);
      if (secret === null || secret.owner !== user) {
        throw new Problem('GPU_NOT_FOUND', 'This reservation has no Jupyter token; it may have ended long ago');
      }
      return { id: view.id, state: view.jupyter.state, url: view.jupyter.url, token: secret.token };
    },
  );
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

// A cursor is opaque to its holder: it says where the page before ended.
function sealCursor(after: { place: string; id: string }): string {
  return Buffer.from(`${after.place}|${after.id}`).toString('base64url');
}

function openCursor(cursor: string): { place: string; id: string } {
  const [place = '', id = ''] = Buffer.from(cursor, 'base64url').toString().split('|');
  if (/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{1,6})?\+00$/.test(place) && /^[0-9a-f-]{36}$/.test(id)) return { place, id };
  throw new Problem('GPU_FIELD_INVALID', 'The field cursor is not one that a list has given', { field: 'cursor' });
}
