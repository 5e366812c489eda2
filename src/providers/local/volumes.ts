/** Disks on plain Kubernetes: a PersistentVolumeClaim each, and snapshots as the cluster takes them or as copies. Data is never owned by a pod. */
import { PatchStrategy, setHeaderOptions, type V1PersistentVolumeClaim } from '@kubernetes/client-node';
import type { SnapshotProgress, VolumeRequest, Volumes } from '../../../actors/disk/ports.ts';
import { NotYet, TerminalError } from '../../../actors/errors.ts';
import type { StaysSmall, VolumePlace } from '../../../machines/disk.events.ts';
import type { KubernetesClient } from '../kubernetes/client.ts';
import { asPort, attempt, attemptOrNull, hasStatus } from '../kubernetes/errors.ts';
import { ANNOTATION, claimName, LABEL, labelValue, MANAGED_BY } from '../kubernetes/objects.ts';
import { bytes, quantityOf } from '../kubernetes/quantities.ts';
import { placeOfClaim } from '../kubernetes/volume-place.ts';
import type { CopySettings } from './copy-job.ts';
import { SnapshotChoice, type SnapshotKind, type SnapshotSetting } from './snapshot-kind.ts';
import { Copies, isComplete, isCopyOf, sizeOf } from './volume-copies.ts';
import { VolumeUsers } from './volume-users.ts';
import { bears, diskLabels, progressOf, type Snapshot, Snapshots, snapshotName } from './volume-snapshots.ts';

export interface LocalVolumesOptions {
  client: KubernetesClient;
  /** StorageClass of new volumes; left out: the cluster's default. */
  storageClass?: string;
  /** VolumeSnapshotClass; left out: the cluster's default. */
  snapshotClass?: string;
  /** How snapshots are taken; left out: by the cluster if it can, else as copies. */
  snapshots?: SnapshotSetting;
  /** How copies are made. */
  copies?: Partial<CopySettings>;
}

type Begun = { snapshot: Snapshot } | { copy: V1PersistentVolumeClaim };

export class LocalVolumes implements Volumes {
  readonly #client: KubernetesClient;
  readonly #options: LocalVolumesOptions;
  readonly #snapshots: Snapshots;
  readonly #copies: Copies;
  readonly #choice: SnapshotChoice;
  readonly #users: VolumeUsers;

  constructor(options: LocalVolumesOptions) {
    this.#client = options.client;
    this.#options = options;
    this.#users = new VolumeUsers(options.client);
    this.#snapshots = new Snapshots(options.client, options.snapshotClass ?? null);
    this.#copies = new Copies(options.client, options.copies);
    this.#choice = new SnapshotChoice(options.client, options.snapshots ?? 'auto');
  }

  /** @throws TerminalError if an expected volume is missing, the snapshot to start from is gone, or the volume is not ours or lost */
  ensure(request: VolumeRequest): Promise<{ claim: string; stays?: StaysSmall }> {
    return asPort(async () => {
      const claim = claimName(request.diskId);
      const found = await this.#read(request.diskId);
      if (found !== null) {
        const stays = await this.#adopt(request, found);
        await this.#copies.fill(request.diskId, found);
        return stays === null ? { claim } : { claim, stays };
      }
      if (request.expectVolume) throw new TerminalError(missing(request.snapshotId));
      const body = await this.#newClaim(request);
      const { core, namespace } = this.#client;
      try {
        const made = await attempt(`creating volume ${claim}`, () =>
          core.createNamespacedPersistentVolumeClaim({ namespace, body }),
        );
        await this.#copies.fill(request.diskId, made);
      } catch (error) {
        if (!hasStatus(error, 409)) throw error;
        throw new NotYet(100, `volume ${claim} was made by another at the same time`);
      }
      return { claim };
    });
  }

