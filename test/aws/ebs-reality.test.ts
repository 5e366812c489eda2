/** EBS and the database are compared both ways: the database is the truth, and nothing is deleted on a guess. */
import { v7 } from 'uuid';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { sweepCloud } from '../../actors/reality/cloud-disks.ts';
import { CloudRest } from '../../actors/reality/cloud-rest.ts';
import { Database } from '../../persistence/database.ts';
import { holdLease, LeaseLostError } from '../../persistence/leases.ts';
import type { Message } from '../../persistence/mailbox.ts';
import { openFindings } from '../../persistence/reality.ts';
import { EbsListing } from '../../src/providers/aws/ebs-listing.ts';
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts';
import { Ec2Stub } from './stub/ec2-stub.ts';
import { CLUSTER, ec2At, giveRow } from './support/ebs.ts';

let database: TestDatabase;
let db: Database;
let stub: Ec2Stub;
let told: Message[];
const HOUR = 3_600_000;

beforeAll(async () => {
  database = await createTestDatabase();
  db = new Database(database.config);
});
afterAll(async () => {
  await db?.close();
  await database?.drop();
});
beforeEach(async () => {
  stub = await Ec2Stub.start();
  told = [];
  await db.query('truncate disks, ebs_volumes, ebs_snapshots, reality_findings cascade');
});
afterEach(() => stub.stop());

const compare = (dryRun = false, settings = {}) =>
  sweepCloud(
    {
      db,
      cloud: new EbsListing(ec2At(stub.url, { maxAttempts: 1 })),
      clock: { now: () => null },
      lease: null,
      isOver: () => false,
      onError: () => {},
      post: async (messages) => told.push(...messages),
      ...settings,
    },
    { dryRun },
  );

function inEbs(diskId: string, tags: Record<string, string> = {}, ageMs = HOUR) {
  const all = {
    'gpu-dev:cluster': CLUSTER,
    'gpu-dev:disk': diskId,
    'gpu-dev:owner': 'ada',
    'gpu-dev:disk-name': `disk-${diskId}`,
    ...tags,
  };
  const asked = { zone: 'us-east-2a', sizeGb: 100, snapshotId: null, type: 'gp3', encrypted: true, token: '' };
  const volume = stub.state.createVolume({ ...asked, tags: new Map(Object.entries(all)) });
  volume.createdAt -= ageMs;
  return volume;
}
async function disk(): Promise<string> {
  const diskId = v7();
  await giveRow(db, { diskId, owner: 'ada', sizeGb: 100 });
  return diskId;
}
/** Put on record, an hour ago. */
async function recorded(diskId: string, volumeId: string, state = 'live', generation = 1): Promise<void> {
  await db.query(
    `insert into ebs_volumes (disk_id, generation, volume_id, zone, size_gb, state, created_at, gone_at)
     values ($1, $2, $3, 'us-east-2a', 100, $4, now() - interval '1 hour', case when $4 = 'gone' then now() - interval '1 hour' end)`,
    [diskId, generation, volumeId, state],
  );
}

it('finds nothing where all is as it is on record, and writes down sizes and who holds what, many holders too', async () => {
  const diskId = await disk();
  const volume = inEbs(diskId);
  await recorded(diskId, volume.id);
  volume.sizeGb = 300;
  volume.attachments.set('i-b', 'attached').set('i-a', 'attached');
  expect((await compare()).lines).toEqual([]);
  const { rows } = await db.query('select size_gb, attached_to from ebs_volumes');
  expect(rows).toEqual([{ size_gb: 300, attached_to: ['i-a', 'i-b'] }]);
  expect((await db.query('select in_use, reservation_id, user_id from disks')).rows).toEqual([
    { in_use: false, reservation_id: null, user_id: 'ada' },
  ]);
});

it('D15: of two volumes that claim to be one disk ours is the one on record; the other is reported, and neither is touched', async () => {
  const diskId = await disk();
  const mine = inEbs(diskId);
  await recorded(diskId, mine.id);
  const other = inEbs(diskId);
  const { lines } = await compare();
  expect(lines).toMatchObject([{ name: other.id, verdict: 'unrecorded', action: 'reported', actor: `disk/${diskId}` }]);
  expect(lines[0]?.why).toContain(`our record names ${mine.id}`);
  expect(stub.calls.filter((call) => !call.startsWith('Describe'))).toEqual([]);
});

it('a volume that was replaced on purpose is no second claimant; one that is on record as deleted and still there is told of', async () => {
  const diskId = await disk();
  const [leaving, now, gone] = [inEbs(diskId), inEbs(diskId), inEbs(diskId)];
  await recorded(diskId, gone.id, 'gone', 1);
  await recorded(diskId, leaving.id, 'leaving', 2);
  await recorded(diskId, now.id, 'live', 3);
  expect((await compare()).lines).toMatchObject([{ name: gone.id, verdict: 'ended', action: 'reported' }]);
  expect(stub.state.volumes.size).toBe(3);
});

