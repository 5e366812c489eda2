/** Which disks can be brought back, and as what: a pure function of what was found. Where two things claim to be one, neither is touched. */
import type { FoundDisks, FoundSnapshot, FoundVolume } from './ports.ts';
import { type DiskRecord, laterFirst, readDiskRecord } from './records.ts';

/** Whoever deleted a disk has at least so long to bring it back from now on, in milliseconds. */
const UNDELETE_MS = 7 * 86_400_000;

/** A disk that can be brought back. */
export interface DiskPlan {
  id: string;
  owner: string;
  name: string;
  sizeGb: number;
  createdAt: string;
  deleteAt: string | null;
  /** No snapshot of a number up to this one is taken again. */
  round: number;
  latest: string | null;
  volume: FoundVolume | null;
  /** Complete ones, oldest first. */
  snapshots: FoundSnapshot[];
  /** What is left out of it, in words. */
  notes: string[];
}

/** What is left as it is, and why. */
export interface Left {
  kind: 'disk' | 'server' | 'object';
  id: string;
  why: string;
}

/** @param now in milliseconds since the epoch */
export function planDisks(found: FoundDisks, now: number): { disks: DiskPlan[]; left: Left[] } {
  const ids = new Set([...found.volumes, ...found.snapshots].map(({ diskId }) => diskId));
  const complete = new Map(found.snapshots.filter((each) => each.complete).map((each) => [each.snapshotId, each]));
  const disks: DiskPlan[] = [];
  const left: Left[] = found.ignored.map(({ name, why }) => ({ kind: 'object', id: name, why }));
  for (const id of [...ids].sort()) {
    const own = (each: { diskId: string }) => each.diskId === id;
    const planned = planDisk(id, found.volumes.filter(own), found.snapshots.filter(own), complete, now);
    if ('why' in planned) left.push({ kind: 'disk', id, why: planned.why });
    else disks.push(planned);
  }
  return { disks, left };
}

function planDisk(
  id: string,
  volumes: readonly FoundVolume[],
  snapshots: readonly FoundSnapshot[],
  all: ReadonlyMap<string, FoundSnapshot>,
  now: number,
): DiskPlan | { why: string } {
  const notes: string[] = [];
  const claimants = twoClaimants(volumes, snapshots);
  if (claimants !== null) return { why: claimants };
  const records = recordsOf(id, [...volumes, ...snapshots]);
  const facts = factsOf(records, volumes, snapshots);
  if ('why' in facts) return facts;
  const record = records[0] ?? null;
  if (record?.purged === true) return { why: 'Its disk was purged; what is left was kept for a clone' };
  // A volume of a later number holds all that those before it held.
  const [highest = null, ...older] = [...volumes].sort((one, other) => other.generation - one.generation);
  for (const { name, attached } of older) {
    if (attached) return { why: `Two volumes claim to be its own: ${highest!.name}, and ${name}, which a machine holds` };
    notes.push(`${name} was replaced by ${highest!.name} and is left as it is`);
  }
  const doubt = highest === null ? null : doubtOf(highest, snapshots);
  if (doubt !== null && 'why' in doubt) return doubt;
  if (doubt !== null) notes.push(doubt.note);
  const volume = doubt === null ? highest : null;
  if (volume !== null && volume.unfit !== null) return { why: `${volume.name} cannot be its volume: ${volume.unfit}` };
  const good = snapshots
    .filter((each) => each.complete)
    .sort((one, other) => Date.parse(one.createdAt) - Date.parse(other.createdAt) || numberOf(one) - numberOf(other));
  for (const { snapshotId, complete } of snapshots) if (!complete) notes.push(`the snapshot ${snapshotId} is not complete`);
  const latest = latestOf(record, good);
  if (latest !== null && !all.has(latest) && volume === null)
    return { why: `The snapshot ${latest}, from which it would start, is not there, or is not complete` };
  if (volume === null && latest === null) return { why: 'It has no volume, and no snapshot that is complete' };
  const sizeGb = Math.max(record?.sizeGb ?? 1, volume?.sizeGb ?? 1, all.get(latest ?? '')?.sizeGb ?? 1);
  const oldest = [...volumes, ...snapshots].map(({ createdAt }) => createdAt).sort()[0]!;
  const deleteAt = record?.deleteAt ?? null;
  return {
    id,
    ...facts,
    sizeGb,
    createdAt: record?.createdAt ?? oldest,
    deleteAt: deleteAt === null ? null : new Date(Math.max(Date.parse(deleteAt), now + UNDELETE_MS)).toISOString(),
    round: Math.max(0, ...snapshots.map(numberOf)),
    latest: latest !== null && all.has(latest) ? latest : (good.at(-1)?.snapshotId ?? null),
    volume,
    snapshots: good,
    notes,
  };
}

