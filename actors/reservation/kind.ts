/** The reservation as a kind of actor. */
import { ReservationContext } from '../../machines/reservation.context.ts';
import { intentsOfReservation, ReservationEffect, type ReservationRecord } from '../../machines/reservation.effects.ts';
import { ReservationEvent } from '../../machines/reservation.events.ts';
import { reservationMachine } from '../../machines/reservation.machine.ts';
import type { ActorKind, Gathered, RetryPolicy, StampedEvent } from '../kernel/kind.ts';
import { postNotice, startJupyter, stopJupyter, updateAccess } from './access.ts';
import { LastLook } from './last-look.ts';
import { type ClaimedName, claimNames, freeNames, type NameWish } from './names.ts';
import { projectReservations } from './projection.ts';
import { createServer, type ReservationPorts, restoreAccess } from './provision.ts';
import { publishName, withdrawName } from './published-names.ts';
import { publishRoute, withdrawRoute } from './routes.ts';
import { removeAccess, removeServer } from './teardown.ts';

const WITHOUT_END: RetryPolicy = { attempts: Number.POSITIVE_INFINITY, firstMs: 200, longestMs: 15_000 };
/** The limit of the state ends it; until then it is tried again and again. */
const UNTIL_LIMIT: RetryPolicy = { attempts: Number.POSITIVE_INFINITY, firstMs: 100, longestMs: 5_000 };
/** Nobody waits for it, and the service behind it counts every call. */
const UNHURRIED: RetryPolicy = { attempts: Number.POSITIVE_INFINITY, firstMs: 1_000, longestMs: 60_000 };
const A_FEW: RetryPolicy = { attempts: 6, firstMs: 200, longestMs: 10_000 };

/** What those who are born would like to be called; the first word of each counts. */
function nameWishes(messages: readonly Gathered[]): NameWish[] {
  const wishes = new Map<string, NameWish>();
  for (const { id, event } of messages) {
    if (event.type !== 'reservation.submitted' || wishes.has(id)) continue;
    wishes.set(id, { id, wish: (event as unknown as { request: { name: string } }).request.name });
  }
  return [...wishes.values()];
}

/** The kind `reservation`; its ids are UUIDs. `random` draws names. */
export function reservationKind(ports: ReservationPorts, random: () => number = Math.random): ActorKind {
  const lastLook = new LastLook(ports);
  return {
    kind: 'reservation',
    version: 1,
    machine: reservationMachine,
    events: ReservationEvent,
    birth: 'reservation.submitted',
    adoption: 'reservation.adopted',
    input: (event) => ({
      id: event['id'],
      owner: event['owner'],
      at: event.at,
      request: event['request'],
      policy: event['policy'],
      domain: event['domain'] ?? null,
      ...(event['adopted'] === undefined ? {} : { adopted: event['adopted'] }),
    }),
    intents: (action, context, event) => intentsOfReservation(action, context, event as never),
    effects: ReservationEffect,
    migrations: {},
    context: ReservationContext,
    refuses: (context: ReservationContext, event) => {
      const { by = null, for: onBehalf } = event as { by?: string | null; for?: string };
      return by !== null && (onBehalf ?? by) !== context.owner ? 'The reservation belongs to another user' : null;
    },
    gather: (tx, messages) => claimNames(tx, nameWishes(messages), random),
    prepare: async (_tx, event, { id, gathered }) => {
      if (event.type !== 'reservation.submitted') return event;
      const { request } = event as StampedEvent & { request: { name: string } };
      const { name, domain } = (gathered as ReadonlyMap<string, ClaimedName>).get(id)!;
      return { ...event, request: { ...request, name }, ...(domain === null ? {} : { domain }) } as StampedEvent;
    },
    lost: (event, reason) =>
      ({ type: 'message.lost', reason: `The event ${event.type} could not be processed: ${reason}` }) as { type: string },
    project: projectReservations,
    record: async (tx, entries) => {
      const freed = entries.filter(({ entry }) => (entry as ReservationRecord).type === 'name.free').map(({ id }) => id);
      await freeNames(tx, freed);
    },
    handlers: {
      'pod.create': (effect, at) => createServer(ports, effect, at),
      'pod.remove': (effect, at) => removeServer(ports, effect, at, lastLook),
      'access.update': (effect, at) => updateAccess(ports, effect, at),
      'access.restore': (effect, at) => restoreAccess(ports, effect, at),
      'access.remove': (effect, at) => removeAccess(ports, effect, at),
      'notice.post': (effect, at) => postNotice(ports, effect, at),
      'jupyter.start': (effect, at) => startJupyter(ports, effect, at),
      'jupyter.stop': (effect, at) => stopJupyter(ports, effect, at),
      'name.publish': (effect, at) => publishName(ports, effect, at),
      'name.withdraw': (effect, at) => withdrawName(ports, effect, at),
      'route.publish': (effect, at) => publishRoute(ports, effect, at),
      'route.withdraw': (effect, at) => withdrawRoute(ports, effect, at),
    },
    retry: {
      'pod.create': UNTIL_LIMIT,
      'pod.remove': WITHOUT_END,
      'access.remove': WITHOUT_END,
      'access.update': A_FEW,
      'access.restore': A_FEW,
      'notice.post': A_FEW,
      'jupyter.start': A_FEW,
      'jupyter.stop': A_FEW,
      'name.publish': UNHURRIED,
      'name.withdraw': UNHURRIED,
      'route.publish': UNHURRIED,
      'route.withdraw': UNHURRIED,
    },
    effectDelayed: (effect, reason) =>
      effect.type === 'pod.create'
        ? ({ type: 'pod.createDelayed', generation: effect['generation'], reason } as { type: string })
        : null,
    effectFailed: (effect, reason) => {
      const generation = effect['generation'] as number;
      switch (effect.type as ReservationEffect['type']) {
        case 'pod.create':
          return { type: 'pod.createFailed', generation, reason } as { type: string };
        case 'access.update':
        case 'access.restore':
          return { type: 'access.failed', generation, reason } as { type: string };
        case 'jupyter.start':
        case 'jupyter.stop':
          return { type: 'jupyter.failed', generation, reason } as { type: string };
        case 'name.publish':
          return { type: 'name.failed', generation, reason } as { type: string };
        case 'route.publish':
          return { type: 'route.failed', generation, reason } as { type: string };
        case 'pod.remove':
        case 'access.remove':
        case 'notice.post':
        case 'name.withdraw':
        case 'route.withdraw':
          return { type: 'effect.failed', generation, effect: effect.type, reason } as { type: string };
      }
    },
  };
}
