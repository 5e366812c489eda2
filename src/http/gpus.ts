/** GET /v1/gpus: the catalogue, with what is free now, and the line of each type. */
import { z } from 'zod';
import { countsOf, readCatalogue } from '../../actors/intake/catalogue.ts';
import { linePart } from '../../persistence/board.ts';
import { listDrains, listMaintenance } from '../../persistence/maintenance.ts';
import { listAvailability } from '../../persistence/reservations.ts';
import { Problem } from '../errors.ts';
import { principalOf } from './access.ts';
import type { HttpDeps, Server } from './deps.ts';
import { problems } from './problems.ts';

const Gpu = z
  .object({
    gpu_type: z.string(),
    description: z.string().nullable(),
    instance_type: z.string(),
    total: z.number().int().meta({ description: 'Slots of all ready nodes: GPUs, MIG slices, or CPU nodes.' }),
    free: z.number().int(),
    in_use: z.number().int(),
    queued: z.number().int().meta({ description: 'Reservations that wait for capacity.' }),
    whole_nodes_free: z.number().int(),
    largest_fit: z.number().int().meta({ description: 'The most that one node could give right now.' }),
    paused_because: z.string().nullable(),
    maintenance: z
      .object({
        reason: z.string(),
        from: z.string(),
        until: z.string().nullable(),
        in_force: z.boolean().meta({ description: 'False: announced.' }),
      })
      .nullable(),
    drained_nodes: z
      .array(z.object({ node: z.string(), reason: z.string(), since: z.string() }))
      .meta({ description: 'Nodes that get nothing new; they are not among what is free.' }),
    gpu_counts: z.array(z.number().int()).meta({ description: 'What one reservation may ask for.' }),
    max_per_node: z.number().int(),
    max_gang_nodes: z.number().int(),
    max_hours: z.number(),
    max_total_hours: z.number(),
    updated_at: z.string().nullable(),
  })
  .meta({ description: 'A GPU type.' });

const Waiting = z.object({
  gpu_type: z.string(),
  position: z.number().int().meta({ description: 'Place in the line of its type, counted from 1.' }),
  user: z.string(),
  name: z.string().nullable(),
  slots: z.number().int(),
  hours: z.number(),
  since: z.string(),
  waits_because: z.string().nullable(),
  id: z.string().optional().meta({ description: 'Told to admins, and to its owner.' }),
});

export function gpuRoutes(app: Server, deps: HttpDeps): void {
  app.get(
    '/v1/gpus',
    {
      config: { access: { scope: 'read', on: 'service' }, etag: true },
      schema: {
        tags: ['capacity'],
        summary: 'GPU types, what is free, and how long the queues are',
        response: { 200: z.object({ gpus: z.array(Gpu) }), ...problems(401, 403, 503) },
      },
    },
    async () => {
      const [catalogue, rows, maintained, drains] = await Promise.all([
        readCatalogue(deps.db),
        listAvailability(deps.db),
        listMaintenance(deps.db),
        listDrains(deps.db),
      ]);
      const maintenance = new Map(
        maintained.map(({ gpu_type, reason, from_at, until_at, in_force }) => [
          gpu_type,
          { reason, from: from_at.toISOString(), until: until_at?.toISOString() ?? null, in_force },
        ]),
      );
      return {
        gpus: rows.map(({ updated_at, ...row }) => {
          const type = catalogue.get(row.gpu_type);
          return {
            ...row,
            maintenance: maintenance.get(row.gpu_type) ?? null,
            drained_nodes: drains
              .filter((drain) => drain.gpu_type === row.gpu_type)
              .map(({ node, reason, drained_at }) => ({ node, reason, since: drained_at.toISOString() })),
            gpu_counts: type === undefined ? [] : countsOf(type),
            updated_at: updated_at === null ? null : updated_at.toISOString(),
          };
        }),
      };
    },
  );

  app.get(
    '/v1/gpus/:type/queue',
    {
      config: { access: { scope: 'read', on: 'service' } },
      schema: {
        tags: ['capacity'],
        summary: 'Who waits for a GPU type, in order',
        description: 'Estimates are told with each reservation, and of the first of a line in `GET /v1/live`.',
        params: z.object({ type: z.string().max(100) }),
        querystring: z.object({
          after: z.coerce
            .number()
            .int()
            .min(0)
            .max(10_000_000)
            .default(0)
            .meta({ description: 'The place behind which to begin.' }),
          limit: z.coerce.number().int().min(1).max(1_000).default(100),
        }),
        response: {
          200: z.object({
            waiting: z.array(Waiting),
            next_after: z
              .number()
              .int()
              .nullable()
              .meta({ description: 'Pass as `after` for those that follow; null at the end.' }),
          }),
          ...problems(400, 401, 403, 404, 503),
        },
      },
    },
    async (request) => {
      const { type } = request.params;
      if (!(await readCatalogue(deps.db)).has(type)) throw new Problem('GPU_NOT_FOUND', `There is no GPU type ${type}`);
      const { admin, user } = principalOf(request);
      const { after, limit } = request.query;
      const rows = await linePart(deps.db, type, after, limit + 1);
      return {
        waiting: rows.slice(0, limit).map((row, index) => ({
          gpu_type: row.gpu_type,
          position: after + index + 1,
          user: row.user_id,
          name: row.name,
          slots: row.slots,
          hours: row.hours,
          since: row.since.toISOString(),
          waits_because: row.waits_because,
          ...(admin || row.user_id === user ? { id: row.id } : {}),
        })),
        next_after: rows.length > limit ? after + limit : null,
      };
    },
  );
}
