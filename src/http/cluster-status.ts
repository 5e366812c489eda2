/** GET /v1/gpu/availability and GET /v1/cluster/status: what is free, in the shapes that older clients know. */
import { z } from 'zod';
import { countLive, readUsage } from '../../persistence/cluster-status.ts';
import type { HttpDeps, Server } from './deps.ts';
import { problems } from './problems.ts';

const Count = z.number().int();

const Availability = z
  .object({
    gpu_type: z.string(),
    total: Count,
    available: Count,
    in_use: Count,
    queued: Count.meta({ description: 'GPUs that those who wait ask for.' }),
    max_per_node: Count,
  })
  .meta({ description: 'GPUs of one type; of CPU types, nodes.' });

const Status = z.object({
  total_gpus: Count,
  available_gpus: Count,
  in_use_gpus: Count,
  queued_gpus: Count,
  active_reservations: Count,
  preparing_reservations: Count,
  queued_reservations: Count,
  pending_reservations: Count.meta({ description: 'Always 0: a reservation is queued as soon as it is accepted.' }),
  by_gpu_type: z.record(z.string(), Availability),
  timestamp: z.string(),
});

export function clusterStatusRoutes(app: Server, { db }: HttpDeps): void {
  const tags = ['capacity'];
  const config = { access: { scope: 'read', on: 'service' } } as const;

  const availability = async () => {
    const types = await readUsage(db);
    const shown = types.map(({ gpu_type, total, free, in_use, wanted, max_per_node }) => {
      return [gpu_type, { gpu_type, total, available: free, in_use, queued: wanted, max_per_node }] as const;
    });
    return { types, byType: Object.fromEntries(shown) };
  };

  app.get(
    '/v1/gpu/availability',
    {
      config,
      schema: {
        tags,
        summary: 'What is free of each GPU type, in the shape that older clients know',
        response: {
          200: z.object({ availability: z.record(z.string(), Availability), timestamp: z.string() }),
          ...problems(401, 403, 503),
        },
      },
    },
    async () => ({ availability: (await availability()).byType, timestamp: new Date().toISOString() }),
  );

  app.get(
    '/v1/cluster/status',
    { config, schema: { tags, summary: 'The cluster in numbers', response: { 200: Status, ...problems(401, 403, 503) } } },
    async () => {
      const [{ types, byType }, live] = await Promise.all([availability(), countLive(db)]);
      const gpus = types.filter(({ has_gpus }) => has_gpus);
      const sum = (of: 'total' | 'free' | 'in_use' | 'wanted') => gpus.reduce((all, type) => all + type[of], 0);
      const count = (...states: string[]) => states.reduce((all, state) => all + (live.get(state) ?? 0), 0);
      return {
        total_gpus: sum('total'),
        available_gpus: sum('free'),
        in_use_gpus: sum('in_use'),
        queued_gpus: sum('wanted'),
        active_reservations: count('running', 'extending'),
        preparing_reservations: count('building', 'provisioning'),
        queued_reservations: count('queued'),
        pending_reservations: 0,
        by_gpu_type: byType,
        timestamp: new Date().toISOString(),
      };
    },
  );
}
