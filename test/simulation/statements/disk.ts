/** Twins of actors/disk/kind.ts: the read model of disks, their snapshots and operations. */
import * as disk from '../../../actors/disk/kind.ts';
import { LABELS_OF_NODE } from '../../../actors/disk/whereabouts.ts';
import * as contents from '../../../persistence/disk-contents.ts';
import type { AdoptedSnapshot } from '../../../machines/disk.events.ts';
import * as retention from '../../../actors/disk/retention.ts';
import type { DiskRow, DiskSnapshotRow, Tables } from '../store/schema.ts';
import { count, moment, rows, twin } from '../store/statement.ts';
import { SqlError, type Tx } from '../store/tables.ts';

twin(disk.UNDECIDED_CLONES, (t, tx, [diskId]) => {
  const found = [...t.disks.rows(tx)].some((row) => {
    const actor = row.state === 'cloning' ? t.actors.get(`disk/${row.diskId}`, tx) : null;
    return actor !== null && (actor.snapshot?.context as { cloneOf?: string } | undefined)?.cloneOf === diskId;
  });
  return count(found ? 1 : 0);
});

twin(disk.SNAPSHOTS_TO_PURGE, (t, tx, [diskId]) => {
  const found: { snapshot_id: string }[] = [];
  for (const slot of t.diskSnapshots.group(diskId)) {
    const row = t.diskSnapshots.see(slot, tx);
    if (row === null) continue;
    const needed = [...t.disks.rows(tx)].some(
      (other) => other.latestSnapshot === row.snapshotId && other.diskId !== diskId && other.purgedAt === null,
    );
    if (!needed) found.push({ snapshot_id: row.snapshotId });
  }
  return rows(found);
});

/** Disks that are not purged and would start from the snapshot. */
const needs = (t: Tables, tx: Tx, snapshotId: string, but: string) =>
  [...t.disks.rows(tx)].some((other) => other.latestSnapshot === snapshotId && other.diskId !== but && other.purgedAt === null);

/** Purged disks of the same owner as this one, beside it. */
function goneOf(t: Tables, tx: Tx, owner: string | undefined, but: string): Set<string> {
  return new Set(
    [...t.disks.rows(tx)]
      .filter((row) => row.owner === owner && row.purgedAt !== null && row.diskId !== but)
      .map((row) => row.diskId),
  );
}

twin(disk.SNAPSHOTS_KEPT_FOR, (t, tx, [diskId]) => {
  const gone = goneOf(t, tx, t.disks.get(diskId, tx)?.owner, diskId);
  const kept = [...t.diskSnapshots.rows(tx)].filter((row) => gone.has(row.diskId) && !needs(t, tx, row.snapshotId, diskId));
  return rows(kept.map((row) => ({ snapshotId: row.snapshotId, diskId: row.diskId })));
});

/** Nothing lists what is on a simulated volume. */
for (const statement of [contents.RECORD_CONTENTS, contents.LINK_LISTING, contents.DROP_CONTENTS, contents.DROP_LISTING])
  twin(statement, () => count(0));

const newestFirst = (a: DiskSnapshotRow, b: DiskSnapshotRow) =>
  b.createdAt - a.createdAt || (a.snapshotId < b.snapshotId ? 1 : -1);

const completeOf = (t: Tables, tx: Tx, diskId: string) =>
  [...t.diskSnapshots.rows(tx)].filter((row) => row.diskId === diskId && row.status === 'complete').sort(newestFirst);

