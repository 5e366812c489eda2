/** Drives a pure machine step by step and keeps what its effects, deadlines, messages and records add up to. */
import { isDeepStrictEqual } from 'node:util';
import { type AnyMachineSnapshot, getInitialMicrosteps, initialTransition, transition } from 'xstate';
import { diskKind } from '../../actors/disk/kind.ts';
import { poolKind } from '../../actors/gpu-pool/kind.ts';
import { imageKind } from '../../actors/image/kind.ts';
import { type ActorKind, parseAddress, type StampedEvent } from '../../actors/kernel/kind.ts';
import { dehydrate, revive } from '../../actors/kernel/revive.ts';
import { reservationKind } from '../../actors/reservation/kind.ts';
import type { Intent } from '../../machines/authoring.ts';
import { BIRTH, type Case, statePath, transientTaken, transitionsTaken } from './graph.ts';

/** The real kinds. Their handlers are never run by a model, so they need no ports. */
export const KINDS = {
  reservation: reservationKind({} as never),
  'gpu-pool': poolKind(),
  disk: diskKind({} as never),
  image: imageKind({} as never),
} as const satisfies Record<string, ActorKind>;

export interface Step {
  event: StampedEvent & Case;
  before: AnyMachineSnapshot | null;
  after: AnyMachineSnapshot;
  intents: Intent[];
  taken: string[];
}

/** The past of one actor, as far as promises are made about it. Never changed: each step makes a new one. */
export interface Trace<Memory> {
  kind: ActorKind;
  snapshot: AnyMachineSnapshot;
  at: string;
  /** Deadlines that stand, by name. */
  deadlines: ReadonlyMap<string, string>;
  /** Types of the effects asked for since the present state was entered. */
  pending: ReadonlySet<string>;
  memory: Memory;
  /** Transitions that the last step took. */
  taken: readonly string[];
  /** What the last step asked for. */
  intents: readonly Intent[];
  events: readonly string[];
}

export interface Promises<Memory> {
  start: Memory;
  /** What the next step adds to memory. Throws if it breaks a promise. */
  check(memory: Memory, step: Step, trace: Trace<Memory>): Memory;
}

/** A broken promise, with the way that led to it. */
export class BrokenPromise extends Error {
  override readonly name = 'BrokenPromise';
}

/** Throws with `what` unless `holds`. */
export function promise(holds: boolean, what: string): void {
  if (!holds) throw new BrokenPromise(what);
}

/** Birth. */
export function begin<Memory>(kind: ActorKind, birth: Case, promises: Promises<Memory>): Trace<Memory> {
  const event = { ...birth, at: BIRTH };
  const input = kind.input(event) as never;
  const [snapshot, actions] = initialTransition(kind.machine, input) as [AnyMachineSnapshot, { type: string }[]];
  const between = getInitialMicrosteps(kind.machine, input) as [AnyMachineSnapshot, unknown][];
  const taken = between.flatMap(([state]) => transientTaken(kind.machine, state, event));
  const empty: Trace<Memory> = {
    kind,
    snapshot,
    at: BIRTH,
    deadlines: new Map(),
    pending: new Set(),
    memory: promises.start,
    taken: [],
    intents: [],
    events: [],
  };
  return settle(
    empty,
    { event, before: null, after: snapshot, intents: meaning(kind, actions, event, null, snapshot), taken },
    promises,
  );
}

/**
 * One step. A deadline comes at its time, anything else a second after the last step.
 * @returns null if the event is a deadline that does not stand: the kernel would not deliver it.
 * @throws BrokenPromise with the whole way.
 */
