import { expect, it } from 'vitest';
import { reservationAssigns, reservationGuards } from '../../machines/reservation.assigns.ts';
import { newReservation } from '../../machines/reservation.context.ts';
import type { ReservationEvent } from '../../machines/reservation.events.ts';

const at = '2026-11-21T08:00:00.000Z';
const extend = (hours: number): ReservationEvent => ({ type: 'extend', hours, by: null, at });

it('B8: decimal hours that add up to the limit are within it, and a second more is not an hour more', () => {
  let context = { ...newReservation(undefined), totalHours: 24, expiresAt: at };
  for (const hours of [0.1, 8.3, 15.6]) {
    expect(reservationGuards.withinTotal(context, extend(hours))).toBe(true);
    const asked = { ...context, extension: { hours, by: null } };
    context = { ...asked, ...reservationAssigns.extended(asked, { type: 'extension.allowed', ask: 1, at }) } as typeof context;
  }
  expect(context.totalHours).toBe(48);
  expect(reservationGuards.withinTotal(context, extend(0.1))).toBe(false);
});
