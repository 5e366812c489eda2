/** GET /v1/disks and GET /v1/operations/:id: persistent disks, and what became of operations on them. */
import { z } from 'zod';
import { findOperation, listDisks } from '../../persistence/reservations.ts';
import { Problem } from '../errors.ts';
import { principalOf } from './access.ts';
import type { HttpDeps, Server } from './deps.ts';
import { problems } from './problems.ts';
import { userOfList } from './user.ts';

const Disk = z
  .object({
    id: z.string(),
    name: z.string(),
    user_id: z.string(),
    size_gb: z.number().int(),
    state: z.string(),
    created_at: z.string(),
    last_used: z.string().nullable(),
    in_use_by: z.string().nullable().meta({ description: 'The reservation that holds it.' }),
    is_backing_up: z.boolean(),
    is_deleted: z.boolean(),
    delete_date: z.string().nullable(),
    snapshot_count: z.number().int(),
    latest_snapshot_id: z.string().nullable(),
    last_snapshot_at: z.string().nullable(),
    problem: z.string().nullable(),
  })
  .meta({ description: 'A persistent disk.' });

const Operation = z.object({
  operation_id: z.string(),
  user_id: z.string(),
  action: z.string(),
  disk_id: z.string().nullable(),
  status: z.enum(['pending', 'completed', 'failed']),
  error: z.string().nullable(),
  created_at: z.string(),
  updated_at: z.string(),
});

export function diskRoutes(app: Server, deps: HttpDeps): void {
  app.get(
    '/v1/disks',
    {
      config: { access: { scope: 'read', on: 'self' } },
      schema: {
        tags: ['disks'],
        summary: 'Persistent disks',
        querystring: z.object({
          user: z
            .string()
            .max(128)
            .optional()
            .meta({ description: 'Owner; another than oneself, or `*` for all, is for admins.' }),
          limit: z.coerce.number().int().min(1).max(1_000).default(200),
        }),
        response: { 200: z.object({ disks: z.array(Disk) }), ...problems(400, 401, 403, 503) },
      },
    },
    async (request) => {
      const { user, limit } = request.query;
      const rows = await listDisks(deps.db, userOfList(request, user), limit);
      return {
        disks: rows.map((row) => ({
          ...row,
          created_at: row.created_at.toISOString(),
          last_used: iso(row.last_used),
          delete_date: iso(row.delete_date),
          last_snapshot_at: iso(row.last_snapshot_at),
        })),
      };
    },
  );

  app.get(
    '/v1/operations/:id',
    {
      config: { access: { scope: 'read', on: 'disk' } },
      schema: {
        tags: ['disks'],
        summary: 'What became of a disk operation',
        params: z.object({ id: z.string().min(1).max(200) }),
        response: { 200: Operation, ...problems(401, 403, 404, 503) },
      },
    },
    async (request) => {
      const row = await findOperation(deps.db, request.params.id);
      const { user, admin } = principalOf(request);
      if (row === null || (row.user_id !== user && !admin)) {
        throw new Problem('GPU_OPERATION_UNKNOWN', `There is no operation ${request.params.id}`, { field: 'id' });
      }
      return {
        ...row,
        status: row.status as 'pending' | 'completed' | 'failed',
        created_at: row.created_at.toISOString(),
        updated_at: row.updated_at.toISOString(),
      };
    },
  );
}

function iso(date: Date | null): string | null {
  return date === null ? null : date.toISOString();
}
