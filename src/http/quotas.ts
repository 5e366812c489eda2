/** Quotas: what I may have and have; and for operators, what everybody may have. */
import { z } from 'zod';
import { UserName } from '../../actors/intake/messages.ts';
import { findStandingOf, listQuotas, type QuotaRow, removeQuota, setQuota } from '../../persistence/quotas.ts';
import { Problem } from '../errors.ts';
import { ADMIN, audit, operatorOf, Reason } from './admin-act.ts';
import type { HttpDeps, Server } from './deps.ts';
import { problems } from './problems.ts';
import { requireUser } from './user.ts';

/** Everybody who has no quota of their own. */
const ALL = '*';
const Limit = z.number().int().min(0).max(1_000_000).nullable();
const Who = z.union([z.literal(ALL), UserName]);
const ByUser = z.object({ user: Who.meta({ description: 'A user name, or `*` for all who have no quota of their own.' }) });

const QuotaView = z
  .object({
    user: z.string(),
    max_reservations: Limit.meta({ description: 'At the same time; null: any number.' }),
    max_gpus: Limit.meta({ description: 'At the same time, over all types; null: any number.' }),
    reason: z.string().nullable(),
    set_by: z.string(),
    set_at: z.string(),
  })
  .meta({ description: 'How much a user may have at the same time.' });

const Standing = z.object({
  user: z.string(),
  reservations: z.object({ used: z.number().int(), limit: Limit }),
  gpus: z.object({ used: z.number().int(), limit: Limit }),
  own: z.boolean().meta({ description: 'False: the quota of all.' }),
});

export function quotaRoutes(app: Server, { db }: HttpDeps): void {
  app.get(
    '/v1/quota',
    {
      config: { access: { scope: 'read', on: 'self' } },
      schema: {
        tags: ['reservations'],
        summary: 'How much I may have at the same time, and have',
        response: { 200: Standing, ...problems(401, 403, 503) },
      },
    },
    async (request) => {
      const user = requireUser(request);
      const found = await findStandingOf(db, user);
      return {
        user,
        reservations: { used: found.reservations, limit: found.maxReservations },
        gpus: { used: found.gpus, limit: found.maxGpus },
        own: found.user !== ALL,
      };
    },
  );

  app.get(
    '/v1/admin/quotas',
    {
      config: ADMIN,
      schema: {
        tags: ['admin'],
        summary: 'Quotas that were set, by user',
        querystring: z.object({
          limit: z.coerce.number().int().min(1).max(500).default(100),
          cursor: z.string().max(128).optional().meta({ description: '`next_cursor` of the page before.' }),
        }),
        response: {
          200: z.object({ quotas: z.array(QuotaView), next_cursor: z.string().nullable() }),
          ...problems(400, 401, 403, 503),
        },
      },
    },
    async (request) => {
      const { limit, cursor } = request.query;
      const found = await listQuotas(db, cursor ?? '', limit + 1);
      const page = found.slice(0, limit);
      return { quotas: page.map(viewOf), next_cursor: found.length > limit ? page.at(-1)!.user : null };
    },
  );

  app.put(
    '/v1/admin/quotas/:user',
    {
      config: ADMIN,
      schema: {
        tags: ['admin'],
        summary: 'Set what a user may have',
        description: 'Only new requests are weighed: who has more keeps it. A limit that is left out is none.',
        params: ByUser,
        body: z.strictObject({ max_reservations: Limit.default(null), max_gpus: Limit.default(null), reason: Reason }),
        response: { 200: QuotaView, ...problems(400, 401, 403, 415, 503) },
      },
    },
    async (request) => {
      const { user } = request.params;
      const { max_reservations: maxReservations, max_gpus: maxGpus, reason } = request.body;
      const row = await db.withTransaction(async (tx) => {
        await audit(tx, request, { action: 'quota.set', object: `user/${user}`, details: { maxReservations, maxGpus, reason } });
        return setQuota(tx, { user, maxReservations, maxGpus, reason, setBy: operatorOf(request) });
      });
      return viewOf(row);
    },
  );

  app.delete(
    '/v1/admin/quotas/:user',
    {
      config: ADMIN,
      schema: {
        tags: ['admin'],
        summary: 'Let the quota of all hold for a user again',
        params: ByUser,
        response: { 200: z.object({ user: z.string(), removed: z.boolean() }), ...problems(400, 401, 403, 503) },
      },
    },
    async (request) => {
      const { user } = request.params;
      if (user === ALL) throw new Problem('GPU_FIELD_INVALID', 'The quota of all can be changed, not removed', { field: 'user' });
      const removed = await db.withTransaction(async (tx) => {
        await audit(tx, request, { action: 'quota.remove', object: `user/${user}` });
        return removeQuota(tx, user);
      });
      return { user, removed };
    },
  );
}

function viewOf({ user, maxReservations, maxGpus, reason, setBy, setAt }: QuotaRow): z.infer<typeof QuotaView> {
  return {
    user,
    max_reservations: maxReservations,
    max_gpus: maxGpus,
    reason,
    set_by: setBy,
    set_at: setAt.toISOString(),
  };
}
