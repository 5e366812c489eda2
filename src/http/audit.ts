/** GET /v1/admin/audit: who did what to what, from where; for admins. */
import { z } from 'zod';
import { listAudit } from '../../persistence/audit-seals.ts';
import type { HttpDeps, Server } from './deps.ts';
import { problems } from './problems.ts';

const Row = z
  .object({
    id: z.number().int(),
    at: z.string(),
    actor: z.string(),
    door: z.string().meta({ description: '`http`, `queue:<name>`, `operator` or `service`.' }),
    action: z.string(),
    object: z.string(),
    details: z.record(z.string(), z.unknown()),
    address: z.string().nullable(),
    request_id: z.string().nullable(),
    key_prefix: z.string().nullable(),
    seq: z.number().int().nullable().meta({ description: 'Its place in the chain; null until it is sealed.' }),
  })
  .meta({ description: 'One row of the audit log.' });

export function auditRoutes(app: Server, { db }: HttpDeps): void {
  app.get(
    '/v1/admin/audit',
    {
      config: { access: { scope: 'admin', on: 'service' } },
      schema: {
        tags: ['identity'],
        summary: 'The audit log, newest first',
        querystring: z.object({
          actor: z.string().max(128).optional(),
          object: z.string().max(300).optional().meta({ description: 'As `reservation/<id>`, `user/<name>`, `key/<id>`, …' }),
          action: z.string().max(100).optional(),
          limit: z.coerce.number().int().min(1).max(1_000).default(100),
          cursor: z
            .string()
            .regex(/^\d{1,15}$/, 'is not one that a list has given')
            .optional()
            .meta({ description: '`next_cursor` of the page before.' }),
        }),
        response: {
          200: z.object({ entries: z.array(Row), next_cursor: z.string().nullable() }),
          ...problems(400, 401, 403, 503),
        },
      },
    },
    async (request) => {
      const { actor, object, action, limit, cursor } = request.query;
      const rows = await listAudit(db, {
        actor: actor ?? null,
        object: object ?? null,
        action: action ?? null,
        before: cursor === undefined ? null : Number(cursor),
        limit: limit + 1,
      });
      const entries = rows.slice(0, limit);
      return { entries, next_cursor: rows.length > limit ? String(entries.at(-1)!.id) : null };
    },
  );
}
