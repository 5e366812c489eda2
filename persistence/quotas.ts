/** How much each user may have at the same time, and what they have. */
import type { Queryable, Transaction } from './database.ts';

/** Null is no limit. */
export interface Quota {
  maxReservations: number | null;
  maxGpus: number | null;
}

/** One reservation that is to be accepted. */
export interface Claim {
  reservationId: string;
  owner: string;
  gpus: number;
  /** Its gang, which is weighed as a whole: all nodes of it or none. */
  gang: { id: string; size: number } | null;
}

/** Whose quota does not suffice. */
export interface Exceeded extends Quota {
  owner: string;
  /** What they have, without what is asked for. */
  reservations: number;
  gpus: number;
  /** What is asked for. */
  wantedReservations: number;
  wantedGpus: number;
  /** Seconds until the first of their servers ends; null if none runs. */
  freesIn: number | null;
}

// Two doors must not both see room for one more. In the order of names, so that two batches cannot wait for each other.
export const LOCK_USERS = `
  with locked as materialized (
    select pg_advisory_xact_lock(hashtextextended('quota/' || u.user_id, 0))
      from (select distinct user_id from unnest($1::text[]) as a(user_id) order by 1) u)
  select count(*)::int as users from locked`;

export const TRY_USERS = `
  select u.user_id as "user" from (select distinct user_id from unnest($1::text[]) as a(user_id) order by 1) u
   where pg_try_advisory_xact_lock(hashtextextended('quota/' || u.user_id, 0))`;

/** Those of these users for whom nobody else accepts anything just now: theirs is the lock until the transaction ends. */
export async function freeUsers(tx: Transaction, users: readonly string[]): Promise<Set<string>> {
  const { rows } = await tx.query<{ user: string }>(TRY_USERS, [users]);
  return new Set(rows.map(({ user }) => user));
}

// Members of one gang are weighed together at the first of them, and again, with the same result, at each that follows. What somebody has whom
// nothing limits is not counted: they may have much.
export const CLAIM = `
  with asked as (
    select * from unnest($1::text[], $2::text[], $3::int[], $4::text[], $5::int[]) as a(reservation_id, user_id, gpus, gang_id, size)),
  wanted as (
    select user_id, sum(size)::int as reservations, sum(gpus * size)::int as gpus, array_agg(gang_id) as gangs from asked group by user_id),
  weighed as (
    select w.user_id, w.reservations as wanted_reservations, w.gpus as wanted_gpus, q.max_reservations, q.max_gpus, h.reservations, h.gpus
      from wanted w
     cross join lateral (
        select max_reservations, max_gpus from quotas where user_id in (w.user_id, '*') order by user_id = '*' limit 1) q
     cross join lateral (
        select count(*)::int as reservations, coalesce(sum(c.gpus), 0)::int as gpus
          from quota_claims c
         where c.user_id = w.user_id and coalesce(c.gang_id <> all(w.gangs), true)
           and (q.max_reservations is not null or q.max_gpus is not null)) h),
  exceeded as (
    select * from weighed where reservations + wanted_reservations > max_reservations or (wanted_gpus > 0 and gpus + wanted_gpus > max_gpus)),
  claimed as (
    insert into quota_claims (reservation_id, user_id, gpus, gang_id)
    select reservation_id, user_id, gpus, gang_id from asked where not exists (select 1 from exceeded)
    on conflict (reservation_id) do nothing)
  select user_id as owner, reservations, gpus, wanted_reservations as "wantedReservations", wanted_gpus as "wantedGpus",
         max_reservations as "maxReservations", max_gpus as "maxGpus",
         (select extract(epoch from min(r.expires_at) - now())::float8 from reservations r
           where r.user_id = exceeded.user_id and r.status in ('running', 'extending')) as "freesIn"
    from exceeded`;

