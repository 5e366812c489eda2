/** GET /v1/dead-letters: what could not be understood or processed, for operators. */
import { z } from 'zod';
import { redact } from '../../actors/secret.ts';
import { openDeadLetters } from '../../persistence/dead-letters.ts';
import type { HttpDeps, Server } from './deps.ts';
import { problems } from './problems.ts';

const DeadLetter = z
  .object({
    id: z.number().int(),
    source: z.enum(['queue', 'mailbox', 'effect']),
    queue: z.string().nullable(),
    msg_id: z.number().int().nullable(),
    actor: z.string().nullable(),
    key: z.string().nullable(),
    code: z.string(),
    field: z.string().nullable(),
    reason: z.string(),
    created_at: z.string(),
    body: z.unknown().meta({ description: 'The message, with secrets masked.' }),
  })
  .meta({ description: 'A message that was set aside.' });

export function deadLetterRoutes(app: Server, deps: HttpDeps): void {
  app.get(
    '/v1/dead-letters',
    {
      config: { access: { scope: 'admin', on: 'service' } },
      schema: {
        tags: ['service'],
        summary: 'Open dead letters, newest first',
        querystring: z.object({ limit: z.coerce.number().int().min(1).max(1_000).default(100) }),
        response: { 200: z.object({ dead_letters: z.array(DeadLetter) }), ...problems(400, 401, 403, 503) },
      },
    },
    async (request) => ({
      dead_letters: (await openDeadLetters(deps.db, request.query.limit)).map((row) => ({
        id: row.id,
        source: row.source,
        queue: row.queue ?? null,
        msg_id: row.msg_id,
        actor: row.actor ?? null,
        key: row.key ?? null,
        code: row.code,
        field: row.field ?? null,
        reason: row.reason,
        created_at: row.created_at.toISOString(),
        body: redact(row.body) ?? null,
      })),
    }),
  );
}
