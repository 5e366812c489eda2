/** How many actors are in which state, who they are, and what moved lately: for charts that live. */
import type { Queryable } from './database.ts';

/** How many actors of a kind are in a state; a reservation's state is dotted down to its step. */
export interface StateCount {
  kind: string;
  path: string;
  count: number;
}

const LIVE = `'queued', 'building', 'provisioning', 'running', 'extending', 'snapshotting'`;

const COUNT_LIVE = `
  select 'reservation' as kind, concat_ws('.', status, substate) as path, count(*)::int as count
    from reservations where status in (${LIVE}) group by status, substate
  union all
  select kind, state, count(*)::int from actors where kind in ('disk', 'gpu-pool', 'image') and state is not null group by kind, state`;

/** All that have not ended, by state. */
export async function countLive(db: Queryable): Promise<StateCount[]> {
  return (await db.query<StateCount>(COUNT_LIVE, [])).rows;
}

const COUNT_ENDED = `
  select 'reservation' as kind, state as path, count(*)::int as count
    from actors where kind = 'reservation' and state in ('expired', 'failed', 'cancelled') group by state`;

/** Reservations that have ended, as far as they are kept. Costs more than counting those that live. */
export async function countEnded(db: Queryable): Promise<StateCount[]> {
  return (await db.query<StateCount>(COUNT_ENDED, [])).rows;
}

/** One that is in a state. */
export interface Resident {
  id: string;
  label: string;
  user_id: string | null;
  since: Date;
}

const RESERVATIONS_IN = `
  select reservation_id as id, name as label, user_id, state_entered_at as since
    from reservations
   where status = $1::reservation_status and ($2::text is null or substate = $2 or substate like $3)
     and ($4::text is null or user_id = $4) and reservation_id > $5
   order by reservation_id limit $6`;

/**
 * Reservations in a state or in one of its steps, in the order of their ids.
 * @param user only theirs; null: everybody's @param after id of the last one that is known
 */
export async function reservationsIn(
  db: Queryable,
  { path, user, after, limit }: { path: string; user: string | null; after: string; limit: number },
): Promise<Resident[]> {
  const dot = path.indexOf('.');
  const step = dot < 0 ? null : path.slice(dot + 1);
  // A name of a state has no character that LIKE takes for another.
  const values = [dot < 0 ? path : path.slice(0, dot), step, step === null ? null : `${step}.%`, user, after, limit];
  return (await db.query<Resident>(RESERVATIONS_IN, values)).rows;
}

const ACTORS_IN = `
  select substr(a.actor, length(a.kind) + 2) as id, a.updated_at as since,
         coalesce(d.disk_name, substr(a.actor, length(a.kind) + 2)) as label, d.user_id
    from actors a left join disks d on d.disk_id = case when a.kind = 'disk' then substr(a.actor, 6)::uuid end
   where a.kind = $1 and a.state = $2 and ($3::text is null or d.user_id = $3 or a.kind = 'gpu-pool') and a.actor > $1 || '/' || $4
   order by a.actor limit $5`;

/** Actors of another kind in a top-level state, likewise; pools are everybody's. */
export async function actorsIn(
  db: Queryable,
  { kind, path, user, after, limit }: { kind: string; path: string; user: string | null; after: string; limit: number },
): Promise<Resident[]> {
  return (await db.query<Resident>(ACTORS_IN, [kind, path, user, after, limit])).rows;
}

/** A step of any actor, as far as a chart needs it. */
export interface Movement {
  actor: string;
  seq: number;
  at: Date;
  type: string;
  outcome: 'applied' | 'ignored' | 'refused';
  from: string | null;
  to: string | null;
  /** Where below `to` an applied step led; null if `to` has no states in it, or nobody noted it. */
  leaf: string | null;
}

const MOVEMENT = `h.actor, h.seq, h.at, h.event->>'type' as type, h.outcome, h.from_state as "from", h.to_state as "to", h.leaf`;

// From the end of the index that the streams of events read, as far back as a minute.
const RECENT_OF_RESERVATIONS = `
  select r.* from (
    select ${MOVEMENT} from history h where left(h.actor, 12) = 'reservation/' order by h.xact desc limit $1) r
   where r.at > now() - interval '1 minute' order by r.actor, r.seq`;

/** Steps of reservations of the last minute, the latest `limit` at most; those of one reservation in their order. */
export async function recentOfReservations(db: Queryable, limit: number): Promise<Movement[]> {
  return (await db.query<Movement>(RECENT_OF_RESERVATIONS, [limit])).rows;
}

const RECENT_OF_OTHERS = `
  select ${MOVEMENT}
    from actors a cross join lateral
         (select * from history own where own.actor = a.actor and own.seq > a.seq - 200 and own.at > $1) h
   where a.kind in ('disk', 'gpu-pool', 'image') and a.updated_at > $1
   order by h.actor, h.seq`;

/** Steps of disks, pools and images since then, the latest 200 of each; those of one actor in their order. */
export async function recentOfOthers(db: Queryable, since: Date): Promise<Movement[]> {
  return (await db.query<Movement>(RECENT_OF_OTHERS, [since])).rows;
}

/** Where an actor was before a step: the state that the latest applied step before it led to. */
export interface Whereabouts {
  actor: string;
  /** Number of the step before which it was there. */
  seq: number;
  state: string | null;
  leaf: string | null;
}

// The one before is nearly always it; what changed nothing is passed over.
const WHERE_BEFORE = `
  select asked.actor, asked.seq, h.to_state as state, h.leaf
    from unnest($1::text[], $2::bigint[]) as asked(actor, seq) cross join lateral
         (select own.to_state, own.leaf from history own
           where own.actor = asked.actor and own.seq < asked.seq and own.outcome = 'applied' order by own.seq desc limit 1) h`;

/** Where actors were before these steps, as far as history reaches back. */
export async function whereBefore(db: Queryable, steps: readonly { actor: string; seq: number }[]): Promise<Whereabouts[]> {
  if (steps.length === 0) return [];
  return (await db.query<Whereabouts>(WHERE_BEFORE, [steps.map(({ actor }) => actor), steps.map(({ seq }) => seq)])).rows;
}