twin(retention.RETIRE_SNAPSHOTS, (t, tx, [diskId, wanted, keepCount, before, owner]) => {
  const oldest = moment(before)!;
  const own = completeOf(t, tx, diskId)
    .slice(keepCount)
    .filter((row) => row.createdAt < oldest);
  const gone = goneOf(t, tx, owner, diskId);
  const cloning = new Set(
    [...t.disks.rows(tx)].map((row) => {
      const actor = row.state === 'cloning' ? t.actors.get(`disk/${row.diskId}`, tx) : null;
      return (actor?.snapshot?.context as { cloneOf?: string } | undefined)?.cloneOf;
    }),
  );
  const old = new Set([
    ...own,
    ...[...t.diskSnapshots.rows(tx)].filter(
      (row) =>
        gone.has(row.diskId) ||
        (row.diskId === diskId && (row.status === 'removing' || (row.status === 'failed' && row.createdAt < oldest))),
    ),
  ]);
  const retired = [];
  for (const { snapshotId, diskId: of } of old) {
    if (wanted.includes(snapshotId) || cloning.has(of) || needs(t, tx, snapshotId, diskId)) continue;
    const slot = t.diskSnapshots.slot(snapshotId)!;
    t.diskSnapshots.lock(slot, tx);
    if (slot.value === null) continue;
    t.diskSnapshots.update(slot, { ...slot.value!, status: 'removing' }, tx);
    retired.push({ snapshotId, diskId: of });
  }
  return rows(retired);
});

twin(retention.SNAPSHOTS_BEYOND, (t, tx, [diskId, keepCount]) =>
  rows(
    completeOf(t, tx, diskId)
      .slice(keepCount)
      .map((row) => ({ created_at: new Date(row.createdAt) })),
  ),
);

twin(retention.SNAPSHOT_IS_THERE, (t, tx, [snapshotId, diskId]) => {
  const row = t.diskSnapshots.get(snapshotId, tx);
  return count(row?.diskId === diskId && row?.status === 'complete' ? 1 : 0);
});

twin(disk.SNAPSHOTS_REMOVED, (t, tx, [ids]) => {
  let removed = 0;
  for (const id of ids as string[]) {
    const slot = t.diskSnapshots.slot(id);
    if (slot === undefined || t.diskSnapshots.see(slot, tx)?.status !== 'removing') continue;
    t.diskSnapshots.delete(slot, tx);
    removed++;
  }
  return count(removed);
});

twin(disk.SIZE_DISK, (t, tx, [diskId, sizeGb]) => {
  const slot = t.disks.slot(diskId);
  if (slot === undefined || t.disks.see(slot, tx) === null) return count(0);
  t.disks.lock(slot, tx);
  if (slot.value === null) return count(0);
  t.disks.update(slot, { ...slot.value!, sizeGb }, tx);
  return count(1);
});

interface Written {
  id: string;
  owner: string;
  name: string;
  size_gb: number;
  state: string;
  holder: string | null;
  delete_at: string | null;
  latest_snapshot: string | null;
  claim: string | null;
  place: DiskRow['place'];
  problem: string | null;
}

twin(disk.UPSERT, (t, tx, [json, at]) => {
  const now = moment(at)!;
  const list = JSON.parse(json) as Written[];
  for (const row of list) {
    const deleted = row.delete_at !== null;
    const changes = {
      state: row.state,
      reservationId: row.holder,
      isBackingUp: row.state === 'capturing',
      deleteDate: moment(row.delete_at),
      purgedAt: row.state === 'purged' ? now : null,
      latestSnapshot: row.latest_snapshot,
      claim: row.claim,
      place: row.place,
      problem: row.problem,
      lastUpdated: now,
    };
    const born: DiskRow = {
      ...changes,
      diskId: row.id,
      owner: row.owner,
      name: row.name,
      sizeGb: row.size_gb,
      createdAt: now,
      lastUsed: row.holder === null ? null : now,
      markedDeletedAt: deleted ? now : null,
      snapshotCount: 0,
      pendingSnapshotCount: 0,
      lastSnapshotAt: null,
    };
    const slot = t.disks.slot(row.id);
    if (slot === undefined || t.disks.see(slot, tx) === null) {
      if (!t.disks.insert(born, tx)) throw new SqlError('23505', `duplicate key in disks: ${row.id}`);
      continue;
    }
    t.disks.lock(slot, tx);
    const old = slot.value!;
    const next: DiskRow = {
      ...old,
      ...changes,
      lastUsed: born.lastUsed ?? old.lastUsed,
      markedDeletedAt: deleted ? (old.markedDeletedAt ?? now) : null,
    };
    t.disks.update(slot, next, tx);
  }
  return count(list.length);
});

