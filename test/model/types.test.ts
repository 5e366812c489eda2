/** The unions are closed: what does not belong does not compile. Each line below that should not compile is checked by the compiler. */
import { expect, it } from 'vitest';
import type { DiskEffect, DiskMessage } from '../../machines/disk.events.ts';
import type { PoolMessage } from '../../machines/gpu-pool.events.ts';
import type { ImageMessage } from '../../machines/image.events.ts';
import type { ReservationEffect } from '../../machines/reservation.effects.ts';
import {
  type ReservationEvent,
  ReservationEvent as Events,
  type ReservationMessage,
  UserEvent,
} from '../../machines/reservation.events.ts';

const messages: ReservationMessage[] = [
  { type: 'cancel', by: null },
  { type: 'deadline.expiry' },
  // @ts-expect-error no such event
  { type: 'cancelled', by: null },
  // @ts-expect-error a reserved event of the library
  { type: 'xstate.stop' },
  // @ts-expect-error no such deadline
  { type: 'deadline.lunch' },
  // @ts-expect-error the sender is missing
  { type: 'extend', hours: 2 },
  // @ts-expect-error hours are a number
  { type: 'extend', by: null, hours: '2' },
  // @ts-expect-error a result without its life
  { type: 'pod.gone', proof: '404' },
  // @ts-expect-error a gang does not end as expired
  { type: 'gang.broken', reason: 'x', outcome: 'expired' },
];

it('a reservation understands its own events only', () => {
  expect(messages.map((message) => Events.safeParse(message).success)).toEqual([
    true,
    true,
    false,
    false,
    false,
    false,
    false,
    false,
    false,
  ]);
});

it('users may send user events only', () => {
  const wishes: UserEvent[] = [
    { type: 'add_user', by: 'ada', githubUsername: 'grace' },
    // @ts-expect-error what the cluster tells is not a wish
    { type: 'pod.gone', generation: 1, proof: '404' },
    // @ts-expect-error time is the kernel's matter
    { type: 'deadline.expiry' },
  ];
  expect(wishes.map((wish) => UserEvent.safeParse(wish).success)).toEqual([true, false, false]);
});

it('what a machine sees is stamped', () => {
  // @ts-expect-error the stamp is missing
  const unstamped: ReservationEvent = { type: 'cancel', by: null };
  const stamped: ReservationEvent = { type: 'cancel', by: null, at: '2026-03-02T10:00:00.000Z' };
  expect(stamped).toMatchObject(unstamped);
});

it('the unions of the others are closed too', () => {
  const others: [DiskMessage, PoolMessage, ImageMessage, ReservationEffect, DiskEffect][] = [
    [
      { type: 'disk.release', reservationId: 'x' },
      { type: 'pool.resumed', by: 'ops' },
      { type: 'image.withdrawn', reservationId: 'x' },
      { type: 'jupyter.stop', generation: 1 },
      { type: 'volume.detach', round: 1, diskId: 'x' },
    ],
    [
      // @ts-expect-error no such event of a disk
      { type: 'disk.eat' },
      // @ts-expect-error no such event of a pool
      { type: 'pool.drained' },
      // @ts-expect-error no such event of an image
      { type: 'image.push' },
      // @ts-expect-error no such effect of a reservation
      { type: 'pod.restart', generation: 1 },
      // @ts-expect-error a volume is deleted after a snapshot only
      { type: 'volume.delete', round: 1, diskId: 'x' },
    ],
  ];
  expect(others).toHaveLength(2);
});
