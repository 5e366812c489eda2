/** What people see of disks, their snapshots and what was asked of them: the read side. The rows are written in the turns of the disks. */
import type { Queryable } from './database.ts';

export interface DiskRow {
  id: string;
  name: string;
  user_id: string;
  size_gb: number;
  state: string;
  created_at: Date;
  last_used: Date | null;
  in_use_by: string | null;
  is_backing_up: boolean;
  is_deleted: boolean;
  delete_date: Date | null;
  snapshot_count: number;
  pending_snapshot_count: number;
  latest_snapshot_id: string | null;
  last_snapshot_at: Date | null;
  problem: string | null;
}

const DISK = `disk_id as id, disk_name as name, user_id, size_gb, state, created_at, last_used, reservation_id as in_use_by, is_backing_up,
  is_deleted, delete_date, snapshot_count, pending_snapshot_count, latest_snapshot_id, last_snapshot_at, problem`;

/** What to list; null means all. */
export interface DiskFilter {
  user: string | null;
  /** Whether deleted ones, which can still be brought back, are among them. */
  deleted: boolean;
  limit: number;
  /** Where the page before ended. */
  after: { user: string; name: string } | null;
}

/** Disks that are not purged, by owner and name. */
export async function listDisks(db: Queryable, { user, deleted, limit, after }: DiskFilter): Promise<DiskRow[]> {
  const { rows } = await db.query<DiskRow>(
    `select ${DISK} from disks
      where purged_at is null and ($1::text is null or user_id = $1) and ($2 or not is_deleted)
        and ($4::text is null or (user_id, disk_name) > ($4, $5))
      order by user_id, disk_name limit $3`,
    [user, deleted, limit, after?.user ?? null, after?.name ?? null],
  );
  return rows;
}

/** How many there are in all. */
export async function countDisks(db: Queryable, { user, deleted }: Pick<DiskFilter, 'user' | 'deleted'>): Promise<number> {
  const { rows } = await db.query<{ total: number }>(
    `select count(*)::int as total from disks where purged_at is null and ($1::text is null or user_id = $1) and ($2 or not is_deleted)`,
    [user, deleted],
  );
  return rows[0]!.total;
}

/** The disk of a user by its name, else by its id; null if there is none that is not purged. */
export async function findDiskRow(db: Queryable, user: string, reference: string): Promise<DiskRow | null> {
  const { rows } = await db.query<DiskRow>(
    `select ${DISK} from disks where user_id = $1 and purged_at is null and (disk_name = $2 or disk_id::text = lower($2))
      order by disk_name = $2 desc limit 1`,
    [user, reference],
  );
  return rows[0] ?? null;
}

export interface SnapshotRow {
  id: string;
  status: 'pending' | 'complete' | 'failed' | 'removing';
  created_at: Date;
  completed_at: Date | null;
  size_bytes: number | null;
  reservation_id: string | null;
  reason: string | null;
  has_contents: boolean;
  /** Place in the list, exact to the microsecond. */
  place: string;
}

/** Snapshots of a disk, newest first. */
export async function listSnapshots(
  db: Queryable,
  diskId: string,
  { limit, after }: { limit: number; after: { place: string; id: string } | null },
): Promise<SnapshotRow[]> {
  const { rows } = await db.query<SnapshotRow>(
    `select s.snapshot_id as id, s.status, s.created_at, s.completed_at, s.size_bytes, s.reservation_id, s.reason, s.created_at::text as place,
            c.snapshot_id is not null as has_contents
       from disk_snapshots s left join disk_contents c on c.snapshot_id = s.snapshot_id
      where s.disk_id = $1 and ($3::timestamptz is null or (s.created_at, s.snapshot_id) < ($3, $4))
      order by s.created_at desc, s.snapshot_id desc limit $2`,
    [diskId, limit, after?.place ?? null, after?.id ?? null],
  );
  return rows;
}

export interface OperationRow {
  operation_id: string;
  user_id: string;
  action: string;
  disk_id: string | null;
  disk_name: string | null;
  request: Record<string, unknown> | null;
  status: 'pending' | 'completed' | 'failed';
  error: string | null;
  code: string | null;
  created_at: Date;
  updated_at: Date;
  /** While it is pending: why, if the disk says so. */
  waits_because: string | null;
}

/** One operation on a disk; null if there is none. */
export async function findOperation(db: Queryable, id: string): Promise<OperationRow | null> {
  const { rows } = await db.query<OperationRow>(
    `select o.operation_id, o.user_id, o.action, o.disk_id, coalesce(o.disk_name, d.disk_name) as disk_name, o.request, o.status, o.error, o.code,
            o.created_at, o.updated_at, case when o.status = 'pending' then d.problem end as waits_because
       from operations o left join disks d on d.disk_id = o.disk_id where o.operation_id = $1`,
    [id],
  );
  return rows[0] ?? null;
}
