/** Who holds which GPU until when: the ledger beside the nodes and the reservations, for people. */
import type { Queryable } from './database.ts';

export interface BoardNode {
  node: string;
  gpu_type: string;
  ready: boolean;
  schedulable: boolean;
  reason: string | null;
  slots: number;
  foreign_slots: number;
  drained: string | null;
}

const NODES = `
  select n.node, n.gpu_type, n.ready, n.schedulable, n.reason, n.slots, n.foreign_slots, d.reason as drained
    from nodes n left join node_drains d using (node) order by n.gpu_type, n.node`;

export async function boardNodes(db: Queryable): Promise<BoardNode[]> {
  return (await db.query<BoardNode>(NODES, [])).rows;
}

/** Slots of one node that one reservation holds. */
export interface BoardHold {
  node: string;
  gpu_type: string;
  slots: number[];
  since: Date;
  id: string;
  /** Null where the ledger has a reservation that is not known otherwise. */
  user_id: string | null;
  name: string | null;
  state: string | null;
  /** When the time ends that was granted; null while it does not run yet. */
  expires_at: Date | null;
  total_hours: number | null;
}

const HOLDS = `
  select s.node, min(s.gpu_type) as gpu_type, array_agg(s.slot order by s.slot) as slots, min(s.held_since) as since, s.reservation_id as id,
         min(r.user_id) as user_id, min(r.name) as name, min(r.status::text) as state, min(r.expires_at) as expires_at,
         min(r.total_hours) as total_hours
    from gpu_slots s left join reservations r using (reservation_id)
   where s.reservation_id is not null
   group by s.node, s.reservation_id order by s.node, min(s.slot)`;

export async function boardHolds(db: Queryable): Promise<BoardHold[]> {
  return (await db.query<BoardHold>(HOLDS, [])).rows;
}

export interface BoardWaiting {
  id: string;
  gpu_type: string;
  user_id: string;
  name: string | null;
  slots: number;
  hours: number;
  since: Date;
}

const WAITING = `
  select c.reservation_id as id, c.gpu_type, c.owner as user_id, r.name, c.slots, c.duration_hours as hours, c.submitted_at as since
    from gpu_types t
    cross join lateral (select * from capacity_requests own where own.gpu_type = t.gpu_type and own.status = 'waiting'
                         order by own.submitted_at, own.reservation_id limit $1) c
    left join reservations r using (reservation_id)
   order by c.gpu_type, c.submitted_at, c.reservation_id`;

/** The first of each line. */
export async function boardWaiting(db: Queryable, ofEach: number): Promise<BoardWaiting[]> {
  return (await db.query<BoardWaiting>(WAITING, [ofEach])).rows;
}

const MAINTENANCE = 'select gpu_type, reason, from_at, until_at from maintenance order by gpu_type';

export interface BoardMaintenance {
  gpu_type: string;
  reason: string;
  from_at: Date;
  until_at: Date | null;
}

export async function boardMaintenance(db: Queryable): Promise<BoardMaintenance[]> {
  return (await db.query<BoardMaintenance>(MAINTENANCE, [])).rows;
}

/** Processes that serve this database: each listens on one connection. */
const REPLICAS = `
  select count(*)::int as replicas from pg_stat_activity where datname = current_database() and application_name = 'gpu-dev listen'`;

export async function countReplicas(db: Queryable): Promise<number> {
  return (await db.query<{ replicas: number }>(REPLICAS, [])).rows[0]!.replicas;
}

const LEASES = 'select name, holder, token::text as token, until from leases order by name';

/** Roles that one process at a time plays, and until when it holds them. */
export async function listLeases(db: Queryable): Promise<{ name: string; holder: string; token: string; until: Date }[]> {
  return (await db.query<{ name: string; holder: string; token: string; until: Date }>(LEASES, [])).rows;
}

/** Effects that are tried again, after an error or because whoever ran them has died. */
export interface RetriedEffect {
  id: string;
  actor: string;
  type: string;
  attempts: number;
  /** Just now; else it waits for its next try. */
  running: boolean;
  next_at: Date;
  created_at: Date;
  last_error: string | null;
}

const RETRIED = `
  select effect_id as id, actor, type, attempts, coalesce(lease_until > now(), false) as running, next_at, created_at, last_error
    from effects where status = 'pending' and (attempts > 0 or takeovers > 0) order by next_at, effect_id limit $1`;

export async function retriedEffects(db: Queryable, limit: number): Promise<RetriedEffect[]> {
  return (await db.query<RetriedEffect>(RETRIED, [limit])).rows;
}
