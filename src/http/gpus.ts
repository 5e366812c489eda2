/** GET /v1/gpus: the catalogue, with what is free now. */
import { z } from 'zod';
import { countsOf, readCatalogue } from '../../actors/intake/catalogue.ts';
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
      const [catalogue, rows] = await Promise.all([readCatalogue(deps.db), listAvailability(deps.db)]);
      return {
        gpus: rows.map(({ updated_at, ...row }) => {
          const type = catalogue.get(row.gpu_type);
          return {
            ...row,
            gpu_counts: type === undefined ? [] : countsOf(type),
            updated_at: updated_at === null ? null : updated_at.toISOString(),
          };
        }),
      };
    },
  );
}
