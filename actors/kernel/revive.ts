/** From the stored shape to a live snapshot and back. The one place that leans on the library's own format. */
import { isDeepStrictEqual } from 'node:util';
import type { AnyMachineSnapshot, AnyStateMachine } from 'xstate';
import type { StoredSnapshot } from '../../persistence/actor-store.ts';
import { rememberJson } from '../../persistence/storable.ts';
import type { ActorKind } from './kind.ts';

/** The stored snapshot cannot become a live one: the actor is quarantined, its mail waits, nobody else is delayed. */
export class ReviveError extends Error {
  override readonly name = 'ReviveError';
}

/**
 * Bring a stored snapshot to the kind's version.
 * @throws ReviveError if a step is missing or fails.
 */
export function migrateSnapshot(kind: ActorKind, stored: StoredSnapshot, fromVersion: number): StoredSnapshot {
  let snapshot = stored;
  for (let version = fromVersion; version < kind.version; version++) {
    const step = kind.migrations[version];
    if (step === undefined) throw new ReviveError(`${kind.kind}: no migration from version ${version}`);
    try {
      snapshot = step(snapshot);
    } catch (error) {
      throw new ReviveError(`${kind.kind}: the migration from version ${version} failed: ${String(error)}`, { cause: error });
    }
  }
  return snapshot;
}

/**
 * A live snapshot from a stored one of the kind's own version.
 * @throws ReviveError if its state is unknown or its context does not fit.
 */
export function revive(kind: ActorKind, stored: StoredSnapshot): AnyMachineSnapshot {
  if (kind.context !== null) {
    const checked = kind.context.safeParse(stored.context);
    if (!checked.success) throw new ReviveError(`${kind.kind}: the stored context does not fit: ${checked.error.message}`);
  }
  try {
    const { context, status, output, error, historyValue } = stored;
    if (Object.keys((historyValue ?? {}) as object).length > 0) return restore(kind.machine, stored);
    return { ...stateOf(kind.machine, stored), context, status, output, error } as AnyMachineSnapshot;
  } catch (error) {
    throw new ReviveError(`${kind.kind}: the stored state cannot be restored: ${String(error)}`, { cause: error });
  }
}

function restore(machine: AnyStateMachine, stored: StoredSnapshot): AnyMachineSnapshot {
  return machine.restoreSnapshot({ ...stored, children: {} } as never, {} as never) as AnyMachineSnapshot;
}

const states = new WeakMap<AnyStateMachine, Map<string, AnyMachineSnapshot>>();

/**
 * What all snapshots in one state share, which is all but the context: restored once. The library also walks through the context, in search of
 * actors that it refers to; ours refer to none. A test holds this against the library on every path of every machine.
 */
function stateOf(machine: AnyStateMachine, stored: StoredSnapshot): AnyMachineSnapshot {
  const known = states.get(machine) ?? new Map<string, AnyMachineSnapshot>();
  states.set(machine, known);
  const name = JSON.stringify(stored.value);
  const state = known.get(name) ?? restore(machine, { ...stored, context: {} });
  known.set(name, state);
  return state;
}

/**
 * The stored shape of a live snapshot: its JSON, made once, and what that was made of. Nobody changes either: a step makes a new context of
 * the parts of the old one. Its state is told by the library itself only where it remembers where it left off.
 */
export function dehydrate(kind: ActorKind, snapshot: AnyMachineSnapshot): StoredSnapshot {
  const { status, value, context, output, error, historyValue } = snapshot;
  const remembered = Object.keys(historyValue).length > 0;
  const stored: StoredSnapshot = {
    status,
    value,
    context,
    historyValue: remembered ? (kind.machine.getPersistedSnapshot(snapshot) as unknown as StoredSnapshot).historyValue : {},
    output: output ?? null,
    error: error ?? null,
  };
  rememberJson(stored, JSON.stringify(stored));
  return stored;
}

/** Whether a snapshot that was made here is, once it is JSON, the one that is stored. */
export function isStoredAs(made: StoredSnapshot | null, stored: StoredSnapshot | null): boolean {
  return isDeepStrictEqual(JSON.parse(JSON.stringify(made)), stored);
}

/** The top-level name of a state value. */
export function topState(value: unknown): string {
  return typeof value === 'string' ? value : (Object.keys((value ?? {}) as object)[0] ?? '');
}

/** The path below the top-level state, dotted; null if there is none. */
export function subState(value: unknown): string | null {
  if (value === null || typeof value !== 'object') return null;
  const inner = Object.values(value as Record<string, unknown>)[0];
  if (inner === undefined) return null;
  if (typeof inner === 'string') return inner;
  const below = subState(inner);
  return below === null ? topState(inner) : `${topState(inner)}.${below}`;
}
