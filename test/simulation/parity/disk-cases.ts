/** How the parameters of the statements about disks are drawn. */
import fc from 'fast-check';
import * as disk from '../../../actors/disk/kind.ts';
import { LABELS_OF_NODE } from '../../../actors/disk/whereabouts.ts';
import * as contents from '../../../persistence/disk-contents.ts';
import * as retention from '../../../actors/disk/retention.ts';
import * as operations from '../../../actors/intake/disk-operations.ts';
import * as disks from '../../../actors/intake/disks.ts';
import * as a from './arbitrary.ts';

type Parameters = fc.Arbitrary<unknown[]>;

const { maybe, of, someOf, columns } = a;
const all = (...parts: fc.Arbitrary<unknown>[]): Parameters => fc.tuple(...parts);
const json = (value: unknown) => JSON.stringify(value);
const first = (row: unknown[]) => String(row[0]);

const diskRow = fc
  .record({
    id: a.disk,
    owner: a.user,
    name: of('data', 'copy'),
    size_gb: of(10, 20),
    state: of('idle', 'held', 'cloning', 'capturing', 'purged'),
    holder: maybe(a.reservation),
    delete_at: maybe(a.iso),
    latest_snapshot: maybe(of('s1', 's2')),
    claim: maybe(of('claim')),
    place: maybe(of({ anyOf: [{ fast: ['yes'] }], movable: false }, { anyOf: [], movable: true })),
    problem: maybe(a.text),
  })
  .map((row) => json([row]));

const adopted = fc
  .record({ snapshotId: of('s1', 's2'), reservationId: maybe(a.reservation), sizeBytes: maybe(of(5)), createdAt: a.iso })
  .map((row) => json([row]));

export const DISK_CASES: readonly (readonly [string, Parameters])[] = [
  [disk.UNDECIDED_CLONES, all(a.disk)],
  [disk.SNAPSHOTS_TO_PURGE, all(a.disk)],
  [disk.UPSERT, all(diskRow, a.at)],
  [LABELS_OF_NODE, all(a.node)],
  [disk.PLACE_REQUEST, all(a.reservation, of(json({ anyOf: [], movable: false })))],
  [disk.SIZE_DISK, all(a.disk, of(10, 500))],
  [disk.SNAPSHOT_STARTED, all(of('s1', 's2'), a.disk, maybe(a.reservation), a.at)],
  [disk.SNAPSHOTS_ADOPTED, all(a.disk, adopted)],
  [disk.SNAPSHOT_COMPLETED, all(of('s1', 's2'), a.at, maybe(of(5)))],
  [disk.SNAPSHOT_FAILED, all(of('s1', 's2'), a.at, a.text)],
  [disk.OPERATION_ENDED, all(of('o1', 'o2'), of('completed', 'failed'), maybe(a.text), a.at, maybe(of('GPU_DISK_IN_USE')))],
  [disk.SNAPSHOTS_KEPT_FOR, all(a.disk)],
  [contents.RECORD_CONTENTS, all(of('s9'), of('[]'), of(0), maybe(of(5)), of([]))],
  [contents.LINK_LISTING, all(of('s1', 's2', 's9'))],
  [contents.DROP_CONTENTS, all(someOf(['s1', 's2']))],
  [contents.DROP_LISTING, all(a.disk)],
  [disk.SNAPSHOTS_REMOVED, all(someOf(['s1', 's2']))],
  [retention.RETIRE_SNAPSHOTS, all(a.disk, someOf(['s1', 's2']), of(0, 1), a.iso, a.user)],
  [retention.SNAPSHOTS_BEYOND, all(a.disk, of(0, 1))],
  [retention.SNAPSHOT_IS_THERE, all(of('s1', 's2'), a.disk)],
  [disk.COUNT_SNAPSHOTS, all(a.disk)],
  [disks.FIND_DISK, all(a.user, of('data', 'copy'))],
  [disks.INSERT_DISK, all(a.disk, a.user, of('data', 'copy'), of(10))],
  [disks.RESOLVE_DISKS, columns(fc.tuple(a.disk, a.user, of('data', 'copy'), of(10)), first, 2)],
  [disks.READ_NOW, all()],
  [operations.OPEN_OPERATION, all(of('o1', 'o2'), a.user, of('create_disk'), of('data'), of(json({ disk_name: 'data' })))],
  [operations.EARLIER_OPERATION, all(of('o1', 'o2'))],
  [operations.FAIL_OPERATION, all(of('o1', 'o2'), a.text, of('GPU_DISK_UNKNOWN'))],
  [operations.OPERATION_DISK, all(of('o1', 'o2'), a.disk)],
  [operations.DISK_SIZE, all(a.disk)],
  [operations.LOCK_DISK, all(a.user, of('data', 'copy'))],
  [operations.RENAME_DISK, all(a.disk, a.user, of('data', 'copy'))],
];
