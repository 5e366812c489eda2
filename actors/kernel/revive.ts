/** From the stored shape to a live snapshot and back. The one place that leans on the library's own format. */
import type { AnyMachineSnapshot } from 'xstate';
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
    return kind.machine.restoreSnapshot({ ...stored, children: {} } as never, {} as never) as AnyMachineSnapshot;
  } catch (error) {
    throw new ReviveError(`${kind.kind}: the stored state cannot be restored: ${String(error)}`, { cause: error });
  }
}

/** The stored shape of a live snapshot. It shares nothing with it: what comes out is plain JSON. */
export function dehydrate(kind: ActorKind, snapshot: AnyMachineSnapshot): StoredSnapshot {
  const persisted = kind.machine.getPersistedSnapshot(snapshot) as unknown as StoredSnapshot;
  const json = JSON.stringify({
    status: persisted.status,
    value: persisted.value,
    context: persisted.context,
    historyValue: persisted.historyValue ?? {},
    output: persisted.output ?? null,
    error: persisted.error ?? null,
  });
  const stored = JSON.parse(json) as StoredSnapshot;
  rememberJson(stored, json);
  return stored;
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
