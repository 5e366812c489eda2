/** The outbox: effects wait here until a dispatcher has leased them, run them and posted their result. */
import type { Queryable, Transaction } from './database.ts';
import { storableJson, storableText } from './storable.ts';

export interface NewEffect {
  effectId: string;
  actor: string;
  seq: number;
  index: number;
  type: string;
  lane: string;
  replaces: boolean;
  params: unknown;
}

export const SUPERSEDE = `
  update effects e set status = 'superseded', ended_at = $5, lease_token = null
    from unnest($1::text[], $2::text[], $3::bigint[], $4::int[]) as newer(actor, lane, seq, index)
   where e.actor = newer.actor and e.lane = newer.lane and (e.seq, e.index) < (newer.seq, newer.index)
     and e.status = 'pending' and (e.lease_until is null or e.lease_until < $5)`;

// One that is wanted at once is leased as it is written, unless an earlier one of its lane is still at work. ("offset 0" keeps the look from
// being made twice.)
export const ADD = `
  insert into effects (effect_id, actor, seq, index, type, lane, replaces, params, status, ended_at, next_at, created_at, lease_token, lease_until)
  select n.effect_id, n.actor, n.seq, n.index, n.type, n.lane, n.replaces, n.params::jsonb, n.status,
         case when n.status = 'superseded' then $11::timestamptz end, $11, $11,
         case when lease.given then $12::uuid end, case when lease.given then coalesce($14::timestamptz, clock_timestamp()) + make_interval(secs => $13) end
    from unnest($1::text[], $2::text[], $3::bigint[], $4::int[], $5::text[], $6::text[], $7::bool[], $8::text[], $9::text[], $10::bool[])
      as n(effect_id, actor, seq, index, type, lane, replaces, params, status, wanted)
    cross join lateral (
      select n.wanted and not exists (
        select 1 from effects earlier
         where earlier.actor = n.actor and earlier.lane = n.lane and earlier.status = 'pending') as given offset 0) lease
  returning effect_id as "effectId", lease_token is not null as leased`;

/** Who leases effects as they are written, and which. */
export interface LeaseWish {
  token: string;
  seconds: number;
  /** When the lease begins; null for the database's clock at the insert: a turn may have taken long. */
  from: Date | null;
  /** Ids of effects that this process wants to run at once. No two of one lane. */
  wanted: ReadonlySet<string>;
}

/**
 * Add the effects of a batch; one that replaces makes unstarted ones of its lane superseded. A leased one ends first.
 * @returns ids of those that were leased.
 */
export async function addEffects(
  tx: Transaction,
  effects: readonly NewEffect[],
  now: Date,
  lease: LeaseWish | null = null,
): Promise<Set<string>> {
  if (effects.length === 0) return new Set();
  const replacing = effects.filter((effect) => effect.replaces);
  if (replacing.length > 0) {
    tx.send(SUPERSEDE, [
      replacing.map((effect) => effect.actor),
      replacing.map((effect) => effect.lane),
      replacing.map((effect) => effect.seq),
      replacing.map((effect) => effect.index),
      now,
    ]);
  }
  // Those of the same batch that a later one replaces never start.
  const replaced = (effect: NewEffect) =>
    replacing.some((later) => later.actor === effect.actor && later.lane === effect.lane && isBefore(effect, later));
  const { rows } = await tx.query<{ effectId: string; leased: boolean }>(ADD, [
    effects.map((effect) => effect.effectId),
    effects.map((effect) => effect.actor),
    effects.map((effect) => effect.seq),
    effects.map((effect) => effect.index),
    effects.map((effect) => effect.type),
    effects.map((effect) => effect.lane),
    effects.map((effect) => effect.replaces),
    effects.map((effect) => storableJson(effect.params)),
    effects.map((effect) => (replaced(effect) ? 'superseded' : 'pending')),
    effects.map((effect) => lease?.wanted.has(effect.effectId) === true && !replaced(effect)),
    now,
    lease?.token ?? null,
    lease?.seconds ?? 0,
    lease?.from ?? null,
  ]);
  return new Set(rows.filter((row) => row.leased).map((row) => row.effectId));
}

function isBefore(one: NewEffect, other: NewEffect): boolean {
  return one.seq < other.seq || (one.seq === other.seq && one.index < other.index);
}

export interface LeasedEffect {
  effectId: string;
  actor: string;
  type: string;
  params: { type: string; [key: string]: unknown };
  /** Attempts so far, this one not counted. */
  attempts: number;
  createdAt: Date;
  /** How often a lease of it ran out since it was last given back, and it was taken over; absent if it is leased as it is written. */
  takeovers?: number;
}

/** An effect that was taken from the outbox. */
export interface TakenEffect extends LeasedEffect {
  takeovers: number;
  /** True if it was not leased but ended, since a later effect of its lane replaces it. */
  superseded: boolean;
}

