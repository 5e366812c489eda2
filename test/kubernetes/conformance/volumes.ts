/** Volumes: made once, never from nothing in place of data, saved, and purged by their label alone. */
import { v7 } from 'uuid';
import { describe, expect, it } from 'vitest';
import type { Volumes } from '../../../actors/disk/ports.ts';
import { NotYet, TerminalError } from '../../../actors/errors.ts';
import { serverSpec } from '../../integration/providers/support/specs.ts';
import { until } from '../../integration/providers/support/wait.ts';
import type { Subject } from './subject.ts';

export function volumesConform(subject: () => Subject): void {
  const core = () => subject().client.core;
  const volumes = () => subject().volumes(subject().client);
  const servers = () => subject().servers(subject().client);
  const namespace = () => subject().client.namespace;
  const claimOf = (name: string) => core().readNamespacedPersistentVolumeClaim({ namespace: namespace(), name });
  const request = (change: Partial<Parameters<Volumes['ensure']>[0]> = {}) => ({
    diskId: v7(),
    owner: 'ada@example.com',
    sizeGb: 200,
    snapshotId: null,
    expectVolume: false,
    node: 'h100-1',
    zone: null,
    ...change,
  });

  /** The claim of a disk, once it may be used. */
  async function made(disk: Parameters<Volumes['ensure']>[0]): Promise<string> {
    return until('the volume may be used', async () => {
      try {
        return (await volumes().ensure(disk)).claim;
      } catch (error) {
        if (error instanceof NotYet) return null;
        throw error;
      }
    });
  }

  async function purged(diskId: string, snapshotIds: string[]): Promise<void> {
    await until('the disk is purged', async () => {
      try {
        await volumes().purge(diskId, snapshotIds);
        return true;
      } catch (error) {
        if (error instanceof NotYet) return false;
        throw error;
      }
    });
  }

  async function complete(diskId: string, snapshotId: string) {
    return until('the snapshot is complete', async () => {
      const progress = await volumes().snapshot(diskId, snapshotId);
      return progress.state === 'pending' ? null : progress;
    });
  }

  describe('a volume', () => {
    it('is made once, has the size asked for and no owner that could take it away', async () => {
      const disk = request();
      expect(await made(disk)).toBe(`disk-${disk.diskId}`);
      expect(await volumes().ensure(disk)).toEqual({ claim: `disk-${disk.diskId}` });
      const found = await claimOf(`disk-${disk.diskId}`);
      expect(found.spec?.resources?.requests?.storage).toBe('200Gi');
      expect(found.metadata?.ownerReferences).toBeUndefined();
      expect(found.metadata?.annotations?.['gpu-dev.io/owner']).toBe('ada@example.com');
    });

    it('grows when it is adopted with a larger size, and never shrinks', async () => {
      const disk = request({ sizeGb: 100 });
      const claim = await made(disk);
      await until('bound', async () => (await claimOf(claim)).status?.phase === 'Bound');
      await made({ ...disk, sizeGb: 300 });
      expect((await claimOf(claim)).spec?.resources?.requests?.storage).toBe('300Gi');
      await volumes().ensure({ ...disk, sizeGb: 50 });
      expect((await claimOf(claim)).spec?.resources?.requests?.storage).toBe('300Gi');
    });

    it('is attached as long as a server uses it, and detached when that is gone from the cluster and its node', async () => {
      const disk = request();
      const claim = await made(disk);
      expect(await volumes().detach(disk.diskId)).toBe('detached');
      const spec = serverSpec({ claim });
      const { name } = await servers().create(spec);
      await until('ready', async () =>
        (await core().readNamespacedPod({ namespace: namespace(), name })).status?.conditions?.some(
          ({ type, status }) => type === 'Ready' && status === 'True',
        ),
      );
      expect(await volumes().detach(disk.diskId)).toBe('attached');
      await servers().remove(spec, { force: false });
      await until('detached', async () => (await volumes().detach(disk.diskId)) === 'detached');
      expect(await servers().remove(spec, { force: false })).toBe('gone');
    });

    it('is attached while a foreign pod uses it', async () => {
      const disk = request();
      const claim = await made(disk);
      const body = {
        metadata: { name: 'foreign' },
        spec: {
          nodeSelector: { 'kubernetes.io/hostname': 'cpu-x86-1' },
          containers: [{ name: 'main', image: 'busybox', volumeMounts: [{ name: 'data', mountPath: '/data' }] }],
          volumes: [{ name: 'data', persistentVolumeClaim: { claimName: claim } }],
        },
      };
      await core().createNamespacedPod({ namespace: namespace(), body });
      await until(
        'running',
        async () => (await core().readNamespacedPod({ namespace: namespace(), name: 'foreign' })).status?.phase === 'Running',
      );
      expect(await volumes().detach(disk.diskId)).toBe('attached');
      await core().deleteNamespacedPod({ namespace: namespace(), name: 'foreign', gracePeriodSeconds: 0 });
      await until('detached', async () => (await volumes().detach(disk.diskId)) === 'detached');
    });

    it('that must be there and is missing is never made anew, from nothing or from an older snapshot', async () => {
      for (const snapshotId of [null, 'snap-older']) {
        const disk = request({ snapshotId, expectVolume: true });
        await expect(volumes().ensure(disk)).rejects.toThrow(/^The volume of this disk is missing .*an operator must look/);
        await expect(claimOf(`disk-${disk.diskId}`)).rejects.toThrow();
      }
      const there = request();
      await made(there);
      expect(await volumes().ensure({ ...there, expectVolume: true })).toEqual({ claim: `disk-${there.diskId}` });
    });

    it('is kept after a snapshot, where a snapshot is no cheap way back', async () => {
      expect(await volumes().remove(v7(), 'any')).toBe(subject().snapshots === 'ebs' ? 'removed' : 'kept');
    });
  });

  describe('a snapshot', () => {
    it('is taken once, becomes complete with its size, and a new volume starts from it', async () => {
      const disk = request({ sizeGb: 10 });
      await made(disk);
      const snapshotId = `snap-${disk.diskId}-1`;
      const [first, second] = await Promise.all([
        volumes().snapshot(disk.diskId, snapshotId),
        volumes().snapshot(disk.diskId, snapshotId),
      ]);
      expect(first.state).not.toBe('failed');
      expect(second.state).not.toBe('failed');
      expect(await complete(disk.diskId, snapshotId)).toEqual({ state: 'complete', sizeBytes: 10 * 2 ** 30 });
      const clone = request({ snapshotId, sizeGb: 5 });
      const claim = await made(clone);
      const found = await claimOf(claim);
      if (subject().snapshots === 'volume-snapshots')
        expect(found.spec?.dataSource).toMatchObject({ kind: 'VolumeSnapshot', name: snapshotId });
      else expect(found.spec?.dataSource).toBeUndefined();
      expect(found.spec?.resources?.requests?.storage).toBe('10Gi');
      await until('bound', async () => (await claimOf(claim)).status?.phase === 'Bound');
    });

    it('that is missing never gives an empty volume', async () => {
      const disk = request({ snapshotId: 'snap-nowhere' });
      await expect(volumes().ensure(disk)).rejects.toThrow(TerminalError);
      const { items } = await core().listNamespacedPersistentVolumeClaim({ namespace: namespace() });
      expect(items.some(({ metadata }) => metadata?.name === `disk-${disk.diskId}`)).toBe(false);
    });

    it('of a volume that does not exist has failed, with its reason', async () => {
      expect(await volumes().snapshot(v7(), `snap-${v7()}-1`)).toEqual({
        state: 'failed',
        reason: 'The volume of this disk is missing (it held data that no snapshot has); an operator must look',
      });
    });

    it('is unknown, not missing, while the API server does not answer', async () => {
      const { client, proxy } = await subject().faulty({ requestTimeoutMs: 300 });
      const far = subject().volumes(client);
      const disk = request();
      if (subject().snapshots === 'ebs') await made(disk);
      await proxy.refuse();
      // EBS takes snapshots without the cluster.
      if (subject().snapshots !== 'ebs') await expect(far.snapshot(disk.diskId, 'snap-x')).rejects.toThrow(/no answer/);
      await expect(far.detach(disk.diskId)).rejects.toThrow(/no answer/);
      await expect(far.ensure(disk)).rejects.toThrow(/no answer/);
    });
  });

  describe('purging a disk', () => {
    it('deletes its volume and the snapshots that bear its label, and no other', async () => {
      const disk = request();
      const other = request();
      await Promise.all([made(disk), made(other)]);
      const mine = `snap-${disk.diskId}-1`;
      const foreign = `snap-${other.diskId}-1`;
      await Promise.all([complete(disk.diskId, mine), complete(other.diskId, foreign)]);
      await purged(disk.diskId, [mine, foreign, 'snap-never-was']);
      await until('the volume is gone', async () => {
        const { items } = await core().listNamespacedPersistentVolumeClaim({ namespace: namespace() });
        return !items.some(({ metadata }) => metadata?.name === `disk-${disk.diskId}`);
      });
      expect(await volumes().snapshot(other.diskId, foreign)).toMatchObject({ state: 'complete' });
      expect(await volumes().snapshot(disk.diskId, mine)).toMatchObject({ state: 'failed' });
      expect((await claimOf(`disk-${other.diskId}`)).metadata?.deletionTimestamp).toBeUndefined();
      await purged(disk.diskId, [mine]);
    });

    it('leaves a claim alone that does not bear its label', async () => {
      const diskId = v7();
      const name = `disk-${diskId}`;
      const spec = { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '1Gi' } } };
      await core().createNamespacedPersistentVolumeClaim({ namespace: namespace(), body: { metadata: { name }, spec } });
      await volumes().purge(diskId, []);
      expect((await claimOf(name)).metadata?.deletionTimestamp).toBeUndefined();
      await expect(made(request({ diskId }))).rejects.toThrow(TerminalError);
    });
  });
}
