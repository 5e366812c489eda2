import { KINDS } from './drive.ts';
import type { Model } from './explore.ts';
import { lateEvents, RESERVATION_SCENARIOS, reservationKey } from './reservation.cases.ts';
import { type ReservationMemory, reservationPromises } from './reservation.promises.ts';

/** The model of a reservation. */
export const reservationModel: Model<ReservationMemory> = {
  kind: KINDS.reservation,
  scenarios: RESERVATION_SCENARIOS,
  key: reservationKey,
  promises: reservationPromises,
  late: lateEvents,
};
