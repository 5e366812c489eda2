/** What the suites on copies do again and again: disks with something on them, copies of them, and what stands on the cluster meanwhile. */
import type { SnapshotProgress, Volumes } from '../../../actors/disk/ports.ts';
import { NotYet } from '../../../actors/errors.ts';
import { runInside } from '../../../src/providers/kubernetes/exec.ts';
import { serverSpec, volumeRequest } from '../../integration/providers/support/specs.ts';
import { until } from '../../integration/providers/support/wait.ts';
import { serversOf } from './servers.ts';
import type { Subject, VolumeOptions } from './subject.ts';

export type Disk = Parameters<Volumes['ensure']>[0];

export function copyingOf(subject: () => Subject) {
  const { core, namespace, running, gone } = serversOf(subject);
  const client = () => subject().client;
  /** A provider that was just started: it remembers nothing. */
  const volumes = (options?: VolumeOptions): Volumes => subject().volumes(client(), options);
  const claimOf = (name: string) => core().readNamespacedPersistentVolumeClaim({ namespace: namespace(), name });

  return {
    core,
    namespace,
    volumes,
    claimOf,

    disk: volumeRequest,

    /** The claim of a disk, once it may be used. */
    usable(disk: Disk, options?: VolumeOptions): Promise<string> {
      return until('the volume may be used', async () => {
        try {
          return (await volumes(options).ensure(disk)).claim;
        } catch (error) {
          if (error instanceof NotYet) return null;
          throw error;
        }
      });
    },

    /** Run a command in a server that has the disk, and end the server. */
    async withServer(claim: string, argv: string[]): Promise<string> {
      const spec = serverSpec({ claim });
      const { name } = await running(spec);
      const { stdout } = await until('the command was run', () => runInside(client(), name, argv).catch(() => null));
      await gone(spec);
      return stdout;
    },

    detached: (diskId: string) =>
      until('the disk is detached', async () => (await volumes().detach(diskId)) === 'detached').then(() => undefined),

    /** How a snapshot ends. */
    ended: (diskId: string, snapshotId: string, options?: VolumeOptions): Promise<SnapshotProgress> =>
      until('the snapshot has ended', async () => {
        try {
          const progress = await volumes(options).snapshot(diskId, snapshotId);
          return progress.state === 'pending' ? null : progress;
        } catch (error) {
          if (error instanceof NotYet) return null;
          throw error;
        }
      }),

    /** Look at a snapshot until its pod is in that phase. @returns the pod's name */
    async podIn(phase: string, look: () => Promise<unknown>): Promise<string> {
      return until(`a pod of the copy is ${phase}`, async () => {
        await look();
        const { items } = await core().listNamespacedPod({ namespace: namespace(), labelSelector: 'gpu-dev.io/copy' });
        return items.find(({ status, metadata }) => status?.phase === phase && metadata?.deletionTimestamp === undefined)
          ?.metadata?.name;
      });
    },

    /** The Jobs of copies, and everything that stands around them. */
    async around(): Promise<string[]> {
      const { batch, networking } = client();
      const query = { namespace: namespace(), labelSelector: 'gpu-dev.io/copy' };
      const lists = await Promise.all([
        batch.listNamespacedJob(query),
        networking.listNamespacedNetworkPolicy(query),
        core().listNamespacedConfigMap(query),
        core().listNamespacedPod(query),
      ]);
      return lists.flatMap(({ items }) => items.map(({ metadata }) => metadata?.name ?? ''));
    },
  };
}
