/** Dead letters: what could not be understood or processed, with its reason, for an operator to look at, replay or drop. */
import type { Queryable } from './database.ts';
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
}

/** Open dead letters, newest first. */
export async function openDeadLetters(db: Queryable, limit = 100): Promise<DeadLetterRow[]> {
  const { rows } = await db.query<DeadLetterRow>(
    `select id, source, queue, msg_id, actor, key, body, code, field, reason, created_at
       from dead_letters where resolved is null order by id desc limit $1`,
    [limit],
  );
  return rows;
}
