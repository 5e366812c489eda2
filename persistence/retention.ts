/** What is removed when it is old. Keys of messages go with the history that holds them. */
import type { Database } from './database.ts';

const PRUNE_RESERVATIONS = `
  with old as (
    select r.reservation_id, 'reservation/' || r.reservation_id as actor from reservations r
     where r.reservation_ended < now() - make_interval(secs => $1 * 86400)
     order by r.reservation_ended limit $2 for update skip locked),
  gone_history as (delete from history h using old where h.actor = old.actor),
  gone_checkpoints as (delete from checkpoints c using old where c.actor = old.actor),
  gone_effects as (delete from effects e using old where e.actor = old.actor and e.status <> 'pending'),
  gone_secrets as (delete from secrets s using old where s.secret_ref = old.reservation_id),
  gone_actors as (delete from actors a using old where a.actor = old.actor and a.status = 'done')
  delete from reservations r using old where r.reservation_id = old.reservation_id`;

/** Remove reservations that ended more than `days` ago, with their history and keys. @returns how many. */
export async function pruneReservations(db: Database, days: number, limit: number): Promise<number> {
  return (await db.query(PRUNE_RESERVATIONS, [days, limit])).rowCount ?? 0;
}

/** Remove ended effects older than `days`. What they did stays in history. @returns how many. */
export async function pruneEffects(db: Database, days: number, limit: number): Promise<number> {
  const { rowCount } = await db.query(
    `delete from effects where effect_id in (
       select effect_id from effects where status <> 'pending' and ended_at < now() - make_interval(secs => $1 * 86400) limit $2)`,
    [days, limit],
  );
  return rowCount ?? 0;
}

/** Remove dead letters older than `days`. @returns how many. */
export async function pruneDeadLetters(db: Database, days: number, limit: number): Promise<number> {
  const { rowCount } = await db.query(
    `delete from dead_letters where id in (select id from dead_letters where created_at < now() - make_interval(secs => $1 * 86400) limit $2)`,
    [days, limit],
  );
  return rowCount ?? 0;
}
