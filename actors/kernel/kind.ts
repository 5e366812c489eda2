/** What the kernel needs to know of a kind of actors. It knows nothing else of them. */
import type { AnyStateMachine } from 'xstate';
import type { z } from 'zod';
import type { Intent, Stamp } from '../../machines/authoring.ts';
import type { StoredSnapshot } from '../../persistence/actor-store.ts';
import type { Transaction } from '../../persistence/database.ts';
import type { Message } from '../../persistence/mailbox.ts';

/** An event with the kernel's stamp. */
export type StampedEvent = { type: string } & Stamp;
// biome-ignore lint/suspicious/noExplicitAny: a context is whatever its kind says; the kernel only carries it.
type Context = any;

/** What a step changed in the stored state of one actor, for read models. */
export interface Change {
  /** Id within the kind. */
  id: string;
  seq: number;
  /** null at birth. */
  before: StoredSnapshot | null;
  after: StoredSnapshot;
  /** Time of the turn. */
  at: Date;
}

/** What a handler is told beside its effect. */
export interface EffectContext {
  /** actor:seq:index: the idempotency key of this effect, stable over retries. */
  effectId: string;
  actor: string;
  /** Attempts before this one. */
  attempts: number;
  /** Aborted when the lease is lost or the process drains hard: stop, your result will not be taken. */
  signal: AbortSignal;
}

/** Runs one effect. Resolves with the event that reports the result, or null if there is nothing to tell. Must be idempotent. */
// biome-ignore lint/suspicious/noExplicitAny: each handler narrows its own effect.
export type EffectHandler = (effect: any, context: EffectContext) => Promise<{ type: string } | null>;

export interface RetryPolicy {
  /** Attempts in all; Infinity for work that must end (a teardown). */
  attempts: number;
  /** First pause and longest pause, in milliseconds; pauses double, with jitter. */
  firstMs: number;
  longestMs: number;
}

/** What the preparation of a message is told beside the event. */
export interface Turn {
  /** Of the actor, without its kind. */
  id: string;
  /** The last message of this actor in this turn, or one before it if the last may yet be passed over. */
  last: boolean;
  snapshot: StoredSnapshot | null;
  /** What the kind's gather returned; undefined if there is none. */
  gathered: unknown;
}

/** A message that will be prepared. */
export interface Gathered {
  /** Of the actor, without its kind. */
  id: string;
  event: { type: string };
}

export interface ActorKind {
  kind: string;
  /** Version of the stored shape, a whole number: rises with every change that needs a migration. */
  version: number;
  machine: AnyStateMachine;
  /** The closed union of events, unstamped. */
  events: z.ZodType;
  /** Type of the event that creates an actor of this kind. */
  birth: string;
  /** Type of the event by which a new database takes over what an earlier one left: a birth as well, of one that lives already. */
  adoption?: string;
  /** The machine's input, from the birth event. */
  input(event: StampedEvent & Record<string, unknown>): unknown;
  /** Meaning of an action that a step produced: pure. `before` is the context before the step. */
  intents(action: { type: string; params?: unknown }, context: Context, event: StampedEvent, before: Context): Intent[];
  /** Shape of the kind's effects: checked before they enter the outbox. */
  effects: z.ZodType | null;
  /** Steps from stored version N to N+1, by N. */
  migrations: Record<number, (old: StoredSnapshot) => StoredSnapshot>;
  /** Shape of the context in storage; a snapshot that does not fit is not revived. */
  context: z.ZodType | null;
  /** Why this event may not be applied to this actor (somebody else's reservation), or null. Pure. */
  refuses?(context: Context, event: StampedEvent): string | null;
  /**
   * Runs inside the transaction of the turn, before the step, and may write rows of the kind's own. What it returns is the event that
   * the machine sees and history keeps. `last` is true for the last message of this actor in this turn, and for one before it if
   * the last may yet be passed over: the place for work that a turn needs at its end.
   */
  prepare?(tx: Transaction, event: StampedEvent, turn: Turn): Promise<StampedEvent>;
  /**
   * Runs before the first of several messages is prepared, once for all of this kind: what takes a statement for each takes one for all of
   * them here. Each {@link prepare} is given what it returns. Births may turn out to be of somebody who exists already: what it writes for
   * them must do no harm then.
   */
  gather?(tx: Transaction, messages: readonly Gathered[]): Promise<unknown>;
  /** Write read models for a batch of changes, in the transaction of the turn. */
  project?(tx: Transaction, changes: readonly Change[]): Promise<void>;
  /** Write the records that steps asked for, in the transaction of the turn, in order. */
  record?(tx: Transaction, entries: readonly { id: string; entry: { type: string }; at: Date }[]): Promise<void>;
  /** The event that tells an actor that a message to it became a dead letter, or null. */
  lost?(event: { type: string }, reason: string): { type: string } | null;
  handlers: Record<string, EffectHandler>;
  retry?: Record<string, RetryPolicy>;
  /** The event that tells an actor that an effect has failed for good, or null if nobody needs to know. */
  effectFailed?(effect: { type: string; [key: string]: unknown }, reason: string): { type: string } | null;
  /**
   * The event that tells an actor that an effect goes on failing and is tried again, or null if nobody needs to know. Asked after the second
   * failure, the fourth, the eighth and so on, so that history does not grow with every try.
   */
  effectDelayed?(effect: { type: string; [key: string]: unknown }, reason: string): { type: string } | null;
}

/** Where the kernel's time comes from. */
export interface Clock {
  /** null: the database's transaction time, which is the rule. A date: a clock that a test or a simulation moves. */
  now(): Date | null;
}

export const databaseClock: Clock = { now: () => null };

/** The messages with the versions of their receivers' machines that this process knows. */
export function withVersions(kinds: ReadonlyMap<string, ActorKind>, messages: readonly Message[]): Message[] {
  return messages.map((message) => ({ ...message, version: kinds.get(parseAddress(message.actor).kind)?.version ?? 0 }));
}

/** Whether an event of this type creates an actor of the kind. */
export function isBirth({ birth, adoption }: ActorKind, type: string): boolean {
  return type === birth || type === adoption;
}

/** Split `kind/id`. */
export function parseAddress(actor: string): { kind: string; id: string } {
  const slash = actor.indexOf('/');
  return { kind: actor.slice(0, slash), id: actor.slice(slash + 1) };
}
