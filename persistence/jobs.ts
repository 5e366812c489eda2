/** Reservations as jobs: what clients of the older paths know. */
import type { Queryable } from './database.ts';

export interface JobRow {
  id: string;
  user_id: string;
  /** One of the statuses of a job. */
  job_status: string;
  state: string;
  substate: string | null;
  detail: string | null;
  failure_reason: string | null;
  gpu_type: string;
  gpu_count: number;
  instance_type: string | null;
  total_hours: number;
  created_at: Date;
  launched_at: Date | null;
  expires_at: Date | null;
  ended_at: Date | null;
  name: string;
  pod_name: string | null;
  node_ip: string | null;
  node_port: number | null;
  ssh_command: string | null;
  jupyter_enabled: boolean;
  jupyter_url: string | null;
  jupyter_port: number | null;
  jupyter_error: string | null;
  github_user: string | null;
  disk_name: string | null;
  warnings_sent: number[];
}

// A reservation that is ending counts as what it will have been.
const STATUS = `
  case r.status
    when 'queued' then 'queued'
    when 'building' then 'preparing'
    when 'provisioning' then 'preparing'
    when 'running' then 'active'
    when 'extending' then 'active'
    when 'snapshotting' then coalesce((select a.snapshot #>> '{context,outcome,status}' from actors a
                                        where a.actor = 'reservation/' || r.reservation_id), 'expired')
    else r.status::text
  end`;

const COLUMNS = `
  r.reservation_id as id, r.user_id, ${STATUS} as job_status, r.status::text as state, r.substate, r.current_detailed_status as detail,
  r.failure_reason, r.gpu_type, r.gpu_count, r.instance_type, r.total_hours, r.created_at, r.launched_at, r.expires_at,
  r.reservation_ended as ended_at, r.name, r.pod_name, r.node_ip, r.node_port, r.ssh_command, r.jupyter_enabled, r.jupyter_url, r.jupyter_port,
  r.jupyter_error, r.github_user, r.disk_name, r.warnings_sent
  from reservations r`;

const FIND = `select ${COLUMNS} where r.reservation_id = $1`;

/** One job by the full id of its reservation; null if there is none. */
export async function findJob(db: Queryable, id: string): Promise<JobRow | null> {
  return (await db.query<JobRow>(FIND, [id])).rows[0] ?? null;
}

const LIST = `
  select ${COLUMNS} where r.user_id = $1 and ($2::text[] is null or ${STATUS} = any($2::text[]))
   order by r.created_at desc, r.reservation_id limit $3 offset $4`;

const COUNT = `
  select count(*)::int as total from reservations r where r.user_id = $1 and ($2::text[] is null or ${STATUS} = any($2::text[]))`;

/** Jobs of a user, newest first, and how many there are in all. @param statuses null for all */
export async function listJobs(
  db: Queryable,
  user: string,
  statuses: readonly string[] | null,
  limit: number,
  offset: number,
): Promise<{ jobs: JobRow[]; total: number }> {
  const [jobs, count] = await Promise.all([
    db.query<JobRow>(LIST, [user, statuses, limit, offset]),
    db.query<{ total: number }>(COUNT, [user, statuses]),
  ]);
  return { jobs: jobs.rows, total: count.rows[0]!.total };
}
