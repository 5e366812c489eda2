/** What a rebuild makes of what it finds: pure, so every doubtful case is here. */
import { expect, it } from 'vitest';
import { adopted } from '../model/reservation.cases.ts';
import { type Found, type Known, diskKey } from '../../src/rebuild/found.ts';
import { planRebuild } from '../../src/rebuild/plan.ts';
import type { FoundServer, FoundSnapshot, FoundVolume } from '../../src/rebuild/ports.ts';
import {
  type DiskRecord,
  gistOf,
  readDiskRecord,
  readServerRecord,
  type ServerRecord,
  writeRecord,
} from '../../src/rebuild/records.ts';
import { tagOf } from '../../src/providers/aws/ebs-remains.ts';
import { tagValue } from '../../src/providers/aws/tags.ts';

const DISK = '019cae31-0000-7000-8000-00000000d15c';
const OTHER = '019cae31-0000-7000-8000-00000000d15d';
const SERVER = '019cae31-0000-7000-8000-000000000001';
const NOW = Date.parse('2026-03-10T00:00:00.000Z');
const at = (day: number) => `2026-03-0${day}T00:00:00.000Z`;
const snap = (number: number, disk = DISK) => `snap-${disk}-${number}`;

const diskRecord = (change: Partial<DiskRecord> = {}): DiskRecord => ({
  v: 1,
  id: DISK,
  owner: 'ada',
  name: 'work',
  sizeGb: 100,
  latest: null,
  newest: null,
  createdAt: at(1),
  deleteAt: null,
  purged: false,
  at: null,
  seq: 1,
  ...change,
});
const volume = (change: Partial<FoundVolume> = {}): FoundVolume => ({
  name: 'vol-1',
  diskId: DISK,
  claim: `disk-${DISK}`,
  owner: 'ada',
  diskName: null,
  sizeGb: 100,
  createdAt: at(1),
  generation: 1,
  attached: false,
  unfit: null,
  record: writeRecord(diskRecord()),
  ...change,
});
const snapshot = (number: number, change: Partial<FoundSnapshot> = {}): FoundSnapshot => ({
  name: snap(number),
  snapshotId: snap(number),
  diskId: DISK,
  owner: 'ada',
  diskName: null,
  volume: 'vol-1',
  generation: 1,
  complete: true,
  sizeGb: 100,
  sizeBytes: 5,
  createdAt: at(number),
  record: null,
  ...change,
});
function serverRecord(change: Partial<ServerRecord> = {}): ServerRecord {
  const {
    request,
    policy,
    adopted: stay,
  } = adopted({ disk: { id: DISK, name: 'work', onBusy: 'wait' } }) as never as ServerRecord & {
    adopted: ServerRecord['stay'] & { pod: unknown };
  };
  const { pod: _pod, ...rest } = stay;
  return { v: 1, id: SERVER, owner: 'ada', request, policy, domain: null, stay: { ...rest, claim: `disk-${DISK}` }, ...change };
}
const server = (change: Partial<FoundServer> = {}): FoundServer => ({
  pod: 'pod-2',
  uid: 'uid-2',
  reservationId: SERVER,
  generation: 2,
  owner: 'ada',
  node: 'h100-1',
  claim: `disk-${DISK}`,
  terminating: false,
  ready: true,
  record: writeRecord(serverRecord()),
  ...change,
});
const NOTHING: Known = {
  reservations: new Set(),
  disks: new Set(),
  names: new Map(),
  diskNames: new Map(),
  gpuTypes: new Set(['h100']),
  nodes: new Set(['h100-1']),
};
function plan(
  found: { servers?: FoundServer[]; volumes?: FoundVolume[]; snapshots?: FoundSnapshot[]; mounted?: string },
  known: Partial<Known> = {},
) {
  const { servers = [], volumes = [], snapshots = [], mounted = 'vol-1' } = found;
  const mounts = new Map([[`disk-${DISK}`, mounted]]);
  const all: Found = { servers, disks: { volumes, snapshots, ignored: [] }, names: new Map(), mounts };
  return planRebuild(all, { ...NOTHING, ...known }, NOW);
}
const disk = (found: Parameters<typeof plan>[0]) => plan(found).disks[0]!;
const whyNot = (found: Parameters<typeof plan>[0], known: Partial<Known> = {}) => {
  const { disks, servers, left } = plan(found, known);
  return [disks.length + servers.length, left.map(({ why }) => why).join('; ')] as const;
};