export function step<Memory>(trace: Trace<Memory>, unstamped: Case, promises: Promises<Memory>): Trace<Memory> | null {
  const { kind } = trace;
  let at = new Date(Date.parse(trace.at) + 1_000).toISOString();
  let deadlines = trace.deadlines;
  if (unstamped.type.startsWith('deadline.')) {
    const name = unstamped.type.slice('deadline.'.length);
    const due = deadlines.get(name);
    if (due === undefined) return null;
    if (due > at) at = due;
    deadlines = new Map([...deadlines].filter(([other]) => other !== name));
  }
  const event = { ...unstamped, at };
  try {
    const taken = transitionsTaken(kind.machine, trace.snapshot, event);
    freeze(trace.snapshot.context);
    freeze(event);
    const [after, actions] = transition(kind.machine, trace.snapshot, event as never) as [AnyMachineSnapshot, { type: string }[]];
    const intents = meaning(kind, actions, event, trace.snapshot, after);
    return settle({ ...trace, at, deadlines }, { event, before: trace.snapshot, after, intents, taken }, promises);
  } catch (error) {
    const way = [...trace.events, `${unstamped.type} in ${statePath(trace.snapshot.value)}`].join(' → ');
    throw new BrokenPromise(`${kind.kind}: ${(error as Error).message}\n  after ${way}\n  with ${JSON.stringify(unstamped)}`, {
      cause: error,
    });
  }
}

function meaning(
  kind: ActorKind,
  actions: readonly { type: string }[],
  event: StampedEvent,
  before: AnyMachineSnapshot | null,
  after: AnyMachineSnapshot,
): Intent[] {
  return actions.flatMap((action) => kind.intents(action, after.context, event, before?.context ?? after.context));
}

function settle<Memory>(trace: Trace<Memory>, made: Step, promises: Promises<Memory>): Trace<Memory> {
  const { kind } = trace;
  const { before, after, event, intents } = made;
  const moved = before === null || !isDeepStrictEqual(before.value, after.value);
  const deadlines = new Map(trace.deadlines);
  const pending = new Set(moved ? [] : trace.pending);
  for (const intent of intents) {
    checkIntent(kind, intent, event);
    if (intent.do === 'deadline') deadlines.set(intent.name, intent.at);
    if (intent.do === 'clear') deadlines.delete(intent.name);
    if (intent.do === 'effect') pending.add(intent.effect.type);
  }
  const next: Trace<Memory> = {
    ...trace,
    snapshot: after,
    deadlines,
    pending,
    taken: made.taken,
    intents,
    events: [...trace.events, event.type],
  };
  promise(after.status !== 'error', `the machine failed: ${String(after.error)}`);
  if (after.status === 'done') {
    promise(deadlines.size === 0, `deadlines are left at the end: ${[...deadlines.keys()].join(', ')}`);
  } else if (!after.hasTag('resting' as never)) {
    promise(deadlines.size + pending.size > 0, `${statePath(after.value)} can hang: no deadline and no pending effect`);
  }
  return { ...next, memory: promises.check(trace.memory, made, next) };
}

/** What leaves a machine must fit whoever gets it. */
function checkIntent(kind: ActorKind, intent: Intent, event: StampedEvent): void {
  switch (intent.do) {
    case 'effect': {
      const checked = kind.effects!.safeParse(intent.effect);
      promise(checked.success, `the effect ${intent.effect.type} has the wrong shape: ${checked.error?.message}`);
      break;
    }
    case 'deadline': {
      promise(intent.at > event.at, `the deadline ${intent.name} is set to ${intent.at}, which is past at ${event.at}`);
      const known = kind.events.safeParse({ type: `deadline.${intent.name}` });
      promise(known.success, `the deadline ${intent.name} has no event`);
      break;
    }
    case 'send': {
      const target = KINDS[parseAddress(intent.to).kind as keyof typeof KINDS] as ActorKind | undefined;
      const checked = target?.events.safeParse(intent.event);
      promise(
        checked?.success === true,
        `the message ${intent.event.type} to ${intent.to} has the wrong shape: ${checked?.error?.message}`,
      );
      break;
    }
    case 'clear':
    case 'record':
      break;
  }
}

/** The stored shape revives to the same snapshot. */
export function checkRoundTrip(kind: ActorKind, snapshot: AnyMachineSnapshot): void {
  const stored = dehydrate(kind, snapshot);
  promise(isDeepStrictEqual(dehydrate(kind, revive(kind, stored)), stored), 'the stored snapshot does not survive its revival');
  promise(isDeepStrictEqual(stored.context, snapshot.context), 'the context is not JSON');
}

/** Whatever changes what it was given throws. */
function freeze(value: unknown): void {
  if (value === null || typeof value !== 'object' || Object.isFrozen(value)) return;
  Object.freeze(value);
  for (const inner of Object.values(value)) freeze(inner);
}
