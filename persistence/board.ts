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

const NODE = 'n.node, n.gpu_type, n.ready, n.schedulable, n.reason, n.slots, n.foreign_slots, d.reason as drained';
const NODES = `select ${NODE} from nodes n left join node_drains d using (node)`;
const NODES_OF = `select ${NODE} from nodes n left join node_drains d using (node) where n.node = any($1::text[])`;

/** @param of these alone; null: all */
export async function boardNodes(db: Queryable, of: readonly string[] | null = null): Promise<BoardNode[]> {
  return (await (of === null ? db.query<BoardNode>(NODES, []) : db.query<BoardNode>(NODES_OF, [of]))).rows;
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

const HOLD = `
  select s.node, min(s.gpu_type) as gpu_type, array_agg(s.slot order by s.slot) as slots, min(s.held_since) as since, s.reservation_id as id,
         min(r.user_id) as user_id, min(r.name) as name, min(r.status::text) as state, min(r.expires_at) as expires_at,
         min(r.total_hours) as total_hours
    from gpu_slots s left join reservations r using (reservation_id)
   where s.reservation_id is not null`;
const BY_SLOT = 'group by s.node, s.reservation_id order by s.node, min(s.slot)';
const HOLDS = `${HOLD} ${BY_SLOT}`;
const HOLDS_OF = `${HOLD} and s.node = any($1::text[]) ${BY_SLOT}`;

/** @param of on these nodes alone; null: on all */
export async function boardHolds(db: Queryable, of: readonly string[] | null = null): Promise<BoardHold[]> {
  return (await (of === null ? db.query<BoardHold>(HOLDS, []) : db.query<BoardHold>(HOLDS_OF, [of]))).rows;
}

// A node's mark changes with it and with its part of the ledger. What a hold tells of its reservation changes with a step of the reservation.
// Both are looked at in one statement: whatever it does not see yet lies behind the position that it gives.
const MARKS = `
  with held as (
    select node, bit_xor(hash_record_extended(row(slot, reservation_id, generation, held_since), 0)) as mark
      from gpu_slots where reservation_id is not null group by node),
  marked as (
    select coalesce(n.node, h.node) as node, coalesce(h.mark, 0)
             # hash_record_extended(row(n.gpu_type, n.ready, n.schedulable, n.reason, n.slots, n.foreign_slots, d.reason), 0) as mark
      from nodes n left join node_drains d on d.node = n.node full join held h on h.node = n.node),
  stepped as (
    select distinct substr(h.actor, 13) as id from history h
     where left(h.actor, 12) = 'reservation/' and h.xact >= pg_snapshot_xmin($1::pg_snapshot)
       and not pg_visible_in_snapshot(h.xact, $1::pg_snapshot))
  select pg_current_snapshot()::text as position, m.nodes, m.marks, moved.nodes as moved
    from (select array_agg(node) as nodes, array_agg(mark::text) as marks from marked) m,
         (select array_agg(distinct s.node) as nodes from gpu_slots s join stepped on stepped.id = s.reservation_id) moved`;

/** What tells which nodes have to be read anew. */
export interface BoardMarks {
  /** To be given the next time. */
  position: string;
  /** By node; nodes that hold something and are not known otherwise are among them. */
  marks: Map<string, string>;
  /** Nodes on which a reservation has taken a step since the position that was given. */
  moved: string[];
}

/** @param since position of the last reading; null: `moved` is empty */
export async function boardMarks(db: Queryable, since: string | null): Promise<BoardMarks> {
  type Row = { position: string; nodes: string[] | null; marks: string[] | null; moved: string[] | null };
  const { rows } = await db.query<Row>(MARKS, [since]);
  const { position, nodes, marks, moved } = rows[0]!;
  return { position, marks: new Map((nodes ?? []).map((node, index) => [node, marks![index]!])), moved: moved ?? [] };
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

export interface LinePart extends BoardWaiting {
  waits_because: string | null;
}

// Names are looked up for those alone who are told of.
const LINE_PART = `
  select c.reservation_id as id, c.gpu_type, c.owner as user_id, r.name, c.slots, c.duration_hours as hours, c.submitted_at as since,
         c.waits_because
    from (select * from capacity_requests where gpu_type = $1 and status = 'waiting'
           order by submitted_at, reservation_id offset $2 limit $3) c
    left join reservations r using (reservation_id)
   order by c.submitted_at, c.reservation_id`;

/** Part of the line of a type, in order. @param after so many at its head are left out */
export async function linePart(db: Queryable, gpuType: string, after: number, limit: number): Promise<LinePart[]> {
  return (await db.query<LinePart>(LINE_PART, [gpuType, after, limit])).rows;
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