it('a server comes back with its disk, and what the database knows is passed over', () => {
  const found = { servers: [server()], volumes: [volume()], snapshots: [snapshot(1)] };
  const { servers, disks, owners, left } = plan(found);
  expect([servers.map(({ id, disk: own }) => [id, own?.id, own?.latest]), disks, owners, left]).toEqual([
    [[SERVER, DISK, snap(1)]],
    [],
    ['ada'],
    [],
  ]);
  expect(plan(found, { reservations: new Set([SERVER]), disks: new Set([DISK]) })).toMatchObject({
    servers: [],
    disks: [],
    owners: [],
    left: [],
    known: { disks: 1, servers: 1 },
  });
});

it('no snapshot that there ever was gets its number again, complete or not', () => {
  expect(disk({ snapshots: [snapshot(3), snapshot(7, { complete: false })], volumes: [volume()] })).toMatchObject({
    round: 7,
    latest: snap(3),
    notes: [expect.stringContaining('not complete')],
  });
});

it('the snapshot to start from is the newest, but for one that a restore chose after all of them were taken', () => {
  const restored = writeRecord(diskRecord({ latest: snap(1), newest: snap(2), seq: 9 }));
  expect(disk({ snapshots: [snapshot(1, { record: restored }), snapshot(2)] }).latest).toBe(snap(1));
  // A later one has what was on the volume since.
  expect(disk({ snapshots: [snapshot(1, { record: restored }), snapshot(2), snapshot(3)] }).latest).toBe(snap(3));
  // An older record says nothing any more.
  const older = writeRecord(diskRecord({ latest: snap(1), newest: snap(1), seq: 2 }));
  const newer = writeRecord(diskRecord({ latest: snap(2), newest: snap(2), name: 'renamed', seq: 3 }));
  expect(disk({ snapshots: [snapshot(1, { record: older }), snapshot(2, { record: newer })] })).toMatchObject({
    latest: snap(2),
    name: 'renamed',
  });
  // That of another disk, which was copied along, is none.
  const foreign = writeRecord(diskRecord({ id: OTHER, owner: 'eve', name: 'evil', seq: 99 }));
  expect(disk({ volumes: [volume({ record: foreign, diskName: 'work' })] })).toMatchObject({ owner: 'ada', name: 'work' });
});

it('after a second loss the record of the later time holds: numbers begin anew with each database', () => {
  const first = writeRecord(diskRecord({ name: 'before', latest: snap(5), newest: snap(5), at: at(5), seq: 57 }));
  const second = diskRecord({ name: 'after', latest: snap(3), newest: snap(5), at: at(7), deleteAt: at(8), seq: 4 });
  const found = (record: DiskRecord, older = first) => ({
    snapshots: [snapshot(3, { record: writeRecord(record) }), snapshot(5, { record: older })],
  });
  expect(disk(found(second))).toMatchObject({ name: 'after', latest: snap(3), deleteAt: '2026-03-17T00:00:00.000Z' });
  expect(whyNot(found({ ...second, purged: true }))).toEqual([0, expect.stringContaining('purged')]);
  // What an earlier version wrote has no time, and is before all that has one.
  const untimed = writeRecord(diskRecord({ name: 'before', latest: snap(5), newest: snap(5), seq: 57 }));
  expect(disk(found(second, untimed))).toMatchObject({ name: 'after', latest: snap(3) });
  expect(disk(found({ ...second, at: at(5), seq: 58 }))).toMatchObject({ name: 'after' });
});

