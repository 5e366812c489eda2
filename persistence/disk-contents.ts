/** What is on disks, as it was listed: kept with the snapshot that it was taken for, and gone with it. Nothing here ever stops a snapshot. */
import type { Queryable, Store } from './database.ts';

/** A listing, as it is stored. */
export interface Listing {
  entries: { path: string; kind: string; size: number | null }[];
  /** Entries that there were; null if nobody counted them all. */
  total: number | null;
  sizeBytes: number | null;
  /** Why it ends before the disk does; empty: all is there. */
  cut: readonly string[];
}

export const KEEP_LISTING = `insert into disk_listings as l (disk_id, reservation_id, entries, total, size_bytes, cut)
     select $1, $2, $3::jsonb, $4, $5, $6::text[] where exists (select from disks where disk_id = $1)
     on conflict (disk_id) do update
       set reservation_id = excluded.reservation_id, entries = excluded.entries, total = excluded.total, size_bytes = excluded.size_bytes,
           cut = excluded.cut, listed_at = now()`;

/** Keep what a server has told of its disk, until the snapshot for which it told it is complete. */
export async function keepListing(db: Store, diskId: string, reservationId: string, listing: Listing): Promise<void> {
  const { entries, total, sizeBytes, cut } = listing;
  await db.query(KEEP_LISTING, [diskId, reservationId, JSON.stringify(entries), total, sizeBytes, cut]);
}

export const DROP_LISTING = 'delete from disk_listings where disk_id = $1';

/** Forget what a server told of the disk earlier: it is old. */
export async function dropListing(db: Store, diskId: string): Promise<void> {
  await db.query(DROP_LISTING, [diskId]);
}

export const RECORD_CONTENTS = `insert into disk_contents (snapshot_id, entries, kept, total, size_bytes, cut)
     select $1, $2::jsonb, jsonb_array_length($2::jsonb), $3, $4, $5::text[]
      where exists (select from disk_snapshots where snapshot_id = $1)
     on conflict (snapshot_id) do nothing`;

/** Keep what a snapshot holds, beside its row; once. */
export async function recordContents(db: Store, snapshotId: string, { entries, total, sizeBytes, cut }: Listing): Promise<void> {
  await db.query(RECORD_CONTENTS, [snapshotId, JSON.stringify(entries), total, sizeBytes, cut]);
}

export const LINK_LISTING = `with told as (
       delete from disk_listings l using disk_snapshots s
        where s.snapshot_id = $1 and l.disk_id = s.disk_id
       returning s.snapshot_id, s.reservation_id as wanted, l.*)
     insert into disk_contents (snapshot_id, entries, kept, total, size_bytes, cut, recorded_at)
     select snapshot_id, entries, jsonb_array_length(entries), total, size_bytes, cut, listed_at
       from told where reservation_id = wanted
     on conflict (snapshot_id) do nothing`;

/** What the server of this snapshot's session told becomes the snapshot's contents, unless it has some; and is used up. */
export async function linkListing(db: Store, snapshotId: string): Promise<void> {
  await db.query(LINK_LISTING, [snapshotId]);
}

export const DROP_CONTENTS = 'delete from disk_contents where snapshot_id = any($1::text[])';

/** Forget what was in these snapshots: they are deleted. */
export async function dropContents(db: Store, snapshotIds: readonly string[]): Promise<void> {
  await db.query(DROP_CONTENTS, [snapshotIds]);
}

export interface ContentsRow {
  snapshot_id: string;
  snapshot_date: Date;
  listed_at: Date;
  /** Null if they stand in the object alone. */
  entries: Listing['entries'] | null;
  /** Entries that are kept, and that there were. */
  kept: number;
  total: number | null;
  size_bytes: number | null;
  cut: string[];
  object: string | null;
}

/** A part of what was listed of a snapshot of this disk; null if nothing was. */
export async function readContents(
  db: Queryable,
  diskId: string,
  snapshotId: string,
  from: number,
  limit: number,
): Promise<ContentsRow | null> {
  const { rows } = await db.query<ContentsRow>(
    `select s.snapshot_id, s.created_at as snapshot_date, c.recorded_at as listed_at, c.total, c.size_bytes, c.kept, c.cut, c.object,
            case when c.entries is not null then
              coalesce((select jsonb_agg(entry order by place) from jsonb_array_elements(c.entries) with ordinality as e(entry, place)
                         where place > $3 and place <= $3 + $4), '[]') end as entries
       from disk_snapshots s join disk_contents c on c.snapshot_id = s.snapshot_id
      where s.disk_id = $1 and s.snapshot_id = $2 and s.status = 'complete'`,
    [diskId, snapshotId, from, limit],
  );
  return rows[0] ?? null;
}

/** A listing that is to go into a bucket. */
export interface ContentsToStore extends Listing {
  snapshot_id: string;
  user_id: string;
  disk_name: string;
  listed_at: Date;
  object: string | null;
}

/** Listings that no bucket has yet, the oldest first. */
export async function contentsToStore(db: Queryable, limit: number): Promise<ContentsToStore[]> {
  const { rows } = await db.query<ContentsToStore>(
    `select c.snapshot_id, d.user_id, d.disk_name, c.recorded_at as listed_at, c.entries, c.total, c.size_bytes as "sizeBytes", c.cut, c.object
       from disk_contents c join disk_snapshots s on s.snapshot_id = c.snapshot_id join disks d on d.disk_id = s.disk_id
      where c.entries is not null order by c.recorded_at limit $1`,
    [limit],
  );
  return rows;
}

/**
 * Write down where the object will stand. One that was written down for another place before, in another bucket, is left there to be removed;
 * one that was left in this place stays.
 * @returns false if the snapshot is gone
 */
export async function intendObject(db: Queryable, snapshotId: string, object: string): Promise<boolean> {
  const { rowCount } = await db.query(
    `with before as materialized (select snapshot_id, object from disk_contents where snapshot_id = $1 for update),
          elsewhere as (insert into disk_contents_leavings (object) select object from before where object <> $2 on conflict do nothing),
          wanted as (delete from disk_contents_leavings where object = $2 and exists (select from before))
     update disk_contents c set object = $2 from before where c.snapshot_id = before.snapshot_id`,
    [snapshotId, object],
  );
  return rowCount === 1;
}

/** The object stands: the row need not hold what it holds. @returns false if the snapshot is gone, and the object is nobody's */
export async function objectStored(db: Queryable, snapshotId: string, object: string): Promise<boolean> {
  const { rowCount } = await db.query('update disk_contents set entries = null where snapshot_id = $1 and object = $2', [
    snapshotId,
    object,
  ]);
  return rowCount === 1;
}

/** Objects whose places begin so, and whose snapshots were deleted more than so many milliseconds ago; the oldest first. */
export async function objectsLeft(db: Queryable, within: string, olderThanMs: number, limit: number): Promise<string[]> {
  const { rows } = await db.query<{ object: string }>(
    `select object from disk_contents_leavings
      where object ^@ $1 and left_at <= now() - make_interval(secs => $2::float8 / 1000) order by left_at limit $3`,
    [within, olderThanMs, limit],
  );
  return rows.map(({ object }) => object);
}

/** The object is gone. */
export async function objectRemoved(db: Queryable, object: string): Promise<void> {
  await db.query('delete from disk_contents_leavings where object = $1', [object]);
}
