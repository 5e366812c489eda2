/** What is removed when it is old. Keys of messages go with the history that holds them. */
import pg from 'pg';
import type { Database } from './database.ts';

const PRUNE_RESERVATIONS = `
  with old as (
    select r.reservation_id, 'reservation/' || r.reservation_id as actor from reservations r
     where r.reservation_ended < now() - make_interval(secs => $1::float8 * 86400)
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

/** Keys live in history. A message can come again as long as a producer or a hidden queue message may repeat it: a day at least. */
const KEYS_DAYS = 1;

const PRUNE_HISTORY = `
  with settings as (select now() - make_interval(secs => greatest($1::float8, $2::float8) * 86400) as old),
  due as (
    select a.actor, a.seq, a.machine_version, a.snapshot
      from actors a, settings
     where a.kind = any($3::text[]) and a.snapshot is not null and a.quarantined_at is null
       and (select h.at from history h where h.actor = a.actor order by h.seq limit 1) < settings.old - interval '1 day'
     order by a.actor limit $4 for update of a skip locked),
  kept as (
    insert into checkpoints (actor, seq, machine_version, snapshot, reason)
    select actor, seq, machine_version, snapshot, 'prune' from due
    on conflict (actor, seq) do nothing),
  gone_checkpoints as (
    delete from checkpoints c using due where c.actor = due.actor and c.seq < due.seq),
  gone as (
    delete from history h using due, settings where h.actor = due.actor and h.at < settings.old and h.seq <= due.seq
    returning 1)
  select (select count(*) from due)::int as actors, (select count(*) from gone)::int as entries`;

/**
 * Remove history older than `days` (a day at least: it holds the keys) of actors of these kinds, which live on for years. A checkpoint of
 * where each stands comes first, so its history still folds. An actor is looked at once a day of its history has become too old.
 * @returns how many actors were pruned, `limit` at most.
 */
export async function pruneHistory(db: Database, kinds: readonly string[], days: number, limit: number): Promise<number> {
  const { rows } = await db.query<{ actors: number; entries: number }>(PRUNE_HISTORY, [days, KEYS_DAYS, kinds, limit]);
  return rows[0]?.actors ?? 0;
}

/** Remove ended effects older than `days`. What they did stays in history. @returns how many. */
export async function pruneEffects(db: Database, days: number, limit: number): Promise<number> {
  const { rowCount } = await db.query(
    `delete from effects where effect_id in (
       select effect_id from effects where status <> 'pending' and ended_at < now() - make_interval(secs => $1::float8 * 86400) limit $2)`,
    [days, limit],
  );
  return rowCount ?? 0;
}

/** Remove dead letters older than `days`. @returns how many. */
export async function pruneDeadLetters(db: Database, days: number, limit: number): Promise<number> {
  const { rowCount } = await db.query(
    `delete from dead_letters where id in (select id from dead_letters where created_at < now() - make_interval(secs => $1::float8 * 86400) limit $2)`,
    [days, limit],
  );
  return rowCount ?? 0;
}

/**
 * Remove what was archived from a queue more than `days` ago: the originals of its dead letters, secrets of their senders included, and the
 * counts of tries that failed. @returns how many messages.
 */
export async function pruneArchive(db: Database, queue: string, days: number, limit: number): Promise<number> {
  await db.query('delete from queue_failures where queue = $1 and last_at < now() - make_interval(secs => $2::float8 * 86400)', [
    queue,
    days,
  ]);
  const archive = `a_${queue}`;
  const { rowCount } = await db.query(
    `with old as (
       select msg_id from pgmq.${pg.escapeIdentifier(archive)} where archived_at < now() - make_interval(secs => $1::float8 * 86400)
        order by archived_at limit $2)
     delete from pgmq.${pg.escapeIdentifier(archive)} a using old where a.msg_id = old.msg_id`,
    [days, limit],
  );
  return rowCount ?? 0;
}

/** Remove results of operations that ended more than `days` ago. @returns how many. */
export async function pruneOperations(db: Database, days: number, limit: number): Promise<number> {
  const { rowCount } = await db.query(
    `delete from operations where operation_id in (
       select operation_id from operations where status <> 'pending' and updated_at < now() - make_interval(secs => $1::float8 * 86400) limit $2)`,
    [days, limit],
  );
  return rowCount ?? 0;
}

/** Remove answers to requests under a key of more than `days` ago: until then they may be sent again. The audit log stays. @returns how many. */
export async function pruneAnsweredRequests(db: Database, days: number, limit: number): Promise<number> {
  const { rowCount } = await db.query(
    `delete from answered_requests where (user_name, key) in (
       select user_name, key from answered_requests where at < now() - make_interval(secs => greatest(1, $1::float8) * 86400) limit $2)`,
    [days, limit],
  );
  return rowCount ?? 0;
}

const PRUNE_FINDINGS = `
  delete from reality_findings where id in (
    select id from reality_findings where closed_at < now() - make_interval(secs => $1::float8 * 86400) order by closed_at limit $2)`;

const PRUNE_RUNS = `
  delete from reality_runs where id in (
    select id from reality_runs where ended_at < now() - make_interval(secs => $1::float8 * 86400) order by ended_at limit $2)`;

/** Remove findings that were closed, and comparisons that ended, more than `days` ago. @returns how many of the kind of which more went */
export async function pruneFindings(db: Database, days: number, limit: number): Promise<number> {
  const { rowCount: findings } = await db.query(PRUNE_FINDINGS, [days, limit]);
  const { rowCount: runs } = await db.query(PRUNE_RUNS, [days, limit]);
  return Math.max(findings ?? 0, runs ?? 0);
}

const PRUNE_CONTEXTS = `
  delete from build_contexts where hash in (
    select b.hash from build_contexts b
     where b.created_at < now() - make_interval(secs => $1::float8 * 86400)
       and not exists (select 1 from actors a where a.kind = 'reservation' and a.status = 'active'
                                                and a.snapshot #>> '{context,request,buildHash}' = b.hash)
       and not exists (select 1 from mailbox m where m.event #>> '{request,buildHash}' = b.hash)
     limit $2)`;

/** Remove build contexts older than `days` that no live reservation builds from; whoever wants one again sends it again. @returns how many. */
export async function pruneBuildContexts(db: Database, days: number, limit: number): Promise<number> {
  return (await db.query(PRUNE_CONTEXTS, [days, limit])).rowCount ?? 0;
}

const PRUNE_LINES = `
  delete from build_lines where id in (
    select id from build_lines where kept_at < now() - make_interval(secs => $1::float8 * 86400) order by kept_at limit $2)`;

const PRUNE_TOKENS = `
  delete from build_tokens where token_hash in (
    select token_hash from build_tokens where expires_at < now() - make_interval(secs => $1::float8 * 86400) order by expires_at limit $2)`;

/** Remove lines that builds wrote more than `days` ago, and tokens that expired so long ago. @returns how many of the kind of which more went */
export async function pruneBuildLines(db: Database, days: number, limit: number): Promise<number> {
  const { rowCount: lines } = await db.query(PRUNE_LINES, [days, limit]);
  const { rowCount: tokens } = await db.query(PRUNE_TOKENS, [days, limit]);
  return Math.max(lines ?? 0, tokens ?? 0);
}

const PRUNE_SECRETS = `
  delete from secrets where secret_ref in (
    select s.secret_ref from secrets s
     where s.created_at < now() - make_interval(secs => $1::float8 * 86400)
       and not exists (select 1 from reservations r where r.reservation_id = s.secret_ref)
       and not exists (select 1 from actors a where a.actor = 'reservation/' || s.secret_ref and a.status <> 'unborn')
       and not exists (select 1 from mailbox m where m.actor = 'reservation/' || s.secret_ref)
     limit $2)`;

/** Remove secrets older than `days` of reservations that never came to be. @returns how many. */
export async function pruneSecrets(db: Database, days: number, limit: number): Promise<number> {
  return (await db.query(PRUNE_SECRETS, [days, limit])).rowCount ?? 0;
}

const PRUNE_DISKS = `
  with old as (
    select d.disk_id, 'disk/' || d.disk_id as actor from disks d
     where d.purged_at < now() - make_interval(secs => $1::float8 * 86400)
       and not exists (select 1 from disk_snapshots s join disks other on other.latest_snapshot_id = s.snapshot_id
                        where s.disk_id = d.disk_id and other.disk_id <> d.disk_id and other.purged_at is null)
     order by d.purged_at limit $2 for update skip locked),
  gone_history as (delete from history h using old where h.actor = old.actor),
  gone_checkpoints as (delete from checkpoints c using old where c.actor = old.actor),
  gone_effects as (delete from effects e using old where e.actor = old.actor and e.status <> 'pending'),
  gone_snapshots as (delete from disk_snapshots s using old where s.disk_id = old.disk_id),
  gone_actors as (delete from actors a using old where a.actor = old.actor and a.status = 'done')
  delete from disks d using old where d.disk_id = old.disk_id`;

/** Remove disks that were purged more than `days` ago, with their history; not one whose snapshot a clone starts from. @returns how many. */
export async function pruneDisks(db: Database, days: number, limit: number): Promise<number> {
  return (await db.query(PRUNE_DISKS, [days, limit])).rowCount ?? 0;
}
