/** Handlers that take a dev server down. They never give up: what is left behind costs GPUs or money. */
import type { ReservationEffect } from '../../machines/reservation.effects.ts';
import type { ReservationMessage } from '../../machines/reservation.events.ts';
import { NotYet } from '../errors.ts';
import type { EffectContext } from '../kernel/kind.ts';
import type { LastLook } from './last-look.ts';
import { type ReservationPorts, readReservation } from './provision.ts';

type Effect<T extends ReservationEffect['type']> = Extract<ReservationEffect, { type: T }>;

/** How often a terminating pod is looked at, in milliseconds; the watch usually tells first. */
const LOOK_AGAIN = 1_000;

export const NODE_READY = 'select ready from nodes where node = $1';

/**
 * Whether this node, though it is on the cluster, does not answer. A forced deletion takes the pod's object away at once, and is proof of
 * nothing there: its containers may go on, on GPUs that the next one gets and on a disk that is being saved.
 */
export async function isSilent(ports: Pick<ReservationPorts, 'db'>, node: string): Promise<boolean> {
  const { rows } = await ports.db.query<{ ready: boolean }>(NODE_READY, [node]);
  return rows[0]?.ready === false;
}

/**
 * Delete the pod; done when the API server answers 404 for it. Force is used where the node answers, or its object is deleted; from a node
 * that does not answer, the pod is waited for in peace, and the reservation is told.
 */
export async function removeServer(
  ports: ReservationPorts,
  effect: Effect<'pod.remove'>,
  at: EffectContext,
  lastLook: LastLook,
): Promise<ReservationMessage> {
  const { generation, force } = effect;
  if (force) {
    const { context } = await readReservation(ports.db, at.actor);
    const node = context.generation === generation ? (context.grant?.node ?? null) : null;
    if (node !== null && (await isSilent(ports, node))) return { type: 'pod.unreachable', generation, node };
  } else await lastLook.take(generation, at);
  const gone = await ports.servers.remove({ reservationId: at.actor.slice('reservation/'.length), generation }, { force });
  if (gone !== 'gone') throw new NotYet(LOOK_AGAIN, 'The pod is terminating');
  lastLook.forget(at.effectId);
  return { type: 'pod.gone', generation, proof: 'the API server answers 404' };
}

/** Remove what stands around the pod, of every life. */
export async function removeAccess(
  ports: ReservationPorts,
  effect: Effect<'access.remove'>,
  at: EffectContext,
): Promise<ReservationMessage> {
  const { generation } = effect;
  await ports.servers.removeAccess({ reservationId: at.actor.slice('reservation/'.length), generation });
  return { type: 'access.removed', generation };
}