/**
 * Count these reservations for their owners, in the transaction that accepts them.
 * @param areOwnersHeld whether the owners' locks are held already, by {@link freeUsers}
 * @returns whose quota does not suffice; if there are any, nothing was counted
 */
export async function claimQuota(tx: Transaction, claims: readonly Claim[], areOwnersHeld = false): Promise<Exceeded[]> {
  const owners = claims.map(({ owner }) => owner);
  if (!areOwnersHeld) tx.send(LOCK_USERS, [owners]);
  const { rows } = await tx.query<Exceeded>(CLAIM, [
    claims.map(({ reservationId }) => reservationId),
    owners,
    claims.map(({ gpus }) => gpus),
    claims.map(({ gang }) => gang?.id ?? null),
    claims.map(({ gang }) => gang?.size ?? 1),
  ]);
  return rows;
}

const COLUMNS = `user_id as "user", max_reservations as "maxReservations", max_gpus as "maxGpus", reason, set_by as "setBy", set_at as "setAt"`;

/** A quota as an operator set it. `user` is `*` for all who have none of their own. */
export interface QuotaRow extends Quota {
  user: string;
  reason: string | null;
  setBy: string;
  setAt: Date;
}

const STANDING = `
  select q.user_id as "user", q.max_reservations as "maxReservations", q.max_gpus as "maxGpus",
         (select count(*)::int from quota_claims where user_id = $1) as reservations,
         (select coalesce(sum(gpus), 0)::int from quota_claims where user_id = $1) as gpus
    from quotas q where q.user_id in ($1, '*') order by q.user_id = '*' limit 1`;

/** What a user may have and has. `user` tells whether the quota is theirs or everybody's (`*`). */
export async function findStandingOf(
  db: Queryable,
  user: string,
): Promise<Quota & { user: string; reservations: number; gpus: number }> {
  const { rows } = await db.query<Quota & { user: string; reservations: number; gpus: number }>(STANDING, [user]);
  return rows[0]!;
}

const LIST = `select ${COLUMNS} from quotas where user_id > $1 order by user_id limit $2`;

/** Quotas that were set, by name of user, after the one named. */
export async function listQuotas(db: Queryable, after: string, limit: number): Promise<QuotaRow[]> {
  return (await db.query<QuotaRow>(LIST, [after, limit])).rows;
}

const SET = `
  insert into quotas (user_id, max_reservations, max_gpus, reason, set_by) values ($1, $2, $3, $4, $5)
  on conflict (user_id) do update set max_reservations = excluded.max_reservations, max_gpus = excluded.max_gpus, reason = excluded.reason,
                                      set_by = excluded.set_by, set_at = now()
  returning ${COLUMNS}`;

/** Set what a user may have. Who has more keeps it; only new requests are weighed. */
export async function setQuota(db: Queryable, quota: Omit<QuotaRow, 'setAt'>): Promise<QuotaRow> {
  const { rows } = await db.query<QuotaRow>(SET, [quota.user, quota.maxReservations, quota.maxGpus, quota.reason, quota.setBy]);
  return rows[0]!;
}

const REMOVE = `delete from quotas where user_id = $1 and user_id <> '*'`;

/** Let the quota of all hold for a user again. @returns false if they had none of their own */
export async function removeQuota(db: Queryable, user: string): Promise<boolean> {
  return (await db.query(REMOVE, [user])).rowCount === 1;
}

const PRUNE = `
  delete from quota_claims where reservation_id in (
    select c.reservation_id from quota_claims c
     where c.claimed_at < now() - interval '1 hour'
       and not exists (select 1 from reservations r where r.reservation_id = c.reservation_id and r.reservation_ended is null)
       and not exists (select 1 from mailbox m where m.actor = 'reservation/' || c.reservation_id)
     order by c.claimed_at limit $1)`;

/** Forget what was counted for reservations that never came to be. @returns how many */
export async function pruneClaims(db: Queryable, limit: number): Promise<number> {
  return (await db.query(PRUNE, [limit])).rowCount ?? 0;
}
