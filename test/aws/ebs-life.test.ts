/** The life of a disk's volume in EBS: on a simulated cluster, and an EC2 that rules as EC2 does. */
import { v7 } from 'uuid';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { VolumeRequest } from '../../actors/disk/ports.ts';
import { NotYet, TerminalError } from '../../actors/errors.ts';
import { Ec2Stub } from './stub/ec2-stub.ts';
import { captured, CLUSTER, DisksWithRows, ec2At, giveRow, GP3, persist, type EbsScene, startEbsScene } from './support/ebs.ts';
import { volumeRequest } from '../integration/providers/support/specs.ts';

let scene: EbsScene;
let cluster: EbsScene['cluster'];
let db: EbsScene['db'];
let stub: Ec2Stub;
let volumes: DisksWithRows;

beforeAll(async () => {
  scene = await startEbsScene();
  ({ cluster, db } = scene);
});
afterAll(() => scene?.stop());
beforeEach(async () => {
  stub = await Ec2Stub.start();
  stub.state.addInstance('i-a', 'us-east-2a');
  volumes = new DisksWithRows({ client: cluster.client, db, ec2: ec2At(stub.url), volumeType: GP3 });
});
afterEach(() => stub.stop());

const request = (change: Partial<VolumeRequest> = {}): VolumeRequest =>
  volumeRequest({ owner: 'ada', sizeGb: 100, zone: 'us-east-2a', ...change });
const only = () => {
  const all = [...stub.state.volumes.values()];
  expect(all).toHaveLength(1);
  return all[0]!;
};
/** One session with the disk: write something, and let it be saved. */
async function session(disk: VolumeRequest, round: number, content: string): Promise<string> {
  await persist(() => volumes.ensure(disk));
  only().content = content;
  expect(await persist(async () => volumes.detach(disk.diskId))).toBe('detached');
  const snapshotId = `snap-${disk.diskId}-${round}`;
  expect((await captured(volumes, disk.diskId, snapshotId)).state).toBe('complete');
  expect(await persist(() => volumes.remove(disk.diskId, snapshotId))).toBe('removed');
  return snapshotId;
}

