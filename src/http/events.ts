/** POST /v1/reservations/:id/events: what a user asks of a live reservation. */
import { z } from 'zod';
import { UserName } from '../../actors/intake/messages.ts';
import { GITHUB_NAME } from '../../machines/reservation.events.ts';
import { ask } from './ask.ts';
import type { HttpDeps, Server } from './deps.ts';
import { idempotencyKey } from './once.ts';
import { problems } from './problems.ts';
import type { ReservationReader } from './reader.ts';
import { USER_EVENTS } from './accepted.ts';
import { ReservationView } from './reservation-view.ts';
import { ById } from './reservations.ts';
import { refuseOtherUser } from './user.ts';

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
      const { user_id: _user, idempotency_key: ownKey, ...wish } = fields;
      const key = idempotencyKey(request, ownKey);
      const applied = await ask(deps, reader, request, { id, owner, type, fields: wish, key });
      return reply.code(applied ? 200 : 202).send({ applied, reservation: await reader.mustView(id) });
    },
  );
}
