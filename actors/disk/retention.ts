/**
 * Which snapshots of a disk may go: all but the newest few and those of the last days, and never one that a disk would start from. What goes
 * is marked in the disk's own turn, so that nobody sets a disk back to it meanwhile; the provider deletes it after that.
 */
import { DAY, later, type Stamp } from '../../machines/authoring.ts';
import type { DiskContext } from '../../machines/disk.machine.ts';
import type { StoredSnapshot } from '../../persistence/actor-store.ts';
import type { Transaction } from '../../persistence/database.ts';
import type { StampedEvent } from '../kernel/kind.ts';

export interface SnapshotRetention {
  /** How many of the newest snapshots of each disk are kept, whatever their age; 1 at least. */
  keepCount: number;
  /** Snapshots younger than so many days are kept, whatever their number. */
  keepDays: number;
}

export const DEFAULT_RETENTION: SnapshotRetention = { keepCount: 3, keepDays: 7 };

// Beside the disk's own: snapshots of purged disks of the same owner, which were kept because a clone started from them. One that any disk
// would start from stays, and so do those of a disk that is being cloned, until the clone has said where it starts.
export const RETIRE_SNAPSHOTS = `
  with own as (
    select snapshot_id, created_at, row_number() over (order by created_at desc, snapshot_id desc) as place
      from disk_snapshots where disk_id = $1 and status = 'complete'),
  old as (
    select snapshot_id from own where place > $3 and created_at < $4
    union all
    select snapshot_id from disk_snapshots where disk_id = $1 and (status = 'removing' or (status = 'failed' and created_at < $4))
    union all
    select s.snapshot_id from disks d join disk_snapshots s on s.disk_id = d.disk_id
     where d.user_id = $5 and d.purged_at is not null and d.disk_id <> $1)
  update disk_snapshots s set status = 'removing' from old
   where s.snapshot_id = old.snapshot_id and s.snapshot_id <> all($2::text[])
     and not exists (select from disks other
                      where other.latest_snapshot_id = s.snapshot_id and other.purged_at is null and other.disk_id <> $1)
     and not exists (select from disks clone join actors a on a.actor = 'disk/' || clone.disk_id
                      where clone.state = 'cloning' and a.snapshot #>> '{context,cloneOf}' = s.disk_id::text)
  returning s.snapshot_id as "snapshotId", s.disk_id as "diskId"`;

export const SNAPSHOTS_BEYOND = `select created_at from disk_snapshots where disk_id = $1 and status = 'complete'
      order by created_at desc, snapshot_id desc offset $2`;

export const SNAPSHOT_IS_THERE = `select 1 from disk_snapshots where snapshot_id = $1 and disk_id = $2 and status = 'complete'`;

/** What a turn of a disk has to find out from rows before its machine steps. */
export async function prepareDisk(
  tx: Transaction,
  event: StampedEvent,
  turn: { id: string; snapshot: StoredSnapshot | null },
  retention: SnapshotRetention,
): Promise<StampedEvent> {
  if (turn.snapshot === null) return event;
  if (event.type === 'disk.restore') {
    const { snapshotId } = event as StampedEvent & { snapshotId: string };
    const { rowCount } = await tx.query(SNAPSHOT_IS_THERE, [snapshotId, turn.id]);
    return { ...event, there: rowCount === 1 } as StampedEvent;
  }
  if (event.type !== 'deadline.retention') return event;
  return { ...event, ...(await retire(tx, event, turn.snapshot.context as DiskContext, retention)) } as StampedEvent;
}

/** Mark what may go. @returns it, and when to look again, in milliseconds of policy; null if there is no more than is kept anyway. */
async function retire(
  tx: Transaction,
  stamp: Stamp,
  { id, owner, latestSnapshot, capturing, restore }: DiskContext,
  { keepCount, keepDays }: SnapshotRetention,
): Promise<{ remove: { snapshotId: string; diskId: string }[]; againAfter: number | null }> {
  const wanted = [latestSnapshot, capturing, restore?.snapshotId].filter((each) => typeof each === 'string');
  const before = later(stamp, -keepDays * DAY);
  const { rows: remove } = await tx.query<{ snapshotId: string; diskId: string }>(RETIRE_SNAPSHOTS, [
    id,
    wanted,
    keepCount,
    before,
    owner,
  ]);
  const { rows: beyond } = await tx.query<{ created_at: Date }>(SNAPSHOTS_BEYOND, [id, keepCount]);
  const oldest = beyond.at(-1)?.created_at;
  if (oldest === undefined) return { remove, againAfter: null };
  const age = (Date.parse(stamp.at) - oldest.getTime()) * (stamp.timeScale ?? 1);
  return { remove, againAfter: Math.max(DAY, keepDays * DAY - age) };
}
