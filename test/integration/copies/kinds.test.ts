// Which kind of snapshot a cluster gives, and disks that have some of both.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { NotYet } from '../../../actors/errors.ts';
import type { KubernetesClient } from '../../../src/providers/kubernetes/client.ts';
import { findSnapshotObstacles, hasVolumeSnapshots, SnapshotChoice } from '../../../src/providers/local/snapshot-kind.ts';
import { LocalVolumes } from '../../../src/providers/local/volumes.ts';
import { startCluster, type TestCluster } from '../providers/support/cluster.ts';
import { until } from '../providers/support/wait.ts';
import { volumeRequest } from '../providers/support/specs.ts';

let without: TestCluster;
let having: TestCluster;
beforeAll(async () => {
  [without, having] = await Promise.all([startCluster({ volumeSnapshots: false }), startCluster()]);
});
afterAll(() => Promise.all([without?.stop(), having?.stop()]));

describe('the kind of snapshots', () => {
  it('is what the cluster knows, found once, and asked for again only if it did not say', async () => {
    expect(await hasVolumeSnapshots(without.client)).toBe(false);
    expect(await hasVolumeSnapshots(having.client)).toBe(true);
    expect(await new SnapshotChoice(without.client, 'auto').kind()).toBe('copy');
    expect(await new SnapshotChoice(having.client, 'auto').kind()).toBe('volume-snapshots');
    expect(await new SnapshotChoice(having.client, 'copy').kind()).toBe('copy');
    const { client, wire } = await without.wired({ requestTimeoutMs: 300 });
    const choice = new SnapshotChoice(client, 'auto');
    wire.refuse();
    await expect(choice.kind()).rejects.toThrow(/no answer/);
    wire.mend();
    expect(await choice.kind()).toBe('copy');
    wire.refuse();
    expect(await choice.kind()).toBe('copy');
  });

  it('that is asked for and not there is named at the start; one that nobody asked for is not missed', async () => {
    expect(await findSnapshotObstacles(without.client, 'volume-snapshots')).toEqual([
      expect.stringMatching(/does not know VolumeSnapshots .* GPU_DEV_SNAPSHOTS asks for them/),
    ]);
    expect(await findSnapshotObstacles(without.client, 'auto')).toEqual([]);
    expect(await findSnapshotObstacles(without.client, 'copy')).toEqual([]);
    expect(await findSnapshotObstacles(having.client, 'volume-snapshots')).toEqual([]);
  });

  it('that is asked for and not there fails a snapshot, and a copy is not taken in its place', async () => {
    const volumes = new LocalVolumes({ client: without.client, snapshots: 'volume-snapshots' });
    const disk = volumeRequest();
    await volumes.ensure(disk);
    expect(await volumes.snapshot(disk.diskId, `snap-${disk.diskId}-1`)).toEqual({
      state: 'failed',
      reason: 'This cluster cannot take snapshots of volumes; the disk itself is kept',
    });
  });
});

const volumes = (client: KubernetesClient, snapshots: 'auto' | 'copy') => new LocalVolumes({ client, snapshots });
const complete = (by: LocalVolumes, diskId: string, id: string) =>
  until('the snapshot is complete', async () => (await by.snapshot(diskId, id)).state === 'complete');
const usable = (by: LocalVolumes, disk: ReturnType<typeof volumeRequest>) =>
  until('the volume may be used', () =>
    by.ensure(disk).then(
      () => true,
      (error: unknown) => (error instanceof NotYet ? null : Promise.reject(error as Error)),
    ),
  );

describe('a disk with snapshots of both kinds', () => {
  it('gives either back under either setting, and loses both when they are deleted', async () => {
    const { client } = having;
    const { core, custom, namespace } = client;
    const disk = volumeRequest();
    const [copy, snapshot] = [`snap-${disk.diskId}-1`, `snap-${disk.diskId}-2`];
    await volumes(client, 'auto').ensure(disk);
    // As it was before the cluster learned of VolumeSnapshots, and since then.
    await complete(volumes(client, 'copy'), disk.diskId, copy);
    await complete(volumes(client, 'auto'), disk.diskId, snapshot);
    const claimOf = (name: string) => core.readNamespacedPersistentVolumeClaim({ namespace, name });
    for (const setting of ['auto', 'copy'] as const) {
      await complete(volumes(client, setting), disk.diskId, copy);
      await complete(volumes(client, setting), disk.diskId, snapshot);
      const [fromCopy, fromSnapshot] = [volumeRequest({ snapshotId: copy }), volumeRequest({ snapshotId: snapshot })];
      await usable(volumes(client, setting), fromCopy);
      await usable(volumes(client, setting), fromSnapshot);
      expect((await claimOf(`disk-${fromCopy.diskId}`)).metadata?.annotations).toMatchObject({ 'gpu-dev.io/fill-from': copy });
      expect((await claimOf(`disk-${fromSnapshot.diskId}`)).spec?.dataSource).toMatchObject({ name: snapshot });
    }
    await volumes(client, 'auto').removeSnapshot(disk.diskId, copy);
    await volumes(client, 'copy').purge(disk.diskId, [copy, snapshot]);
    const group = { group: 'snapshot.storage.k8s.io', version: 'v1', plural: 'volumesnapshots', namespace };
    await until('all is gone', async () => {
      const { items } = (await custom.listNamespacedCustomObject(group)) as { items: { metadata: { name: string } }[] };
      const claims = await core.listNamespacedPersistentVolumeClaim({ namespace });
      const names = [...items.map(({ metadata }) => metadata.name), ...claims.items.map(({ metadata }) => metadata?.name)];
      return !names.some((name) => name?.includes(disk.diskId));
    });
  });
});

describe('a disk that is being filled', () => {
  it('and is not wanted any more is let go at once, and filled anew for the next who wants it', async () => {
    const { client } = having;
    const first = volumeRequest();
    const snapshot = `snap-${first.diskId}-1`;
    await volumes(client, 'copy').ensure(first);
    await complete(volumes(client, 'copy'), first.diskId, snapshot);
    const annotations = { 'simulation.gpu-dev/job-outcome': 'hang' };
    const slow = new LocalVolumes({ client, snapshots: 'copy', copies: { annotations } });
    const clone = volumeRequest({ snapshotId: snapshot });
    const jobs = () => client.batch.listNamespacedJob({ namespace: client.namespace, labelSelector: 'gpu-dev.io/copy=fill' });
    await until('it is being filled', async () => {
      await expect(slow.ensure(clone)).rejects.toThrow(NotYet);
      return (await jobs()).items.length === 1;
    });
    await until('nobody holds it', async () => (await slow.detach(clone.diskId)) === 'detached');
    expect((await jobs()).items).toEqual([]);
    await usable(volumes(client, 'copy'), clone);
  });
});
