/**
 * What the authors of machines write with: the stamp that every event carries, the intents that named actions stand for, and helpers for time.
 *
 * A machine names its actions and nothing else, so its JSON is complete. What a named action means (an effect, a deadline, a message, a row
 * of a ledger) is said by the `intents` table of its kind: a pure function of the action, the context after the step, and the event.
 */
import { z } from 'zod';

/** JSON, the only thing that enters a context, an event or an effect. */
export type Json = string | number | boolean | null | Json[] | { [key: string]: Json };

/** What the kernel stamps on every event before a machine sees it. */
export interface Stamp {
  /** Transaction time of the turn, ISO 8601 in UTC: the only clock a machine knows. */
  at: string;
  /** How many times faster than the calendar policy durations run (`--time-scale`); absent means 1. */
  timeScale?: number;
}

/** An event as machines see it: one member of the union for each type, stamped. */
export type Stamped<E> = E extends { type: infer T } ? (T extends string ? Omit<E, 'type'> & { type: T } & Stamp : never) : never;

/** `kind/id`, for example `reservation/0198…`: how one actor names another. */
export type ActorAddress = `${string}/${string}`;

/** The address of actor `id` of `kind`. */
export function address(kind: string, id: string): ActorAddress {
  return `${kind}/${id}`;
}

/** An effect: work outside the database, done at least once by a handler whose result comes back as an event. */
export interface EffectIntent<Effect> {
  do: 'effect';
  effect: Effect;
  /** Effects of one actor in one lane never overlap, and run in the order in which they were asked for. */
  lane: string;
  /** True if this effect makes all unstarted effects of its lane pointless (a removal after a creation). */
  replaces: boolean;
}

/** A deadline: the event `deadline.<name>` comes at `at` (ISO 8601), unless it is set anew or cleared before. */
export interface DeadlineIntent {
  do: 'deadline';
  name: string;
  at: string;
}

/** Forget the deadline of that name, if there is one. */
export interface ClearIntent {
  do: 'clear';
  name: string;
}

/** A message to another actor, in its mailbox when the turn commits. */
export interface SendIntent {
  do: 'send';
  to: ActorAddress;
  event: { type: string };
}

/** A row that the kind's own ledger writes in the transaction of the turn. */
export interface RecordIntent {
  do: 'record';
  entry: { type: string };
}

export type Intent<Effect = { type: string }> = EffectIntent<Effect> | DeadlineIntent | ClearIntent | SendIntent | RecordIntent;

/** An effect in `lane` (default: a lane of its own type); see {@link EffectIntent}. */
export function effect<E extends { type: string }>(
  value: E,
  options: { lane?: string; replaces?: boolean } = {},
): EffectIntent<E> {
  return { do: 'effect', effect: value, lane: options.lane ?? value.type, replaces: options.replaces ?? false };
}

/** A message to another actor. */
export function send<E extends { type: string }>(to: ActorAddress, event: E): SendIntent {
  return { do: 'send', to, event };
}

/** A deadline at an absolute time. */
export function deadline(name: string, at: string): DeadlineIntent {
  return { do: 'deadline', name, at };
}

/** Clear deadlines by name. */
export function clear(...names: string[]): ClearIntent[] {
  return names.map((name) => ({ do: 'clear', name }));
}

export const SECOND = 1_000;
export const MINUTE = 60 * SECOND;
export const HOUR = 60 * MINUTE;
export const DAY = 24 * HOUR;

/** A policy duration in real milliseconds under the event's time scale. */
export function scaled(milliseconds: number, stamp: Stamp): number {
  return milliseconds / (stamp.timeScale ?? 1);
}

/** The ISO time that lies `milliseconds` of policy time after the event. */
export function later(stamp: Stamp, milliseconds: number): string {
  return new Date(Date.parse(stamp.at) + scaled(milliseconds, stamp)).toISOString();
}

/**
 * The ISO time at which a technical time limit ends. A time scale shortens policy, not the machines behind it,
 * so a limit never gets shorter than five real seconds.
 */
export function limitEnd(stamp: Stamp, milliseconds: number): string {
  const real = Math.min(milliseconds, Math.max(scaled(milliseconds, stamp), 5 * SECOND));
  return new Date(Date.parse(stamp.at) + real).toISOString();
}

/** The zod shape of one event or effect type. */
export function shape<T extends string, S extends z.ZodRawShape>(type: T, fields: S) {
  return z.object({ type: z.literal(type), ...fields });
}

/** Identifier of a reservation, disk or operation. */
export const Uuid = z.uuid();
/** A moment as ISO 8601 text in UTC. */
export const Moment = z.iso.datetime({ offset: true });
