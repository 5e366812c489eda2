/** POST /v1/reservations: the queue's create message at the HTTP door. */
import { acceptAction } from '../../actors/intake/doors.ts';
import { actionOf, CreateMessage, UserName } from '../../actors/intake/messages.ts';
import { Problem } from '../errors.ts';
import { findDeadLetter } from '../../persistence/insight.ts';
import { principalOf } from './access.ts';
import type { HttpDeps, Server } from './deps.ts';
import { problems } from './problems.ts';
import type { ReservationReader } from './reader.ts';
import { ReservationView } from './reservation-view.ts';
import { requireUser, senderOf } from './user.ts';
import { until } from './waiting.ts';

/** How long the answer may wait for the reservation's first turn, and then for its place in the line. */
const BIRTH_MS = 2_000;
const PLACE_MS = 250;

const Body = CreateMessage.extend({ user_id: UserName.nullish() });

export function createRoutes(app: Server, deps: HttpDeps, reader: ReservationReader): void {
  const { db, kernel } = deps;

  app.post(
    '/v1/reservations',
    {
      config: { access: { scope: 'reserve', on: 'self' } },
      schema: {
        tags: ['reservations'],
        summary: 'Reserve a dev server',
        description:
          'Takes the fields of the create message of the queue `gpu_reservations`. The reservation exists when the answer comes. ' +
          'A repeated Idempotency-Key, operation_id, idempotency_key or reservation_id answers 200 with the reservation of the first time.',
        body: Body,
        response: { 200: ReservationView, 202: ReservationView, ...problems(400, 401, 403, 409, 413, 415, 422, 503) },
      },
      // The door checks the message itself: one set of rules for all doors, and it must see the body as it came.
      validatorCompiler: () => (value) => ({ value }),
    },
    async (request, reply) => {
      const body = messageOf(request.body, request.headers['idempotency-key']);
      const user = requireUser(request, body.user_id);
      const { user: own, github } = principalOf(request);
      // Whoever has proven a GitHub name need not say it again.
      const message = { ...body, user_id: user, github_user: body.github_user ?? (user === own ? github : null) };
      const accepted = await db.withTransaction((tx) =>
        acceptAction(kernel, tx, { does: 'create' }, message, { door: 'http', key: null, by: senderOf(request) }),
      );
      const id = accepted.reservationId!;
      await kernel.pump(accepted.actor);
      kernel.wake();
      kernel.wakeOthers();

      const view = await until(BIRTH_MS, () => reader.view(id));
      if (view === null) {
        const letter = await findDeadLetter(db, accepted.actor, accepted.key);
        if (letter !== null) throw new Problem('GPU_MESSAGE_FAILED', letter.reason);
        throw new Problem('GPU_DATABASE_BUSY', `The reservation ${id} is accepted but not processed yet; it will be`, {
          details: { id },
        });
      }
      void reply.header('location', `/v1/reservations/${id}`);
      if (accepted.duplicate) return reply.code(200).send(view);
      return reply.code(202).send((await until(PLACE_MS, () => placed(reader, id))) ?? (await reader.mustView(id)));
    },
  );
}

/** The view once the reservation has a place in a line, waits for something else, or has gone on; null until then. */
async function placed(reader: ReservationReader, id: string): Promise<ReservationView | null> {
  const view = await reader.mustView(id);
  if (view.state !== 'queued' || view.position !== null || view.substate === 'gang') return view;
  return view.substate === 'disk' && /in use/.test(view.detail ?? '') ? view : null;
}

/** The body as a create message, with the key of the header in it. */
function messageOf(body: unknown, header: string | string[] | undefined): Record<string, unknown> {
  if (body === null || typeof body !== 'object' || Array.isArray(body)) {
    throw new Problem('GPU_MESSAGE_NOT_OBJECT', 'The body must be a JSON object', { field: '(body)' });
  }
  const message = body as Record<string, unknown>;
  // A message meant for the queue may name its action; anything but a create does not belong here.
  if (message.action !== undefined && actionOf(message).action.does !== 'create') {
    throw new Problem('GPU_ACTION_UNKNOWN', 'This path takes create messages only; others go to /v1/reservations/:id/events', {
      field: 'action',
    });
  }
  if (header === undefined) return message;
  const key = String(header);
  for (const field of ['operation_id', 'idempotency_key']) {
    const own = message[field];
    if (own !== undefined && own !== null && own !== key) {
      throw new Problem('GPU_FIELD_INVALID', `The field ${field} and the header Idempotency-Key differ`, { field });
    }
  }
  return { ...message, idempotency_key: key };
}
