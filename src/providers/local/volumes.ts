/** Disks on plain Kubernetes: a PersistentVolumeClaim each, and VolumeSnapshots where the cluster has them. Data is never owned by a pod. */
import { PatchStrategy, setHeaderOptions, type V1PersistentVolumeClaim } from '@kubernetes/client-node';
import type { SnapshotProgress, VolumeRequest, Volumes } from '../../../actors/disk/ports.ts';
import { NotYet, TerminalError } from '../../../actors/errors.ts';
import type { KubernetesClient } from '../kubernetes/client.ts';
import { asPort, attempt, attemptOrNull, hasStatus } from '../kubernetes/errors.ts';
import { ANNOTATION, claimName, LABEL, labelValue, MANAGED_BY } from '../kubernetes/objects.ts';
import { bytes } from '../kubernetes/quantities.ts';
import { usersOf } from './volume-users.ts';
import { bears, diskLabels, progressOf, Snapshots, snapshotName } from './volume-snapshots.ts';

export interface LocalVolumesOptions {
  client: KubernetesClient;
  /** StorageClass of new volumes; left out: the cluster's default. */
  storageClass?: string;
  /** VolumeSnapshotClass; left out: the cluster's default. */
  snapshotClass?: string;
}

export class LocalVolumes implements Volumes {
  readonly #client: KubernetesClient;
  readonly #options: LocalVolumesOptions;
  readonly #snapshots: Snapshots;

  constructor(options: LocalVolumesOptions) {
    this.#client = options.client;
    this.#options = options;
    this.#snapshots = new Snapshots(options.client, options.snapshotClass ?? null);
  }

  /** @throws TerminalError if an expected volume is missing, the snapshot to start from is gone, or the volume is not ours, lost, or cannot grow */
  ensure(request: VolumeRequest): Promise<{ claim: string }> {
    return asPort(async () => {
      const claim = claimName(request.diskId);
      const found = await this.#read(request.diskId);
      if (found !== null) {
        await this.#adopt(request, found);
        return { claim };
      }
      if (request.expectVolume) throw new TerminalError(missing(request.snapshotId));
      const body = await this.#newClaim(request);
      const { core, namespace } = this.#client;
      try {
        await attempt(`creating volume ${claim}`, () => core.createNamespacedPersistentVolumeClaim({ namespace, body }));
      } catch (error) {
        if (!hasStatus(error, 409)) throw error;
        throw new NotYet(100, `volume ${claim} was made by another at the same time`);
      }
      return { claim };
    });
  }

