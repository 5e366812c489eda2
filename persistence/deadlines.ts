/** Deadlines: absolute times at which an actor gets an event, once. */
import type { Queryable, Transaction } from './database.ts';

export interface DeadlineChange {
  actor: string;
  name: string;
  /** null clears it. */
  dueAt: string | null;
  setSeq: number;
}

export const SET = `insert into deadlines (actor, name, due_at, set_seq)
       select * from unnest($1::text[], $2::text[], $3::timestamptz[], $4::bigint[])
       on conflict (actor, name) do update set due_at = excluded.due_at, set_seq = excluded.set_seq, fired_at = null`;

export const CLEAR = `delete from deadlines d using unnest($1::text[], $2::text[]) as gone(actor, name) where d.actor = gone.actor and d.name = gone.name`;

/** Apply the last change of each deadline of a batch. */
export function applyDeadlines(tx: Transaction, changes: readonly DeadlineChange[]): void {
  const set = changes.filter((change) => change.dueAt !== null);
  const cleared = changes.filter((change) => change.dueAt === null);
  if (set.length > 0) {
    tx.send(SET, [set.map((c) => c.actor), set.map((c) => c.name), set.map((c) => c.dueAt), set.map((c) => c.setSeq)]);
  }
  if (cleared.length > 0) {
    tx.send(CLEAR, [cleared.map((c) => c.actor), cleared.map((c) => c.name)]);
  }
}

export const CLEAR_OF = 'delete from deadlines where actor = any($1::text[])';

/** An actor that has ended has no deadlines. */
export function clearDeadlinesOf(tx: Transaction, actors: readonly string[]): void {
  if (actors.length > 0) tx.send(CLEAR_OF, [actors]);
}

export const REARM = `update deadlines set fired_at = null, due_at = coalesce($4::timestamptz, now()) + make_interval(secs => $3)
      where actor = $1 and name = $2 and fired_at is not null`;

/**
 * Arm a fired deadline again whose event could not be processed: a dead letter must not silence a timer for good.
 * It comes again after `seconds`, under its old key.
 */
export async function rearmDeadline(
  tx: Transaction,
  actor: string,
  name: string,
  seconds: number,
  now: Date | null,
): Promise<void> {
  await tx.query(REARM, [actor, name, seconds, now]);
}

export const FIRE = `
  with due as (
    select actor, name from deadlines
     where fired_at is null and due_at <= coalesce($1::timestamptz, now())
     order by due_at limit $2 for update skip locked),
  fired as (
    update deadlines d set fired_at = coalesce($1::timestamptz, now())
      from due where d.actor = due.actor and d.name = due.name
    returning d.actor, d.name, d.set_seq, d.due_at)
  insert into mailbox (actor, key, event, sender, sent_at, enqueued_at, held)
  select f.actor, format('deadline:%s:%s', f.name, f.set_seq), jsonb_build_object('type', 'deadline.' || f.name), 'deadline', f.due_at,
         coalesce($1::timestamptz, now()), coalesce((select a.quarantined_at is not null from actors a where a.actor = f.actor), true)
    from fired f order by f.due_at, f.name
  on conflict (actor, key) do nothing
  returning actor`;

/** Turn due deadlines into messages: one statement, safe with any number of sweepers. @returns how many fired. */
export async function fireDueDeadlines(db: Queryable, limit: number, now: Date | null): Promise<number> {
  const { rowCount } = await db.query(FIRE, [now, limit]);
  return rowCount ?? 0;
}

export const UNTIL_NEXT = `select extract(epoch from (min(due_at) - coalesce($1::timestamptz, now()))) * 1000 as ms from deadlines where fired_at is null`;

/** Milliseconds until the next deadline; null if there is none. */
export async function untilNextDeadline(db: Queryable, now: Date | null): Promise<number | null> {
  const { rows } = await db.query<{ ms: number | null }>(UNTIL_NEXT, [now]);
  const ms = rows[0]?.ms;
  return ms === null || ms === undefined ? null : Number(ms);
}
