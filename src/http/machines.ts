/** GET /v1/machines: the state machines themselves, as JSON. */
import { z } from 'zod';
import { MACHINE_NAMES, MACHINES, machineOf } from '../lifecycle/charts.ts';
import type { Server } from './deps.ts';
import { problems } from './problems.ts';

export function machineRoutes(app: Server): void {
  app.get(
    '/v1/machines',
    {
      config: { access: { scope: 'read', on: 'service' }, etag: true },
      schema: {
        tags: ['machines'],
        summary: 'The state machines',
        response: {
          200: z.object({
            machines: z.array(z.object({ name: z.string(), version: z.string(), description: z.string(), url: z.string() })),
          }),
        },
      },
    },
    async () => ({
      machines: MACHINE_NAMES.map((name) => ({
        name,
        version: String(MACHINES[name]!.config.version ?? '1'),
        description: MACHINES[name]!.config.description ?? '',
        url: `/v1/machines/${name}`,
      })),
    }),
  );

  app.get(
    '/v1/machines/:name',
    {
      config: { access: { scope: 'read', on: 'service' }, etag: true },
      schema: {
        tags: ['machines'],
        summary: 'The XState JSON of a machine',
        description: 'Complete: states, transitions, named guards and actions. The name may end in `.json`.',
        params: z.object({ name: z.string().max(100) }),
        response: { 200: z.record(z.string(), z.unknown()), ...problems(401, 403, 404) },
      },
    },
    async (request) => {
      const { machine } = machineOf(request.params.name);
      // The context's factory is the one function of a machine that obeys the rules; JSON leaves it out.
      return JSON.parse(JSON.stringify(machine.config)) as Record<string, unknown>;
    },
  );
}
