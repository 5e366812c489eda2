/** Disks in EBS on a bad day: whatever goes wrong at EC2, nothing is made twice, nothing is lost, and everything ends right. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { VolumeRequest } from '../../actors/disk/ports.ts';
import { NotYet, TerminalError } from '../../actors/errors.ts';
import { AwsError } from '../../src/providers/aws/errors.ts';
import { until } from '../integration/providers/support/wait.ts';
import { Ec2Stub, type Fault } from './stub/ec2-stub.ts';
import { DisksWithRows, ec2At, GP3, type EbsScene, startEbsScene } from './support/ebs.ts';
import { volumeRequest } from '../integration/providers/support/specs.ts';

let scene: EbsScene;
let cluster: EbsScene['cluster'];
let db: EbsScene['db'];
let stub: Ec2Stub;

beforeAll(async () => {
  scene = await startEbsScene();
  ({ cluster, db } = scene);
});
afterAll(() => scene?.stop());
beforeEach(async () => {
  stub = await Ec2Stub.start();
});
afterEach(() => stub.stop());

const request = (change: Partial<VolumeRequest> = {}): VolumeRequest =>
  volumeRequest({ owner: 'ada', zone: 'us-east-2a', ...change });

/** As the dispatcher does it: again after whatever passes, until it is done. Attempts that wait for their time are let go on at once. */
async function insist<T>(work: () => Promise<T>): Promise<T> {
  const done = await until('it is done', async () => {
    try {
      return { value: await work() };
    } catch (error) {
      if (error instanceof NotYet || (error instanceof AwsError && error.failure !== 'refused')) {
        await db.query(
          `update ebs_volumes set attempted_at = attempted_at - interval '1 minute' where volume_id is null and attempted_at < now() - interval '50 ms'`,
        );
        await db.query(
          `update ebs_snapshots set attempted_at = attempted_at - interval '1 minute' where ebs_snapshot_id is null and attempted_at < now() - interval '50 ms'`,
        );
        return null;
      }
      throw error;
    }
  });
  return done.value;
}
const driven = (settings = {}) =>
  new DisksWithRows({ client: cluster.client, db, ec2: ec2At(stub.url, { maxAttempts: 2, ...settings }), volumeType: GP3 });

async function session(volumes: DisksWithRows, disk: VolumeRequest, round: number, content: string): Promise<string> {
  await insist(() => volumes.ensure(disk));
  const mine = [...stub.state.volumes.values()].filter(({ tags }) => tags.get('gpu-dev:disk') === disk.diskId);
  expect(mine).toHaveLength(1);
  mine[0]!.content = content;
  await insist(async () => {
    if ((await volumes.detach(disk.diskId)) !== 'detached') throw new NotYet(0, 'attached');
  });
  const snapshotId = `snap-${disk.diskId}-${round}`;
  await insist(async () => {
    const progress = await volumes.snapshot(disk.diskId, snapshotId);
    expect(progress.state).not.toBe('failed');
    if (progress.state === 'pending') throw new NotYet(0, 'pending');
  });
  await insist(() => volumes.remove(disk.diskId, snapshotId));
  return snapshotId;
}

