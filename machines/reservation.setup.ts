/** The names of the reservation's chart: its guards, its assignments and its intents, bound from their tables. */
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
