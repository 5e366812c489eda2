/** Handlers that take a dev server down. They never give up: what is left behind costs GPUs or money. */
import type { ReservationEffect } from '../../machines/reservation.effects.ts';
import type { ReservationMessage } from '../../machines/reservation.events.ts';
import { NotYet } from '../errors.ts';
import type { EffectContext } from '../kernel/kind.ts';
import type { ReservationPorts } from './provision.ts';

type Effect<T extends ReservationEffect['type']> = Extract<ReservationEffect, { type: T }>;

/** How often a terminating pod is looked at, in milliseconds; the watch usually tells first. */
const LOOK_AGAIN = 1_000;

/** Delete the pod; done when the API server answers 404 for it. */
export async function removeServer(
  ports: ReservationPorts,
  effect: Effect<'pod.remove'>,
  at: EffectContext,
): Promise<ReservationMessage> {
  const { generation, force } = effect;
  const gone = await ports.servers.remove({ reservationId: at.actor.slice('reservation/'.length), generation }, { force });
  if (gone !== 'gone') throw new NotYet(LOOK_AGAIN, 'The pod is terminating');
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
