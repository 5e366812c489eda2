/** GET /: what this is, and where to go. */
import { z } from 'zod';
import type { HttpDeps, Server } from './deps.ts';
import { wantsPage } from './page.ts';

const LINKS = {
  api: '/openapi.json',
  docs: '/docs',
  reservations: '/v1/reservations',
  gpus: '/v1/gpus',
  disks: '/v1/disks',
  machines: '/v1/machines',
  dead_letters: '/v1/dead-letters',
  health: '/health',
  live: '/health/live',
  ready: '/health/ready',
  metrics: '/metrics',
};

/** @param hasPage whether there is a page to which browsers are led */
export function rootRoutes(app: Server, deps: HttpDeps, hasPage: boolean): void {
  app.get(
    '/',
    {
      config: { access: 'public' },
      schema: {
        tags: ['service'],
        summary: 'What this is',
        response: {
          302: z.null().meta({ description: 'To the page, for those who ask for text/html.' }),
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
    async (request, reply) => {
      void reply.header('vary', 'accept');
      if (hasPage && wantsPage(request)) return reply.redirect('/ui', 302) as never;
      return {
        name: 'gpu-dev',
        description: 'The control plane for reserved GPU dev servers.',
        cluster: deps.cluster ?? null,
        time_scale: deps.timeScale,
        links: {
          ...(hasPage ? { page: '/ui' } : {}),
          ...(hasPage && deps.inspector != null ? { inspector: '/ui/inspect.html' } : {}),
          ...LINKS,
        },
      };
    },
  );
  let text: string | null = null;
  app.get('/openapi.json', { config: { access: 'public', etag: true }, schema: { hide: true } }, async (_request, reply) => {
    text ??= JSON.stringify(app.swagger());
    return reply.header('content-type', 'application/json; charset=utf-8').send(text);
  });
}