describe('a volume in EBS', () => {
  it('is made in the zone of its node, as large as asked for, encrypted, with tags that say whose it is, and its claim leads to it', async () => {
    const disk = request({ zone: 'us-east-2b' });
    const { claim } = await persist(() => volumes.ensure(disk));
    const volume = only();
    expect(volume).toMatchObject({ zone: 'us-east-2b', sizeGb: 100, type: 'gp3', encrypted: true, state: 'available' });
    expect(Object.fromEntries(volume.tags)).toMatchObject({
      'gpu-dev:cluster': CLUSTER,
      'gpu-dev:disk': disk.diskId,
      'gpu-dev:owner': 'ada',
      'gpu-dev:generation': '1',
    });
    const { core, namespace } = cluster.client;
    const found = await core.readNamespacedPersistentVolumeClaim({ namespace, name: claim });
    expect(found.metadata?.ownerReferences).toBeUndefined();
    const backing = await core.readPersistentVolume({ name: found.spec?.volumeName ?? '' });
    expect(backing.spec?.csi).toMatchObject({ driver: 'ebs.csi.aws.com', volumeHandle: volume.id });
    expect(backing.spec?.persistentVolumeReclaimPolicy).toBe('Retain');
    expect(JSON.stringify(backing.spec?.nodeAffinity)).toContain('us-east-2b');
  });

  it('costs few calls: what changes something is asked for once a session', async () => {
    const disk = request();
    await session({ ...disk, snapshotId: await session(disk, 1, 'first') }, 2, 'second');
    for (const action of ['CreateVolume', 'CreateSnapshot', 'DeleteVolume'])
      expect([action, stub.count(action)]).toEqual([action, 2]);
    // Looks repeat while something is under way; here everything is at once what it becomes.
    expect(stub.calls.length / 2).toBeLessThan(20);
  });

  it('D31: has the zone that the node has, if the grant does not name it', async () => {
    await persist(() => volumes.ensure(request({ zone: null, node: 'h100-2' })));
    expect(only().zone).toBe('us-east-2b');
  });

  it('D33: is never replaced by something lesser where no zone is known: it is refused, with words', async () => {
    await expect(volumes.ensure(request({ zone: null, node: 'no-such-node' }))).rejects.toThrow(/zone of node no-such-node/);
    expect(stub.state.volumes.size).toBe(0);
  });

  it('D2: that cannot be had is waited for or refused, never replaced by an empty home', async () => {
    stub.fault = (action) => (action === 'CreateVolume' ? 'deny' : null);
    const disk = request();
    await expect(volumes.ensure(disk)).rejects.toThrow(/UnauthorizedOperation/);
    stub.fault = () => null;
    expect(await persist(() => volumes.ensure(disk))).toEqual({ claim: `disk-${disk.diskId}` });
  });

  it('D35: is on record before it is asked for, and has a disk before that', async () => {
    const disk = request();
    stub.fault = () => 'fail';
    await expect(
      new DisksWithRows({ client: cluster.client, db, ec2: ec2At(stub.url, { maxAttempts: 1 }), volumeType: GP3 }).ensure(disk),
    ).rejects.toThrow(/500/);
    const { rows } = await db.query('select state, volume_id from ebs_volumes where disk_id = $1', [disk.diskId]);
    expect(rows).toEqual([{ state: 'making', volume_id: null }]);
    await expect(
      db.query(`insert into ebs_volumes (disk_id, generation, zone, size_gb) values ($1, 1, 'z', 1)`, [v7()]),
    ).rejects.toThrow(/foreign key/);
  });

  it('is waited for while it is being made, without holding anybody up', async () => {
    stub.state.delays.create = 150;
    const disk = request();
    await expect(volumes.ensure(disk)).rejects.toThrow(NotYet);
    await persist(() => volumes.ensure(disk));
    expect(stub.count('CreateVolume')).toBe(1);
  });

  it('D1 D13 D14: goes after its snapshot is complete and no earlier, and nothing of it stays; the next one starts from the snapshot', async () => {
    const disk = request();
    const first = await session(disk, 1, 'what Ada wrote');
    expect(stub.state.volumes.size).toBe(0);
    const { core, namespace } = cluster.client;
    const claims = await core.listNamespacedPersistentVolumeClaim({ namespace });
    expect(claims.items.filter(({ metadata }) => metadata?.name?.includes(disk.diskId))).toEqual([]);
    const second = await session({ ...disk, snapshotId: first, zone: 'us-east-2c' }, 2, 'what Ada wrote later');
    await persist(() => volumes.ensure({ ...disk, snapshotId: second }));
    expect(only()).toMatchObject({ content: 'what Ada wrote later', sizeGb: 100 });
    expect(only().tags.get('gpu-dev:generation')).toBe('3');
  });

  it('D1: is not deleted while its snapshot is pending, was never taken, or is of another volume', async () => {
    stub.state.delays.capture = 60_000;
    const disk = request();
    await persist(() => volumes.ensure(disk));
    expect(await volumes.snapshot(disk.diskId, 's-pending')).toMatchObject({ state: 'pending' });
    for (const id of ['s-pending', 's-never']) {
      await expect(volumes.remove(disk.diskId, id)).rejects.toThrow(/is not complete; the disk stays/);
    }
    stub.state.delays.capture = 0;
    const other = request();
    await persist(() => volumes.ensure(other));
    expect((await captured(volumes, other.diskId, 's-other')).state).toBe('complete');
    await expect(volumes.remove(disk.diskId, 's-other')).rejects.toThrow(TerminalError);
    expect(stub.count('DeleteVolume')).toBe(0);
  });

  it('D7 D34: is free only when EC2 says so: what a node still holds is asked back, and nothing is taken or deleted meanwhile', async () => {
    const disk = request();
    await persist(() => volumes.ensure(disk));
    const volume = only();
    stub.state.attach(volume.id, 'i-a');
    volume.attachments.set('i-a', 'busy');
    await expect(volumes.detach(disk.diskId)).rejects.toThrow(/still held by i-a \(busy\)/);
    await expect(volumes.snapshot(disk.diskId, `s-1-${disk.diskId}`)).rejects.toThrow(/still attached/);
    expect(stub.count('CreateSnapshot')).toBe(0);
    volume.attachments.set('i-a', 'attached');
    expect(await volumes.detach(disk.diskId)).toBe('attached');
    expect(stub.count('DetachVolume')).toBe(2);
    expect(await volumes.detach(disk.diskId)).toBe('detached');
    expect((await captured(volumes, disk.diskId, `s-1-${disk.diskId}`)).state).toBe('complete');
    stub.state.attach(volume.id, 'i-a');
    await expect(persist(() => volumes.remove(disk.diskId, `s-1-${disk.diskId}`), 300)).rejects.toThrow(/in vain/);
    expect(stub.state.volumes.size).toBe(1);
    stub.state.detach(volume.id, 'i-a');
    await persist(() => volumes.remove(disk.diskId, `s-1-${disk.diskId}`));
    expect(stub.state.volumes.size).toBe(0);
  });

  it('D13: that was made and never given to a server goes with its session; one with data does not', async () => {
    const disk = request();
    await persist(() => volumes.ensure(disk));
    await persist(() => volumes.dropUnused(disk.diskId));
    expect(stub.state.volumes.size).toBe(0);
    await volumes.dropUnused(v7());
    // One that took another's place has its data, whatever anybody says.
    await persist(() => volumes.ensure(disk));
    await db.query(
      `insert into ebs_volumes (disk_id, generation, volume_id, zone, size_gb, state) values ($1, 9, $2, 'us-east-2b', 10, 'leaving')`,
      [disk.diskId, `vol-${disk.diskId}`],
    );
    await volumes.dropUnused(disk.diskId);
    expect(stub.state.volumes.size).toBe(1);
  });

  it('D26: is not called free while EC2 does not answer', async () => {
    const disk = request();
    await persist(() => volumes.ensure(disk));
    stub.fault = () => 'fail';
    const hasty = new DisksWithRows({ client: cluster.client, db, ec2: ec2At(stub.url, { maxAttempts: 2 }), volumeType: GP3 });
    await expect(hasty.detach(disk.diskId)).rejects.toThrow(/500 InternalError/);
  });

  it('that must be there and is gone from EBS is never made anew', async () => {
    const disk = request();
    await persist(() => volumes.ensure(disk));
    stub.state.volumes.clear();
    await db.query(`update ebs_volumes set created_at = now() - interval '1 hour', attempted_at = null where disk_id = $1`, [
      disk.diskId,
    ]);
    await expect(volumes.ensure({ ...disk, expectVolume: true })).rejects.toThrow(/missing .*an operator must look/);
    expect(stub.state.volumes.size).toBe(0);
  });

  it('that was made a moment ago and does not show yet is not taken for missing', async () => {
    stub.state.delays.show = 200;
    const disk = request();
    await persist(() => volumes.ensure(disk));
    expect(stub.count('CreateVolume')).toBe(1);
  });

  it('grows when more is asked for, and its claim with it', async () => {
    const disk = request();
    const { claim } = await persist(() => volumes.ensure(disk));
    await persist(() => volumes.ensure({ ...disk, sizeGb: 300 }));
    expect(only().sizeGb).toBe(300);
    const { core, namespace } = cluster.client;
    const found = await core.readNamespacedPersistentVolumeClaim({ namespace, name: claim });
    expect(found.spec?.resources?.requests?.storage).toBe('300Gi');
    await persist(() => volumes.ensure({ ...disk, sizeGb: 50 }));
    expect(only().sizeGb).toBe(300);
  });

  it('that EC2 does not make larger serves as it is, and whoever asked is told why, and whether it is worth another try', async () => {
    const disk = request();
    await persist(() => volumes.ensure(disk));
    const larger = { ...disk, sizeGb: 300 };
    for (const [code, again] of [
      ['VolumeModificationRateExceeded', true],
      ['InvalidParameterValue', false],
    ] as const) {
      stub.refuses.set('ModifyVolume', code);
      const { stays } = await persist(() => volumes.ensure(larger));
      expect(stays).toEqual({ sizeGb: 100, again, reason: expect.stringContaining(`stays at 100 GB: `) });
      expect(stays!.reason).toContain(code);
      expect(only().sizeGb).toBe(100);
    }
    stub.refuses.delete('ModifyVolume');
    stub.denied.add('ModifyVolume');
    expect((await persist(() => volumes.ensure(larger))).stays).toMatchObject({ again: true });
    stub.denied.clear();
    expect((await persist(() => volumes.ensure(larger))).stays).toBeUndefined();
    expect(only().sizeGb).toBe(300);
  });

  it('that EC2 does not make anew as large as asked is made as large as it was, with all that was on it', async () => {
    const disk = request();
    const snapshotId = await session(disk, 1, 'written');
    stub.state.largestGb = 200;
    const { stays } = await persist(() => volumes.ensure({ ...disk, snapshotId, sizeGb: 300 }));
    expect(stays).toMatchObject({ sizeGb: 100, again: false });
    expect(only()).toMatchObject({ sizeGb: 100, content: 'written' });
    // A new disk has nothing to fall back to.
    stub.state.volumes.clear();
    await expect(persist(() => volumes.ensure(request({ sizeGb: 300 })))).rejects.toThrow(/AWS refuses this/);
  });

  it('D15 D30: that is needed in another zone is captured, made there from that, and deleted only when that is proven', async () => {
    const disk = request();
    await persist(() => volumes.ensure(disk));
    const first = only();
    first.content = 'written in zone a';
    stub.state.delays.capture = 100;
    const inZone = (zone: string) => ({ anyOf: [{ 'topology.kubernetes.io/zone': [zone] }], movable: true });
    expect(await volumes.placeOf(disk.diskId)).toEqual(inZone('us-east-2a'));
    const there = { ...disk, zone: 'us-east-2b', expectVolume: true };
    await expect(volumes.ensure(there)).rejects.toThrow(/on its way to zone us-east-2b/);
    expect(stub.state.volumes.has(first.id)).toBe(true);
    await persist(() => volumes.ensure(there));
    const now = [...stub.state.volumes.values()].filter(({ zone }) => zone === 'us-east-2b');
    expect(now).toHaveLength(1);
    expect(now[0]).toMatchObject({ content: 'written in zone a' });
    expect(await volumes.placeOf(disk.diskId)).toEqual(inZone('us-east-2b'));
    const { rows } = await db.query('select generation, state, volume_id from ebs_volumes where disk_id = $1 order by 1', [
      disk.diskId,
    ]);
    expect(rows.at(-1)).toMatchObject({ generation: 2, state: 'live', volume_id: now[0]!.id });
    expect((await captured(volumes, disk.diskId, 's-end')).state).toBe('complete');
    await persist(() => volumes.remove(disk.diskId, 's-end'));
    expect(stub.state.volumes.size).toBe(0);
    // What carried it from zone to zone has gone as well.
    expect([...stub.state.snapshots.values()].map(({ tags }) => tags.get('gpu-dev:snapshot'))).toEqual(['s-end']);
  });

  it('that holds something else than the snapshot that is asked for is captured, and replaced', async () => {
    const disk = request();
    const old = await session(disk, 1, 'old');
    const newer = await session({ ...disk, snapshotId: old }, 2, 'newer');
    await persist(() => volumes.ensure({ ...disk, snapshotId: newer }));
    const volume = await persist(async () => {
      await volumes.ensure({ ...disk, snapshotId: old });
      return [...stub.state.volumes.values()].find(({ content }) => content === 'old');
    });
    expect(volume?.content).toBe('old');
  });
});

