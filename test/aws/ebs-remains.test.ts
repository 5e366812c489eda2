/** Disks in EBS, for a database that is built anew: what is kept beside them, and what of them is taken over; a real database, and an EC2 that rules as EC2 does. */
import { v7 } from 'uuid';
import { afterAll, beforeAll, beforeEach, afterEach, expect, it } from 'vitest';
import { enqueue } from '../../persistence/mailbox.ts';
import { EbsDiskRemains } from '../../src/providers/aws/ebs-remains.ts';
import type { Poster } from '../../src/rebuild/adopt-disk.ts';
import { Keeper } from '../../src/rebuild/keeper.ts';
import type { Remains } from '../../src/rebuild/ports.ts';
import { rebuild } from '../../src/rebuild/rebuild.ts';
import { StaticClaims } from '../../src/providers/aws/static-claims.ts';
import { until } from '../integration/providers/support/wait.ts';
import type { Snapshot, Volume } from './stub/ec2-state.ts';
import { Ec2Stub } from './stub/ec2-stub.ts';
import { CLUSTER, ec2At, type EbsScene, startEbsScene } from './support/ebs.ts';

let scene: EbsScene;
let cluster: EbsScene['cluster'];
let db: EbsScene['db'];
let stub: Ec2Stub;
let remains: Remains;

beforeAll(async () => {
  scene = await startEbsScene();
  ({ cluster, db } = scene);
});
afterAll(() => scene?.stop());
beforeEach(async () => {
  stub = await Ec2Stub.start();
  const disks = new EbsDiskRemains(db, ec2At(stub.url), new StaticClaims(cluster.client));
  // No server runs, and there are no names.
  remains = { disks, servers: async () => [], names: async () => null } as Partial<Remains> as Remains;
});
afterEach(() => stub.stop());

const DISK = v7();

const tags = (disk: string, more: Record<string, string>) =>
  new Map(
    Object.entries({
      'gpu-dev:cluster': CLUSTER,
      'gpu-dev:disk': disk,
      'gpu-dev:owner': 'ada',
      'gpu-dev:disk-name': `disk-${disk.slice(-6)}`,
      'gpu-dev:generation': '1',
      ...more,
    }),
  );
const volumeOf = (disk: string, generation = 1, snapshotId: string | null = null): Volume =>
  stub.state.createVolume({
    zone: 'us-east-2a',
    sizeGb: 10,
    snapshotId,
    type: 'gp3',
    encrypted: true,
    token: `${disk}-${generation}`,
    tags: tags(disk, { 'gpu-dev:generation': `${generation}` }),
  });
function snapshotOf(disk: string, volume: Volume, id: string): Snapshot {
  const taken = stub.state.createSnapshot(
    volume.id,
    tags(disk, { 'gpu-dev:snapshot': id, 'gpu-dev:generation': volume.tags.get('gpu-dev:generation')! }),
  );
  stub.state.settle();
  return taken;
}
/** As another program copies a snapshot, with all its tags. */
function copyOf(snapshot: Snapshot): Snapshot {
  const copy = { ...snapshot, id: `snap-${v7().replaceAll('-', '').slice(15)}`, volumeId: 'vol-ffffffff' };
  stub.state.snapshots.set(copy.id, copy);
  return copy;
}
/** Messages wait in the mailbox: how disks live on is tested where a service runs. */
const kernel: Poster = { post: (messages, tx) => enqueue(tx ?? db, messages), pump: async () => 0 };
const brought = () => rebuild({ db, kernel, remains }, { dryRun: false });

/** A disk on record, as its actor would have it. */
async function onRecord(disk: string, change: { latestSnapshot: string | null }, snapshots: Snapshot[]): Promise<void> {
  await db.query(`insert into disks (disk_id, disk_name, user_id, size_gb, created_at) values ($1, $2, 'ada', 10, now())`, [
    disk,
    `disk-${disk.slice(-6)}`,
  ]);
  for (const { id, volumeId, tags: own } of snapshots) {
    await db.query(`insert into ebs_snapshots (snapshot_id, disk_id, volume_id, ebs_snapshot_id) values ($1, $2, $3, $4)`, [
      own.get('gpu-dev:snapshot'),
      disk,
      volumeId,
      id,
    ]);
    await db.query(
      `insert into disk_snapshots (snapshot_id, disk_id, status, created_at, completed_at) values ($1, $2, 'complete', now(), now())`,
      [own.get('gpu-dev:snapshot'), disk],
    );
  }
  const context = { id: disk, owner: 'ada', name: `disk-${disk.slice(-6)}`, sizeGb: 10, claim: null, deleteAt: null };
  await db.query(
    `insert into actors (actor, kind, machine_version, seq, status, state, snapshot) values ($1, 'disk', 3, 1, 'active', 'idle', $2)`,
    [`disk/${disk}`, JSON.stringify({ context: { ...context, ...change } })],
  );
}
const changed = (disk: string, latestSnapshot: string, state = 'idle') =>
  db.query(
    `with row as (update disks set last_updated = clock_timestamp() where disk_id::text = substr($1, 6))
     update actors set snapshot = jsonb_set(snapshot, '{context,latestSnapshot}', to_jsonb($2::text)), state = $3, seq = seq + 1,
                       status = case when $3 = 'purged' then 'done' else 'active' end, updated_at = clock_timestamp() where actor = $1`,
    [`disk/${disk}`, latestSnapshot, state],
  );