describe('EC2 on a bad day', () => {
  for (const fault of ['throttle', 'fail', 'failAfter', 'loseAfter'] as Fault[]) {
    it(`R6: ${fault} at every call, once each: one volume a session, one snapshot, and the last write in it`, async () => {
      const seen = new Set<string>();
      stub.fault = (action) => {
        if (seen.has(action)) return null;
        seen.add(action);
        return fault;
      };
      const volumes = driven();
      const disk = request();
      const first = await session(volumes, disk, 1, 'first');
      seen.clear();
      await session(volumes, { ...disk, snapshotId: first }, 2, 'second');
      expect(stub.state.made).toEqual({ volumes: 2, snapshots: 2 });
      expect(stub.state.volumes.size).toBe(0);
      expect([...stub.state.snapshots.values()].map(({ content }) => content)).toEqual(['first', 'second']);
    });
  }

  it('R6: calls that go wrong at random, with states and lists that lag, and other processes at the same work', async () => {
    Object.assign(stub.state.delays, { create: 20, capture: 30, remove: 20, show: 10 });
    // The numbers of a run that may be told again: a generator of its own.
    let seed = 20_260_101;
    const random = () => {
      seed = (seed * 1_103_515_245 + 12_345) % 2 ** 31;
      return seed / 2 ** 31;
    };
    const faults: Fault[] = ['throttle', 'fail', 'failAfter', 'loseAfter'];
    stub.fault = () => (random() < 0.2 ? faults[Math.floor(random() * faults.length)]! : null);
    const [one, other] = [driven({ maxAttempts: 1 }), driven({ maxAttempts: 3 })];
    const disks = [request(), request(), request()];
    await Promise.all(
      disks.map(async (disk) => {
        // Whoever thinks that the first one died does the same once more, at the same time.
        await Promise.all([insist(() => one.ensure(disk)), insist(() => other.ensure(disk))]);
        await session(one, disk, 1, disk.diskId);
      }),
    );
    expect(stub.state.volumes.size).toBe(0);
    expect(stub.state.made).toEqual({ volumes: 3, snapshots: 3 });
    expect([...stub.state.snapshots.values()].map(({ content }) => content).sort()).toEqual(
      disks.map(({ diskId }) => diskId).sort(),
    );
  });

  it('throttling is waited out within the budget, with pauses that differ, and a call comes to an end', async () => {
    stub.fault = () => 'throttle';
    const hasty = driven({ maxAttempts: 50, budgetMs: 900 });
    const began = performance.now();
    await expect(hasty.ensure(request())).rejects.toThrow(/RequestLimitExceeded/);
    expect(performance.now() - began).toBeLessThan(2_500);
    expect(stub.calls.length).toBeGreaterThan(2);
    expect(stub.state.made.volumes).toBe(0);
  });

  it('an EC2 that does not answer is unknown: the call ends at its limit, and nothing is concluded', async () => {
    const volumes = driven({ maxAttempts: 1 });
    const disk = request();
    await insist(() => volumes.ensure(disk));
    await stub.stop();
    await expect(volumes.detach(disk.diskId)).rejects.toThrow(/no answer/);
    await expect(volumes.ensure({ ...disk, expectVolume: true })).rejects.toThrow(/no answer/);
    await expect(volumes.remove(disk.diskId, 'any')).rejects.toThrow(TerminalError);
    const { rows } = await db.query('select state from ebs_volumes where disk_id = $1', [disk.diskId]);
    expect(rows).toEqual([{ state: 'live' }]);
    stub = await Ec2Stub.start();
  });

  it('S27: a list of many pages is read to its end before anything is concluded', async () => {
    stub.pageSize = 2;
    const volumes = driven();
    const disk = request();
    await insist(() => volumes.ensure(disk));
    const { tags } = [...stub.state.volumes.values()][0]!;
    for (let count = 0; count < 7; count += 1) {
      stub.state.createVolume({ zone: 'us-east-2a', sizeGb: 1, snapshotId: null, type: 'gp3', encrypted: true, token: '', tags });
    }
    expect(await ec2At(stub.url).volumes({ 'gpu-dev:disk': disk.diskId })).toHaveLength(8);
    expect(stub.count('DescribeVolumes')).toBeGreaterThanOrEqual(4);
  });

  it('a token that was used for something else once leads to another number, not to another disk', async () => {
    const volumes = driven();
    const disk = request();
    const tags = new Map([['gpu-dev:disk', 'something-else']]);
    stub.state.createVolume({
      zone: 'us-east-2c',
      sizeGb: 5,
      snapshotId: null,
      type: 'gp3',
      encrypted: true,
      token: `${disk.diskId}-1`,
      tags,
    });
    await insist(() => volumes.ensure(disk));
    const mine = [...stub.state.volumes.values()].filter((volume) => volume.tags.get('gpu-dev:disk') === disk.diskId);
    expect(mine.map((volume) => volume.tags.get('gpu-dev:generation'))).toEqual(['2']);
  });

  it('what EC2 will never accept is told to the user in its words, and the next try is not bound to it', async () => {
    const volumes = driven();
    stub.state.largestGb = 100;
    const disk = request({ sizeGb: 500 });
    await expect(insist(() => volumes.ensure(disk))).rejects.toThrow(
      /AWS refuses this: Volume of 500GiB is too small or too large/,
    );
    await insist(() => volumes.ensure({ ...disk, sizeGb: 20 }));
    expect([...stub.state.volumes.values()].map(({ sizeGb }) => sizeGb)).toEqual([20]);
  });
});