twin(LABELS_OF_NODE, (t, tx, [name]) => {
  const row = t.nodes.get(name, tx);
  return rows(row === null ? [] : [{ node: row.node, labels: row.labels }]);
});

twin(disk.PLACE_REQUEST, (t, tx, [reservationId, place]) => {
  const slot = t.requests.slot(reservationId);
  if (slot === undefined || t.requests.see(slot, tx)?.status !== 'waiting') return count(0);
  t.requests.lock(slot, tx);
  if (slot.value?.status !== 'waiting') return count(0);
  t.requests.update(slot, { ...slot.value, place: JSON.parse(place) }, tx);
  return count(1);
});

twin(disk.SNAPSHOT_STARTED, (t, tx, [snapshotId, diskId, reservationId, at]) => {
  const row: DiskSnapshotRow = {
    snapshotId,
    diskId,
    reservationId,
    status: 'pending',
    sizeBytes: null,
    reason: null,
    createdAt: moment(at)!,
    completedAt: null,
  };
  if (!t.diskSnapshots.insert(row, tx)) return count(0);
  if (t.disks.get(diskId, tx) === null) throw new SqlError('23503', `disk_snapshots: no disk ${diskId}`);
  return count(1);
});

twin(disk.SNAPSHOTS_ADOPTED, (t, tx, [diskId, snapshots]) => {
  const made = (JSON.parse(snapshots) as AdoptedSnapshot[]).filter(({ snapshotId, reservationId, sizeBytes, createdAt }) => {
    const at = Date.parse(createdAt);
    const times = { createdAt: at, completedAt: at };
    return t.diskSnapshots.insert(
      { snapshotId, diskId, reservationId, status: 'complete', sizeBytes, reason: null, ...times },
      tx,
    );
  });
  if (made.length > 0 && t.disks.get(diskId, tx) === null) throw new SqlError('23503', `disk_snapshots: no disk ${diskId}`);
  return count(made.length);
});

twin(disk.SNAPSHOT_COMPLETED, (t, tx, [snapshotId, at, sizeBytes]) => {
  const slot = t.diskSnapshots.slot(snapshotId);
  if (slot === undefined || t.diskSnapshots.see(slot, tx) === null) return count(0);
  t.diskSnapshots.lock(slot, tx);
  t.diskSnapshots.update(slot, { ...slot.value!, status: 'complete', completedAt: moment(at), sizeBytes }, tx);
  return count(1);
});

twin(disk.SNAPSHOT_FAILED, (t, tx, [snapshotId, at, reason]) => {
  const slot = t.diskSnapshots.slot(snapshotId);
  if (slot === undefined || t.diskSnapshots.see(slot, tx)?.status !== 'pending') return count(0);
  t.diskSnapshots.lock(slot, tx);
  if (slot.value?.status !== 'pending') return count(0);
  t.diskSnapshots.update(slot, { ...slot.value, status: 'failed', completedAt: moment(at), reason }, tx);
  return count(1);
});

twin(disk.OPERATION_ENDED, (t, tx, [operationId, status, error, at, code]) => {
  const slot = t.operations.slot(operationId);
  if (slot === undefined || t.operations.see(slot, tx)?.status !== 'pending') return count(0);
  t.operations.lock(slot, tx);
  if (slot.value?.status !== 'pending') return count(0);
  t.operations.update(slot, { ...slot.value, status, error, code, updatedAt: moment(at)! }, tx);
  return count(1);
});

twin(disk.COUNT_SNAPSHOTS, (t, tx, [diskId]) => {
  const slot = t.disks.slot(diskId);
  if (slot === undefined || t.disks.see(slot, tx) === null) return count(0);
  let [complete, pending] = [0, 0];
  let last: number | null = null;
  for (const one of t.diskSnapshots.group(diskId)) {
    const row = t.diskSnapshots.see(one, tx);
    if (row?.status === 'pending') pending++;
    if (row?.status !== 'complete') continue;
    complete++;
    last = Math.max(last ?? 0, row.completedAt!);
  }
  t.disks.lock(slot, tx);
  t.disks.update(slot, { ...slot.value!, snapshotCount: complete, pendingSnapshotCount: pending, lastSnapshotAt: last }, tx);
  return count(1);
});
