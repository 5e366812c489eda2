/** GET /v1/dead-letters: what could not be understood or processed, for operators. */
import { z } from 'zod';
import { openDeadLetters } from '../../persistence/dead-letters.ts';
import type { HttpDeps, Server } from './deps.ts';
import { LETTER, letterOf } from './letter-view.ts';
import { problems } from './problems.ts';

const DeadLetter = z.object(LETTER).meta({ description: 'A message that was set aside.' });

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
      dead_letters: (await openDeadLetters(deps.db, request.query.limit)).map(letterOf),
    }),
  );
}