describe('a volume that a machine holds', () => {
  let volumes: DisksWithRows;
  const only = ({ diskId }: VolumeRequest) =>
    [...stub.state.volumes.values()].find(({ tags }) => tags.get('gpu-dev:disk') === diskId)!;
  beforeEach(() => {
    stub.state.addInstance('i-a', 'us-east-2a');
    volumes = driven({ maxAttempts: 1 });
  });

  it.each(['detaching', 'busy'] as const)(
    'D7: whose machine does not let go (%s) is not forced off while anything there may write; when that is terminated, it is',
    async (how) => {
      const disk = request();
      await insist(() => volumes.ensure(disk));
      const volume = only(disk);
      volume.content = 'written, and not all of it on its way yet';
      stub.state.clinging.add('i-a');
      stub.state.attach(volume.id, 'i-a');
      if (how === 'busy') volume.attachments.set('i-a', 'busy');
      else expect(await volumes.detach(disk.diskId)).toBe('attached');
      // Stopped is not over: it may start again, and EC2 lets go of it without force.
      for (const state of ['running', 'stopping', 'stopped', 'shutting-down']) {
        stub.state.setInstance('i-a', state);
        await expect(volumes.detach(disk.diskId)).rejects.toThrow(/EC2 does not call terminated: nothing is forced/);
      }
      stub.failNext('DescribeInstances', 'fail');
      await expect(volumes.detach(disk.diskId)).rejects.toThrow(/500/);
      expect(volume.attachments.get('i-a')).toBe(how);
      expect(volume.content).not.toBe('torn');
      stub.state.setInstance('i-a', 'terminated');
      await expect(volumes.detach(disk.diskId)).rejects.toThrow(/terminated: it is taken off by force/);
      expect(await volumes.detach(disk.diskId)).toBe('detached');
      await insist(async () => {
        const { state } = await volumes.snapshot(disk.diskId, `s-${how}-${disk.diskId}`);
        if (state === 'pending') throw new NotYet(0, state);
        expect(state).toBe('complete');
      });
      expect([...stub.state.snapshots.values()][0]?.content).toBe(volume.content);
    },
  );

  it('D7: that many machines hold is asked back of each, and forced only off those that are no more', async () => {
    const disk = request();
    await insist(() => volumes.ensure(disk));
    const volume = only(disk);
    for (const id of ['i-b', 'i-c']) stub.state.addInstance(id, 'us-east-2a');
    stub.state.clinging.add('i-b').add('i-gone');
    volume.attachments.set('i-a', 'attached').set('i-b', 'detaching').set('i-c', 'attaching').set('i-gone', 'busy');
    volume.state = 'in-use';
    await expect(volumes.detach(disk.diskId)).rejects.toThrow(
      /i-a, which was asked .* and i-b \(detaching\), .* and i-c \(attaching\) and i-gone, which is terminated/,
    );
    expect([...volume.attachments.keys()]).toEqual(['i-b', 'i-c']);
    expect(volume.content).not.toBe('torn');
  });

  it('T16: that lost our tags is taken off by nobody', async () => {
    const disk = request();
    await insist(() => volumes.ensure(disk));
    stub.state.attach(only(disk).id, 'i-a');
    only(disk).tags.delete('gpu-dev:cluster');
    await expect(volumes.detach(disk.diskId)).rejects.toThrow(/does not bear this disk's tags/);
    expect(stub.count('DetachVolume')).toBe(0);
  });
});
