/** The mailboxes of actors: one message, one key, in order. */
import type { Queryable, Transaction } from './database.ts';
import { storableJson } from './storable.ts';

/** A message on its way to an actor. */
export interface Message {
  actor: string;
  /** Unique per actor, for ever: a second message with this key is a duplicate and is dropped. */
  key: string;
  event: { type: string };
  /** Who sent it: `http`, `queue:<name>`, `tracker`, `deadline`, `effect`, or the address of an actor. */
  sender: string;
  /** The sender's own time, kept for people, never used for decisions. */
  sentAt?: string | null;
  /** Version of the receiver's machine that the sender knew; older code leaves the message alone. Default 0: any understands it. */
  version?: number;
}

export const ENQUEUE = `
  insert into mailbox (actor, key, event, sender, sent_at, enqueued_at, held, version)
  select m.actor, m.key, m.event::jsonb, m.sender, m.sent_at::timestamptz, coalesce($6::timestamptz, now()),
         a.actor is null or a.quarantined_at is not null, m.version
    from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $7::int[])
           with ordinality as m(actor, key, event, sender, sent_at, version, place)
    left join actors a on a.actor = m.actor
   order by m.place
  on conflict (actor, key) do nothing`;

/**
 * Put messages into mailboxes. A message to an actor that does not exist is held, and dead-lettered if nobody is born in time.
 * @returns how many were new among those waiting; a key that was processed earlier is found out at the turn.
 */
export async function enqueue(db: Queryable, messages: readonly Message[], now: Date | null = null): Promise<number> {
  if (messages.length === 0) return 0;
  const { rowCount } = await db.query(ENQUEUE, columnsOf(messages, now));
  return rowCount ?? 0;
}

export const FIND_PROCESSED = `
  select coalesce($3::timestamptz, now()) as now,
         (select coalesce(array_agg(sent.place::int order by sent.place), '{}')
            from unnest($1::text[], $2::text[]) with ordinality as sent(actor, key, place)
           where exists (select 1 from history h where h.actor = sent.actor and h.key = sent.key)) as processed`;

/** Which of these messages were processed before, by their keys; and the time of the transaction, by `clockNow` or else the database. */
export async function findProcessed(
  tx: Transaction,
  messages: readonly Message[],
  clockNow: Date | null,
): Promise<{ now: Date; processed: Set<Message> }> {
  const { rows } = await tx.query<{ now: Date; processed: number[] }>(FIND_PROCESSED, [
    messages.map((message) => message.actor),
    messages.map((message) => message.key),
    clockNow,
  ]);
  const { now, processed } = rows[0]!;
  return { now, processed: new Set(processed.map((place) => messages[place - 1]!)) };
}

/** Put messages into mailboxes with the rest of the transaction, without waiting. */
export function sendMail(tx: Transaction, messages: readonly Message[], now: Date | null): void {
  if (messages.length > 0) tx.send(ENQUEUE, columnsOf(messages, now));
}

function columnsOf(messages: readonly Message[], now: Date | null): unknown[] {
  return [
    messages.map((message) => message.actor),
    messages.map((message) => message.key),
    messages.map((message) => storableJson(message.event)),
    messages.map((message) => message.sender),
    messages.map((message) => message.sentAt ?? null),
    now,
    messages.map((message) => message.version ?? 0),
  ];
}

export const REMOVE = `
  delete from mailbox m using unnest($1::text[], $2::bigint[]) as gone(actor, id) where m.actor = gone.actor and m.id = gone.id`;

/** Remove processed messages. */
export function removeMail(tx: Transaction, mail: readonly { actor: string; id: number }[]): void {
  if (mail.length > 0) tx.send(REMOVE, [mail.map(({ actor }) => actor), mail.map(({ id }) => id)]);
}

export const RELEASE = `
  with waiting as (
    select m.actor, m.id, a.status from mailbox m
     cross join lateral (select status from actors where actor = m.actor and quarantined_at is null offset 0) a
     where m.held and ($1::text[] is null or m.actor = any($1))),
  kept as (
    update mailbox m set held = false from waiting w where m.actor = w.actor and m.id = w.id and w.status <> 'unborn' returning m.id),
  moved as (
    delete from mailbox m using waiting w where m.actor = w.actor and m.id = w.id and w.status = 'unborn' and $1::text[] is not null returning m.*),
  behind as (
    insert into mailbox (actor, key, event, sender, sent_at, enqueued_at, version)
    select actor, key, event, sender, sent_at, enqueued_at, version from moved order by id
    returning id)
  select (select count(*) from kept)::int + (select count(*) from behind)::int as freed`;

/**
 * Set mail free that waited for its actor: in its place if the actor is born, else in its old order behind the birth that was just posted.
 * @param actors null for that of all born actors. @returns how many messages were freed.
 */
export async function releaseHeldMail(db: Queryable, actors: readonly string[] | null): Promise<number> {
  if (actors !== null && actors.length === 0) return 0;
  const { rows } = await db.query<{ freed: number }>(RELEASE, [actors]);
  return rows[0]?.freed ?? 0;
}

export const TAKE_ORPHANS = `
  delete from mailbox m
   where (m.actor, m.id) in (
     select o.actor, o.id from mailbox o
      where o.held and o.enqueued_at < coalesce($1::timestamptz, now()) - make_interval(secs => $2)
        and not exists (select 1 from actors a where a.actor = o.actor and a.status <> 'unborn')
        and not exists (select 1 from mailbox birth where birth.actor = o.actor and not birth.held)
      order by o.id limit 100 for update skip locked)
  returning m.actor, m.key, m.event, m.sender`;

/** Take mail whose actor was not born within `seconds`: to be dead-lettered by the caller in the same transaction. */
export async function takeOrphanedMail(
  db: Queryable,
  seconds: number,
  now: Date | null,
): Promise<{ actor: string; key: string; event: { type: string }; sender: string }[]> {
  const { rows } = await db.query<{ actor: string; key: string; event: { type: string }; sender: string }>(TAKE_ORPHANS, [
    now,
    seconds,
  ]);
  return rows;
}
