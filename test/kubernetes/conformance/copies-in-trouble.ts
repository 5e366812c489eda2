/** Copies on bad days: killed pods, lost nodes, a provider that dies between any two steps, full volumes, no node, no image. */
import { describe, expect, it } from 'vitest';
import { NotYet } from '../../../actors/errors.ts';
import { until } from '../../integration/providers/support/wait.ts';
import { copyingOf, type Disk } from './copying.ts';
import type { Subject } from './subject.ts';

const HANG = { annotations: { 'simulation.gpu-dev/job-outcome': 'hang' } };

export function copiesInTroubleConform(subject: () => Subject): void {
  const { core, namespace, volumes, claimOf, disk, usable, withServer, detached, ended, podIn, around } = copyingOf(subject);
  const batch = () => subject().client.batch;
  const nothingAround = () => until('nothing is left around', async () => (await around()).length === 0);
  const isGone = (name: string) =>
    until(`${name} is gone`, () =>
      claimOf(name)
        .then(() => false)
        .catch(() => true),
    );

  /** A disk with a file on it that nobody uses. */
  async function written(text: string): Promise<Disk & { snapshotId: string }> {
    const made = disk();
    const claim = await usable(made);
    await withServer(claim, ['sh', '-c', `printf ${text} > /home/dev/file`]);
    await detached(made.diskId);
    return { ...made, snapshotId: `snap-${made.diskId}-1` };
  }
  const contentOf = async (snapshotId: string) => {
    const clone = disk({ snapshotId });
    return withServer(await usable(clone), ['cat', '/home/dev/file']);
  };
  const jobOf = async (diskId: string) => {
    const labelSelector = `gpu-dev.io/copy,gpu-dev.io/disk=${diskId}`;
    return (await batch().listNamespacedJob({ namespace: namespace(), labelSelector })).items[0];
  };
  const hasEnded = (diskId: string) =>
    until('the job has ended', async () =>
      (await jobOf(diskId))?.status?.conditions?.some(({ type, status }) => type === 'Complete' && status === 'True'),
    );

  describe('a copy in trouble', () => {
    it('whose pod is killed in the middle is made again from its beginning, by another pod', async () => {
      const { diskId, snapshotId } = await written('kept');
      const name = await podIn('Running', () => volumes(HANG).snapshot(diskId, snapshotId));
      const job = (await jobOf(diskId))?.metadata?.name ?? '';
      await subject().befall(`pods/${name}/fail`);
      const second = await until('another pod', async () => {
        const progress = await volumes().snapshot(diskId, snapshotId);
        expect(progress.state).toBe('pending');
        const { items } = await core().listNamespacedPod({ namespace: namespace(), labelSelector: `job-name=${job}` });
        return items.find(({ metadata, status }) => metadata?.name !== name && status?.phase === 'Running')?.metadata?.name;
      });
      expect((await claimOf(snapshotId)).metadata?.annotations?.['gpu-dev.io/complete']).toBeUndefined();
      // That one hangs as well; a Job that somebody deletes is begun anew.
      await core().deleteNamespacedPod({ namespace: namespace(), name: second, gracePeriodSeconds: 0 });
      await batch().deleteNamespacedJob({ namespace: namespace(), name: job, body: { propagationPolicy: 'Background' } });
      expect(await ended(diskId, snapshotId)).toMatchObject({ state: 'complete' });
      expect(await contentOf(snapshotId)).toBe('kept');
      await nothingAround();
    });

    it('goes on whoever looks: by another process at every step, and by two at once', async () => {
      const { diskId, snapshotId } = await written('kept');
      const looks = await Promise.allSettled([1, 2, 3].map(() => volumes().snapshot(diskId, snapshotId)));
      for (const look of looks) if (look.status === 'rejected') expect(look.reason).toBeInstanceOf(NotYet);
      await until('it has ended for all', async () => {
        const both = await Promise.all([volumes(), volumes()].map((each) => each.snapshot(diskId, snapshotId).catch(() => null)));
        return both.every((progress) => progress?.state === 'complete');
      });
      expect(await contentOf(snapshotId)).toBe('kept');
    });

    it('that was finished while nobody looked is recorded by whoever looks next', async () => {
      const { diskId, snapshotId } = await written('kept');
      // Asked no more once there is a job: another question might record its end, and clear it away.
      await until('there is a job', async () => {
        await volumes().snapshot(diskId, snapshotId);
        return jobOf(diskId);
      });
      await hasEnded(diskId);
      expect(await ended(diskId, snapshotId)).toMatchObject({ state: 'complete' });
      expect(await volumes().snapshot(diskId, snapshotId)).toMatchObject({ state: 'complete' });
      await nothingAround();
      expect(await contentOf(snapshotId)).toBe('kept');
    });

    it('whose job is gone before it was recorded is recorded by another, and what a job says of an earlier volume counts for nothing', async () => {
      const { diskId, snapshotId } = await written('kept');
      await until('its script is there', async () => {
        await volumes().snapshot(diskId, snapshotId);
        return (await around()).length >= 3;
      });
      await hasEnded(diskId);
      const job = (await jobOf(diskId))?.metadata;
      await batch().deleteNamespacedJob({
        namespace: namespace(),
        name: job?.name ?? '',
        body: { propagationPolicy: 'Background' },
      });
      await nothingAround();
      await until('another job', async () => {
        await volumes().snapshot(diskId, snapshotId);
        const found = (await jobOf(diskId))?.metadata;
        return found !== undefined && found.uid !== job?.uid && (await around()).length >= 4;
      });
      await hasEnded(diskId);
      // The claim is another by now: that job has succeeded for one that is gone.
      const labelSelector = 'gpu-dev.io/copy';
      await core().deleteCollectionNamespacedPod({ namespace: namespace(), labelSelector });
      await core().deleteNamespacedPersistentVolumeClaim({ namespace: namespace(), name: snapshotId });
      await isGone(snapshotId);
      expect(await ended(diskId, snapshotId)).toMatchObject({ state: 'complete' });
      expect(await contentOf(snapshotId)).toBe('kept');
    });

    it('that cannot be made says why in words, and leaves nothing but the disk', async () => {
      const { diskId, snapshotId } = await written('kept');
      const options = { annotations: { 'simulation.gpu-dev/job-outcome': 'fail' }, retries: 0 };
      const first = await ended(diskId, snapshotId, options);
      expect(first).toMatchObject({ state: 'failed', reason: expect.stringMatching(/^The copy failed: \S/) });
      await nothingAround();
      await isGone(snapshotId);
      expect(await ended(diskId, `snap-${diskId}-2`)).toMatchObject({ state: 'complete' });
      expect(await contentOf(`snap-${diskId}-2`)).toBe('kept');
    });

    it('never takes a volume for its own that holds something else, and never deletes it', async () => {
      const { diskId, snapshotId } = await written('kept');
      const labels = { 'app.kubernetes.io/managed-by': 'gpu-dev', 'gpu-dev.io/disk': diskId, 'gpu-dev.io/snapshot': snapshotId };
      const annotations = { 'gpu-dev.io/snapshot': snapshotId };
      const body = {
        metadata: { name: snapshotId, labels, annotations },
        spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '10Gi' } } },
      };
      await core().createNamespacedPersistentVolumeClaim({ namespace: namespace(), body });
      await withServer(snapshotId, ['sh', '-c', 'printf theirs > /home/dev/thesis']);
      expect(await ended(diskId, snapshotId)).toMatchObject({
        state: 'failed',
        reason: 'The new volume holds data that is not of this copy; it was left as it is',
      });
      await nothingAround();
      expect(await withServer(snapshotId, ['cat', '/home/dev/thesis'])).toBe('theirs');
    });

    it('waits for a node and for its image with the reason told, and not for ever', async () => {
      const { diskId, snapshotId } = await written('kept');
      const nodes = ['h100-1', 'h100-2', 'cpu-x86-1'];
      await Promise.all(nodes.map((node) => subject().befall(`nodes/${node}/cordon`)));
      try {
        await until('it says what it waits for', async () => {
          const progress = await volumes().snapshot(diskId, snapshotId);
          return progress.state === 'pending' && /no node takes it \(0\/3 nodes are available/.test(progress.detail ?? '');
        });
        expect(await ended(diskId, snapshotId, { patienceMs: 0 })).toMatchObject({
          state: 'failed',
          reason: expect.stringMatching(/^The copy could not begin: no node takes it/),
        });
      } finally {
        await Promise.all(nodes.map((node) => subject().befall(`nodes/${node}/uncordon`)));
      }
      await nothingAround();
      const missing = { annotations: { 'simulation.gpu-dev/pull-error': 'not found' }, image: 'debian:12.11-nowhere' };
      const second = `snap-${diskId}-2`;
      await until('it says what it waits for', async () => {
        const progress = await volumes(missing).snapshot(diskId, second);
        return progress.state === 'pending' && /ImagePullBackOff \(.*not found/.test(progress.detail ?? '');
      });
      await volumes().removeSnapshot(diskId, second);
      await nothingAround();
    });

    it('on a node that is gone is made on another', async () => {
      const { diskId, snapshotId } = await written('kept');
      const name = await podIn('Running', () => volumes(HANG).snapshot(diskId, snapshotId));
      const { spec } = await core().readNamespacedPod({ namespace: namespace(), name });
      const node = spec?.nodeName ?? '';
      await subject().befall(`nodes/${node}/cordon`);
      // What the cluster does once it is sure that the node does not come back.
      await core().deleteNamespacedPod({ namespace: namespace(), name, gracePeriodSeconds: 0 });
      const second = await podIn('Running', () => volumes(HANG).snapshot(diskId, snapshotId));
      const again = await core().readNamespacedPod({ namespace: namespace(), name: second });
      expect(again.spec?.nodeName).not.toBe(node);
      await subject().befall(`nodes/${node}/uncordon`);
      const job = (await jobOf(diskId))?.metadata?.name ?? '';
      await batch().deleteNamespacedJob({ namespace: namespace(), name: job, body: { propagationPolicy: 'Background' } });
      expect(await ended(diskId, snapshotId)).toMatchObject({ state: 'complete' });
    });
  });

  describe('a new disk in trouble', () => {
    it('is filled once, also when whoever filled it died before it was recorded', async () => {
      const { diskId, snapshotId } = await written('kept');
      await ended(diskId, snapshotId);
      const clone = disk({ snapshotId });
      const fill = () =>
        volumes(HANG)
          .ensure(clone)
          .catch((error: unknown) => expect(error).toBeInstanceOf(NotYet));
      const name = await podIn('Running', fill);
      await expect(volumes().ensure(clone)).rejects.toThrow(/is being filled from its snapshot: 50 %/);
      await subject().befall(`pods/${name}/fail`);
      const job = (await jobOf(clone.diskId))?.metadata?.name ?? '';
      await batch().deleteNamespacedJob({ namespace: namespace(), name: job, body: { propagationPolicy: 'Background' } });
      await until('a job again', async () => {
        await fill().catch(() => undefined);
        const found = await jobOf(clone.diskId);
        return found !== undefined && found.metadata?.deletionTimestamp === undefined;
      });
      await batch().deleteNamespacedJob({ namespace: namespace(), name: job, body: { propagationPolicy: 'Background' } });
      await until('its pods are gone', async () => (await around()).length === 0);
      await until('it was filled', async () => {
        await volumes()
          .ensure(clone)
          .catch((error: unknown) => expect(error).toBeInstanceOf(NotYet));
        const found = await jobOf(clone.diskId);
        return found === undefined || found.status?.conditions?.some(({ type }) => type === 'Complete');
      });
      // The copy that it was filled from goes before anybody has recorded it.
      await volumes().removeSnapshot(diskId, snapshotId);
      expect(await withServer(await usable(clone), ['cat', '/home/dev/file'])).toBe('kept');
      await nothingAround();
    });
  });
}
