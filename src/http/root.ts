/** GET /: what this is, and where to go. */
import { z } from 'zod';
import type { Server } from './deps.ts';

const LINKS = {
  api: '/openapi.json',
  reservations: '/v1/reservations',
  gpus: '/v1/gpus',
  disks: '/v1/disks',
  machines: '/v1/machines',
  live: '/health/live',
  ready: '/health/ready',
  metrics: '/metrics',
};

export function rootRoutes(app: Server): void {
  app.get(
    '/',
    {
      schema: {
        tags: ['service'],
        summary: 'What this is',
        response: { 200: z.object({ name: z.string(), description: z.string(), links: z.record(z.string(), z.string()) }) },
      },
    },
    async () => ({ name: 'gpu-dev', description: 'The control plane for reserved GPU dev servers.', links: LINKS }),
  );
  app.get('/openapi.json', { schema: { hide: true } }, async () => app.swagger());
}