it('D12 D24: an orphan is reported with its age and what it costs, and never deleted', async () => {
  const volume = inEbs(v7(), { 'gpu-dev:owner': 'grace' }, 12 * 24 * HOUR);
  const snapshot = stub.state.createSnapshot(volume.id, volume.tags);
  snapshot.startedAt -= 12 * 24 * HOUR;
  const { lines } = await compare();
  expect(lines.map(({ name, verdict, why }) => ({ name, verdict, why }))).toEqual([
    {
      name: volume.id,
      verdict: 'unknown',
      why: expect.stringMatching(/of grace, which we do not know; 100 GB, 12 days old, about \$8\.00 a month/),
    },
    { name: snapshot.id, verdict: 'unknown', why: expect.stringMatching(/100 GB, 12 days old, at most \$5\.00 a month/) },
  ]);
  expect([stub.state.volumes.size, stub.state.snapshots.size]).toEqual([1, 1]);
});

it('R19: what is young belongs to somebody who is at work: it is no finding, and no record is changed for it', async () => {
  const diskId = await disk();
  inEbs(diskId, {}, 60_000);
  await db.query(
    `insert into ebs_volumes (disk_id, generation, volume_id, zone, size_gb, state) values ($1, 1, 'vol-0', 'us-east-2a', 100, 'live')`,
    [diskId],
  );
  expect((await compare()).lines).toEqual([]);
  expect((await db.query('select state from ebs_volumes')).rows).toEqual([{ state: 'live' }]);
});

it('a volume on record that EBS proves to be gone is told to its disk, once; a list that lacks it is no proof', async () => {
  const diskId = await disk();
  await db.query(`update disks set state = 'idle', volume_claim = 'disk-x' where disk_id = $1`, [diskId]);
  const volume = inEbs(diskId);
  await recorded(diskId, volume.id);
  // It has lost our tag: the list lacks it, and it is there.
  volume.tags.delete('gpu-dev:cluster');
  expect((await compare()).lines).toEqual([]);
  stub.state.volumes.delete(volume.id);
  expect((await compare()).lines).toMatchObject([{ name: volume.id, verdict: 'missing', action: 'told' }]);
  await compare();
  expect(told).toMatchObject([{ actor: `disk/${diskId}`, event: { type: 'volume.missing', claim: 'disk-x' } }]);
});

it('D13: a volume that its idle disk does not keep is told of, and left to the next session', async () => {
  const diskId = await disk();
  const volume = inEbs(diskId);
  await recorded(diskId, volume.id);
  await db.query(`update disks set state = 'idle' where disk_id = $1`, [diskId]);
  expect((await compare()).lines).toMatchObject([{ name: volume.id, verdict: 'ended', action: 'reported' }]);
  expect(stub.state.volumes.size).toBe(1);
});

it('of two disks that claim one volume it is that of our record; the other claim is reported', async () => {
  const [mine, other] = [await disk(), await disk()];
  const volume = inEbs(other, { 'gpu-dev:disk-name': `disk-${mine}` });
  await recorded(mine, volume.id);
  expect((await compare()).lines).toMatchObject([
    { name: volume.id, verdict: 'unrecorded', actor: `disk/${mine}`, why: expect.stringContaining(`its tags name ${other}`) },
  ]);
  // And there cannot be two rows: neither of one volume or snapshot, nor of two volumes for one disk, nor of one name.
  const twice = (text: string, values: unknown[]) => expect(db.query(text, values)).rejects.toThrow(/duplicate key/);
  await twice(
    `insert into ebs_volumes (disk_id, generation, volume_id, zone, size_gb, state) values ($1, 1, $2, 'z', 1, 'live')`,
    [other, volume.id],
  );
  await twice(
    `insert into ebs_volumes (disk_id, generation, volume_id, zone, size_gb, state) values ($1, 2, 'vol-2', 'z', 1, 'live')`,
    [mine],
  );
  await db.query(
    `insert into ebs_snapshots (snapshot_id, disk_id, volume_id, ebs_snapshot_id) values ('s', $1, 'vol-1', 'snap-1')`,
    [mine],
  );
  await twice(
    `insert into ebs_snapshots (snapshot_id, disk_id, volume_id, ebs_snapshot_id) values ('t', $1, 'vol-1', 'snap-1')`,
    [other],
  );
  await twice(
    `insert into disks (disk_id, disk_name, user_id, size_gb, created_at) select $1, disk_name, user_id, 1, now() from disks where disk_id = $2`,
    [v7(), mine],
  );
});

