/** The history of actors: what came, what it did, in order. */
import type { StoredSnapshot } from './actor-store.ts';
import type { Queryable, Transaction } from './database.ts';
import { storableJson } from './storable.ts';

export interface HistoryEntry {
  actor: string;
  seq: number;
  key: string;
  /** As the machine saw it: stamped. */
  event: { type: string; at: string };
  outcome: 'applied' | 'ignored' | 'refused';
  reason: string | null;
  from: string | null;
  to: string | null;
  /** Where below `to` an applied step led, dotted; null if `to` has no states in it, or nobody noted it. */
  leaf: string | null;
  machineVersion: number;
  sender: string;
  sentAt: string | null;
}

export const APPEND = `
  insert into history (actor, seq, key, event, outcome, reason, from_state, to_state, leaf, machine_version, sender, sent_at, at)
  select h.actor, h.seq, h.key, h.event::jsonb, h.outcome, h.reason, h.from_state, h.to_state, h.leaf, h.machine_version, h.sender, h.sent_at::timestamptz, $13
    from unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::int[], $11::text[], $12::text[])
      as h(actor, seq, key, event, outcome, reason, from_state, to_state, leaf, machine_version, sender, sent_at)`;

/** Append what a batch of turns did. */
export function appendHistory(tx: Transaction, entries: readonly HistoryEntry[], now: Date): void {
  if (entries.length === 0) return;
  tx.send(APPEND, [
    entries.map((entry) => entry.actor),
    entries.map((entry) => entry.seq),
    entries.map((entry) => entry.key),
    entries.map((entry) => storableJson(entry.event)),
    entries.map((entry) => entry.outcome),
    entries.map((entry) => entry.reason),
    entries.map((entry) => entry.from),
    entries.map((entry) => entry.to),
    entries.map((entry) => entry.leaf),
    entries.map((entry) => entry.machineVersion),
    entries.map((entry) => entry.sender),
    entries.map((entry) => entry.sentAt),
    now,
  ]);
}

const COLUMNS = `actor, seq, key, event, outcome, reason, from_state as "from", to_state as "to", leaf, machine_version as "machineVersion", sender, sent_at as "sentAt"`;

export const FIND_BY_KEY = `select ${COLUMNS} from history where actor = $1 and key = $2`;

/** What became of the message with this key; null if it has not been processed. */
export async function findByKey(db: Queryable, actor: string, key: string): Promise<HistoryEntry | null> {
  const { rows } = await db.query<HistoryEntry>(FIND_BY_KEY, [actor, key]);
  return rows[0] ?? null;
}

export const READ_HISTORY = `select ${COLUMNS} from history where actor = $1 and seq > $2 order by seq limit $3`;

/** The entries of an actor after `afterSeq`, oldest first. */
export async function readHistory(db: Queryable, actor: string, afterSeq = 0, limit = 10_000): Promise<HistoryEntry[]> {
  const { rows } = await db.query<HistoryEntry>(READ_HISTORY, [actor, afterSeq, limit]);
  return rows;
}

export interface Checkpoint {
  seq: number;
  machineVersion: number;
  snapshot: StoredSnapshot;
}

export const LATEST_CHECKPOINT = `select seq, machine_version as "machineVersion", snapshot from checkpoints where actor = $1 order by seq desc limit 1`;

/** The latest checkpoint of an actor; null if its history reaches back to its birth. */
export async function latestCheckpoint(db: Queryable, actor: string): Promise<Checkpoint | null> {
  const { rows } = await db.query<Checkpoint>(LATEST_CHECKPOINT, [actor]);
  return rows[0] ?? null;
}

export const ADD_CHECKPOINT = `insert into checkpoints (actor, seq, machine_version, snapshot, reason) values ($1, $2, $3, $4, $5)
     on conflict (actor, seq) do update set machine_version = excluded.machine_version, snapshot = excluded.snapshot, reason = excluded.reason`;

/** Record a snapshot from which later history folds. */
export async function addCheckpoint(
  db: Queryable,
  actor: string,
  checkpoint: Checkpoint,
  reason: 'migration' | 'prune' | 'rebuild',
): Promise<void> {
  await db.query(ADD_CHECKPOINT, [actor, checkpoint.seq, checkpoint.machineVersion, storableJson(checkpoint.snapshot), reason]);
}
