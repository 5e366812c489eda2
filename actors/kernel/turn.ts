/** One turn of one actor, as a pure function: state and message in; next state, history entry and intents out. */
import type { AnyEventObject, AnyMachineSnapshot } from 'xstate';
import type { Intent } from '../../machines/authoring.ts';
import type { MailRow, StoredSnapshot } from '../../persistence/actor-store.ts';
import type { HistoryEntry } from '../../persistence/history.ts';
import { type ActorKind, isBirth, type StampedEvent } from './kind.ts';
import { type MachineStep, startMachine, stepMachine } from './machine-step.ts';
import { dehydrate, revive, subState, topState } from './revive.ts';

/** An actor in memory, for the length of one transaction. */
export interface LiveActor {
  actor: string;
  kind: ActorKind;
  seq: number;
  /** null before birth. */
  stored: StoredSnapshot | null;
  /** Revived at the first step that needs it. */
  live: AnyMachineSnapshot | null;
}

/** The message cannot be processed, now or later: it is dead-lettered, and its actor goes on with the next. */
export class UnprocessableError extends Error {
  override readonly name = 'UnprocessableError';
  readonly code: string;
  constructor(code: string, message: string, cause?: unknown) {
    super(message, { cause });
    this.code = code;
  }
}

export interface StepResult {
  actor: LiveActor;
  entry: HistoryEntry;
  intents: Intent[];
}

/**
 * Apply one stamped event.
 * @throws UnprocessableError if the machine throws or asks for something without meaning.
 * @throws ReviveError if the stored snapshot cannot be revived.
 */
export function takeTurn(actor: LiveActor, message: MailRow, event: StampedEvent): StepResult {
  const { kind } = actor;
  if (actor.stored === null) return birth(actor, message, event);

  const from = topState(actor.stored.value);
  if (isBirth(kind, event.type)) return pass(actor, message, event, 'ignored', 'It exists already');
  if (actor.stored.status !== 'active') return pass(actor, message, event, 'ignored', `It has ended: ${from}`);
  const live = actor.live ?? revive(kind, actor.stored);
  const refusal = kind.refuses?.(live.context, event) ?? null;
  if (refusal !== null) return pass({ ...actor, live }, message, event, 'refused', refusal);

  const outcome = run(kind, () => stepMachine(kind.machine, live, event as AnyEventObject));
  if (outcome.live === live && outcome.actions.length === 0) {
    return pass({ ...actor, live }, message, event, 'ignored', `Not expected in ${from}`);
  }
  return settle(actor, message, event, outcome, from);
}

function birth(actor: LiveActor, message: MailRow, event: StampedEvent): StepResult {
  const { kind } = actor;
  if (!isBirth(kind, event.type)) throw new UnprocessableError('GPU_ACTOR_UNBORN', `${actor.actor} does not exist yet`);
  const input = kind.input(event as StampedEvent & Record<string, unknown>);
  // The creating event goes along, so that the intents of the first actions can read it.
  const outcome = run(kind, () => startMachine(kind.machine, input));
  return settle(actor, message, event, outcome, null);
}

/** Run a step of the library; whatever it throws is the message's fault. */
function run(kind: ActorKind, step: () => MachineStep): MachineStep {
  let result: MachineStep;
  try {
    result = step();
  } catch (error) {
    throw new UnprocessableError('GPU_MACHINE_FAILED', `${kind.kind}: the machine failed: ${String(error)}`, error);
  }
  const { live } = result;
  if (live.status === 'error') {
    throw new UnprocessableError('GPU_MACHINE_FAILED', `${kind.kind}: the machine failed: ${String(live.error)}`, live.error);
  }
  return result;
}

function settle(actor: LiveActor, message: MailRow, event: StampedEvent, outcome: MachineStep, from: string | null): StepResult {
  const { kind } = actor;
  const before = (actor.stored?.context ?? outcome.live.context) as never;
  const intents = outcome.actions.flatMap((action) => {
    // Raised events are consumed within the step; everything else must have a meaning.
    if (action.type.startsWith('xstate.'))
      throw new UnprocessableError('GPU_MACHINE_FAILED', `${kind.kind}: built-in action ${action.type}`);
    return kind.intents(action, outcome.live.context, event, before);
  });
  const stored = dehydrate(kind, outcome.live);
  const next: LiveActor = { ...actor, seq: actor.seq + 1, stored, live: outcome.live };
  const entry = entryOf(next, message, event, 'applied', null, from, topState(stored.value));
  return { actor: next, entry: { ...entry, leaf: subState(stored.value) }, intents };
}

function pass(
  actor: LiveActor,
  message: MailRow,
  event: StampedEvent,
  outcome: 'ignored' | 'refused',
  reason: string,
): StepResult {
  const state = topState(actor.stored?.value);
  const next: LiveActor = { ...actor, seq: actor.seq + 1 };
  return { actor: next, entry: entryOf(next, message, event, outcome, reason, state, state), intents: [] };
}

/** A step that only records that the message changed nothing (a stale deadline). */
export function passOver(actor: LiveActor, message: MailRow, event: StampedEvent, reason: string): StepResult {
  return pass(actor, message, event, 'ignored', reason);
}

function entryOf(
  actor: LiveActor,
  message: MailRow,
  event: StampedEvent,
  outcome: HistoryEntry['outcome'],
  reason: string | null,
  from: string | null,
  to: string | null,
): HistoryEntry {
  return {
    actor: actor.actor,
    seq: actor.seq,
    key: message.key,
    event,
    outcome,
    reason,
    from,
    to,
    leaf: null,
    machineVersion: actor.kind.version,
    sender: message.sender,
    sentAt: message.sentAt,
  };
}