it('whose a volume was, and who had it, is kept whatever is compared: for the audit', async () => {
  const diskId = await disk();
  const reservation = v7();
  const volume = inEbs(diskId, { 'gpu-dev:reservation': reservation });
  await recorded(diskId, volume.id);
  await db.query(`update disks set state = 'attached', in_use = true, reservation_id = $2 where disk_id = $1`, [
    diskId,
    reservation,
  ]);
  await db.query(
    `insert into disk_snapshots (snapshot_id, disk_id, reservation_id, status, created_at) values ('s-1', $1, $2, 'complete', now())`,
    [diskId, reservation],
  );
  // EBS says that nobody holds it (its server has no pod yet): that is no reason to take it from who has it (R19).
  await compare();
  const { rows } = await db.query(
    'select d.in_use, d.reservation_id as now, s.reservation_id as earlier from disks d join disk_snapshots s using (disk_id)',
  );
  expect(rows).toEqual([{ in_use: true, now: reservation, earlier: reservation }]);
  // Of one that is nobody's, the report names the reservation that it was made for.
  const lost = inEbs(v7(), { 'gpu-dev:reservation': reservation });
  expect((await compare()).lines).toMatchObject([
    { name: lost.id, why: expect.stringContaining(`made for reservation ${reservation}`) },
  ]);
});

it('a disk is as large as its volume, and what it has of snapshots is counted anew', async () => {
  const diskId = await disk();
  const volume = inEbs(diskId);
  await recorded(diskId, volume.id);
  volume.sizeGb = 750;
  for (const [id, status] of Object.entries({ a: 'complete', b: 'complete', c: 'pending', d: 'failed' }))
    await db.query(`insert into disk_snapshots (snapshot_id, disk_id, status, created_at) values ($1, $2, $3, now())`, [
      id,
      diskId,
      status,
    ]);
  await compare();
  const row = async () => (await db.query('select size_gb, snapshot_count, pending_snapshot_count from disks')).rows[0];
  expect(await row()).toEqual({ size_gb: 750, snapshot_count: 2, pending_snapshot_count: 1 });
  // One that is to grow keeps what its owner asked for.
  await db.query('update disks set size_gb = 900');
  volume.sizeGb = 800;
  await compare();
  expect(await row()).toMatchObject({ size_gb: 900 });
});

it('D7: a machine that does not let go after a session is told of, until it does', async () => {
  const diskId = await disk();
  const volume = inEbs(diskId);
  await recorded(diskId, volume.id);
  volume.attachments.set('i-hangs', 'busy');
  await db.query(`update disks set state = 'detaching', problem = null where disk_id = $1`, [diskId]);
  expect((await compare()).lines).toEqual([]);
  await db.query(`update disks set problem = 'detaching took too long' where disk_id = $1`, [diskId]);
  expect((await compare()).lines).toMatchObject([
    { name: volume.id, verdict: 'ended', action: 'reported', why: expect.stringMatching(/i-hangs did not let go of it/) },
  ]);
  volume.attachments.clear();
  expect((await compare()).lines).toEqual([]);
});

it('what goes wrong with one volume is said of it, and holds up no other; what is in doubt stays open', async () => {
  const [bad, good, lost] = [await disk(), await disk(), await disk()];
  const volumes = [bad, good, lost].map((each) => inEbs(each, { 'gpu-dev:disk-name': 'old' }));
  for (const [index, each] of [bad, good, lost].entries()) await recorded(each, volumes[index]!.id);
  volumes[0]!.sizeGb = 3_000_000_000;
  volumes[1]!.sizeGb = 300;
  stub.state.volumes.delete(volumes[2]!.id);
  expect((await compare()).lines).toMatchObject([{ name: volumes[2]!.id, verdict: 'missing' }]);
  let lists = 0;
  stub.fault = (action) => (action === 'CreateTags' || (action === 'DescribeVolumes' && lists++ > 0) ? 'deny' : null);
  for (const each of volumes) each.tags.set('gpu-dev:disk-name', 'old');
  const { unanswered } = await compare();
  expect(unanswered.map((each) => each.split(':')[0])).toEqual([
    `EbsVolume ${volumes[0]!.id}`,
    `EbsVolume ${volumes[1]!.id}`,
    `EbsVolume ${volumes[0]!.id}`,
    `EbsVolume ${volumes[2]!.id}`,
  ]);
  const { rows } = await db.query('select size_gb from ebs_volumes where volume_id = $1', [volumes[1]!.id]);
  expect(rows).toEqual([{ size_gb: 300 }]);
  expect(await openFindings(db, 10)).toMatchObject([{ name: volumes[2]!.id, verdict: 'missing' }]);
});

