/** GET /v1/reservations/:id/history: everything that happened to it, what is under way, and what is to come. */
import { z } from 'zod';
import { redact } from '../../actors/secret.ts';
import { readHistory } from '../../persistence/history.ts';
import { type EffectRow, listDeadlines, listEffects } from '../../persistence/insight.ts';
import type { HttpDeps, Server } from './deps.ts';
import { problems } from './problems.ts';
import type { ReservationReader } from './reader.ts';
import { ById } from './reservations.ts';

const Entry = z.object({
  seq: z.number().int(),
  at: z.string(),
  type: z.string(),
  outcome: z.enum(['applied', 'ignored', 'refused']),
  reason: z.string().nullable(),
  from: z.string().nullable(),
  to: z.string().nullable(),
  sender: z.string(),
  sent_at: z.string().nullable(),
  event: z.record(z.string(), z.unknown()).meta({ description: 'As the machine saw it, with secrets masked.' }),
});

const Effect = z.object({
  id: z.string(),
  seq: z.number().int(),
  type: z.string(),
  lane: z.string(),
  status: z.string(),
  running: z.boolean(),
  attempts: z.number().int(),
  created_at: z.string(),
  next_at: z.string().nullable(),
  ended_at: z.string().nullable(),
  last_error: z.string().nullable(),
});

const Deadline = z.object({ name: z.string(), due_at: z.string(), fired_at: z.string().nullable() });

const HistoryAnswer = z.object({
  id: z.string(),
  entries: z.array(Entry),
  next_after: z.number().int().nullable().meta({ description: 'Pass as `after` for the entries that follow; null at the end.' }),
  effects: z.array(Effect),
  deadlines: z.array(Deadline),
});

export function historyRoutes(app: Server, deps: HttpDeps, reader: ReservationReader): void {
  const { db } = deps;
  app.get(
    '/v1/reservations/:id/history',
    {
      config: { access: { scope: 'read', on: 'reservation', role: 'view' } },
      schema: {
        tags: ['reservations'],
        summary: 'The history of a reservation, its effects and its deadlines',
        params: ById,
        querystring: z.object({
          after: z.coerce.number().int().min(0).default(0),
          limit: z.coerce.number().int().min(1).max(5_000).default(1_000),
        }),
        response: { 200: HistoryAnswer, ...problems(400, 401, 403, 404, 409, 503) },
      },
    },
    async (request) => {
      const { id } = await reader.open(request, request.params.id);
      const actor = `reservation/${id}`;
      const { after, limit } = request.query;
      const entries = await readHistory(db, actor, after, limit);
      return {
        id,
        entries: entries.map((entry) => ({
          seq: entry.seq,
          at: entry.event.at,
          type: entry.event.type,
          outcome: entry.outcome,
          reason: entry.reason,
          from: entry.from,
          to: entry.to,
          sender: entry.sender,
          sent_at: iso(entry.sentAt as unknown as Date | string | null),
          event: redact(entry.event) as Record<string, unknown>,
        })),
        next_after: entries.length === limit ? entries.at(-1)!.seq : null,
        effects: (await listEffects(db, actor)).map(viewOfEffect),
        deadlines: (await listDeadlines(db, actor)).map((row) => ({
          name: row.name,
          due_at: row.due_at.toISOString(),
          fired_at: iso(row.fired_at),
        })),
      };
    },
  );
}

/** An effect as people see it. */
export function viewOfEffect(effect: EffectRow): z.infer<typeof Effect> {
  return {
    ...effect,
    created_at: effect.created_at.toISOString(),
    next_at: effect.status === 'pending' ? effect.next_at.toISOString() : null,
    ended_at: iso(effect.ended_at),
  };
}

function iso(value: Date | string | null): string | null {
  return value === null ? null : new Date(value).toISOString();
}
