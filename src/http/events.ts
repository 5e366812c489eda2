/** POST /v1/reservations/:id/events: what a user asks of a live reservation. */
import { v7 as uuidv7 } from 'uuid';
import { z } from 'zod';
import { acceptAction } from '../../actors/intake/doors.ts';
import { UserName } from '../../actors/intake/messages.ts';
import { GITHUB_NAME } from '../../machines/reservation.events.ts';
import type { HistoryEntry } from '../../persistence/history.ts';
import { findDeadLetter } from '../../persistence/insight.ts';
import { Problem } from '../errors.ts';
import type { HttpDeps, Server } from './deps.ts';
import { extensionAfter } from './extension.ts';
import { problems } from './problems.ts';
import type { ReservationReader } from './reader.ts';
import { ReservationView, USER_EVENTS } from './reservation-view.ts';
import { ById } from './reservations.ts';
import { refuseOtherUser, senderOf } from './user.ts';
import { until } from './waiting.ts';

/** How long the answer may wait for the turn. */
const TURN_MS = 2_000;

const common = { user_id: UserName.nullish(), idempotency_key: z.string().min(1).max(200).nullish() };
const EventBody = z.discriminatedUnion(
  'type',
  [
    z.strictObject({ type: z.literal('cancel'), ...common }),
    z.strictObject({ type: z.literal('extend'), extension_hours: z.number().positive().max(720), ...common }),
    z.strictObject({
      type: z.literal('add_user'),
      github_username: z.string().regex(GITHUB_NAME, 'must be a GitHub user name'),
      ...common,
    }),
    z.strictObject({
      type: z.literal('remove_user'),
      github_username: z.string().regex(GITHUB_NAME, 'must be a GitHub user name'),
      ...common,
    }),
    z.strictObject({ type: z.literal('enable_jupyter'), ...common }),
    z.strictObject({ type: z.literal('disable_jupyter'), ...common }),
  ],
  { error: `must be one of ${USER_EVENTS.join(', ')}` },
);

const EventAnswer = z.object({
  applied: z.boolean().meta({ description: 'False if it is accepted and still waits to be decided.' }),
  reservation: ReservationView,
});

export function eventRoutes(app: Server, deps: HttpDeps, reader: ReservationReader): void {
  const { db, kernel } = deps;

  app.post(
    '/v1/reservations/:id/events',
    {
      config: { access: { scope: 'reserve', on: 'reservation', role: 'own' } },
      schema: {
        tags: ['reservations'],
        summary: 'Cancel, extend, add or remove a user, switch Jupyter',
        description:
          'Waits up to 2 s for the event to be decided: 200 applied, 403 beyond your role in it, 409 not accepted in this state or an extension refused, ' +
          'else 202. A repeated Idempotency-Key acts once and gets the answer of the first time.',
        params: ById,
        body: EventBody,
        response: { 200: EventAnswer, 202: EventAnswer, ...problems(400, 401, 403, 404, 409, 413, 415, 503) },
      },
    },
    async (request, reply) => {
      const { type, ...fields } = request.body;
      const { id, owner } = await reader.open(request, request.params.id);
      refuseOtherUser(request, fields.user_id, owner);
      const key = fields.idempotency_key ?? request.headers['idempotency-key']?.toString() ?? null;
      if (key !== null && (key.length > 200 || key === '')) {
        throw new Problem('GPU_FIELD_INVALID', 'The header Idempotency-Key must be 1 to 200 characters', {
          field: 'idempotency_key',
        });
      }
      const message = { ...fields, reservation_id: id, user_id: owner, ...(key === null ? {} : { idempotency_key: key }) };
      const accepted = await db.withTransaction((tx) =>
        acceptAction(kernel, tx, { does: 'event', action: type }, message, {
          door: 'http',
          key: `http:${uuidv7()}`,
          by: senderOf(request),
        }),
      );
      const end = performance.now() + TURN_MS;
      await kernel.pump(accepted.actor);
      kernel.wake();
      kernel.wakeOthers();

      const entry = await until(TURN_MS, () => kernel.outcome(accepted.actor, accepted.key));
      if (entry === null) {
        const letter = await findDeadLetter(db, accepted.actor, accepted.key);
        if (letter !== null) throw new Problem('GPU_MESSAGE_FAILED', letter.reason);
        return reply.code(202).send({ applied: false, reservation: await reader.mustView(id) });
      }
      await throwIfNotApplied(reader, id, type, entry);
      if (type === 'extend') {
        const decided = await until(Math.max(0, end - performance.now()), () => extensionAfter(db, accepted.actor, entry));
        if (decided === null) return reply.code(202).send({ applied: false, reservation: await reader.mustView(id) });
        if (!decided.granted) throw new Problem('GPU_EXTENSION_REFUSED', decided.reason, { details: await present(reader, id) });
      }
      return reply.code(200).send({ applied: true, reservation: await reader.mustView(id) });
    },
  );
}

async function throwIfNotApplied(reader: ReservationReader, id: string, type: string, entry: HistoryEntry): Promise<void> {
  if (entry.outcome === 'refused') throw new Problem('GPU_NOT_OWNER', entry.reason ?? 'The reservation belongs to another user');
  if (entry.outcome !== 'ignored') return;
  const details = await present(reader, id);
  throw new Problem('GPU_EVENT_IGNORED', whyIgnored(type, entry.from ?? details.state, details.accepts), {
    field: 'type',
    details: { ...details, state_met: entry.from },
  });
}

function whyIgnored(type: string, state: string, accepts: readonly string[]): string {
  if (accepts.includes(type)) return `The ${type} would change nothing: it is so already, or on its way`;
  const instead = accepts.length === 0 ? 'nothing any more' : accepts.join(', ');
  return `A reservation that is ${state} does not take ${type} now; it takes ${instead}`;
}

async function present(reader: ReservationReader, id: string) {
  const { state, substate, accepts, expires_at } = await reader.mustView(id);
  return { state, substate, accepts, expires_at };
}
