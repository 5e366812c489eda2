/** The queues of intent from outside. */
import pg from 'pg';
import type { Store, Queryable, Transaction } from './database.ts';

export interface QueueMessage {
  msgId: number;
  readCount: number;
  enqueuedAt: Date;
  body: unknown;
}

interface Row {
  msg_id: number;
  read_ct: number;
  enqueued_at: Date;
  message: unknown;
}

export const READ_QUEUE = 'select msg_id, read_ct, enqueued_at, message from pgmq.read($1, $2::int, $3::int)';

/**
 * Read up to `limit` messages. Inside a transaction that also deletes them, a crash gives them back at once; committed alone, they stay
 * hidden for `visibilitySeconds`.
 */
export async function readQueue(db: Queryable, queue: string, visibilitySeconds: number, limit: number): Promise<QueueMessage[]> {
  const { rows } = await db.query<Row>(READ_QUEUE, [queue, visibilitySeconds, limit]);
  return rows.map(messageOf);
}

function messageOf(row: Row): QueueMessage {
  return { msgId: row.msg_id, readCount: row.read_ct, enqueuedAt: row.enqueued_at, body: row.message };
}

export const TAKE_FROM_QUEUE = 'select msg_id, read_ct, enqueued_at, message from pgmq.pop($1, $2::int)';

/** Read up to `limit` messages and remove them, oldest first. If the transaction fails, all are there again. */
export async function takeFromQueue(tx: Transaction, queue: string, limit: number): Promise<QueueMessage[]> {
  const { rows } = await tx.query<Row>(TAKE_FROM_QUEUE, [queue, limit]);
  return rows.map(messageOf).sort((a, b) => a.msgId - b.msgId);
}

export const DELETE_FROM_QUEUE = 'select pgmq.delete($1, $2::bigint[])';

/** Remove consumed messages. */
export async function deleteFromQueue(tx: Transaction, queue: string, msgIds: readonly number[]): Promise<void> {
  if (msgIds.length > 0) await tx.query(DELETE_FROM_QUEUE, [queue, msgIds]);
}

export const ARCHIVE_MESSAGE = 'select pgmq.archive($1, $2::bigint)';

/** Move a message to the queue's archive. */
export async function archiveMessage(tx: Transaction, queue: string, msgId: number): Promise<void> {
  await tx.query(ARCHIVE_MESSAGE, [queue, msgId]);
}

export const HIDE_MESSAGE = 'select pgmq.set_vt($1, $2::bigint, $3::int)';

export const COUNT_FAILURE = `insert into queue_failures as f (queue, msg_id, tries, reason) values ($1, $2, 1, $3)
     on conflict (queue, msg_id) do update set tries = f.tries + 1, reason = excluded.reason, last_at = now()
     returning tries`;

/**
 * Count a failed try of a message, and hide it for some seconds. (PGMQ's own count of reads is taken back with the failed transaction.)
 * @returns tries so far.
 */
export async function countFailure(
  tx: Transaction,
  queue: string,
  msgId: number,
  reason: string,
  hideSeconds: number,
): Promise<number> {
  await tx.query(HIDE_MESSAGE, [queue, msgId, hideSeconds]);
  const { rows } = await tx.query<{ tries: number }>(COUNT_FAILURE, [queue, msgId, reason]);
  return rows[0]!.tries;
}

/** Channel on which an insert into the queue is notified. */
export function insertChannel(queue: string): string {
  return `pgmq.q_${queue}.INSERT`;
}

/**
 * Make every insert notify at once. The throttle table of PGMQ is unlogged and empty after a crash of the server, which would silence the
 * notifications: so this is called at start and after every reconnect.
 */
export async function enableNotifications(db: Store, queue: string): Promise<void> {
  await db.withTransaction(async (tx) => {
    await tx.query('select pg_advisory_xact_lock(hashtext($1))', [`notify ${queue}`]);
    const { rows } = await tx.query<{ ok: boolean }>(
      `select exists (select 1 from pgmq.notify_insert_throttle where queue_name = $1 and throttle_interval_ms = 0) as ok`,
      [queue],
    );
    if (rows[0]?.ok !== true) await tx.query('select pgmq.enable_notify_insert($1, 0)', [queue]);
  });
}

/** The queues must exist and have a consumer. @throws if one is missing. */
export async function assertQueues(db: Queryable, queues: readonly string[]): Promise<void> {
  const { rows } = await db.query<{ queue_name: string }>('select queue_name from pgmq.list_queues()');
  const known = new Set(rows.map((row) => row.queue_name));
  const missing = queues.filter((queue) => !known.has(queue));
  if (missing.length > 0) throw new Error(`The queue ${missing.join(', ')} does not exist in this database; run the migrations`);
}

/** Messages that wait in a queue. */
export async function queueLength(db: Queryable, queue: string): Promise<number> {
  const { rows } = await db.query<{ queue_length: number }>('select queue_length from pgmq.metrics($1)', [queue]);
  return rows[0]?.queue_length ?? 0;
}

/** A message as its producer sent it, from the queue's archive; undefined if it is no longer there. */
export async function archivedMessage(db: Queryable, queue: string, msgId: number): Promise<unknown> {
  const archive = `a_${queue}`;
  const { rows } = await db.query<{ message: unknown }>(
    `select message from pgmq.${pg.escapeIdentifier(archive)} where msg_id = $1`,
    [msgId],
  );
  return rows[0]?.message;
}

/** Send a message. @returns its id */
export async function sendMessage(db: Queryable, queue: string, message: unknown): Promise<number> {
  const { rows } = await db.query<{ send: number }>('select pgmq.send($1, $2::jsonb) as send', [queue, JSON.stringify(message)]);
  return rows[0]!.send;
}
