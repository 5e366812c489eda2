/** /health: database and queues answer. /health/live: the process does. /health/ready: it can do its work. */
import { z } from 'zod';
import type { Health, HealthCheck, HttpDeps, Server } from './deps.ts';

const Check = z.object({ ok: z.boolean(), detail: z.string() });
const Answer = z.object({ status: z.enum(['ready', 'unavailable']), database: Check, queue: Check, tracker: Check });
/** A check that does not answer in time has failed. */
const PATIENCE_MS = 5_000;

/** What load balancers and older clients ask for: no words of ours, which may tell more than strangers should know. */
const Short = z.object({
  status: z.enum(['healthy', 'unhealthy']),
  database: z.enum(['healthy', 'unhealthy']),
  queue: z.enum(['healthy', 'unhealthy']),
  timestamp: z.string(),
});

export function healthRoutes(app: Server, deps: HttpDeps): void {
  app.get(
    '/health',
    {
      config: { access: 'public' },
      schema: {
        tags: ['service'],
        summary: 'Whether database and queues answer',
        response: { 200: Short, 503: Short.meta({ description: 'One of them does not.' }) },
      },
    },
    async (_request, reply) => {
      const { database, queue } = await inTime(deps.health);
      const word = (ok: boolean) => (ok ? 'healthy' : 'unhealthy');
      const ok = database.ok && queue.ok;
      return reply.code(ok ? 200 : 503).send({
        status: word(ok),
        database: word(database.ok),
        queue: word(queue.ok),
        timestamp: new Date().toISOString(),
      });
    },
  );

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
