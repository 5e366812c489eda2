/** Dead letters: operators look at them, send them on their way again, or drop them with a reason. */
import { z } from 'zod';
import { type DeadLetterRow, findLetter, listLetters, lockLetter, resolveLetter } from '../../persistence/dead-letters.ts';
import { Problem } from '../errors.ts';
import { ADMIN, audit, operatorOf, Reason } from './admin-act.ts';
import { replay } from './admin-replay.ts';
import { NUMBER, openCursor, sealCursor } from './cursor.ts';
import type { HttpDeps, Server } from './deps.ts';
import { iso } from './disk-view.ts';
import { LETTER, letterOf, Source } from './letter-view.ts';
import { actOnce, Key } from './once.ts';
import { problems } from './problems.ts';

const LetterView = z
  .object({
    ...LETTER,
    resolved: z.enum(['replayed', 'dropped']).nullable().meta({ description: 'null: open.' }),
    resolved_at: z.string().nullable(),
    resolved_by: z.string().nullable(),
    resolution: z.string().nullable().meta({ description: 'The operator’s reason.' }),
    replayed_as: z.string().nullable().meta({ description: 'The new message or effect.' }),
  })
  .meta({ description: 'A message or an effect that was set aside.' });

export function viewOfLetter(row: DeadLetterRow): z.infer<typeof LetterView> {
  const { resolved, resolved_by, resolution, replayed_as } = row;
  return { ...letterOf(row), resolved, resolved_at: iso(row.resolved_at), resolved_by, resolution, replayed_as };
}

const ById = z.object({ id: z.coerce.number().int().positive() });
const ANSWERS = { 200: LetterView, ...problems(400, 401, 403, 404, 409, 415, 503) };

export function letterRoutes(app: Server, deps: HttpDeps): void {
  const { db, kernel } = deps;

  app.get(
    '/v1/admin/dead-letters',
    {
      config: ADMIN,
      schema: {
        tags: ['admin'],
        summary: 'Dead letters, newest first',
        querystring: z.object({
          state: z.enum(['open', 'resolved', 'all']).default('open'),
          source: Source.optional(),
          code: z.string().max(64).optional(),
          actor: z.string().max(200).optional(),
          limit: z.coerce.number().int().min(1).max(500).default(100),
          cursor: z.string().max(200).optional(),
        }),
        response: {
          200: z.object({ dead_letters: z.array(LetterView), next_cursor: z.string().nullable() }),
          ...problems(400, 401, 403, 503),
        },
      },
    },
    async (request) => {
      const { state, source, code, actor, limit, cursor } = request.query;
      const before = openCursor(cursor, NUMBER);
      const rows = await listLetters(db, {
        open: state === 'all' ? null : state === 'open',
        source: source ?? null,
        code: code ?? null,
        actor: actor ?? null,
        limit: limit + 1,
        before: before === null ? null : Number(before[0]),
      });
      const last = rows.length > limit ? rows[limit - 1]! : null;
      return {
        dead_letters: rows.slice(0, limit).map(viewOfLetter),
        next_cursor: last === null ? null : sealCursor(String(last.id)),
      };
    },
  );

  app.get(
    '/v1/admin/dead-letters/:id',
    { config: ADMIN, schema: { tags: ['admin'], summary: 'One dead letter', params: ById, response: ANSWERS } },
    async (request) => {
      const row = await findLetter(db, request.params.id);
      if (row === null) throw noLetter(request.params.id);
      return viewOfLetter(row);
    },
  );

  app.post(
    '/v1/admin/dead-letters/:id/replay',
    {
      config: ADMIN,
      schema: {
        tags: ['admin'],
        summary: 'Send it on its way again',
        description:
          'A queue’s message goes back into its queue as its producer sent it; a message for an actor back into its mailbox, under its old key; an effect is tried once more, if its actor still waits for it.',
        params: ById,
        body: z.strictObject({ reason: Reason.nullish(), idempotency_key: Key }).nullish(),
        response: ANSWERS,
      },
    },
    async (request) => {
      const { id } = request.params;
      const answer = await actOnce(db, request, async (tx) => {
        const letter = await lockLetter(tx, id);
        if (letter === null) throw noLetter(id);
        assertOpen(letter);
        const as = await replay(deps, tx, letter);
        await resolveLetter(tx, id, { how: 'replayed', by: operatorOf(request), reason: request.body?.reason ?? null, as });
        const details = { source: letter.source, code: letter.code, as, reason: request.body?.reason ?? null };
        await audit(tx, request, { action: 'dead-letter.replay', object: `dead-letter/${id}`, details });
        return viewOfLetter((await findLetter(tx, id))!);
      });
      kernel.wake();
      kernel.wakeOthers();
      return answer;
    },
  );

  app.post(
    '/v1/admin/dead-letters/:id/drop',
    {
      config: ADMIN,
      schema: {
        tags: ['admin'],
        summary: 'Drop it: it needs nothing, or nobody can help it',
        params: ById,
        body: z.strictObject({ reason: Reason, idempotency_key: Key }),
        response: ANSWERS,
      },
    },
    async (request) =>
      actOnce(db, request, async (tx) => {
        const { id } = request.params;
        const { reason } = request.body;
        const letter = await lockLetter(tx, id);
        if (letter === null) throw noLetter(id);
        assertOpen(letter);
        await resolveLetter(tx, id, { how: 'dropped', by: operatorOf(request), reason, as: null });
        await audit(tx, request, {
          action: 'dead-letter.drop',
          object: `dead-letter/${id}`,
          details: { code: letter.code, reason },
        });
        return viewOfLetter((await findLetter(tx, id))!);
      }),
  );
}

function assertOpen({ id, resolved, resolved_at, resolved_by, replayed_as }: DeadLetterRow): void {
  if (resolved === null) return;
  throw new Problem('GPU_DEAD_LETTER_RESOLVED', `The dead letter ${id} was ${resolved} by ${resolved_by ?? 'an operator'}`, {
    details: { resolved, resolved_at: iso(resolved_at), resolved_by, replayed_as },
  });
}

function noLetter(id: number): Problem {
  return new Problem('GPU_DEAD_LETTER_UNKNOWN', `There is no dead letter ${id}`, { field: 'id' });
}