  detach(diskId: string): Promise<'detached' | 'attached'> {
    return asPort(async () => {
      const found = await this.#read(diskId);
      if (found === null) return 'detached';
      return (await usersOf(this.#client, claimName(diskId), found.spec?.volumeName ?? null)) === 0 ? 'detached' : 'attached';
    });
  }

  snapshot(diskId: string, snapshotId: string): Promise<SnapshotProgress> {
    return asPort(async () => {
      const found = await this.#snapshots.read(snapshotId);
      if (found !== null) return progressOf(found, diskId);
      if ((await this.#read(diskId)) === null) return { state: 'failed', reason: missing(null) };
      const made = await this.#snapshots.create(diskId, snapshotId, claimName(diskId));
      if (made === 'unsupported') {
        return { state: 'failed', reason: 'This cluster cannot take snapshots of volumes; the disk itself is kept' };
      }
      return progressOf(made, diskId);
    });
  }

  /** Plain Kubernetes has no cheap way back from a snapshot, so the volume stays: the snapshot is a second copy. */
  async remove(_diskId: string, _afterSnapshot: string): Promise<'removed' | 'kept'> {
    return 'kept';
  }

  purge(diskId: string, snapshotIds: string[]): Promise<void> {
    return asPort(async () => {
      await Promise.all(snapshotIds.map((id) => this.#snapshots.remove(diskId, id)));
      const found = await attemptOrNull('reading the volume', () => this.#claim(diskId));
      if (found === null || !bears(found, diskId)) return;
      const { core, namespace } = this.#client;
      const body = { preconditions: { uid: found.metadata?.uid ?? '' } };
      try {
        await attemptOrNull('removing the volume', () =>
          core.deleteNamespacedPersistentVolumeClaim({ namespace, name: claimName(diskId), body }),
        );
      } catch (error) {
        if (!hasStatus(error, 409)) throw error;
      }
    });
  }

  #claim(diskId: string): Promise<V1PersistentVolumeClaim> {
    const { core, namespace } = this.#client;
    return core.readNamespacedPersistentVolumeClaim({ namespace, name: claimName(diskId) });
  }

  /** @throws TerminalError if the name is taken by a volume that is not this disk's */
  async #read(diskId: string): Promise<V1PersistentVolumeClaim | null> {
    const found = await attemptOrNull(`reading volume ${claimName(diskId)}`, () => this.#claim(diskId));
    if (found !== null && !bears(found, diskId)) {
      throw new TerminalError(`The volume ${claimName(diskId)} on the cluster does not bear this disk's label`);
    }
    return found;
  }

  async #adopt(request: VolumeRequest, found: V1PersistentVolumeClaim): Promise<void> {
    const name = claimName(request.diskId);
    if (found.metadata?.deletionTimestamp !== undefined) throw new NotYet(1000, `volume ${name} is being deleted`);
    if (found.status?.phase === 'Lost') throw new TerminalError('The volume behind this disk is lost');
    const size = bytes(found.spec?.resources?.requests?.storage);
    // A claim grows only once it has its volume; until then it serves at the size it has, and grows at the next attachment.
    if (size >= request.sizeGb * 2 ** 30 || found.status?.phase !== 'Bound') return;
    const { core, namespace } = this.#client;
    const body = { spec: { resources: { requests: { storage: `${request.sizeGb}Gi` } } } };
    try {
      await attempt(`growing volume ${name}`, () =>
        core.patchNamespacedPersistentVolumeClaim(
          { namespace, name, body },
          setHeaderOptions('Content-Type', PatchStrategy.MergePatch),
        ),
      );
    } catch (error) {
      if (hasStatus(error, 403) || hasStatus(error, 422)) {
        throw new TerminalError(`This cluster cannot grow the disk to ${request.sizeGb} GB: ${error.detail}`);
      }
      throw error;
    }
  }

  async #newClaim({ diskId, owner, sizeGb, snapshotId }: VolumeRequest): Promise<V1PersistentVolumeClaim> {
    const source = snapshotId === null ? null : await this.#snapshots.read(snapshotId);
    // An empty disk in place of a saved one would be taken for lost data, and the next snapshot would replace the good one.
    if (snapshotId !== null && source === null) throw new TerminalError(`The snapshot ${snapshotId} of this disk does not exist`);
    // Of this disk, or of the one that it is a clone of.
    if (source !== null && source.metadata?.labels?.[LABEL.managedBy] !== MANAGED_BY) {
      throw new TerminalError(`The snapshot ${snapshotId} is not ours`);
    }
    const storage = Math.max(sizeGb * 2 ** 30, bytes(source?.status?.restoreSize));
    return {
      metadata: {
        name: claimName(diskId),
        namespace: this.#client.namespace,
        labels: { ...diskLabels(diskId), [LABEL.owner]: labelValue(owner) },
        annotations: { [ANNOTATION.owner]: owner },
      },
      spec: {
        accessModes: ['ReadWriteOnce'],
        ...(this.#options.storageClass === undefined ? {} : { storageClassName: this.#options.storageClass }),
        resources: { requests: { storage: storage % 2 ** 30 === 0 ? `${storage / 2 ** 30}Gi` : String(storage) } },
        ...(snapshotId === null
          ? {}
          : { dataSource: { apiGroup: 'snapshot.storage.k8s.io', kind: 'VolumeSnapshot', name: snapshotName(snapshotId) } }),
      },
    };
  }
}

/** Why a disk whose volume has vanished is not made anew, and what its owner can do. */
function missing(snapshotId: string | null): string {
  const held = snapshotId === null ? 'data that no snapshot has' : 'the newest data';
  const way = snapshotId === null ? '' : `. A clone of the disk starts from its last snapshot, ${snapshotId}`;
  return `The volume of this disk is missing (it held ${held}); an operator must look${way}`;
}