  placeOf(diskId: string): Promise<VolumePlace | null> {
    return asPort(() => placeOfClaim(this.#client, claimName(diskId)));
  }

  detach(diskId: string): Promise<'detached' | 'attached'> {
    return asPort(async () => {
      const found = await this.#read(diskId);
      if (found === null) return 'detached';
      // Nobody has used what was never full: what still fills it is stopped, and the next who asks for it begins anew.
      await this.#copies.stopFill(diskId, found);
      return (await this.#users.of(claimName(diskId), found.spec?.volumeName ?? null)) === 0 ? 'detached' : 'attached';
    });
  }

  snapshot(diskId: string, snapshotId: string): Promise<SnapshotProgress> {
    return asPort(async () => {
      const kind = await this.#choice.kind();
      const begun = await this.#beingTaken(snapshotId, kind);
      if (begun !== null && 'snapshot' in begun) return progressOf(begun.snapshot, diskId);
      const source = await this.#read(diskId);
      if (begun !== null) return this.#copies.save(diskId, snapshotId, source, begun.copy);
      if (source === null) return { state: 'failed', reason: missing(null) };
      if (kind === 'copy') return this.#copies.save(diskId, snapshotId, source, null);
      const made = await this.#snapshots.create(diskId, snapshotId, claimName(diskId));
      if (made !== 'unsupported') return progressOf(made, diskId);
      if (this.#choice.fallBack()) return this.#copies.save(diskId, snapshotId, source, null);
      return { state: 'failed', reason: 'This cluster cannot take snapshots of volumes; the disk itself is kept' };
    });
  }

  /** Plain Kubernetes has no cheap way back from a snapshot, so the volume stays: the snapshot is a second copy. */
  async remove(_diskId: string, _afterSnapshot: string): Promise<'removed' | 'kept'> {
    return 'kept';
  }

  discard(diskId: string, afterSnapshot: string): Promise<void> {
    return asPort(async () => {
      const found = await this.#read(diskId);
      if (found === null) return;
      if (!(await this.#isSaved(diskId, afterSnapshot))) {
        throw new TerminalError(
          `The snapshot ${afterSnapshot}, which holds the data of this disk, is not complete; the disk stays`,
        );
      }
      if ((await this.#users.of(claimName(diskId), found.spec?.volumeName ?? null)) > 0) {
        throw new NotYet(500, 'The volume is still in use');
      }
      await this.#removeClaim(diskId, found);
      throw new NotYet(500, 'The volume is being deleted');
    });
  }

  removeSnapshot(diskId: string, snapshotId: string): Promise<void> {
    return asPort(() => this.#removeSnapshot(diskId, snapshotId));
  }

  purge(diskId: string, snapshotIds: string[]): Promise<void> {
    return asPort(async () => {
      await Promise.all(snapshotIds.map((id) => this.#removeSnapshot(diskId, id)));
      const found = await attemptOrNull('reading the volume', () => this.#claim(diskId));
      if (found === null || !bears(found, diskId)) return;
      await this.#copies.stopFill(diskId, found);
      await this.#removeClaim(diskId, found);
    });
  }

  /** What there is of a snapshot, of either kind: those of an earlier setting count as well. Where there are both, the one that is complete. */
  async #begun(snapshotId: string): Promise<Begun | null> {
    const [snapshot, copy] = await Promise.all([this.#snapshots.read(snapshotId), this.#copies.read(snapshotId)]);
    if (copy !== null && (snapshot === null || isComplete(copy))) return { copy };
    return snapshot === null ? null : { snapshot };
  }

  /** The same while it is being taken: it is looked at often, and mostly of the kind that is taken now. */
  async #beingTaken(snapshotId: string, kind: SnapshotKind): Promise<Begun | null> {
    const asCopy = async (): Promise<Begun | null> => {
      const copy = await this.#copies.read(snapshotId);
      return copy === null ? null : { copy };
    };
    const asSnapshot = async (): Promise<Begun | null> => {
      const snapshot = await this.#snapshots.read(snapshotId);
      return snapshot === null ? null : { snapshot };
    };
    return kind === 'copy' ? ((await asCopy()) ?? asSnapshot()) : ((await asSnapshot()) ?? asCopy());
  }

  /** Whether all of this disk is in that snapshot. */
  async #isSaved(diskId: string, snapshotId: string): Promise<boolean> {
    const begun = await this.#begun(snapshotId);
    if (begun === null) return false;
    if ('copy' in begun) return isCopyOf(begun.copy, snapshotId, diskId) && isComplete(begun.copy);
    return progressOf(begun.snapshot, diskId).state === 'complete';
  }

  async #removeSnapshot(diskId: string, snapshotId: string): Promise<void> {
    await this.#snapshots.remove(diskId, snapshotId);
    await this.#copies.remove(diskId, snapshotId);
  }

  /** Delete this claim, and no other that may bear its name by now. */
  async #removeClaim(diskId: string, found: V1PersistentVolumeClaim): Promise<void> {
    const { core, namespace } = this.#client;
    const body = { preconditions: { uid: found.metadata?.uid ?? '' } };
    try {
      await attemptOrNull('removing the volume', () =>
        core.deleteNamespacedPersistentVolumeClaim({ namespace, name: claimName(diskId), body }),
      );
    } catch (error) {
      if (!hasStatus(error, 409)) throw error;
    }
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

  /** @returns why it is not as large as it is to be; null if it is */
  async #adopt(request: VolumeRequest, found: V1PersistentVolumeClaim): Promise<StaysSmall | null> {
    const name = claimName(request.diskId);
    if (found.metadata?.deletionTimestamp !== undefined) throw new NotYet(1000, `volume ${name} is being deleted`);
    if (found.status?.phase === 'Lost') throw new TerminalError('The volume behind this disk is lost');
    if ((await this.#choice.kind()) === 'copy') await this.#copies.stopSaves(request.diskId);
    const size = bytes(found.spec?.resources?.requests?.storage);
    // A claim grows only once it has its volume; until then it serves at the size it has, and grows at the next attachment.
    if (size >= request.sizeGb * 2 ** 30) return null;
    const sizeGb = Math.max(1, Math.floor(size / 2 ** 30));
    if (found.status?.phase !== 'Bound')
      return { sizeGb, reason: `The disk has ${sizeGb} GB until it has been used once, and grows at a later use`, again: true };
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
      // A class of storage that does not allow it, or a quota: the disk serves as it is.
      if (!hasStatus(error, 403) && !hasStatus(error, 422)) throw error;
      const reason = `The disk stays at ${sizeGb} GB: this cluster cannot grow it to ${request.sizeGb} GB (${error.detail})`;
      return { sizeGb, reason, again: false };
    }
    return null;
  }

  async #newClaim({ diskId, owner, sizeGb, snapshotId }: VolumeRequest): Promise<V1PersistentVolumeClaim> {
    const source = snapshotId === null ? null : await this.#begun(snapshotId);
    // An empty disk in place of a saved one would be taken for lost data, and the next snapshot would replace the good one.
    if (snapshotId !== null && source === null) throw new TerminalError(`The snapshot ${snapshotId} of this disk does not exist`);
    const copy = source !== null && 'copy' in source ? source.copy : null;
    const snapshot = source !== null && 'snapshot' in source ? source.snapshot : null;
    // Of this disk, or of the one that it is a clone of.
    if (snapshot !== null && snapshot.metadata?.labels?.[LABEL.managedBy] !== MANAGED_BY) {
      throw new TerminalError(`The snapshot ${snapshotId} is not ours`);
    }
    if (copy !== null && !(isCopyOf(copy, snapshotId ?? '') && isComplete(copy))) {
      throw new TerminalError(`The snapshot ${snapshotId} is not complete, or is not ours`);
    }
    const storage = Math.max(sizeGb * 2 ** 30, bytes(snapshot?.status?.restoreSize), copy === null ? 0 : sizeOf(copy));
    // What copies from one to the other runs where both can be reached.
    const storageClass = this.#options.storageClass ?? copy?.spec?.storageClassName;
    return {
      metadata: {
        name: claimName(diskId),
        namespace: this.#client.namespace,
        labels: { ...diskLabels(diskId), [LABEL.owner]: labelValue(owner) },
        annotations: {
          [ANNOTATION.owner]: owner,
          ...(copy === null || snapshotId === null ? {} : { [ANNOTATION.fillFrom]: snapshotId }),
        },
      },
      spec: {
        accessModes: ['ReadWriteOnce'],
        ...(storageClass === undefined ? {} : { storageClassName: storageClass }),
        resources: { requests: { storage: quantityOf(storage) } },
        ...(snapshot === null || snapshotId === null
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
