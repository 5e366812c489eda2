/** Snapshots as copies: data goes the whole way, nothing counts before it is complete, nothing is left around, nothing of others is touched. */
import { describe, expect, it } from 'vitest';
import { TerminalError } from '../../../actors/errors.ts';
import { until } from '../../integration/providers/support/wait.ts';
import { copyingOf } from './copying.ts';
import type { Subject } from './subject.ts';

export function copiesConform(subject: () => Subject): void {
  const { core, namespace, volumes, claimOf, disk, usable, withServer, detached, ended, podIn, around } = copyingOf(subject);
  const nothingAround = () => until('nothing is left around', async () => (await around()).length === 0);

  describe('a copy', () => {
    it('brings the data of a disk into a new one, which may be used only when it holds all of it', async () => {
      const first = disk();
      const claim = await usable(first);
      await withServer(claim, ['sh', '-c', 'printf one > /home/dev/a && printf two > /home/dev/b/c']);
      await detached(first.diskId);
      const snapshotId = `snap-${first.diskId}-1`;
      expect(await ended(first.diskId, snapshotId)).toMatchObject({ state: 'complete', sizeBytes: 10 * 2 ** 30 });
      const copy = await claimOf(snapshotId);
      expect(copy.metadata?.ownerReferences).toBeUndefined();
      expect(copy.metadata?.labels).toMatchObject({ 'gpu-dev.io/disk': first.diskId, 'gpu-dev.io/snapshot': snapshotId });
      expect(copy.metadata?.annotations).toMatchObject({
        'gpu-dev.io/owner': 'ada@example.com',
        'gpu-dev.io/snapshot': snapshotId,
        'gpu-dev.io/complete': expect.stringMatching(/^2/),
      });
      await nothingAround();
      // What is written later is not in it.
      await withServer(claim, ['sh', '-c', 'printf later > /home/dev/a']);
      await detached(first.diskId);

      const clone = disk({ snapshotId });
      await expect(volumes().ensure(clone)).rejects.toThrow(/is being filled from its snapshot/);
      const filled = await usable(clone);
      expect((await claimOf(filled)).metadata?.annotations).toMatchObject({
        'gpu-dev.io/fill-from': snapshotId,
        'gpu-dev.io/filled': expect.stringMatching(/^2/),
      });
      expect(await withServer(filled, ['sh', '-c', 'cat /home/dev/a /home/dev/b/c'])).toBe('onetwo');
      expect(await withServer(claim, ['cat', '/home/dev/a'])).toBe('later');
      await nothingAround();
      // Of the clone, too.
      await detached(clone.diskId);
      const second = `snap-${clone.diskId}-1`;
      await ended(clone.diskId, second);
      const third = await usable(disk({ snapshotId: second }));
      expect(await withServer(third, ['cat', '/home/dev/a'])).toBe('one');
    });

    it('binds what is bound only where its first pod runs', async () => {
      const { items: classes } = await subject().client.storage.listStorageClass();
      const storageClass = classes.find(({ volumeBindingMode: mode }) => mode === 'WaitForFirstConsumer')?.metadata?.name ?? '';
      expect(storageClass).not.toBe('');
      const first = disk();
      const claim = await usable(first, { storageClass });
      expect((await claimOf(claim)).status?.phase).toBe('Pending');
      await withServer(claim, ['sh', '-c', 'printf one > /home/dev/a']);
      await detached(first.diskId);
      const snapshotId = `snap-${first.diskId}-1`;
      expect(await ended(first.diskId, snapshotId)).toMatchObject({ state: 'complete' });
      // Whoever takes the clone need not know of the class: it is that of the copy.
      const filled = await usable(disk({ snapshotId }));
      expect((await claimOf(filled)).spec?.storageClassName).toBe(storageClass);
      expect(await withServer(filled, ['cat', '/home/dev/a'])).toBe('one');
      await nothingAround();
    });

    it('is never started from before it is complete', async () => {
      const first = disk();
      await usable(first);
      const snapshotId = `snap-${first.diskId}-1`;
      const options = { annotations: { 'simulation.gpu-dev/job-outcome': 'hang' } };
      await podIn('Running', () => volumes(options).snapshot(first.diskId, snapshotId));
      const clone = disk({ snapshotId });
      await expect(volumes().ensure(clone)).rejects.toThrow(TerminalError);
      await expect(claimOf(`disk-${clone.diskId}`)).rejects.toThrow();
      expect(await volumes().detach(first.diskId)).toBe('attached');
      await volumes().removeSnapshot(first.diskId, snapshotId);
      await nothingAround();
      await detached(first.diskId);
    });

    it('that nobody waits for any more is stopped before its disk is used again', async () => {
      const first = disk();
      await usable(first);
      const options = { annotations: { 'simulation.gpu-dev/job-outcome': 'hang' } };
      await podIn('Running', () => volumes(options).snapshot(first.diskId, `snap-${first.diskId}-1`));
      await expect(volumes().ensure(first)).rejects.toThrow('An earlier copy of this disk is being stopped');
      await usable(first);
      await nothingAround();
    });

    it('runs as root with five capabilities, no token, no way out, and a root that it cannot write', async () => {
      const first = disk();
      await usable(first);
      const look = () =>
        volumes({ annotations: { 'simulation.gpu-dev/job-outcome': 'hang' } }).snapshot(first.diskId, `snap-${first.diskId}-1`);
      const name = await podIn('Running', look);
      const { spec, metadata } = await core().readNamespacedPod({ namespace: namespace(), name });
      expect(spec).toMatchObject({
        automountServiceAccountToken: false,
        restartPolicy: 'Never',
        securityContext: { seccompProfile: { type: 'RuntimeDefault' } },
      });
      expect(spec?.containers[0]).toMatchObject({
        image: 'debian:12.11-slim',
        securityContext: {
          runAsUser: 0,
          allowPrivilegeEscalation: false,
          readOnlyRootFilesystem: true,
          capabilities: { drop: ['ALL'], add: ['CHOWN', 'DAC_OVERRIDE', 'FOWNER', 'FSETID', 'SETFCAP'] },
        },
      });
      const mounts = spec?.containers[0]?.volumeMounts?.map(({ mountPath, readOnly }) => `${mountPath} ${readOnly ?? false}`);
      expect(mounts).toEqual(['/source true', '/target false', '/work false', '/etc/gpu-dev/copy true']);
      const job = metadata?.labels?.['job-name'] ?? '';
      const policy = await subject().client.networking.readNamespacedNetworkPolicy({ namespace: namespace(), name: job });
      expect(policy.spec?.podSelector).toEqual({ matchLabels: { 'job-name': job } });
      expect([policy.spec?.policyTypes, policy.spec?.ingress ?? [], policy.spec?.egress ?? []]).toEqual([
        ['Ingress', 'Egress'],
        [],
        [],
      ]);
      const scripts = await core().readNamespacedConfigMap({ namespace: namespace(), name: job });
      expect([scripts.immutable, Object.keys(scripts.data ?? {}).sort()]).toEqual([true, ['contents.sh', 'copy.sh']]);
      await volumes().removeSnapshot(first.diskId, `snap-${first.diskId}-1`);
      await nothingAround();
    });
  });

  describe('deleting a copy', () => {
    it('needs the disk that it is of and its id; what merely bears its name stays', async () => {
      const [mine, other] = [disk(), disk()];
      await Promise.all([usable(mine), usable(other)]);
      const snapshotId = `snap-${mine.diskId}-1`;
      await ended(mine.diskId, snapshotId);
      await volumes().removeSnapshot(other.diskId, snapshotId);
      expect((await claimOf(snapshotId)).metadata?.deletionTimestamp).toBeUndefined();
      await volumes().removeSnapshot(mine.diskId, snapshotId);
      await until('it is gone', () =>
        claimOf(snapshotId)
          .then(() => false)
          .catch(() => true),
      );

      const strange = `snap-${other.diskId}-1`;
      const spec = { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '1Gi' } } };
      await core().createNamespacedPersistentVolumeClaim({ namespace: namespace(), body: { metadata: { name: strange }, spec } });
      expect(await volumes().snapshot(other.diskId, strange)).toMatchObject({ state: 'failed' });
      await volumes().removeSnapshot(other.diskId, strange);
      await volumes().purge(other.diskId, [strange]);
      expect((await claimOf(strange)).metadata?.deletionTimestamp).toBeUndefined();
    });
  });

  describe('a new disk', () => {
    it('that holds data of its own is not filled, whatever its claim says', async () => {
      const first = disk();
      await usable(first);
      const snapshotId = `snap-${first.diskId}-1`;
      await ended(first.diskId, snapshotId);
      const taken = disk();
      const claim = await usable(taken);
      await withServer(claim, ['sh', '-c', 'printf years > /home/dev/thesis']);
      await detached(taken.diskId);
      // As it stands it is used as it is: only a claim that was born to be filled is filled.
      expect(await usable({ ...taken, snapshotId })).toBe(claim);
      expect(await withServer(claim, ['cat', '/home/dev/thesis'])).toBe('years');
      await detached(taken.diskId);
      const { core: api } = subject().client;
      const found = await claimOf(claim);
      const annotations: Record<string, string> = { ...found.metadata?.annotations, 'gpu-dev.io/fill-from': snapshotId };
      const body = { ...found, metadata: { ...found.metadata, annotations } };
      await api.replaceNamespacedPersistentVolumeClaim({ namespace: namespace(), name: claim, body });
      await expect(usable(taken)).rejects.toThrow(/could not be filled .* holds data that is not of this copy/);
      delete annotations['gpu-dev.io/fill-from'];
      body.metadata.resourceVersion = (await claimOf(claim)).metadata?.resourceVersion ?? '';
      await api.replaceNamespacedPersistentVolumeClaim({ namespace: namespace(), name: claim, body });
      await detached(taken.diskId);
      expect(await withServer(claim, ['cat', '/home/dev/thesis'])).toBe('years');
    });
  });
}
