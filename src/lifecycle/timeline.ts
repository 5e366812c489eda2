/** When an actor was in which of its states: its history folded once, step by step. */
import { type ActorKind, parseAddress } from '../../actors/kernel/kind.ts';
import { foldHistory } from '../../actors/kernel/fold.ts';
import { migrateSnapshot } from '../../actors/kernel/revive.ts';
import type { LiveActor } from '../../actors/kernel/turn.ts';
import type { StoredSnapshot } from '../../persistence/actor-store.ts';
import type { Queryable } from '../../persistence/database.ts';
import { type HistoryEntry, latestCheckpoint, readHistory } from '../../persistence/history.ts';
import { statePaths } from './paths.ts';

/** A stay in one state, down to its finest step. */
export interface Span {
  path: string;
  /** Step by which it was entered. */
  seq: number;
  enteredAt: string;
  /** Null while it is there. */
  leftAt: string | null;
}

/** History read at most: longer ones show their first part. */
const MOST = 5_000;

/**
 * The stays of an actor, in order. Where history cannot be folded (an earlier version took its steps) they are its top-level states.
 * @returns null if there is no history
 */
export async function timelineOf(db: Queryable, kinds: ReadonlyMap<string, ActorKind>, actor: string): Promise<Span[] | null> {
  const kind = kinds.get(parseAddress(actor).kind);
  if (kind === undefined) return null;
  let start: { seq: number; snapshot: StoredSnapshot } | null = null;
  let entries = await readHistory(db, actor, 0, MOST);
  if (entries.length === 0) return null;
  if (entries[0]!.seq !== 1) {
    const checkpoint = await latestCheckpoint(db, actor);
    if (checkpoint !== null && checkpoint.machineVersion === kind.version) {
      start = { seq: checkpoint.seq, snapshot: migrateSnapshot(kind, checkpoint.snapshot, checkpoint.machineVersion) };
      entries = entries.filter(({ seq }) => seq > checkpoint.seq);
    }
  }
  try {
    return spansOf(entries, finePaths(kind, start, entries));
  } catch {
    return spansOf(
      entries,
      entries.map(({ to }) => to ?? ''),
    );
  }
}

/** Where each entry leads, dotted down to the finest state. @throws if an entry cannot be folded */
function finePaths(
  kind: ActorKind,
  start: { seq: number; snapshot: StoredSnapshot } | null,
  entries: readonly HistoryEntry[],
): string[] {
  if (entries.some(({ machineVersion }) => machineVersion !== kind.version)) throw new Error('an earlier version');
  let known = start;
  return entries.map((entry) => {
    const actor: LiveActor = foldHistory(kind, known, [entry]);
    if (actor.stored === null) return '';
    known = { seq: actor.seq, snapshot: actor.stored };
    return statePaths(actor.stored.value).at(-1) ?? '';
  });
}

function spansOf(entries: readonly HistoryEntry[], paths: readonly string[]): Span[] {
  const spans: Span[] = [];
  entries.forEach((entry, index) => {
    const path = paths[index]!;
    const last = spans.at(-1);
    if (path === '' || last?.path === path) return;
    if (last !== undefined) last.leftAt = entry.event.at;
    spans.push({ path, seq: entry.seq, enteredAt: entry.event.at, leftAt: null });
  });
  return spans;
}
