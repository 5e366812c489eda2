/** Folds an actor's history and compares the result with what is stored: a free alarm for anything that was not a pure step. */
import { type ActorRow, findActor, type StoredSnapshot } from '../../persistence/actor-store.ts';
import type { Queryable, Store } from '../../persistence/database.ts';
import { type HistoryEntry, latestCheckpoint, readHistory } from '../../persistence/history.ts';
import { type ActorKind, parseAddress, type StampedEvent } from './kind.ts';
import { isStoredAs, migrateSnapshot } from './revive.ts';
import { type LiveActor, takeTurn } from './turn.ts';

export interface FoldResult {
  actor: string;
  ok: boolean;
  /** Why not. */
  problem: string | null;
  events: number;
}

/**
 * Fold `entries` from `start` (null: from birth).
 * @throws what a step throws.
 */
export function foldHistory(
  kind: ActorKind,
  start: { seq: number; snapshot: StoredSnapshot } | null,
  entries: readonly HistoryEntry[],
): LiveActor {
  let actor: LiveActor = {
    actor: entries[0]?.actor ?? '',
    kind,
    seq: start?.seq ?? 0,
    stored: start?.snapshot ?? null,
    live: null,
  };
  for (const entry of entries) {
    if (entry.outcome !== 'applied') {
      actor = { ...actor, seq: entry.seq };
      continue;
    }
    const mail = { id: 0, actor: entry.actor, key: entry.key, event: entry.event, sender: entry.sender, sentAt: entry.sentAt };
    actor = takeTurn(actor, mail, entry.event as StampedEvent).actor;
  }
  return actor;
}

/**
 * Fold one actor's whole history and compare; one that an older version has stored is taken as it is until its next turn. Given the database itself, it looks at one moment of it, so turns may go on meanwhile.
 */
export async function verifyActor(
  db: Queryable | Store,
  kinds: ReadonlyMap<string, ActorKind>,
  actor: string,
): Promise<FoldResult> {
  if ('withTransaction' in db) return db.withTransaction((tx) => verifyActor(tx, kinds, actor), { readonly: true });
  const fail = (problem: string, events = 0): FoldResult => ({ actor, ok: false, problem, events });
  const row = await findActor(db, actor);
  if (row === null) return fail('There is no such actor');
  const kind = kinds.get(parseAddress(actor).kind);
  if (kind === undefined) return fail(`Unknown kind: ${parseAddress(actor).kind}`);
  if (row.machineVersion > kind.version) return fail(`Stored by a newer version (${row.machineVersion}) of ${kind.kind}`);
  if (row.snapshot === null)
    return { actor, ok: row.seq === 0, problem: row.seq === 0 ? null : 'Unborn, and yet it has history', events: 0 };
  // Its history was made by machines that are gone. Its next turn leaves a checkpoint from which it folds again.
  if (row.machineVersion < kind.version) return { actor, ok: true, problem: null, events: 0 };
  try {
    return await compare(db, kind, row);
  } catch (error) {
    return fail(`The fold failed: ${String(error)}`);
  }
}

async function compare(db: Queryable, kind: ActorKind, row: ActorRow): Promise<FoldResult> {
  const checkpoint = await latestCheckpoint(db, row.actor);
  const start = checkpoint && {
    seq: checkpoint.seq,
    snapshot: migrateSnapshot(kind, checkpoint.snapshot, checkpoint.machineVersion),
  };
  const stored = row.snapshot;
  let actor: LiveActor = { actor: row.actor, kind, seq: start?.seq ?? 0, stored: start?.snapshot ?? null, live: null };
  let events = 0;
  for (;;) {
    const entries = await readHistory(db, row.actor, actor.seq, 1_000);
    if (entries.length === 0) break;
    if (entries[0]!.seq !== actor.seq + 1) {
      return { actor: row.actor, ok: false, problem: `History has a gap after ${actor.seq}`, events };
    }
    actor = foldHistory(kind, actor.stored === null ? null : { seq: actor.seq, snapshot: actor.stored }, entries);
    events += entries.length;
  }
  if (actor.seq !== row.seq)
    return { actor: row.actor, ok: false, problem: `History ends at ${actor.seq}, the actor is at ${row.seq}`, events };
  const same = isStoredAs(actor.stored, stored);
  return { actor: row.actor, ok: same, problem: same ? null : 'History does not fold to the stored snapshot', events };
}

/** Verify every actor of the database, page by page. Yields only after each actor, so that a caller can stop early. */
export async function* verifyAll(db: Queryable, kinds: ReadonlyMap<string, ActorKind>): AsyncGenerator<FoldResult> {
  let after = '';
  for (;;) {
    const { rows } = await db.query<{ actor: string }>('select actor from actors where actor > $1 order by actor limit 500', [
      after,
    ]);
    if (rows.length === 0) return;
    for (const { actor } of rows) yield await verifyActor(db, kinds, actor);
    after = rows.at(-1)!.actor;
  }
}
