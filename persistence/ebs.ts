/** What we have in EBS: the record by which a volume or a snapshot is known to be ours. */
import type { Queryable } from './database.ts';

/** Who makes it may look for this long for what became of an attempt before the next one is made. */
export const ATTEMPT_SECONDS = 15;

/** What was made less than so many seconds ago may not show in EC2's answers yet: its absence proves nothing. */
const FRESH = `coalesce(attempted_at > now() - interval '60 seconds', false) as fresh`;

export interface EbsVolume {
  diskId: string;
  generation: number;
  /** Null: asked for, and not known yet. */
  volumeId: string | null;
  zone: string;
  sizeGb: number;
  fromSnapshot: string | null;
  state: 'making' | 'live' | 'leaving' | 'gone';
  /** Made so lately that EC2 may not show it yet. */
  fresh: boolean;
}

export interface EbsSnapshot {
  snapshotId: string;
  diskId: string;
  volumeId: string;
  /** Null: asked for, and not known yet. */
  ebsSnapshotId: string | null;
  /** Taken so lately that EC2 may not show it yet. */
  fresh: boolean;
}

/** What tags say of a disk for whoever has only them. */
export interface DiskFacts {
  owner: string;
  name: string;
  reservationId: string | null;
}

const VOLUMES = `
  select disk_id as "diskId", generation, volume_id as "volumeId", zone, size_gb as "sizeGb", from_snapshot as "fromSnapshot", state, ${FRESH}
    from ebs_volumes where disk_id = $1 and state <> 'gone' order by generation desc`;

/** The disk's volumes that are not gone, newest first: its own, and those that are leaving. */
export async function volumesOf(db: Queryable, diskId: string): Promise<EbsVolume[]> {
  return (await db.query<EbsVolume>(VOLUMES, [diskId])).rows;
}

const INTEND_VOLUME = `
  insert into ebs_volumes (disk_id, generation, zone, size_gb, from_snapshot)
  select $1, coalesce(max(generation), 0) + 1, $2, $3, $4 from ebs_volumes where disk_id = $1
  on conflict do nothing`;

/** Put on record that the disk is to have a volume. Nothing happens if it has one already. */
export async function intendVolume(
  db: Queryable,
  { diskId, zone, sizeGb, fromSnapshot }: Pick<EbsVolume, 'diskId' | 'zone' | 'sizeGb' | 'fromSnapshot'>,
): Promise<void> {
  await db.query(INTEND_VOLUME, [diskId, zone, sizeGb, fromSnapshot]);
}

const ATTEMPT_VOLUME = `
  update ebs_volumes set attempted_at = now()
   where disk_id = $1 and generation = $2 and state = 'making'
     and (attempted_at is null or attempted_at < now() - make_interval(secs => $3))
  returning 1`;

/** Whether it is for the caller to make this volume now: nobody else has tried a moment ago. */
export async function attemptVolume(db: Queryable, diskId: string, generation: number): Promise<boolean> {
  return (await db.query(ATTEMPT_VOLUME, [diskId, generation, ATTEMPT_SECONDS])).rowCount === 1;
}

const GIVE_UP_VOLUME = `update ebs_volumes set attempted_at = null where disk_id = $1 and generation = $2 and state = 'making'`;

/** The attempt is proven to have made nothing: the next one may come at once. */
export async function giveUpVolume(db: Queryable, diskId: string, generation: number): Promise<void> {
  await db.query(GIVE_UP_VOLUME, [diskId, generation]);
}

const VOLUME_MADE = `
  update ebs_volumes set volume_id = $3, state = 'live' where disk_id = $1 and generation = $2 and state = 'making'`;

export async function volumeMade(db: Queryable, { diskId, generation }: EbsVolume, volumeId: string): Promise<void> {
  await db.query(VOLUME_MADE, [diskId, generation, volumeId]);
}

const VOLUME_GROWN = 'update ebs_volumes set size_gb = $3 where disk_id = $1 and generation = $2';

export async function volumeGrown(db: Queryable, { diskId, generation }: EbsVolume, sizeGb: number): Promise<void> {
  await db.query(VOLUME_GROWN, [diskId, generation, sizeGb]);
}

const REPLACE_VOLUME = `update ebs_volumes set state = 'leaving' where disk_id = $1 and generation = $2 and state = 'live'`;
const REPLACEMENT = `
  insert into ebs_volumes (disk_id, generation, zone, size_gb, from_snapshot)
  select $1, max(generation) + 1, $2, $3, $4 from ebs_volumes where disk_id = $1
  on conflict do nothing`;

/** Put on record that another volume takes this one's place on purpose. To be called in a transaction. */
export async function replaceVolume(
  tx: Queryable,
  { diskId, generation }: EbsVolume,
  next: Pick<EbsVolume, 'zone' | 'sizeGb' | 'fromSnapshot'>,
): Promise<void> {
  const { rowCount } = await tx.query(REPLACE_VOLUME, [diskId, generation]);
  if (rowCount === 1) await tx.query(REPLACEMENT, [diskId, next.zone, next.sizeGb, next.fromSnapshot]);
}

