/** Our record of EBS as the comparison with it reads and brings up to date. Who owns what is never taken from there. */
import type { Queryable } from './database.ts';

export interface RecordedVolume {
  volumeId: string;
  diskId: string;
  generation: number;
  state: 'live' | 'leaving' | 'gone';
  sizeGb: number;
  attachedTo: string[];
  /** Of the disk. */
  owner: string;
  name: string;
  /** The claim by which the disk's actor knows its volume, if nobody uses the disk; else null. */
  claim: string | null;
  /** Nobody uses the disk, and it keeps no volume: its data is in snapshots. */
  unused: boolean;
  /** Its session is over, and it was not let go within the time for that. */
  stuck: boolean;
  /** Made or changed so lately that EBS may not show it yet. */
  fresh: boolean;
}

export interface RecordedSnapshot {
  ebsSnapshotId: string;
  /** Our own id. */
  snapshotId: string;
  diskId: string;
  state: string | null;
  fresh: boolean;
}

// Volumes that went lately are known as well, so that one that is still there is told from a stranger.
const VOLUMES = `
  select v.volume_id as "volumeId", v.disk_id as "diskId", v.generation, v.state, v.size_gb as "sizeGb", v.attached_to as "attachedTo",
         d.user_id as owner, d.disk_name as name,
         case when d.state in ('idle', 'deleted') and d.reservation_id is null then d.volume_claim end as claim,
         d.state in ('idle', 'deleted') and d.reservation_id is null and d.volume_claim is null as unused,
         d.state = 'detaching' and d.problem is not null as stuck,
         coalesce(v.gone_at, v.attempted_at, v.created_at) > now() - interval '10 minutes' as fresh
    from ebs_volumes v join disks d using (disk_id)
   where v.volume_id is not null and (v.state <> 'gone' or v.gone_at > now() - interval '30 days')`;

export async function recordedVolumes(db: Queryable): Promise<RecordedVolume[]> {
  return (await db.query<RecordedVolume>(VOLUMES, [])).rows;
}

const SNAPSHOTS = `
  select ebs_snapshot_id as "ebsSnapshotId", snapshot_id as "snapshotId", disk_id as "diskId", state,
         coalesce(attempted_at, created_at) > now() - interval '10 minutes' as fresh
    from ebs_snapshots where ebs_snapshot_id is not null`;

export async function recordedSnapshots(db: Queryable): Promise<RecordedSnapshot[]> {
  return (await db.query<RecordedSnapshot>(SNAPSHOTS, [])).rows;
}

const KNOWN = 'select disk_id as id from disks where disk_id = any($1::uuid[])';

/** Which of these disks we know. */
export async function knownDisks(db: Queryable, ids: readonly string[]): Promise<Set<string>> {
  const { rows } = await db.query<{ id: string }>(KNOWN, [ids]);
  return new Set(rows.map(({ id }) => id));
}

// A disk is as large as its volume, however that grew; one that has not grown yet as it was asked for keeps the wish.
const SYNC_VOLUMES = `
  with synced as (
    update ebs_volumes v set size_gb = n.size_gb, attached_to = n.attached_to, seen_at = now()
      from jsonb_to_recordset($1::jsonb) as n(id text, size_gb int, attached_to text[])
     where v.volume_id = n.id and v.state <> 'gone'
    returning v.disk_id, v.state, v.size_gb)
  update disks d set size_gb = s.size_gb
    from synced s
   where d.disk_id = s.disk_id and s.state = 'live' and d.size_gb < s.size_gb`;

/** Note what size volumes have, and so their disks, and who holds them. */
export async function syncVolumes(
  db: Queryable,
  volumes: readonly { id: string; sizeGb: number; attachedTo: string[] }[],
): Promise<void> {
  if (volumes.length === 0) return;
  const rows = volumes.map(({ id, sizeGb, attachedTo }) => ({ id, size_gb: sizeGb, attached_to: attachedTo }));
  await db.query(SYNC_VOLUMES, [JSON.stringify(rows)]);
}

const SYNC_SNAPSHOTS = `
  update ebs_snapshots s set state = n.state, seen_at = now(),
         completed_at = case when n.state = 'completed' then coalesce(s.completed_at, now()) else s.completed_at end
    from jsonb_to_recordset($1::jsonb) as n(id text, state text)
   where s.ebs_snapshot_id = n.id`;

/** Note how far snapshots have come. */
export async function syncSnapshots(db: Queryable, snapshots: readonly { id: string; state: string }[]): Promise<void> {
  if (snapshots.length > 0) await db.query(SYNC_SNAPSHOTS, [JSON.stringify(snapshots)]);
}

// The counts that people see follow the rows of snapshots, which the disk's own turns write; this mends what a broken hand left.
const SYNC_COUNTS = `
  with counted as (
    select d.disk_id, count(s.snapshot_id) filter (where s.status = 'complete') as complete,
           count(s.snapshot_id) filter (where s.status = 'pending') as pending
      from disks d left join disk_snapshots s on s.disk_id = d.disk_id where d.purged_at is null group by d.disk_id)
  update disks d set snapshot_count = c.complete, pending_snapshot_count = c.pending
    from counted c
   where d.disk_id = c.disk_id and (d.snapshot_count <> c.complete or d.pending_snapshot_count <> c.pending)`;

/** @returns how many disks had other counts than their snapshots give */
export async function syncCounts(db: Queryable): Promise<number> {
  return (await db.query(SYNC_COUNTS, [])).rowCount ?? 0;
}