it('a record is on the snapshot that its disk starts from, anew when it starts from that again; of a purged disk on all that were kept', async () => {
  const disk = v7();
  const volume = volumeOf(disk);
  const [first, second, third] = [1, 2, 3].map((n) => snapshotOf(disk, volume, `snap-${disk}-${n}`)) as [
    Snapshot,
    Snapshot,
    Snapshot,
  ];
  await onRecord(disk, { latestSnapshot: `snap-${disk}-3` }, [first, second, third]);
  stub.state.volumes.delete(volume.id);
  const errors: unknown[] = [];
  const keeper = new Keeper({ db, remains, onError: (error) => errors.push(error), lookMs: 20 });
  keeper.start();
  try {
    const says = (snapshot: Snapshot, words: RegExp) =>
      until(
        `${snapshot.tags.get('gpu-dev:snapshot')} says ${words}`,
        async () => words.test(snapshot.tags.get('gpu-dev:record') ?? '') || null,
      );
    await says(third, /seq=1 /);
    await changed(disk, `snap-${disk}-1`);
    await says(first, /seq=2 /);
    expect(third.tags.get('gpu-dev:record')).toMatch(/seq=1 /);
    // Restored back: the same facts as at first, and later than those on the other.
    await changed(disk, `snap-${disk}-3`);
    await says(third, /seq=3 /);
    // It is purged; the newest goes, and the others are kept for clones.
    stub.state.snapshots.delete(third.id);
    await db.query('delete from ebs_snapshots where ebs_snapshot_id = $1', [third.id]);
    await changed(disk, `snap-${disk}-3`, 'purged');
    for (const kept of [first, second]) await says(kept, /purged=1/);
  } finally {
    await keeper.stop();
  }
  expect(errors).toEqual([]);
  await db.query('truncate actors, disks cascade');
  expect(await brought()).toMatchObject({ back: [], left: [{ kind: 'disk', id: disk, why: expect.stringContaining('purged') }] });
});

it('what is refused is not asked for over and over: one is tried after pauses that double, and all is kept when it is granted', async () => {
  await db.query('truncate actors, disks cascade');
  const snapshots: Snapshot[] = [];
  for (let n = 0; n < 30; n += 1) {
    const disk = v7();
    const snapshot = snapshotOf(disk, volumeOf(disk), `snap-${disk}-1`);
    snapshots.push(snapshot);
    await onRecord(disk, { latestSnapshot: `snap-${disk}-1` }, [snapshot]);
  }
  const kept = () => snapshots.filter(({ tags: own }) => own.has('gpu-dev:record')).length;
  stub.denied.add('CreateTags');
  const errors: Error[] = [];
  const keeper = new Keeper({ db, remains, onError: (error) => errors.push(error as Error), lookMs: 20 });
  keeper.start();
  try {
    // Four are under way when the first is refused, and then one at a time.
    await until('it was tried again', async () => stub.count('CreateTags') >= 8 || null);
    expect(stub.count('CreateTags')).toBeLessThan(12);
    expect(errors.map(({ message }) => message)).toEqual(['No records of disks are kept for now']);
    stub.denied.delete('CreateTags');
    await until('all are kept', async () => kept() === 30 || null);
    expect(errors).toHaveLength(1);

    // Single ones that cannot be kept wait by themselves, and each is told once.
    const [one, other] = snapshots as [Snapshot, Snapshot];
    const idOf = ({ tags: own }: Snapshot) => own.get('gpu-dev:disk')!;
    for (const { tags: own } of [one, other]) own.delete('gpu-dev:record');
    stub.refuses.set('CreateTags', 'TagLimitExceeded');
    for (const each of [one, other])
      await db.query(
        `with row as (update disks set last_updated = clock_timestamp() where disk_id::text = $2)
         update actors set snapshot = jsonb_set(snapshot, '{context,sizeGb}', '11'), seq = seq + 1, updated_at = clock_timestamp() where actor = $1`,
        [`disk/${idOf(each)}`, idOf(each)],
      );
    await until('both are told', async () => errors.length === 3 || null);
    expect(errors.at(-1)!.message).toContain('TagLimitExceeded');
    expect(kept()).toBe(28);
    stub.refuses.delete('CreateTags');
    await until('both are kept', async () => kept() === 30 || null);
  } finally {
    await keeper.stop();
  }
});