const VOLUME_GONE = `
  update ebs_volumes set state = 'gone', gone_at = now() where disk_id = $1 and generation = $2 and state <> 'gone'`;

/** AWS has proven that it is gone. */
export async function volumeGone(db: Queryable, { diskId, generation }: EbsVolume): Promise<void> {
  await db.query(VOLUME_GONE, [diskId, generation]);
}

const SNAPSHOT = `
  select snapshot_id as "snapshotId", disk_id as "diskId", volume_id as "volumeId", ebs_snapshot_id as "ebsSnapshotId", ${FRESH}
    from ebs_snapshots where snapshot_id = $1`;

/** The record of a snapshot by our own id. */
export async function snapshotOf(db: Queryable, snapshotId: string): Promise<EbsSnapshot | null> {
  return (await db.query<EbsSnapshot>(SNAPSHOT, [snapshotId])).rows[0] ?? null;
}

const MOVES_OF = `
  select snapshot_id as "snapshotId", disk_id as "diskId", volume_id as "volumeId", ebs_snapshot_id as "ebsSnapshotId", ${FRESH}
    from ebs_snapshots where disk_id = $1 and snapshot_id like 'move-%'`;

/** Snapshots that carried the disk from one zone to another. */
export async function movesOf(db: Queryable, diskId: string): Promise<EbsSnapshot[]> {
  return (await db.query<EbsSnapshot>(MOVES_OF, [diskId])).rows;
}

const INTEND_SNAPSHOT = `
  insert into ebs_snapshots (snapshot_id, disk_id, volume_id) values ($1, $2, $3) on conflict (snapshot_id) do nothing`;

/** Put on record that there is to be a snapshot of this volume. */
export async function intendSnapshot(db: Queryable, snapshot: Omit<EbsSnapshot, 'ebsSnapshotId' | 'fresh'>): Promise<void> {
  await db.query(INTEND_SNAPSHOT, [snapshot.snapshotId, snapshot.diskId, snapshot.volumeId]);
}

const ATTEMPT_SNAPSHOT = `
  update ebs_snapshots set attempted_at = now()
   where snapshot_id = $1 and ebs_snapshot_id is null
     and (attempted_at is null or attempted_at < now() - make_interval(secs => $2))
  returning 1`;

/** Whether it is for the caller to take this snapshot now: nobody else has tried a moment ago. */
export async function attemptSnapshot(db: Queryable, snapshotId: string): Promise<boolean> {
  return (await db.query(ATTEMPT_SNAPSHOT, [snapshotId, ATTEMPT_SECONDS])).rowCount === 1;
}

const GIVE_UP_SNAPSHOT = 'update ebs_snapshots set attempted_at = null where snapshot_id = $1 and ebs_snapshot_id is null';

/** The attempt is proven to have taken nothing: the next one may come at once. */
export async function giveUpSnapshot(db: Queryable, snapshotId: string): Promise<void> {
  await db.query(GIVE_UP_SNAPSHOT, [snapshotId]);
}

const SNAPSHOT_TAKEN = 'update ebs_snapshots set ebs_snapshot_id = $2 where snapshot_id = $1 and ebs_snapshot_id is null';

export async function snapshotTaken(db: Queryable, snapshotId: string, ebsSnapshotId: string): Promise<void> {
  await db.query(SNAPSHOT_TAKEN, [snapshotId, ebsSnapshotId]);
}

const SNAPSHOT_DONE = 'update ebs_snapshots set completed_at = coalesce(completed_at, now()) where snapshot_id = $1';

export async function snapshotDone(db: Queryable, snapshotId: string): Promise<void> {
  await db.query(SNAPSHOT_DONE, [snapshotId]);
}

const CAPTURES_OF = `
  select snapshot_id as "snapshotId" from ebs_snapshots where disk_id = $1 and volume_id = $2 and completed_at is not null limit 1`;

/** Whether a snapshot of this volume was complete once. */
export async function wasCaptured(db: Queryable, diskId: string, volumeId: string): Promise<boolean> {
  return (await db.query(CAPTURES_OF, [diskId, volumeId])).rowCount === 1;
}

const FORGET_SNAPSHOT = 'delete from ebs_snapshots where snapshot_id = $1';

/** AWS has proven that it is gone. */
export async function forgetSnapshot(db: Queryable, snapshotId: string): Promise<void> {
  await db.query(FORGET_SNAPSHOT, [snapshotId]);
}

const FACTS = `
  select user_id as owner, disk_name as name, reservation_id as "reservationId" from disks where disk_id = $1`;

/** Null: there is no such disk, and so it may have no volume. */
export async function diskFacts(db: Queryable, diskId: string): Promise<DiskFacts | null> {
  return (await db.query<DiskFacts>(FACTS, [diskId])).rows[0] ?? null;
}
