/** /health/live: the process answers. /health/ready: it can do its work. */
import { z } from 'zod';
import type { Health, HealthCheck, HttpDeps, Server } from './deps.ts';

const Check = z.object({ ok: z.boolean(), detail: z.string() });
const Answer = z.object({ status: z.enum(['ready', 'unavailable']), database: Check, queue: Check, tracker: Check });
/** A check that does not answer in time has failed. */
const PATIENCE_MS = 5_000;

export function healthRoutes(app: Server, deps: HttpDeps): void {
  app.get(
    '/health/live',
    {
      config: { access: 'public' },
      schema: { tags: ['service'], summary: 'The process answers', response: { 200: z.object({ status: z.literal('live') }) } },
    },
    async () => ({ status: 'live' as const }),
  );

  app.get(
    '/health/ready',
    {
      config: { access: 'public' },
      schema: {
        tags: ['service'],
        summary: 'The service can do its work',
        response: { 200: Answer, 503: Answer.meta({ description: 'What is wrong.' }) },
      },
    },
    async (_request, reply) => {
      const health = await inTime(deps.health);
      const ok = health.database.ok && health.queue.ok && health.tracker.ok;
      return reply.code(ok ? 200 : 503).send({ status: ok ? 'ready' : 'unavailable', ...health });
    },
  );
}

async function inTime(ask: () => Promise<Health>): Promise<Health> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<Health>((resolve) => {
    timer = setTimeout(() => resolve(allFailed(`no answer in ${PATIENCE_MS / 1_000} s`)), PATIENCE_MS);
  });
  try {
    return await Promise.race([ask().catch(() => allFailed('the check itself failed')), late]);
  } finally {
    clearTimeout(timer);
  }
}

function allFailed(detail: string): Health {
  const failed: HealthCheck = { ok: false, detail };
  return { database: failed, queue: failed, tracker: failed };
}
