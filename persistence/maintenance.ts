/** Maintenance of GPU types, and nodes that are being emptied: what operators and users see of them. */
import type { Queryable, Transaction } from './database.ts';

export interface MaintenanceRow {
  gpu_type: string;
  reason: string;
  allowed_users: string[];
  from_at: Date;
  until_at: Date | null;
  asked_by: string;
  updated_at: Date;
  in_force: boolean;
  /** Reservations that wait and that it concerns. */
  waiting: number;
}

/** Maintenance that is announced or in force, of one type or of all. */
export async function listMaintenance(db: Queryable, gpuType: string | null = null): Promise<MaintenanceRow[]> {
  const { rows } = await db.query<MaintenanceRow>(
    `select m.gpu_type, m.reason, m.allowed_users, m.from_at, m.until_at, m.asked_by, m.updated_at, m.from_at <= now() as in_force,
            (select count(*)::int from capacity_requests r
              where r.gpu_type = m.gpu_type and r.status = 'waiting' and r.owner <> all(m.allowed_users)) as waiting
       from maintenance m where $1::text is null or m.gpu_type = $1 order by m.gpu_type`,
    [gpuType],
  );
  return rows;
}

export interface Drain {
  node: string;
  gpu_type: string | null;
  reason: string;
  drained_by: string;
  drained_at: Date;
}

/** Nodes that are being drained, whether or not they are there now. */
export async function listDrains(db: Queryable): Promise<Drain[]> {
  const { rows } = await db.query<Drain>(
    `select d.node, n.gpu_type, d.reason, d.drained_by, d.drained_at from node_drains d left join nodes n on n.node = d.node order by d.node`,
  );
  return rows;
}

export interface AdminNodeRow {
  node: string;
  gpu_type: string;
  ready: boolean;
  schedulable: boolean;
  reason: string | null;
  slots: number;
  held: number;
  zone: string | null;
  updated_at: Date;
  drain_reason: string | null;
  drained_by: string | null;
  drained_at: Date | null;
  /** Who is still on it. */
  reservations: { id: string; user_id: string; state: string; slots: number; expires_at: string | null }[];
}

/** Nodes with whoever holds slots on them, by name; of one name, of one type, or all. */
export async function listNodes(
  db: Queryable,
  filter: { node?: string | null; gpuType?: string | null; after?: string | null; limit: number },
): Promise<AdminNodeRow[]> {
  const { rows } = await db.query<AdminNodeRow>(
    `select n.node, n.gpu_type, n.ready, n.schedulable and d.node is null as schedulable, n.reason, n.slots, coalesce(u.held, 0) as held, n.zone,
            n.updated_at, d.reason as drain_reason, d.drained_by, d.drained_at,
            coalesce((select jsonb_agg(jsonb_build_object('id', h.reservation_id, 'user_id', coalesce(r.user_id, q.owner, ''),
                               'state', coalesce(r.status::text, 'unknown'), 'slots', h.slots, 'expires_at', r.expires_at) order by r.expires_at nulls last)
                        from (select reservation_id, count(*)::int as slots from gpu_slots
                               where node = n.node and reservation_id is not null group by reservation_id) h
                        left join reservations r on r.reservation_id = h.reservation_id
                        left join capacity_requests q on q.reservation_id = h.reservation_id), '[]') as reservations
       from nodes n left join node_usage u on u.node = n.node left join node_drains d on d.node = n.node
      where ($1::text is null or n.node = $1) and ($2::text is null or n.gpu_type = $2) and ($3::text is null or n.node > $3)
      order by n.node limit $4`,
    [filter.node ?? null, filter.gpuType ?? null, filter.after ?? null, filter.limit],
  );
  return rows;
}

/** Note that a node is to be emptied; a repeated wish changes the reason. */
export async function drainNode(tx: Transaction, drain: { node: string; reason: string; by: string }): Promise<void> {
  await tx.query(
    `insert into node_drains (node, reason, drained_by) values ($1, $2, $3)
     on conflict (node) do update set reason = excluded.reason, drained_by = excluded.drained_by`,
    [drain.node, drain.reason, drain.by],
  );
}

/** @returns false if the node was not being drained */
export async function undrainNode(tx: Transaction, node: string): Promise<boolean> {
  const { rowCount } = await tx.query('delete from node_drains where node = $1', [node]);
  return rowCount === 1;
}

/** The type of a node; null if there is none of that name. */
export async function typeOfNode(db: Queryable, node: string): Promise<string | null> {
  const { rows } = await db.query<{ gpu_type: string }>('select gpu_type from nodes where node = $1', [node]);
  return rows[0]?.gpu_type ?? null;
}