/** Our own snapshots are numbered. */
function numberOf({ snapshotId }: Pick<FoundSnapshot, 'snapshotId'>): number {
  return Number(/-(\d{1,9})$/.exec(snapshotId)?.[1] ?? 0);
}

function twoClaimants(volumes: readonly FoundVolume[], snapshots: readonly FoundSnapshot[]): string | null {
  const newest = Math.max(...volumes.map(({ generation }) => generation));
  const present = volumes.filter(({ generation }) => generation === newest);
  if (present.length > 1) return `Two volumes claim to be its own: ${present.map(({ name }) => name).join(' and ')}`;
  const byId = new Map<string, FoundSnapshot>();
  for (const each of snapshots) {
    const other = byId.get(each.snapshotId);
    if (other !== undefined) return `Two snapshots claim to be ${each.snapshotId}: ${other.name} and ${each.name}`;
    byId.set(each.snapshotId, each);
  }
  return null;
}

/**
 * What speaks against this volume: a snapshot of another one that is not older, or was taken while this one was there. Each number has one
 * volume, which begins with all that those before it held, so a complete snapshot of a later one is proven to be newer. All else may be or not.
 * @returns why nothing is touched, or what is noted if the disk starts from its snapshots; null: nothing does
 */
function doubtOf(volume: FoundVolume, snapshots: readonly FoundSnapshot[]): { why: string } | { note: string } | null {
  const taken = ({ createdAt }: FoundSnapshot) => Date.parse(createdAt);
  const made = Date.parse(volume.createdAt);
  const against = snapshots.filter(
    (each) => each.volume !== null && each.volume !== volume.name && (each.generation >= volume.generation || taken(each) > made),
  );
  if (against.length === 0) return null;
  const used = Math.max(made, ...snapshots.filter((each) => each.volume === volume.name).map(taken));
  const newer = against.find((each) => each.complete && each.generation > volume.generation && taken(each) > used);
  if (newer !== undefined && !volume.attached && against.every(({ complete }) => complete))
    return { note: `${volume.name} is left as it is: ${newer.snapshotId} is of a later volume, ${newer.volume}` };
  const { snapshotId, volume: other, complete } = against.find((each) => !each.complete) ?? against.at(-1)!;
  const state = complete ? '' : ', which is not complete';
  return {
    why: `Two things claim to be its own: the volume ${volume.name}, and the snapshot ${snapshotId}${state}, of another volume, ${other}. Which of them is newer is not proven`,
  };
}

/** Its own records, the latest first. One that was copied from another disk says so itself. */
function recordsOf(id: string, things: readonly { record: string | null }[]): DiskRecord[] {
  return things
    .flatMap(({ record }) => {
      const read = readDiskRecord(record);
      return 'record' in read && read.record.id === id ? [read.record] : [];
    })
    .sort(laterFirst);
}

/** Whose it is, and what it is called. Nothing is guessed: without a record the tags must all agree. */
function factsOf(
  records: readonly DiskRecord[],
  volumes: readonly FoundVolume[],
  snapshots: readonly FoundSnapshot[],
): { owner: string; name: string } | { why: string } {
  const things = [...volumes, ...snapshots];
  const [record] = records;
  const owners = new Set([...records.map(({ owner }) => owner), ...things.flatMap(({ owner }) => owner ?? [])]);
  if (owners.size > 1) return { why: `Its parts name different owners: ${[...owners].join(', ')}` };
  if (record !== undefined) return { owner: record.owner, name: record.name };
  const [owner] = owners;
  const newest = [...things].sort(
    (one, other) => other.generation - one.generation || (one.createdAt < other.createdAt ? 1 : -1),
  );
  const name = newest.find(({ diskName }) => diskName !== null)?.diskName ?? null;
  const flaw = things.map(({ record: text }) => readDiskRecord(text)).find((read) => 'flaw' in read);
  if (owner === undefined || name === null)
    return { why: `Nothing says whose it is and what it is called: ${flaw !== undefined && 'flaw' in flaw ? flaw.flaw : ''}` };
  return { owner, name };
}

/**
 * The snapshot that it starts from: as its record says, unless one was completed after that was written; then that one, for it has all that was
 * on the volume. One that the record knew and that is not there any more is named all the same: nothing older takes its place.
 */
function latestOf(record: DiskRecord | null, good: readonly FoundSnapshot[]): string | null {
  const last = good.at(-1) ?? null;
  const newest = last?.snapshotId ?? null;
  if (record === null) return newest;
  if (newest === record.newest) return record.latest ?? newest;
  if (last !== null && (record.newest === null || numberOf(last) > numberOf({ snapshotId: record.newest }))) return newest;
  const chosen = record.latest !== record.newest && good.some(({ snapshotId }) => snapshotId === record.latest);
  return chosen ? record.latest : record.newest;
}
