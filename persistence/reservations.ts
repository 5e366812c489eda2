/** What people see of reservations, capacity, disks and operations: the read side. The rows are written in the turns of the actors. */
import type { StoredSnapshot } from './actor-store.ts';
import type { Queryable } from './database.ts';

/** A reservation's row, with its actor's snapshot beside it. */
export interface ReservationRow {
  id: string;
  user_id: string;
  status: string;
  substate: string | null;
  detail: string | null;
  name: string;
  gpu_type: string;
  gpu_count: number;
  duration_hours: number;
  total_hours: number;
  created_at: Date;
  launched_at: Date | null;
  expires_at: Date | null;
  ended_at: Date | null;
  failure_reason: string | null;
  ssh_command: string | null;
  node: string | null;
  node_port: number | null;
  jupyter_state: string;
  jupyter_url: string | null;
  jupyter_error: string | null;
  disk_id: string | null;
  disk_name: string | null;
  snapshot_id: string | null;
  secondary_users: string[];
  warnings_sent: number[];
  last_extension: { hours: number; granted: boolean; reason: string | null; at: string } | null;
  /** Why its name is not in DNS as it should be. */
  name_problem: string | null;
  oom_count: number;
  last_oom_at: Date | null;
  gang_id: string | null;
  /** Place in the list, exact to the microsecond, for the next page. */
  place: string;
  machine_version: number | null;
  snapshot: StoredSnapshot | null;
  /** Its machine cannot be run until somebody has seen to it. */
  is_quarantined: boolean;
}

const COLUMNS = `
  r.reservation_id as id, r.user_id, r.status::text as status, r.substate, r.current_detailed_status as detail, r.name, r.gpu_type, r.gpu_count,
  r.duration_hours, r.total_hours, r.created_at, r.launched_at, r.expires_at, r.reservation_ended as ended_at, r.failure_reason,
  r.ssh_command, r.node_name as node, r.node_port, r.jupyter_state, r.jupyter_url, r.jupyter_error, r.disk_id, r.disk_name, r.snapshot_id,
  r.secondary_users, r.warnings_sent, r.last_extension, r.oom_count, r.last_oom_at, r.master_reservation_id as gang_id,
  r.created_at::text as place, a.machine_version, a.snapshot,
  a.quarantined_at is not null as is_quarantined, m.problem as name_problem
  from reservations r left join actors a on a.actor = 'reservation/' || r.reservation_id
       left join domain_mappings m on m.reservation_id = r.reservation_id`;

/** One reservation by its full id; null if there is none. */
export async function findReservationRow(db: Queryable, id: string): Promise<ReservationRow | null> {
  const { rows } = await db.query<ReservationRow>(`select ${COLUMNS} where r.reservation_id = $1`, [id]);
  return rows[0] ?? null;
}

/** Reservations by their full ids, as far as there are any. */
export async function findReservationRows(db: Queryable, ids: readonly string[]): Promise<ReservationRow[]> {
  if (ids.length === 0) return [];
  return (await db.query<ReservationRow>(`select ${COLUMNS} where r.reservation_id = any($1::text[])`, [ids])).rows;
}

/** What to list; null means all. */
export interface ReservationFilter {
  statuses: readonly string[] | null;
  user: string | null;
  gpuType: string | null;
  /** GitHub name of somebody who was added to them. */
  sharedWith: string | null;
  /** Only those of others that this user was let into: by a role, or by a GitHub name that is proven to be theirs. */
  member?: { userId: number; github: string | null } | null;
  limit: number;
  /** Where the page before ended. */
  after: { place: string; id: string } | null;
}

/** Reservations, newest first. */
export async function listReservationRows(db: Queryable, filter: ReservationFilter): Promise<ReservationRow[]> {
  const { rows } = await db.query<ReservationRow>(
    `select ${COLUMNS}
      where ($1::text[] is null or r.status = any($1::text[]::reservation_status[]))
        and ($2::text is null or r.user_id = $2)
        and ($3::text is null or r.gpu_type = $3)
        and ($4::timestamptz is null or r.created_at < $4 or (r.created_at = $4 and r.reservation_id > $5))
        and ($7::text is null or (r.secondary_users <> '[]' and exists
              (select from jsonb_array_elements_text(r.secondary_users) as added where lower(added) = lower($7))))
        and ($8::int is null or r.user_id <> (select u.name from api_users u where u.user_id = $8)
             and (exists (select from collaborators c where c.reservation_id = r.reservation_id and c.user_id = $8)
                  or r.secondary_users <> '[]' and exists
                     (select from jsonb_array_elements_text(r.secondary_users) as added where lower(added) = lower($9))))
      order by r.created_at desc, r.reservation_id
      limit $6`,
    [
      filter.statuses,
      filter.user,
      filter.gpuType,
      filter.after?.place ?? null,
      filter.after?.id ?? null,
      filter.limit,
      filter.sharedWith,
      filter.member?.userId ?? null,
      filter.member?.github ?? null,
    ],
  );
  return rows;
}

/** The Jupyter token of a reservation, with its owner; null if there is none. */
export async function findJupyterToken(db: Queryable, id: string): Promise<{ owner: string; token: string } | null> {
  const { rows } = await db.query<{ owner: string; token: string | null }>(
    `select owner, value->>'jupyterToken' as token from secrets where secret_ref = $1`,
    [id],
  );
  const row = rows[0];
  return row === undefined || row.token === null ? null : { owner: row.owner, token: row.token };
}

/** A GPU type with what it offers and what is free of it now. */
export interface AvailabilityRow {
  gpu_type: string;
  description: string | null;
  instance_type: string;
  max_per_node: number;
  max_gang_nodes: number;
  max_hours: number;
  max_total_hours: number;
  total: number;
  free: number;
  in_use: number;
  queued: number;
  whole_nodes_free: number;
  largest_fit: number;
  paused_because: string | null;
  updated_at: Date | null;
}

/** All active types. */
export async function listAvailability(db: Queryable): Promise<AvailabilityRow[]> {
  const { rows } = await db.query<AvailabilityRow>(
    `select t.gpu_type, t.description, t.instance_type, t.max_per_node, t.max_gang_nodes, t.max_hours, t.max_total_hours,
            coalesce(a.total, 0) as total, coalesce(a.free, 0) as free, coalesce(a.in_use, 0) as in_use, coalesce(a.queued, 0) as queued,
            coalesce(a.whole_nodes_free, 0) as whole_nodes_free, coalesce(a.largest_fit, 0) as largest_fit, a.paused_because, a.updated_at
       from gpu_types t left join gpu_availability a using (gpu_type)
      where t.is_active order by t.gpu_type`,
  );
  return rows;
}