it('a cloud that does not answer is asked less and less often by the schedule, at times that nobody else keeps', () => {
  const rests = (random: number) => {
    const rest = new CloudRest(300_000, () => random);
    return [1, 2, 3, 4, 5].map(() => {
      rest.note(false, 0);
      return rest.left(0) / 60_000;
    });
  };
  expect(rests(0)).toEqual([5, 10, 20, 40, 40]);
  expect(rests(1)).toEqual([10, 20, 40, 80, 80]);
  const rest = new CloudRest(300_000, () => 0);
  rest.note(false, 0);
  expect([rest.left(1_000), rest.left(400_000)]).toEqual([299_000, 0]);
  rest.note(true, 0);
  expect(rest.left(0)).toBe(0);
});

it('D16: a disk that was renamed is the same disk: EBS gets its label, and owners are never taken from there', async () => {
  const diskId = await disk();
  const volume = inEbs(diskId, { 'gpu-dev:disk-name': 'its-old-name', 'gpu-dev:owner': 'mallory' });
  await recorded(diskId, volume.id);
  const { lines } = await compare();
  expect(volume.tags.get('gpu-dev:disk-name')).toBe(`disk-${diskId}`);
  expect(lines).toMatchObject([
    { name: volume.id, verdict: 'unrecorded', why: expect.stringMatching(/mallory.* By our record it is ada/) },
  ]);
  expect((await db.query('select user_id from disks')).rows).toEqual([{ user_id: 'ada' }]);
});

it('D6 D27: snapshots are written down as they come along; copies by others are reported', async () => {
  const diskId = await disk();
  const volume = inEbs(diskId);
  await recorded(diskId, volume.id);
  const tags = new Map([...volume.tags, ['gpu-dev:snapshot', 's-1']]);
  const snapshot = stub.state.createSnapshot(volume.id, tags);
  const copy = stub.state.createSnapshot(volume.id, tags);
  for (const each of [snapshot, copy]) each.startedAt -= HOUR;
  await db.query(`insert into ebs_snapshots (snapshot_id, disk_id, volume_id, ebs_snapshot_id) values ('s-1', $1, $2, $3)`, [
    diskId,
    volume.id,
    snapshot.id,
  ]);
  await db.query(`insert into disk_snapshots (snapshot_id, disk_id, status, created_at) values ('s-1', $1, 'complete', now())`, [
    diskId,
  ]);
  expect((await compare()).lines).toMatchObject([{ name: copy.id, verdict: 'unrecorded' }]);
  expect((await db.query('select state, completed_at is not null as done from ebs_snapshots')).rows).toEqual([
    { state: 'completed', done: true },
  ]);
  expect((await db.query('select snapshot_count from disks')).rows).toEqual([{ snapshot_count: 1 }]);
  stub.state.snapshots.clear();
  await db.query(`update ebs_snapshots set created_at = now() - interval '1 hour'`);
  expect((await compare()).lines).toMatchObject([{ name: snapshot.id, verdict: 'missing' }]);
});

it('a list that did not come to its end proves nothing, and closes no finding', async () => {
  const orphan = inEbs(v7());
  await compare();
  stub.fault = (action) => (action === 'DescribeVolumes' ? 'fail' : null);
  const { lines, unanswered } = await compare();
  expect(lines).toEqual([]);
  expect(unanswered).toEqual([expect.stringMatching(/EbsVolume: .*500/)]);
  expect(await openFindings(db, 10)).toMatchObject([{ name: orphan.id }]);
  stub.fault = () => null;
  stub.state.volumes.clear();
  await compare();
  expect(await openFindings(db, 10)).toEqual([]);
});

it('a dry run changes nothing, here or there', async () => {
  const diskId = await disk();
  const volume = inEbs(diskId, { 'gpu-dev:disk-name': 'old' });
  await recorded(diskId, volume.id);
  volume.sizeGb = 500;
  inEbs(v7());
  expect((await compare(true)).lines).toHaveLength(1);
  expect(volume.tags.get('gpu-dev:disk-name')).toBe('old');
  expect((await db.query('select size_gb from ebs_volumes')).rows).toEqual([{ size_gb: 100 }]);
  expect(await openFindings(db, 10)).toEqual([]);
});

it('R18: whoever lost the lease writes nothing more', async () => {
  inEbs(v7());
  const token = await holdLease(db, 'reality', 'one', 10);
  await db.query(`update leases set token = token + 1 where name = 'reality'`);
  await expect(compare(false, { lease: { name: 'reality', token } })).rejects.toThrow(LeaseLostError);
  expect(await openFindings(db, 10)).toEqual([]);
});

it('S27: many pages are one list', async () => {
  stub.pageSize = 3;
  for (let count = 0; count < 10; count += 1) inEbs(v7());
  expect((await compare()).lines).toHaveLength(10);
  expect(stub.count('DescribeVolumes')).toBe(4);
});
