/** GET /v1/reservations/:id/timeline and /at/:seq: where a reservation was when, and all of it as it was after a step of its history. */
import { z } from 'zod';
import { redact } from '../../actors/secret.ts';
import { listEffects } from '../../persistence/insight.ts';
import { Problem } from '../errors.ts';
import { differences, momentOf } from '../lifecycle/moment.ts';
import { statePaths } from '../lifecycle/paths.ts';
import { timelineOf } from '../lifecycle/timeline.ts';
import type { HttpDeps, Server } from './deps.ts';
import { problems } from './problems.ts';
import type { ReservationReader } from './reader.ts';
import { ById } from './reservations.ts';

const Answer = z
  .object({
    id: z.string(),
    seq: z.number().int(),
    last_seq: z.number().int().meta({ description: 'Number of the last step there is.' }),
    at: z.string(),
    type: z.string(),
    outcome: z.enum(['applied', 'ignored', 'refused']),
    reason: z.string().nullable(),
    sender: z.string(),
    event: z.record(z.string(), z.unknown()).meta({ description: 'With secrets masked.' }),
    before: z.array(z.string()).meta({ description: 'States that it was in, dotted.' }),
    states: z
      .array(z.string())
      .meta({ description: 'States that it is in after the step, dotted; empty if that cannot be folded.' }),
    context: z.record(z.string(), z.unknown()).nullable().meta({ description: 'After the step, with secrets masked.' }),
    changes: z.array(z.object({ path: z.string(), before: z.unknown(), after: z.unknown() })),
    asked: z
      .array(
        z.object({ do: z.enum(['effect', 'deadline', 'clear', 'send', 'record']), what: z.string(), at: z.string().nullable() }),
      )
      .meta({ description: 'What the step asked for.' }),
    effects: z.array(z.object({ id: z.string(), type: z.string(), attempts: z.number().int(), status: z.string() })).meta({
      description: 'Effects that there were then. Of one that ended later it is not known how often it had been tried.',
    }),
    deadlines: z.array(z.object({ name: z.string(), due_at: z.string() })),
    accepts: z.array(z.object({ event: z.string(), guarded: z.boolean(), target: z.string().nullable() })),
    matches: z
      .boolean()
      .nullable()
      .meta({ description: 'Whether the fold agrees with what was stored; null if that cannot be told.' }),
    problem: z.string().nullable(),
  })
  .meta({ description: 'A moment of a reservation.' });

const SpanView = z.object({
  path: z.string().meta({ description: 'The state, dotted down to its finest step.' }),
  seq: z.number().int().meta({ description: 'The step by which it was entered.' }),
  entered_at: z.string(),
  left_at: z.string().nullable().meta({ description: 'Null while it is there.' }),
});

export function momentRoutes(app: Server, { db, kernel }: HttpDeps, reader: ReservationReader): void {
  app.get(
    '/v1/reservations/:id/timeline',
    {
      config: { access: { scope: 'read', on: 'reservation', role: 'view' } },
      schema: {
        tags: ['reservations'],
        summary: 'How long a reservation was in each of its states, steps included',
        params: ById,
        response: { 200: z.object({ id: z.string(), spans: z.array(SpanView) }), ...problems(401, 403, 404, 409, 503) },
      },
    },
    async (request) => {
      const { id } = await reader.open(request, request.params.id);
      const spans = await db.withTransaction((tx) => timelineOf(tx, kernel.kinds, `reservation/${id}`), { readonly: true });
      return {
        id,
        spans: (spans ?? []).map(({ path, seq, enteredAt, leftAt }) => ({ path, seq, entered_at: enteredAt, left_at: leftAt })),
      };
    },
  );

  app.get(
    '/v1/reservations/:id/at/:seq',
    {
      config: { access: { scope: 'read', on: 'reservation', role: 'view' } },
      schema: {
        tags: ['reservations'],
        summary: 'A reservation as it was after a step, folded anew from its history',
        params: ById.extend({
          seq: z.coerce
            .number()
            .int()
            .min(1)
            .max(2 ** 31),
        }),
        response: { 200: Answer, ...problems(400, 401, 403, 404, 409, 503) },
      },
    },
    async (request) => {
      const { id } = await reader.open(request, request.params.id);
      const actor = `reservation/${id}`;
      const [moment, effects] = await db.withTransaction(
        async (tx) => [await momentOf(tx, kernel.kinds, actor, request.params.seq), await listEffects(tx, actor)] as const,
        { readonly: true },
      );
      if (moment === null) {
        throw new Problem('GPU_NOT_FOUND', `The history of this reservation has no step ${request.params.seq} that is kept`);
      }
      const { entry, before, after } = moment;
      const at = new Date(entry.event.at).getTime();
      const context = after === null ? null : masked(after.context);
      return {
        id,
        seq: entry.seq,
        last_seq: moment.last,
        at: entry.event.at,
        type: entry.event.type,
        outcome: entry.outcome,
        reason: entry.reason,
        sender: entry.sender,
        event: masked(entry.event),
        before: before === null ? [] : statePaths(before.value),
        states: after === null ? [] : statePaths(after.value),
        context,
        changes: after === null ? [] : differences(before === null ? {} : masked(before.context), context),
        asked: moment.intents.map((intent) => ({ do: intent.do, ...whatOf(intent) })),
        effects: effects
          .filter((effect) => effect.seq <= entry.seq)
          .map(({ id: effectId, type, attempts, status, ended_at }) => {
            const open = ended_at === null || ended_at.getTime() > at;
            return { id: effectId, type, attempts: open && ended_at !== null ? 0 : attempts, status: open ? 'pending' : status };
          }),
        deadlines: moment.deadlines.map(({ name, at: due }) => ({ name, due_at: due })),
        accepts: moment.accepts,
        matches: moment.matches,
        problem: moment.problem,
      };
    },
  );
}

function masked(value: unknown): Record<string, unknown> {
  return redact(value) as Record<string, unknown>;
}

type Asked = { do: string } & Record<string, unknown>;

function whatOf(intent: unknown): { what: string; at: string | null } {
  const asked = intent as Asked;
  if (asked.do === 'effect') return { what: (asked['effect'] as { type: string }).type, at: null };
  if (asked.do === 'deadline') return { what: String(asked['name']), at: String(asked['at']) };
  if (asked.do === 'clear') return { what: String(asked['name']), at: null };
  if (asked.do === 'send') return { what: `${(asked['event'] as { type: string }).type} → ${String(asked['to'])}`, at: null };
  return { what: (asked['entry'] as { type: string }).type, at: null };
}
