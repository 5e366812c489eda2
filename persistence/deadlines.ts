/** Deadlines: absolute times at which an actor gets an event, once. */
import type { Queryable, Transaction } from './database.ts';

export interface DeadlineChange {
  actor: string;
  name: string;
  /** null clears it. */
  dueAt: string | null;
  setSeq: number;
}

/** Apply the last change of each deadline of a batch. */
export async function applyDeadlines(tx: Transaction, changes: readonly DeadlineChange[]): Promise<void> {
  const set = changes.filter((change) => change.dueAt !== null);
  const cleared = changes.filter((change) => change.dueAt === null);
  if (set.length > 0) {
    await tx.query(
      `insert into deadlines (actor, name, due_at, set_seq)
       select * from unnest($1::text[], $2::text[], $3::timestamptz[], $4::bigint[])
       on conflict (actor, name) do update set due_at = excluded.due_at, set_seq = excluded.set_seq, fired_at = null`,
      [set.map((c) => c.actor), set.map((c) => c.name), set.map((c) => c.dueAt), set.map((c) => c.setSeq)],
    );
  }
  if (cleared.length > 0) {
    await tx.query(
      `delete from deadlines d using unnest($1::text[], $2::text[]) as gone(actor, name) where d.actor = gone.actor and d.name = gone.name`,
      [cleared.map((c) => c.actor), cleared.map((c) => c.name)],
    );
  }
}

/** An actor that has ended has no deadlines. */
export async function clearDeadlinesOf(tx: Transaction, actors: readonly string[]): Promise<void> {
  if (actors.length > 0) await tx.query('delete from deadlines where actor = any($1::text[])', [actors]);
}

/** The set_seq of each fired deadline of these actors, by actor and name: an event of another set_seq is stale. */
export async function firedDeadlines(tx: Transaction, actors: readonly string[]): Promise<Map<string, number>> {
  const { rows } = await tx.query<{ actor: string; name: string; setSeq: number }>(
    `select actor, name, set_seq as "setSeq" from deadlines where actor = any($1::text[]) and fired_at is not null`,
    [actors],
  );
  return new Map(rows.map((row) => [`${row.actor}\n${row.name}`, row.setSeq]));
}

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
  await tx.query(
    `update deadlines set fired_at = null, due_at = coalesce($4::timestamptz, now()) + make_interval(secs => $3)
      where actor = $1 and name = $2 and fired_at is not null`,
    [actor, name, seconds, now],
  );
}

const FIRE = `
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

/** Milliseconds until the next deadline; null if there is none. */
export async function untilNextDeadline(db: Queryable, now: Date | null): Promise<number | null> {
  const { rows } = await db.query<{ ms: number | null }>(
    `select extract(epoch from (min(due_at) - coalesce($1::timestamptz, now()))) * 1000 as ms from deadlines where fired_at is null`,
    [now],
  );
  const ms = rows[0]?.ms;
  return ms === null || ms === undefined ? null : Number(ms);
}
