/** Reservations as every path over HTTP makes them: through the door, and there when the answer comes. */
import type { FastifyRequest } from 'fastify';
import type { CreateDoor } from '../../actors/intake/create-door.ts';
import { Problem } from '../errors.ts';
import { findDeadLetter } from '../../persistence/insight.ts';
import { principalOf } from './access.ts';
import type { HttpDeps } from './deps.ts';
import type { ReservationReader, Seen } from './reader.ts';
import type { ReservationView } from './reservation-view.ts';
import { requireUser, senderOf } from './user.ts';
import { until } from './waiting.ts';

/** How long the answer may wait for the reservation's first turn, and then for its place in the line. */
const BIRTH_MS = 5_000;
const PLACE_MS = 250;
/** How long it waits for an estimate: in a rush there is none in time, and the stream tells it. */
const ESTIMATE_MS = 15;

/**
 * Submit a create message for the user of the request.
 * @returns the reservation, whether it was there before (an id or a key was repeated), and what its sender should know
 * @throws Problem
 */
export async function submit(
  { db, kernel }: HttpDeps,
  door: CreateDoor<Seen>,
  reader: ReservationReader,
  request: FastifyRequest,
  body: Record<string, unknown>,
): Promise<{ view: ReservationView; duplicate: boolean; notice: string | null }> {
  const user = requireUser(request, body['user_id']);
  const { user: own, github } = principalOf(request);
  // Whoever has proven a GitHub name need not say it again.
  const message = { ...body, user_id: user, github_user: body['github_user'] ?? (user === own ? github : null) };
  const accepted = await door.accept(message, { door: 'http', key: null, by: senderOf(request) });
  const id = accepted.reservationId!;
  const read = () => reader.view(id, { patienceMs: ESTIMATE_MS, mayWaitFor: accepted.gpuType });
  const seen = accepted.seen === undefined ? await read() : await reader.viewOf(accepted.seen, ESTIMATE_MS);
  // One that could not be born with its acceptance is born by its mailbox: now, and not when its turn comes.
  if (seen === null) await kernel.pump(accepted.actor);
  const view = seen ?? (await until(BIRTH_MS, read));
  if (view === null) {
    const letter = await findDeadLetter(db, accepted.actor, accepted.key);
    if (letter !== null) throw new Problem('GPU_MESSAGE_FAILED', letter.reason);
    throw new Problem('GPU_DATABASE_BUSY', `The reservation ${id} is accepted but not processed yet; it will be`, {
      details: { id },
    });
  }
  const { duplicate, notice = null } = accepted;
  if (duplicate || isPlaced(view)) return { view, duplicate, notice };
  let latest = view;
  await until(PLACE_MS, async () => {
    latest = await reader.mustView(id);
    return isPlaced(latest) ? latest : null;
  });
  return { view: latest, duplicate, notice };
}

/** Whether the reservation has a place in a line, waits for something else, or has gone on. */
function isPlaced({ state, substate, position, detail }: ReservationView): boolean {
  if (state !== 'queued' || position !== null || substate === 'gang') return true;
  return substate === 'disk' && /in use/.test(detail ?? '');
}
