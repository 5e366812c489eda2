/** A reservation, or any actor, as it was after a step of its history: folded anew, and held against what was stored. */
import { isDeepStrictEqual } from 'node:util';
import { getNextTransitions } from 'xstate';
import type { Intent } from '../../machines/authoring.ts';
import { foldHistory } from '../../actors/kernel/fold.ts';
import { type ActorKind, parseAddress, type StampedEvent } from '../../actors/kernel/kind.ts';
import { isStoredAs, migrateSnapshot, revive, topState } from '../../actors/kernel/revive.ts';
import { type LiveActor, takeTurn } from '../../actors/kernel/turn.ts';
import { findActor, type StoredSnapshot } from '../../persistence/actor-store.ts';
import type { Queryable } from '../../persistence/database.ts';
import { type HistoryEntry, latestCheckpoint, readHistory } from '../../persistence/history.ts';

export interface Moment {
  entry: HistoryEntry;
  /** Number of the last step there is. */
  last: number;
  /** Null where it cannot be folded. */
  before: StoredSnapshot | null;
  after: StoredSnapshot | null;
  intents: Intent[];
  /** Deadlines that were set then: name and moment. */
  deadlines: { name: string; at: string }[];
  /** What it would have taken next, whatever guards say. */
  accepts: { event: string; guarded: boolean; target: string | null }[];
  /** Whether the fold agrees with what was stored; null if that cannot be told. */
  matches: boolean | null;
  /** Why it does not, or why it cannot be told. */
  problem: string | null;
}

/**
 * The moment after step `seq`. Null if there is no such step, or none that is kept.
 * @param db a transaction that sees one moment of the database
 */
export async function momentOf(
  db: Queryable,
  kinds: ReadonlyMap<string, ActorKind>,
  actor: string,
  seq: number,
): Promise<Moment | null> {
  const row = await findActor(db, actor);
  const kind = kinds.get(parseAddress(actor).kind);
  if (row === null || kind === undefined || seq < 1 || seq > row.seq) return null;
  const checkpoint = await latestCheckpoint(db, actor);
  const start = checkpoint !== null && checkpoint.seq < seq ? checkpoint : null;
  const all = await readHistory(db, actor, start?.seq ?? 0, seq - (start?.seq ?? 0));
  const entries = all.filter((each) => each.seq <= seq);
  const entry = entries.at(-1);
  if (entry?.seq !== seq) return null;
  const untold = (problem: string): Moment => ({ ...EMPTY, entry, last: row.seq, problem });
  if (entries[0]!.seq !== (start?.seq ?? 0) + 1) return untold('Earlier steps are kept no longer');
  if (entries.some(({ machineVersion }) => machineVersion !== kind.version))
    return untold('An earlier version of the machine took these steps');
  try {
    const first =
      start === null ? null : { seq: start.seq, snapshot: migrateSnapshot(kind, start.snapshot, start.machineVersion) };
    const folded = fold(kind, first, entries);
    return { ...folded, last: row.seq, ...judge(kind, row, checkpoint, entry, folded) };
  } catch (error) {
    return { ...untold(`The fold failed: ${error instanceof Error ? error.message : String(error)}`), matches: false };
  }
}

const EMPTY = { before: null, after: null, intents: [], deadlines: [], accepts: [], matches: null };

type Folded = Pick<Moment, 'entry' | 'before' | 'after' | 'intents' | 'deadlines' | 'accepts'>;

function fold(
  kind: ActorKind,
  start: { seq: number; snapshot: StoredSnapshot } | null,
  entries: readonly HistoryEntry[],
): Folded {
  const deadlines = new Map<string, string>();
  let actor: LiveActor = { actor: entries[0]!.actor, kind, seq: start?.seq ?? 0, stored: start?.snapshot ?? null, live: null };
  let before: StoredSnapshot | null = actor.stored;
  let intents: Intent[] = [];
  for (const entry of entries) {
    before = actor.stored;
    intents = [];
    const due = /^deadline\.(.+)$/.exec(entry.event.type)?.[1];
    if (due !== undefined) deadlines.delete(due);
    if (entry.outcome !== 'applied') {
      actor = foldHistory(kind, actor.stored === null ? null : { seq: actor.seq, snapshot: actor.stored }, [entry]);
      continue;
    }
    const mail = { id: 0, actor: entry.actor, key: entry.key, event: entry.event, sender: entry.sender, sentAt: entry.sentAt };
    const turn = takeTurn(actor, mail, entry.event as StampedEvent);
    ({ actor, intents } = turn);
    for (const intent of intents) {
      if (intent.do === 'deadline') deadlines.set(intent.name, intent.at);
      if (intent.do === 'clear') deadlines.delete(intent.name);
    }
  }
  const sorted = [...deadlines].map(([name, at]) => ({ name, at })).sort((a, b) => (a.at < b.at ? -1 : 1));
  return {
    entry: entries.at(-1)!,
    before,
    after: actor.stored,
    intents,
    deadlines: sorted,
    accepts: acceptsOf(kind, actor.stored),
  };
}

function acceptsOf(kind: ActorKind, stored: StoredSnapshot | null): Moment['accepts'] {
  if (stored?.status !== 'active') return [];
  return getNextTransitions(revive(kind, stored))
    .filter(({ eventType }) => eventType !== '')
    .map(({ eventType, guard, target }) => ({ event: eventType, guarded: guard !== undefined, target: target?.[0]?.id ?? null }));
}

/** History keeps the top-level states of each step, checkpoints and the actor's row the whole. */
function judge(
  kind: ActorKind,
  row: { seq: number; snapshot: StoredSnapshot | null; machineVersion: number },
  checkpoint: { seq: number; machineVersion: number; snapshot: StoredSnapshot } | null,
  entry: HistoryEntry,
  { before, after }: Folded,
): Pick<Moment, 'matches' | 'problem'> {
  const differ = (problem: string) => ({ matches: false, problem });
  const [from, to] = [before, after].map((snapshot) => (snapshot === null ? null : topState(snapshot.value)));
  if (entry.from !== from)
    return differ(`History says it came from ${entry.from ?? 'nothing'}, the fold from ${from ?? 'nothing'}`);
  if (entry.to !== to) return differ(`History says it went to ${entry.to ?? 'nothing'}, the fold to ${to ?? 'nothing'}`);
  const known = entry.seq === row.seq ? row : entry.seq === checkpoint?.seq ? checkpoint : null;
  if (known?.snapshot != null && known.machineVersion === kind.version && !isStoredAs(after, known.snapshot)) {
    return differ('The fold differs from the stored snapshot');
  }
  return { matches: true, problem: null };
}

/** One value of a context that a step changed. */
export interface Change {
  path: string;
  before: unknown;
  after: unknown;
}

/** Where two pieces of JSON differ, by path; lists and values are compared as wholes. */
export function differences(before: unknown, after: unknown, path = ''): Change[] {
  if (isDeepStrictEqual(before, after)) return [];
  if (!isPlain(before) || !isPlain(after)) return [{ path, before: before ?? null, after: after ?? null }];
  const keys = new Set([...Object.keys(before), ...Object.keys(after)]);
  return [...keys].flatMap((key) => differences(before[key], after[key], path === '' ? key : `${path}.${key}`));
}

function isPlain(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