it('a disk without its volume is never made of less than it had', () => {
  expect(
    whyNot({
      snapshots: [snapshot(2, { complete: false, record: writeRecord(diskRecord({ latest: snap(1), newest: snap(1) })) })],
    }),
  ).toEqual([0, expect.stringContaining(snap(1))]);
  // An older one that is complete is no substitute; but with the volume all data is there.
  const knew = writeRecord(diskRecord({ latest: snap(2), newest: snap(2) }));
  expect(whyNot({ snapshots: [snapshot(1, { record: knew })] })).toEqual([0, expect.stringContaining(snap(2))]);
  expect(disk({ snapshots: [snapshot(1)], volumes: [volume({ record: knew })] }).latest).toBe(snap(1));
  expect(whyNot({ snapshots: [snapshot(2, { complete: false, diskName: 'work' })] })).toEqual([
    0,
    expect.stringContaining('no snapshot that is complete'),
  ]);
  expect(whyNot({ volumes: [volume({ unfit: 'it is being deleted' })], snapshots: [snapshot(1)] })).toEqual([
    0,
    expect.stringContaining('being deleted'),
  ]);
});

it('where two claim to be one, neither is touched; a volume that took the place of another is no second claimant', () => {
  expect(whyNot({ volumes: [volume(), volume({ name: 'vol-2' })] })).toEqual([0, expect.stringContaining('vol-1 and vol-2')]);
  expect(whyNot({ volumes: [volume()], snapshots: [snapshot(1), snapshot(1, { name: 'snap-b' })] })).toEqual([
    0,
    expect.stringContaining('Two snapshots'),
  ]);
  expect(disk({ volumes: [volume(), volume({ name: 'vol-2', generation: 2 })] })).toMatchObject({
    volume: { name: 'vol-2' },
    notes: [expect.stringContaining('vol-1')],
  });
  expect(whyNot({ servers: [server(), server({ pod: 'pod-1', generation: 1 })], volumes: [volume()] })[1]).toContain('Two pods');
  expect(whyNot({ volumes: [volume({ owner: 'eve' })] })).toEqual([0, expect.stringContaining('different owners')]);
  const twin = volume({ name: 'vol-9', diskId: OTHER, claim: `disk-${OTHER}`, record: writeRecord(diskRecord({ id: OTHER })) });
  expect(whyNot({ volumes: [volume(), twin] })).toEqual([0, expect.stringContaining('another disk of ada')]);
  expect(whyNot({ volumes: [volume()] }, { diskNames: new Map([[diskKey('ada', 'work'), OTHER]]) })).toEqual([
    0,
    expect.stringContaining(OTHER),
  ]);
});

it('a volume that was left behind is not its disk: the newest snapshot is if it is proven to be newer, else neither', () => {
  const left = volume({ createdAt: at(2), record: null, diskName: 'work' });
  const of = (generation: number, change: Partial<FoundSnapshot> = {}) => snapshot(3, { volume: 'vol-3', generation, ...change });
  const record = writeRecord(diskRecord({ latest: snap(3), newest: snap(3), seq: 40 }));
  const started = disk({ volumes: [left], snapshots: [of(3, { record })] });
  expect(started).toMatchObject({
    volume: null,
    latest: snap(3),
    notes: [expect.stringMatching(/vol-1 is left as it is: .* vol-3/)],
  });
  const doubtful: [string, Partial<FoundVolume>, FoundSnapshot[]][] = [
    ['another program made a volume of a backup, with our tags', { createdAt: at(9), generation: 3 }, [of(3)]],
    ['that of an older one', { createdAt: at(9), generation: 2 }, [of(3)]],
    ['its number is the higher one', { generation: 5 }, [of(3)]],
    ['a machine writes to it', { attached: true }, [of(3)]],
    ['the newer one is not complete', {}, [of(3, { complete: false }), snapshot(1)]],
    ['nor is one beside it', {}, [of(3), snapshot(4, { volume: 'vol-4', generation: 4, complete: false })]],
    ['it was used after that', {}, [of(3), snapshot(5)]],
  ];
  for (const [why, change, snapshots] of doubtful)
    expect(whyNot({ volumes: [{ ...left, ...change }], snapshots }), why).toEqual([
      0,
      expect.stringMatching(/vol-1, and .*not proven/),
    ]);
  // All that it was made of was taken before it was there.
  expect(disk({ volumes: [volume({ generation: 4, createdAt: at(4) })], snapshots: [of(3)] })).toMatchObject({
    volume: { name: 'vol-1' },
    notes: [],
  });
  // Nor does one that has been replaced stay with a machine.
  const replaced = [volume({ name: 'vol-0', attached: true }), volume({ generation: 2 })];
  expect(whyNot({ volumes: replaced })).toEqual([0, expect.stringContaining('vol-0, which a machine holds')]);
});