/** Due, free, first in its lane, and for this process. */
const READY = `(e.status = 'pending') is true and e.next_at <= coalesce($1::timestamptz, now())
       and (e.lease_until is null or e.lease_until < coalesce($1::timestamptz, now()))
       and e.type = any($5::text[]) and e.effect_id not in (select busy from unnest($6::text[]) as running(busy))
       and not coalesce((
         select owner.machine_version > (select version from unnest($7::text[], $8::int[]) as known(kind, version) where known.kind = owner.kind)
           from actors owner where owner.actor = e.actor), false)
       and not exists (
         select 1 from effects earlier
          where earlier.actor = e.actor and earlier.lane = e.lane and earlier.status = 'pending'
            and (earlier.seq, earlier.index) < (e.seq, e.index))`;

/** A later effect of its lane makes it pointless. */
const REPLACED = `exists (
         select 1 from effects later
          where later.actor = e.actor and later.lane = e.lane and later.status = 'pending' and later.replaces
            and (later.seq, later.index) > (e.seq, e.index))`;

// A lease that ran out without an end tells of a process that died or froze, and perhaps of what: of all that it had leased. After the third
// time an effect is a suspect. Suspects wait, longer each time, and are leased apart from each other, the least suspicious first: innocents
// come through alone, and only a culprit goes on counting. One that is replaced does not wait: it does not run again.
export const LEASE = `
  with due as (
    select e.effect_id, e.actor, e.lane, e.seq, e.index from effects e
     where ${READY} and coalesce(e.takeovers, 0) < 3
     order by e.next_at limit $2 for update skip locked),
  suspect as (
    select e.effect_id, e.actor, e.lane, e.seq, e.index from effects e
     where ${READY} and e.takeovers >= 3
       and (e.lease_until is null
            or e.lease_until + make_interval(secs => least($11::float8, $10::float8 * 2 ^ least(e.takeovers - 3, 30)))
               < coalesce($1::timestamptz, now())
            or ${REPLACED})
     order by e.takeovers, e.next_at, e.effect_id limit $9 for update skip locked),
  fate as materialized (
    select e.effect_id, ${REPLACED} as superseded from (select * from due union all select * from suspect) e)
  update effects e
     set status = case when fate.superseded then 'superseded' else 'pending' end,
         ended_at = case when fate.superseded then coalesce($1::timestamptz, now()) end,
         takeovers = case when e.lease_token is null then e.takeovers else coalesce(e.takeovers, 0) + 1 end,
         lease_token = case when not fate.superseded then $3::uuid end,
         lease_until = case when not fate.superseded then coalesce($1::timestamptz, now()) + make_interval(secs => $4) end
    from fate where e.effect_id = fate.effect_id
  returning e.effect_id as "effectId", e.actor, e.type, e.params, e.attempts, e.created_at as "createdAt",
            coalesce(e.takeovers, 0) as takeovers, fate.superseded`;

/** How suspects are leased: effects that were taken over three times or more. */
export interface SuspectWish {
  /** How many may be leased. */
  limit: number;
  /** Pause between the end of a lease and the fourth takeover, in seconds; it doubles with each further one. */
  firstPause: number;
  /** The longest pause, in seconds. */
  longestPause: number;
}

const NO_SUSPECTS: SuspectWish = { limit: 0, firstPause: 1, longestPause: 1 };

/**
 * Take due effects that are first in their lane, of types this process has handlers for: each is leased, or ends as superseded if a later one
 * of its lane replaces it. Those that this process runs already (`busy`) are left alone even if their lease ran out: their handlers must not
 * overlap with themselves. So are those of actors of a newer version than `kinds` says: their handlers are newer as well.
 */
export async function leaseEffects(
  db: Queryable,
  options: {
    limit: number;
    suspects?: SuspectWish;
    kinds?: readonly { kind: string; version: number }[];
    token: string;
    seconds: number;
    types: readonly string[];
    busy: readonly string[];
    now: Date | null;
  },
): Promise<TakenEffect[]> {
  const suspects = options.suspects ?? NO_SUSPECTS;
  const { rows } = await db.query<TakenEffect>(LEASE, [
    options.now,
    options.limit,
    options.token,
    options.seconds,
    options.types,
    options.busy,
    (options.kinds ?? []).map((known) => known.kind),
    (options.kinds ?? []).map((known) => known.version),
    suspects.limit,
    suspects.firstPause,
    suspects.longestPause,
  ]);
  return rows;
}

// A row that is locked is not waited for, which could only end in a deadlock: somebody ends it, or only looks at it. As long as nothing else
// is committed it is ours, with its lease as it was.
export const RENEW = `
  with free as (
    select effect_id from effects where effect_id = any($2::text[]) and lease_token = $3 for update skip locked),
  renewed as (
    update effects e set lease_until = coalesce($1::timestamptz, now()) + make_interval(secs => $4)
      from free where e.effect_id = free.effect_id)
  select effect_id as "effectId" from effects where effect_id = any($2::text[]) and lease_token = $3`;