it('T16 D32: a snapshot that moved a disk is taken over only if it is proven to be of its volume; what contradicts the database is left, and all else comes back', async () => {
  await db.query('truncate actors, disks cascade');
  const [copied, lone, twice, clash, plain] = Array.from({ length: 5 }, () => v7()) as [string, string, string, string, string];
  const move = (disk: string, volume: Volume) => snapshotOf(disk, volume, `move-${disk}-1`);
  // Moved by us, by way of a snapshot of which somebody has made a copy.
  const moved = move(copied, volumeOf(copied));
  const foreign = [copyOf(moved)];
  // At rest; the one of ours is gone, and the copy is there.
  const resting = volumeOf(lone);
  snapshotOf(lone, resting, `snap-${lone}-3`);
  const gone = move(lone, resting);
  foreign.push(copyOf(gone));
  stub.state.snapshots.delete(gone.id);
  stub.state.volumes.delete(resting.id);
  // Which of two it was nobody knows, nor of what volume another was taken.
  const doubled = volumeOf(twice);
  const doubtful = [move(twice, doubled), move(twice, doubled), move(plain, volumeOf(v7()))];
  volumeOf(plain);
  // Its snapshot is on record as that of another disk.
  const own = snapshotOf(clash, volumeOf(clash), `snap-${clash}-1`);
  await db.query(`insert into disks (disk_id, disk_name, user_id, size_gb, created_at) values ($1, 'other', 'eve', 1, now())`, [
    DISK,
  ]);
  await db.query(`insert into ebs_snapshots (snapshot_id, disk_id, volume_id, ebs_snapshot_id) values ('s', $1, 'vol-0', $2)`, [
    DISK,
    own.id,
  ]);
  const report = await brought();
  const ids = (things: { id: string }[]) => things.map(({ id }) => id).sort();
  expect(ids(report.back.filter(({ kind }) => kind === 'disk'))).toEqual(
    expect.arrayContaining([copied, lone, twice, plain].sort()),
  );
  expect(report.left.find(({ id }) => id === clash)?.why).toMatch(/The database does not take it: .*\(23505\)/);
  for (const { id } of [...foreign, ...doubtful]) expect(ids(report.left)).toContain(id);
  const { rows } = await db.query<{ id: string }>(
    `select ebs_snapshot_id as id from ebs_snapshots where snapshot_id like 'move-%'`,
  );
  expect(rows).toEqual([{ id: moved.id }]);
  // What is doubtful about a disk that is known is no news.
  expect(ids((await brought()).left)).toEqual([clash, ...foreign.map(({ id }) => id)].sort());
});

it('a volume that was left behind stays, and the disk goes on from its newest snapshot, with the next number; a claim leads to the volume that a pod mounts', async () => {
  await db.query('truncate actors, disks cascade');
  const disk = v7();
  const left = volumeOf(disk);
  const last = volumeOf(disk, 3);
  const newest = snapshotOf(disk, last, `snap-${disk}-3`);
  // EC2 tells the time in milliseconds, and these are made within one.
  newest.startedAt = left.createdAt + 60_000;
  stub.state.volumes.delete(last.id);
  const { back, left: not } = await brought();
  expect([back.map(({ id }) => id), not]).toEqual([expect.arrayContaining([disk]), []]);
  expect(back.find(({ id }) => id === disk)?.as).toContain(`${left.id} is left as it is`);
  const { rows } = await db.query('select generation, volume_id, state from ebs_volumes where disk_id = $1', [disk]);
  expect(rows).toEqual([{ generation: 3, volume_id: null, state: 'gone' }]);
  expect([...stub.state.volumes.keys()]).toEqual([left.id]);

  const claims = new StaticClaims(cluster.client);
  const claim = await claims.ensure({
    diskId: disk,
    generation: 1,
    owner: 'ada',
    volumeId: left.id,
    zone: 'us-east-2a',
    sizeGb: 10,
  });
  expect(await remains.disks.behind(claim)).toBe(left.id);
  expect(await remains.disks.behind(`disk-${v7()}`)).toBeNull();
});
