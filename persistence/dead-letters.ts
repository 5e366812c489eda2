/** Dead letters: what could not be understood or processed, with its reason, for an operator to look at, replay or drop. */
import type { Queryable, Transaction } from './database.ts';
import { storableJson, storableText } from './storable.ts';

export interface DeadLetter {
  source: 'queue' | 'mailbox' | 'effect';
  queue?: string;
  msgId?: number;
  actor?: string;
  key?: string;
  /** The message with its secrets masked. */
  body: unknown;
  /** A stable code of the error table. */
  code: string;
  /** The field at fault, if one is. */
  field?: string | null;
  reason: string;
  /** Of a message for an actor: the event as it was, and who sent it, so that it can be put back. Events hold no secrets. */
  original?: unknown;
  sender?: string;
}

export const ADD_LETTER = `insert into dead_letters (source, queue, msg_id, actor, key, body, code, field, reason, original, sender)
     values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
     on conflict (queue, msg_id) do nothing`;

/** Keep a dead letter. The same queue message twice is kept once. */
export async function addDeadLetter(db: Queryable, letter: DeadLetter): Promise<void> {
  await db.query(ADD_LETTER, [
    letter.source,
    letter.queue ?? null,
    letter.msgId ?? null,
    letter.actor ?? null,
    letter.key ?? null,
    letter.body === undefined ? null : storableJson(letter.body),
    letter.code,
    storableText(letter.field ?? null),
    storableText(letter.reason),
    letter.original === undefined ? null : storableJson(letter.original),
    letter.sender ?? null,
  ]);
}

export interface DeadLetterRow extends Omit<DeadLetter, 'msgId'> {
  id: number;
  msg_id: number | null;
  created_at: Date;
  /** How it was dealt with; null while it is open. */
  resolved: 'replayed' | 'dropped' | null;
  resolved_at: Date | null;
  resolved_by: string | null;
  /** The operator's reason. */
  resolution: string | null;
  /** What a replay became: queue and message, actor and key, or the id of an effect. */
  replayed_as: string | null;
}

const COLUMNS = `id, source, queue, msg_id, actor, key, body, code, field, reason, created_at, resolved, resolved_at, resolved_by, resolution,
  replayed_as`;

/** What to list; null means all. */
export interface LetterFilter {
  open: boolean | null;
  source: string | null;
  code: string | null;
  actor: string | null;
  limit: number;
  /** Id of the last of the page before. */
  before: number | null;
}

/** Dead letters, newest first. */
export async function listLetters(db: Queryable, filter: LetterFilter): Promise<DeadLetterRow[]> {
  const { rows } = await db.query<DeadLetterRow>(
    `select ${COLUMNS} from dead_letters
      where ($1::bool is null or (resolved is null) = $1) and ($2::text is null or source = $2) and ($3::text is null or code = $3)
        and ($4::text is null or actor = $4) and ($6::bigint is null or id < $6)
      order by id desc limit $5`,
    [filter.open, filter.source, filter.code, filter.actor, filter.limit, filter.before],
  );
  return rows;
}

/** Open dead letters, newest first. */
export function openDeadLetters(db: Queryable, limit = 100): Promise<DeadLetterRow[]> {
  return listLetters(db, { open: true, source: null, code: null, actor: null, limit, before: null });
}

/** One dead letter with its original, if that was kept; null if there is none. Within a transaction it is locked. */
export async function lockLetter(
  tx: Transaction,
  id: number,
): Promise<(DeadLetterRow & { original: unknown; sender: string | null }) | null> {
  const { rows } = await tx.query<DeadLetterRow & { original: unknown; sender: string | null }>(
    `select ${COLUMNS}, original, sender from dead_letters where id = $1 for update`,
    [id],
  );
  return rows[0] ?? null;
}

/** One dead letter; null if there is none. */
export async function findLetter(db: Queryable, id: number): Promise<DeadLetterRow | null> {
  const { rows } = await db.query<DeadLetterRow>(`select ${COLUMNS} from dead_letters where id = $1`, [id]);
  return rows[0] ?? null;
}

/** Note what an operator did with a letter that is locked and open. */
export async function resolveLetter(
  tx: Transaction,
  id: number,
  done: { how: 'replayed' | 'dropped'; by: string; reason: string | null; as: string | null },
): Promise<void> {
  await tx.query(
    `update dead_letters set resolved = $2, resolved_at = now(), resolved_by = $3, resolution = $4, replayed_as = $5 where id = $1`,
    [id, done.how, done.by, done.reason, done.as],
  );
}
