/** The names of the reservation's chart: its guards, its assignments and its intents, bound from their tables; and how its states end. */
import { setup } from 'xstate';
import { reservationAssigns, reservationGuards } from './reservation.assigns.ts';
import type { ReservationContext, ReservationInput } from './reservation.context.ts';
import type { Limit, reservationIntents } from './reservation.effects.ts';
import type { ReservationEvent } from './reservation.events.ts';
import { assignsOf, guardsOf } from './tables.ts';

export type AssignName = keyof typeof reservationAssigns;
type IntentName = Exclude<keyof typeof reservationIntents, 'startLimit' | 'clearLimit'>;

/** Everything that the chart may name: contexts change by assigns, the world by intents, and both are pure tables. */
export const machineSetup = setup({
  types: {
    context: {} as ReservationContext,
    events: {} as ReservationEvent,
    input: {} as ReservationInput,
    tags: {} as 'live' | 'resting' | 'holds-slots',
  },
  guards: guardsOf<ReservationContext, ReservationEvent, keyof typeof reservationGuards>(reservationGuards),
  actions: {
    ...assignsOf<ReservationContext, ReservationEvent, AssignName>(reservationAssigns),
    ...intentTable(),
    startLimit: (_, _params: { limit: Limit }) => {},
    clearLimit: (_, _params: { limit: Limit }) => {},
  },
});

/** Entry and exit of a state with a time limit. */
export function limited(limit: Limit) {
  return {
    entry: [{ type: 'startLimit', params: { limit } }] as const,
    exit: [{ type: 'clearLimit', params: { limit } }] as const,
  };
}

/** An end before any server: what was asked for is given back. */
export function endUnserved(target: 'failed' | 'cancelled', cause: AssignName) {
  return { target: `#reservation.${target}`, actions: [cause, 'withdrawAll', 'tellGang'] } as const;
}

/** An end in the queue: what an earlier life left (an attached disk, services around the pod) is saved or removed first. */
export function endInQueue(target: 'failed' | 'cancelled', cause: AssignName) {
  return [
    { guard: 'diskInUse', target: '#reservation.snapshotting.detaching', actions: [cause, 'withdrawCapacity', 'tellGang'] },
    { guard: 'hadPod', target: '#reservation.snapshotting.releasing', actions: [cause, 'withdrawCapacity', 'tellGang'] },
    endUnserved(target, cause),
  ] as const;
}

/** An end with a pod, or with one that may be on its way. */
export function endWithPod(cause: AssignName) {
  return { target: '#reservation.snapshotting', actions: [cause, 'tellGang'] } as const;
}

function intentTable() {
  const names: Record<IntentName, true> = {
    joinGang: true,
    askImage: true,
    askDisk: true,
    askCapacity: true,
    attachDisk: true,
    createPod: true,
    removePod: true,
    forceRemovePod: true,
    returnSlots: true,
    startStay: true,
    resumeStay: true,
    moveExpiry: true,
    postWarning: true,
    postFinalNotice: true,
    postOomNotice: true,
    startGrace: true,
    askExtension: true,
    clearStay: true,
    updateAccess: true,
    restoreAccess: true,
    startJupyter: true,
    stopJupyter: true,
    publishName: true,
    publishRoute: true,
    withdrawRoute: true,
    withdrawNames: true,
    detachDisk: true,
    releaseDisk: true,
    removeAccess: true,
    freeName: true,
    withdrawAll: true,
    withdrawCapacity: true,
    tellGang: true,
  };
  return Object.fromEntries(Object.keys(names).map((name) => [name, () => {}])) as Record<IntentName, () => void>;
}
