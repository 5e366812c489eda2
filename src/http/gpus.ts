/** GET /v1/gpus: the catalogue, with what is free now. */
import { z } from 'zod';
import { countsOf, readCatalogue } from '../../actors/intake/catalogue.ts';
import { listDrains, listMaintenance } from '../../persistence/maintenance.ts';
import { listAvailability } from '../../persistence/reservations.ts';
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
}
