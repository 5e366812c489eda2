/** GET /v1/reservations/:id/build-log: what the build of its image wrote. */
import { z } from 'zod';
import { readLines } from '../../persistence/build-log.ts';
import { findActor } from '../../persistence/actor-store.ts';
import type { HttpDeps, Server } from './deps.ts';
import { problems } from './problems.ts';
import type { ReservationReader } from './reader.ts';
import { ById } from './reservations.ts';

const LogAnswer = z.object({
  id: z.string(),
  /** building, ready, failed or idle; null if it builds none. */
  state: z
    .string()
    .nullable()
    .meta({ description: 'Of the image: building, ready, failed or idle; null if nothing is built for it.' }),
  lines: z.array(z.object({ at: z.string(), attempt: z.number().int(), line: z.string() })),
  next_after: z.number().int().meta({ description: 'Pass as `after` for the lines that follow.' }),
});

export function buildLogRoutes(app: Server, { db }: HttpDeps, reader: ReservationReader): void {
  app.get(
    '/v1/reservations/:id/build-log',
    {
      config: { access: { scope: 'read', on: 'reservation', role: 'view' } },
      schema: {
        tags: ['reservations'],
        summary: 'What the build of its image wrote, without secrets; ask again with `after` to follow it',
        params: ById,
        querystring: z.object({
          after: z.coerce.number().int().min(0).default(0),
          limit: z.coerce.number().int().min(1).max(5_000).default(1_000),
        }),
        response: { 200: LogAnswer, ...problems(400, 401, 403, 404, 409, 503) },
      },
    },
    async (request) => {
      const { id } = await reader.open(request, request.params.id);
      const { after, limit } = request.query;
      const reservation = (await findActor(db, `reservation/${id}`))?.snapshot?.context as
        | { request: { buildHash: string | null } }
        | undefined;
      const hash = reservation?.request.buildHash ?? null;
      if (hash === null) return { id, state: null, lines: [], next_after: after };
      const [image, lines] = await Promise.all([findActor(db, `image/${hash}`), readLines(db, hash, after, limit)]);
      return {
        id,
        state: typeof image?.snapshot?.value === 'string' ? image.snapshot.value : null,
        lines: lines.map(({ at, attempt, line }) => ({ at, attempt, line })),
        next_after: lines.at(-1)?.id ?? after,
      };
    },
  );
}
