/** GET /: what this is, and where to go. */
import { z } from 'zod';
import type { HttpDeps, Server } from './deps.ts';

const LINKS = {
  api: '/openapi.json',
  reservations: '/v1/reservations',
  gpus: '/v1/gpus',
  disks: '/v1/disks',
  machines: '/v1/machines',
  dead_letters: '/v1/dead-letters',
  live: '/health/live',
  ready: '/health/ready',
  metrics: '/metrics',
};

export function rootRoutes(app: Server, deps: HttpDeps): void {
  app.get(
    '/',
    {
      config: { access: 'public' },
      schema: {
        tags: ['service'],
        summary: 'What this is',
        response: {
          200: z.object({
            name: z.string(),
            description: z.string(),
            cluster: z.enum(['simulated', 'kube']).nullable(),
            time_scale: z.number().meta({ description: 'How many times faster than the calendar reserved hours run.' }),
            links: z.record(z.string(), z.string()),
          }),
        },
      },
    },
    async () => ({
      name: 'gpu-dev',
      description: 'The control plane for reserved GPU dev servers.',
      cluster: deps.cluster ?? null,
      time_scale: deps.timeScale,
      links: LINKS,
    }),
  );
  app.get('/openapi.json', { config: { access: 'public' }, schema: { hide: true } }, async () => app.swagger());
}