describe('snapshots in EBS', () => {
  it('D6 D36: those of others are no candidates, whatever tags they copied, nor are those of other disks', async () => {
    const disk = request();
    const mine = await session(disk, 1, 'mine');
    const [taken] = stub.state.snapshots.values();
    stub.state.snapshots.set('snap-scanner', {
      ...taken!,
      id: 'snap-scanner',
      volumeId: 'vol-ffffffff',
      content: 'a copy of some scanner',
      startedAt: taken!.startedAt - 1_000,
    });
    stub.state.snapshots.set('snap-pending', {
      ...taken!,
      id: 'snap-pending',
      volumeId: 'vol-ffffffff',
      state: 'pending',
      settlesAt: Infinity,
    });
    await persist(() => volumes.ensure({ ...disk, snapshotId: mine }));
    expect(only().content).toBe('mine');
    await volumes.purge(disk.diskId, ['snap-scanner']).catch(() => {});
    await persist(() => volumes.purge(disk.diskId, [mine]));
    expect([...stub.state.snapshots.keys()]).toEqual(['snap-scanner', 'snap-pending']);
  });

  it('D10: one that is pending is no substitute for the one that is taken after the writers have stopped', async () => {
    stub.state.delays.capture = 300;
    const disk = request();
    await persist(() => volumes.ensure(disk));
    await volumes.snapshot(disk.diskId, 's-early');
    only().content = 'written after the first was begun';
    expect((await captured(volumes, disk.diskId, 's-final')).state).toBe('complete');
    const final = [...stub.state.snapshots.values()].find(({ tags }) => tags.get('gpu-dev:snapshot') === 's-final');
    expect(final?.content).toBe('written after the first was begun');
  });

  it('D5: one that takes hours holds nobody up: each look says how far it is', async () => {
    stub.state.delays.capture = 60_000;
    const disk = request();
    await persist(() => volumes.ensure(disk));
    await volumes.snapshot(disk.diskId, `s-1-${disk.diskId}`);
    const began = performance.now();
    expect(await volumes.snapshot(disk.diskId, `s-1-${disk.diskId}`)).toEqual({
      state: 'pending',
      percent: 50,
      lookAgainMs: 2_000,
    });
    expect(performance.now() - began).toBeLessThan(2_000);
  });

  it('D27: one whose answer was lost is found again, and not taken twice', async () => {
    const disk = request();
    await persist(() => volumes.ensure(disk));
    stub.failNext('CreateSnapshot', 'loseAfter');
    await expect(volumes.snapshot(disk.diskId, `s-1-${disk.diskId}`)).rejects.toThrow(/no answer/);
    expect(await volumes.snapshot(disk.diskId, `s-1-${disk.diskId}`)).toEqual({ state: 'pending', percent: 0 });
    await db.query(`update ebs_snapshots set attempted_at = attempted_at - interval '1 minute'`);
    expect((await captured(volumes, disk.diskId, `s-1-${disk.diskId}`)).state).toBe('complete');
    expect(stub.state.made.snapshots).toBe(1);
  });

  it('that EBS could not take has failed, with its words; the volume stays', async () => {
    stub.state.delays.capture = 60_000;
    const disk = request();
    await persist(() => volumes.ensure(disk));
    await volumes.snapshot(disk.diskId, `s-1-${disk.diskId}`);
    for (const snapshot of stub.state.snapshots.values()) snapshot.state = 'error';
    expect(await volumes.snapshot(disk.diskId, `s-1-${disk.diskId}`)).toMatchObject({
      state: 'failed',
      reason: expect.stringMatching(/EBS could not/),
    });
    await expect(volumes.remove(disk.diskId, `s-1-${disk.diskId}`)).rejects.toThrow(TerminalError);
    expect(stub.state.volumes.size).toBe(1);
  });

  it('T16 D32: purging touches what is on record and bears our tags, and nothing else', async () => {
    const disk = request();
    const mine = await session(disk, 1, 'mine');
    await persist(() => volumes.ensure({ ...disk, snapshotId: mine }));
    const volume = only();
    // Somebody took our tags off: it may be theirs by now.
    volume.tags.set('gpu-dev:cluster', 'another-cluster');
    await expect(persist(() => volumes.purge(disk.diskId, []))).rejects.toThrow(/does not bear this disk's tags: it stays/);
    expect(stub.count('DeleteVolume')).toBe(1);
    volume.tags.set('gpu-dev:cluster', CLUSTER);
    const other = request();
    await giveRow(db, other);
    await persist(() => volumes.purge(other.diskId, [mine]));
    expect(stub.state.snapshots.size).toBe(1);
    await persist(() => volumes.purge(disk.diskId, [mine]));
    expect([stub.state.volumes.size, stub.state.snapshots.size]).toEqual([0, 0]);
  });
});
