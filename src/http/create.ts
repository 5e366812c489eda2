/** POST /v1/reservations: the queue's create message at the HTTP door. */
import type { FastifyRequest } from 'fastify';
import type { CreateDoor } from '../../actors/intake/create-door.ts';
import { actionOf, CreateMessage, UserName } from '../../actors/intake/messages.ts';
import { Problem } from '../errors.ts';
import type { HttpDeps, Server } from './deps.ts';
import { idempotencyKey, textOf } from './once.ts';
import { problems } from './problems.ts';
import type { ReservationReader, Seen } from './reader.ts';
import { ReservationView } from './reservation-view.ts';
import { submit } from './submit.ts';

const Body = CreateMessage.extend({ user_id: UserName.nullish() });

export function createRoutes(app: Server, deps: HttpDeps, reader: ReservationReader, door: CreateDoor<Seen>): void {
  app.post(
    '/v1/reservations',
    {
      config: { access: { scope: 'reserve', on: 'self' } },
      schema: {
        tags: ['reservations'],
        summary: 'Reserve a dev server',
        description:
          'Takes the fields of the create message of the queue `gpu_reservations`. The reservation exists when the answer comes. ' +
          'A repeated Idempotency-Key, operation_id, idempotency_key or reservation_id answers 200 with the reservation of the first time. ' +
          'The header gpu-dev-notice says what is done otherwise than asked: a disk_size_gb below the size of the disk does not shrink it.',
        body: Body,
        response: { 200: ReservationView, 202: ReservationView, ...problems(400, 401, 403, 409, 413, 415, 422, 503) },
      },
      // The door checks the message itself: one set of rules for all doors, and it must see the body as it came.
      validatorCompiler: () => (value) => ({ value }),
    },
    async (request, reply) => {
      const { view, duplicate, notice } = await submit(deps, door, reader, request, messageOf(request, request.body));
      void reply.header('location', `/v1/reservations/${view.id}`);
      if (duplicate) void reply.header('idempotency-replayed', 'true');
      if (notice !== null) void reply.header('gpu-dev-notice', notice);
      return reply.code(duplicate ? 200 : 202).send(view);
    },
  );
}

/** The body as a create message, with the key of the header in it. */
function messageOf(request: FastifyRequest, body: unknown): Record<string, unknown> {
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
  const key = idempotencyKey(request, textOf(message['idempotency_key']), textOf(message['operation_id']));
  return key === null ? message : { ...message, idempotency_key: key };
}