/** Keep the leases of running handlers. @returns the effects whose lease is still ours; a handler of any other is fenced off. */
export async function renewLeases(
  db: Queryable,
  options: { effectIds: readonly string[]; token: string; seconds: number; now: Date | null },
): Promise<Set<string>> {
  const { rows } = await db.query<{ effectId: string }>(RENEW, [options.now, options.effectIds, options.token, options.seconds]);
  return new Set(rows.map((row) => row.effectId));
}

// What waits behind an ended effect in its lane may start now. Locked rows are waited for: another lease may look at one for a moment.
export const END_DONE = `
  with ended as (
    update effects e set status = 'done', attempts = e.attempts + 1, last_error = null, ended_at = coalesce($3::timestamptz, now()),
                         lease_token = null, lease_until = null
      from unnest($1::text[]) as given(effect_id) where e.effect_id = given.effect_id and e.lease_token = $2
    returning e.effect_id, e.actor, e.lane)
  select ended.effect_id as "effectId", coalesce($3::timestamptz, now()) as now,
         exists (select 1 from effects later where later.actor = ended.actor and later.lane = ended.lane
                                               and later.status = 'pending' and later.effect_id <> ended.effect_id) as "laneGoesOn"
    from ended`;

/** A handler's result: the event that tells it, or null if there is nothing to tell. */
export interface EffectResult {
  effectId: string;
  actor: string;
  result: { type: string } | null;
}

export interface EndedEffect {
  effectId: string;
  /** True if another effect waits in its lane. */
  laneGoesOn: boolean;
}

/**
 * End effects whose handlers have succeeded.
 * @returns those that were still ours (the result of another must not be taken), and the time of the transaction.
 */
export async function endEffects(
  tx: Transaction,
  options: { ended: readonly { effectId: string }[]; token: string; now: Date | null },
): Promise<{ ours: EndedEffect[]; now: Date }> {
  const { rows } = await tx.query<EndedEffect & { now: Date }>(END_DONE, [
    options.ended.map(({ effectId }) => effectId),
    options.token,
    options.now,
  ]);
  return { ours: rows, now: rows[0]?.now ?? new Date(0) };
}

export const FAIL = `update effects set status = 'failed', attempts = attempts + 1, last_error = $3, ended_at = coalesce($4::timestamptz, now()),
                        lease_token = null, lease_until = null
      where effect_id = $1 and lease_token = $2`;

/** End an effect that has failed for good. @returns false if the lease was lost: its failure must not be told. */
export async function failEffect(
  tx: Transaction,
  options: { effectId: string; token: string; error: string; now: Date | null },
): Promise<boolean> {
  const { rowCount } = await tx.query(FAIL, [options.effectId, options.token, storableText(options.error), options.now]);
  return rowCount === 1;
}

// A turn whose transaction is open may be adding the effect that replaces this one, and neither sees the other: then both wait in their lane.
// The next lease of this one ends it, so that it does not run again; what replaces it starts as much later as this one was to pause. No kind
// minds: its time limits are longer than pauses of its lanes, and results carry the generation, round or attempt they belong to.
export const RETRY = `
  update effects e
     set status = case when ${REPLACED} then 'superseded' else 'pending' end,
         attempts = attempts + $3, last_error = $4, lease_token = null, lease_until = null, takeovers = null,
         next_at = coalesce($5::timestamptz, now()) + make_interval(secs => $6)
   where e.effect_id = $1 and e.lease_token = $2`;

/**
 * Give an effect back for another try after `seconds`; if a newer effect of its lane replaces it, it ends as superseded.
 * @returns false if the lease was lost: then nothing is to be told of it.
 */
export async function retryEffect(
  db: Queryable,
  options: { effectId: string; token: string; countAttempt: boolean; error: string | null; seconds: number; now: Date | null },
): Promise<boolean> {
  const { rowCount } = await db.query(RETRY, [
    options.effectId,
    options.token,
    options.countAttempt ? 1 : 0,
    storableText(options.error),
    options.now,
    options.seconds,
  ]);
  return rowCount === 1;
}

export const UNTIL_NEXT = `
  select extract(epoch from next_at - coalesce($1::timestamptz, now())) * 1000 as ms
    from effects where (status = 'pending') is true and next_at > coalesce($1::timestamptz, now())
   order by next_at limit 1`;

/**
 * Milliseconds until the next effect falls due that is not due yet (a retry); null if there is none. What is due already waits for its lane,
 * for room, or for the end of a lease, and a poll is soon enough for that.
 */
export async function untilNextEffect(db: Queryable, now: Date | null): Promise<number | null> {
  const { rows } = await db.query<{ ms: number | null }>(UNTIL_NEXT, [now]);
  const ms = rows[0]?.ms;
  return ms === null || ms === undefined ? null : Number(ms);
}