it('a server comes back with the volume that its pod mounts, whatever the claim is called', () => {
  const found = { servers: [server()], volumes: [volume({ attached: true })] };
  expect(plan({ ...found, mounted: 'vol-1' }).servers).toHaveLength(1);
  const [back, why] = whyNot({ ...found, mounted: 'vol-9' });
  expect([back, why]).toEqual([0, expect.stringMatching(/Its pod uses vol-9, and its disk work would be vol-1.*uses it/)]);
});

it('what says too little of itself, or is on its way out, is left alone, and so is the disk that its pod uses', () => {
  const cases: [Partial<FoundServer>, string][] = [
    [{ record: null }, 'no record'],
    [{ record: '{"v":1}' }, 'incomplete'],
    [{ record: 'half' }, 'not JSON'],
    [{ terminating: true }, 'being deleted'],
    [{ owner: 'eve' }, 'not of this server'],
    [{ generation: 3 }, 'not of this server'],
    [{ node: 'h100-2' }, 'its record says h100-1'],
  ];
  for (const [change, why] of cases) {
    const [back, said] = whyNot({ servers: [server(change)], volumes: [volume()] });
    expect([back, said], why).toEqual([0, expect.stringContaining(why)]);
    expect(said).toContain('uses it');
  }
  expect(whyNot({ servers: [server()] })).toEqual([0, expect.stringContaining('cannot be brought back')]);
  expect(whyNot({ servers: [server({ claim: null })], volumes: [volume()] })[1]).toContain('not the one that its pod uses');
  expect(whyNot({ servers: [server()], volumes: [volume()] }, { names: new Map([['brave-otter', 'another']]) })).toEqual([
    0,
    expect.stringContaining('another'),
  ]);
  expect(whyNot({ servers: [server()], volumes: [volume()] }, { nodes: new Set() })[1]).toContain('a processor must run');
  expect(whyNot({ volumes: [volume({ record: null })] })).toEqual([0, expect.stringContaining('no record')]);
});

it('a deleted disk may be brought back for a week at least; one that was purged is none', () => {
  const deleted = (deleteAt: string) => disk({ volumes: [volume({ record: writeRecord(diskRecord({ deleteAt })) })] }).deleteAt;
  expect(deleted('2026-03-11T00:00:00.000Z')).toBe('2026-03-17T00:00:00.000Z');
  expect(deleted('2026-04-01T00:00:00.000Z')).toBe('2026-04-01T00:00:00.000Z');
  expect(
    whyNot({ snapshots: [snapshot(1, { record: writeRecord(diskRecord({ purged: true, latest: snap(1), newest: snap(1) })) })] }),
  ).toEqual([0, expect.stringContaining('purged')]);
});

it('a record is the same text whatever the order of its facts, and fits into a tag', () => {
  const record = serverRecord();
  const turned = Object.fromEntries(Object.entries(record).reverse()) as ServerRecord;
  expect(writeRecord(turned)).toBe(writeRecord(record));
  expect(readServerRecord(writeRecord(record))).toEqual({ record });
  for (const later of [diskRecord({ seq: 612 }), diskRecord({ at: at(4) })])
    expect(gistOf(writeRecord(later))).toBe(gistOf(writeRecord(diskRecord({ seq: 5 }))));
  expect(gistOf(writeRecord(record))).toBe(writeRecord(record));
  expect(readDiskRecord(writeRecord(diskRecord()))).toEqual({ record: diskRecord() });
  const long = tagOf(
    diskRecord({
      at: at(3),
      seq: 123_456_789,
      sizeGb: 16_384,
      latest: snap(123_456),
      newest: snap(123_457),
      deleteAt: at(2),
      purged: true,
    }),
  );
  expect(long.length).toBeLessThanOrEqual(256);
  expect(tagValue(long)).toBe(long);
});
