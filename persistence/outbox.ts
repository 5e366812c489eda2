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

const SUPERSEDE = `
  update effects e set status = 'superseded', ended_at = $5, lease_token = null
    from unnest($1::text[], $2::text[], $3::bigint[], $4::int[]) as newer(actor, lane, seq, index)
   where e.actor = newer.actor and e.lane = newer.lane and (e.seq, e.index) < (newer.seq, newer.index)
     and e.status = 'pending' and (e.lease_until is null or e.lease_until < $5)`;

const ADD = `
  insert into effects (effect_id, actor, seq, index, type, lane, replaces, params, next_at, created_at)
  select n.effect_id, n.actor, n.seq, n.index, n.type, n.lane, n.replaces, n.params::jsonb, $9, $9
    from unnest($1::text[], $2::text[], $3::bigint[], $4::int[], $5::text[], $6::text[], $7::bool[], $8::text[])
      as n(effect_id, actor, seq, index, type, lane, replaces, params)`;

/** Add the effects of a batch; one that replaces makes unstarted ones of its lane superseded. A leased one ends first. */
export async function addEffects(tx: Transaction, effects: readonly NewEffect[], now: Date): Promise<void> {
  if (effects.length === 0) return;
  const replacing = effects.filter((effect) => effect.replaces);
  await tx.query(ADD, [
    effects.map((effect) => effect.effectId),
    effects.map((effect) => effect.actor),
    effects.map((effect) => effect.seq),
    effects.map((effect) => effect.index),
    effects.map((effect) => effect.type),
    effects.map((effect) => effect.lane),
    effects.map((effect) => effect.replaces),
    effects.map((effect) => storableJson(effect.params)),
    now,
  ]);
  if (replacing.length > 0) {
    await tx.query(SUPERSEDE, [
      replacing.map((effect) => effect.actor),
      replacing.map((effect) => effect.lane),
      replacing.map((effect) => effect.seq),
      replacing.map((effect) => effect.index),
      now,
    ]);
  }
}

export interface LeasedEffect {
  effectId: string;
  actor: string;
  type: string;
  params: { type: string; [key: string]: unknown };
  /** Attempts so far, this one not counted. */
  attempts: number;
  createdAt: Date;
}

const LEASE = `
  with due as (
    select e.effect_id from effects e
     where e.status = 'pending' and e.next_at <= coalesce($1::timestamptz, now())
       and (e.lease_until is null or e.lease_until < coalesce($1::timestamptz, now()))
       and e.type = any($5::text[]) and e.effect_id <> all($6::text[])
       and not exists (
         select 1 from effects earlier
          where earlier.actor = e.actor and earlier.lane = e.lane and earlier.status = 'pending'
            and (earlier.seq, earlier.index) < (e.seq, e.index))
     order by e.next_at limit $2 for update skip locked)
  update effects e
     set lease_token = $3, lease_until = coalesce($1::timestamptz, now()) + make_interval(secs => $4)
    from due where e.effect_id = due.effect_id
  returning e.effect_id as "effectId", e.actor, e.type, e.params, e.attempts, e.created_at as "createdAt"`;

/**
 * Lease due effects that are first in their lane, of types this process has handlers for. Those that this process runs already (`busy`) are
 * left alone even if their lease ran out: their handlers must not overlap with themselves.
 */
export async function leaseEffects(
  db: Queryable,
  options: {
    limit: number;
    token: string;
    seconds: number;
    types: readonly string[];
    busy: readonly string[];
    now: Date | null;
  },
): Promise<LeasedEffect[]> {
  const { rows } = await db.query<LeasedEffect>(LEASE, [
    options.now,
    options.limit,
    options.token,
    options.seconds,
    options.types,
    options.busy,
  ]);
  return rows;
}

/** Keep the leases of running handlers. @returns the effects whose lease is still ours; a handler of any other is fenced off. */
export async function renewLeases(
  db: Queryable,
  options: { effectIds: readonly string[]; token: string; seconds: number; now: Date | null },
): Promise<Set<string>> {
  const { rows } = await db.query<{ effectId: string }>(
    `update effects set lease_until = coalesce($1::timestamptz, now()) + make_interval(secs => $4)
      where effect_id = any($2::text[]) and lease_token = $3 and status = 'pending'
     returning effect_id as "effectId"`,
    [options.now, options.effectIds, options.token, options.seconds],
  );
  return new Set(rows.map((row) => row.effectId));
}

/** End an effect. @returns false if the lease was lost: its result must not be posted. */
export async function endEffect(
  tx: Transaction,
  options: { effectId: string; token: string; status: 'done' | 'failed'; error: string | null; now: Date | null },
): Promise<boolean> {
  const { rowCount } = await tx.query(
    `update effects set status = $3, attempts = attempts + 1, last_error = $4, ended_at = coalesce($5::timestamptz, now()), lease_token = null, lease_until = null
      where effect_id = $1 and lease_token = $2 and status = 'pending'`,
    [options.effectId, options.token, options.status, storableText(options.error), options.now],
  );
  return rowCount === 1;
}

const RETRY = `
  update effects e
     set status = case when exists (
           select 1 from effects later
            where later.actor = e.actor and later.lane = e.lane and later.replaces and (later.seq, later.index) > (e.seq, e.index))
           then 'superseded' else 'pending' end,
         attempts = attempts + $3, last_error = $4, lease_token = null, lease_until = null,
         next_at = coalesce($5::timestamptz, now()) + make_interval(secs => $6)
   where e.effect_id = $1 and e.lease_token = $2 and e.status = 'pending'`;

/** Give an effect back for another try after `seconds`; if a newer effect of its lane replaces it, it ends as superseded. */
export async function retryEffect(
  db: Queryable,
  options: { effectId: string; token: string; countAttempt: boolean; error: string | null; seconds: number; now: Date | null },
): Promise<void> {
  await db.query(RETRY, [
    options.effectId,
    options.token,
    options.countAttempt ? 1 : 0,
    storableText(options.error),
    options.now,
    options.seconds,
  ]);
}

/** Milliseconds until the next pending effect is due; null if none is pending. Leased ones count by the end of their lease. */
export async function untilNextEffect(db: Queryable, now: Date | null): Promise<number | null> {
  const { rows } = await db.query<{ ms: number | null }>(
    `select extract(epoch from (min(greatest(next_at, coalesce(lease_until, next_at))) - coalesce($1::timestamptz, now()))) * 1000 as ms
       from effects where status = 'pending'`,
    [now],
  );
  const ms = rows[0]?.ms;
  return ms === null || ms === undefined ? null : Number(ms);
}
