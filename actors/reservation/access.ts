/** Handlers for what happens inside a running server: keys of users, Jupyter, notices. */
import type { ReservationEffect } from '../../machines/reservation.effects.ts';
import type { ReservationMessage } from '../../machines/reservation.events.ts';
import { ServerGoneError, TerminalError } from '../errors.ts';
import type { EffectContext } from '../kernel/kind.ts';
import { gatherKeys, type ReservationPorts, readReservation, readSecrets } from './provision.ts';

type Effect<T extends ReservationEffect['type']> = Extract<ReservationEffect, { type: T }>;

/** Bring the server's keys to the desired list. The list is read anew, so that a retry uses the newest. */
export async function updateAccess(
  ports: ReservationPorts,
  effect: Effect<'access.update'>,
  at: EffectContext,
): Promise<ReservationMessage> {
  const { context } = await readReservation(ports.db, at.actor);
  const { generation } = effect;
  const { lines, problem } = await gatherKeys(ports.keys, { ...context, users: effect.users });
  await ports.servers.setKeys({ reservationId: context.id, generation }, lines);
  return problem === null ? { type: 'access.updated', generation } : { type: 'access.failed', generation, reason: problem };
}

/** Start Jupyter behind its token. */
export async function startJupyter(
  ports: ReservationPorts,
  effect: Effect<'jupyter.start'>,
  at: EffectContext,
): Promise<ReservationMessage> {
  const { generation } = effect;
  const { context } = await readReservation(ports.db, at.actor);
  const { jupyterToken } = await readSecrets(ports.db, context.request.secretsRef);
  try {
    const { url, port } = await ports.servers.startJupyter(
      { reservationId: context.id, generation },
      jupyterToken,
      context.jupyter.port,
    );
    return { type: 'jupyter.started', generation, url, port };
  } catch (error) {
    if (error instanceof TerminalError) return { type: 'jupyter.failed', generation, reason: error.message };
    throw error;
  }
}

/** Stop Jupyter. */
export async function stopJupyter(
  ports: ReservationPorts,
  effect: Effect<'jupyter.stop'>,
  at: EffectContext,
): Promise<ReservationMessage> {
  const { generation } = effect;
  await ports.servers.stopJupyter({ reservationId: at.actor.slice('reservation/'.length), generation });
  return { type: 'jupyter.stopped', generation };
}

/** Put a notice into the server; nothing if the server is on its way out, gone, or has moved on. */
export async function postNotice(
  ports: ReservationPorts,
  effect: Effect<'notice.post'>,
  at: EffectContext,
): Promise<ReservationMessage | null> {
  const { generation, about, minutesLeft, endsAt, text } = effect;
  const { state, context } = await readReservation(ports.db, at.actor);
  if (!['running', 'extending'].includes(state) || context.generation !== generation) return null;
  // A warning that an extension has overtaken would only alarm.
  if (about === 'warning' && endsAt !== context.expiresAt) return null;
  try {
    await ports.servers.post({ reservationId: context.id, generation }, { about, minutesLeft, endsAt, text });
  } catch (error) {
    // It went between our look and the call; whoever waits for it hears of that by the watch.
    if (!(error instanceof ServerGoneError)) throw error;
  }
  return null;
}
