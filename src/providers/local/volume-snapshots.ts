/** VolumeSnapshots of disks: named by their id, labelled with the disk's. */
import { createHash } from 'node:crypto';
import type { V1ObjectMeta } from '@kubernetes/client-node';
import type { SnapshotProgress } from '../../../actors/disk/ports.ts';
import type { KubernetesClient } from '../kubernetes/client.ts';
import { attempt, attemptOrNull, hasStatus } from '../kubernetes/errors.ts';
import { LABEL, MANAGED_BY } from '../kubernetes/objects.ts';
import { bytes } from '../kubernetes/quantities.ts';

export interface Snapshot {
  metadata?: V1ObjectMeta;
  spec?: { source?: { persistentVolumeClaimName?: string } };
  status?: {
    readyToUse?: boolean;
    restoreSize?: string;
    error?: { message?: string; time?: string };
  };
}

const API = { group: 'snapshot.storage.k8s.io', version: 'v1', plural: 'volumesnapshots' };
/** The snapshot controller tries again after an error; one that lasts so many milliseconds is taken for final. */
const PATIENCE = 10 * 60_000;

/** A snapshot's id as the name of an object; ids that are no legal names give a digest. */
export function snapshotName(snapshotId: string): string {
  const legal = /^[a-z0-9]([-a-z0-9.]{0,200}[a-z0-9])?$/.test(snapshotId);
  return legal ? snapshotId : `snapshot-${createHash('sha256').update(snapshotId).digest('hex').slice(0, 40)}`;
}

export function diskLabels(diskId: string): Record<string, string> {
  return { [LABEL.managedBy]: MANAGED_BY, [LABEL.disk]: diskId };
}

/** Whether an object says that it is of this disk: the only ones that may be deleted. */
export function bears(found: { metadata?: V1ObjectMeta }, diskId: string): boolean {
  const labels = found.metadata?.labels ?? {};
  return labels[LABEL.managedBy] === MANAGED_BY && labels[LABEL.disk] === diskId;
}

export function progressOf(snapshot: Snapshot, diskId: string): SnapshotProgress {
  if (!bears(snapshot, diskId))
    return { state: 'failed', reason: 'A snapshot of that name is on the cluster and is not of this disk' };
  const { readyToUse, restoreSize, error } = snapshot.status ?? {};
  if (readyToUse === true) return { state: 'complete', sizeBytes: restoreSize === undefined ? null : bytes(restoreSize) };
  if (error === undefined) return { state: 'pending', percent: 0 };
  const lasted = Date.parse(error.time ?? '') - new Date(snapshot.metadata?.creationTimestamp ?? 0).getTime();
  return lasted > PATIENCE
    ? { state: 'failed', reason: error.message ?? 'the snapshot failed' }
    : { state: 'pending', percent: 0 };
}

export class Snapshots {
  readonly #client: KubernetesClient;
  readonly #snapshotClass: string | null;

  constructor(client: KubernetesClient, snapshotClass: string | null) {
    this.#client = client;
    this.#snapshotClass = snapshotClass;
  }

  /** Null if there is none, or if the cluster has no snapshots at all. */
  async read(snapshotId: string): Promise<Snapshot | null> {
    const call = { ...API, namespace: this.#client.namespace, name: snapshotName(snapshotId) };
    try {
      return await attemptOrNull(`reading snapshot ${snapshotId}`, async () => {
        return (await this.#client.custom.getNamespacedCustomObject(call)) as Snapshot;
      });
    } catch (error) {
      // A 404 without a Status: not the object but its whole API is missing.
      if (hasStatus(error, 404)) return null;
      throw error;
    }
  }

  /** Create it, or read the one that another made meanwhile. */
  async create(diskId: string, snapshotId: string, claim: string): Promise<Snapshot | 'unsupported'> {
    const { namespace, custom } = this.#client;
    const body = {
      apiVersion: `${API.group}/${API.version}`,
      kind: 'VolumeSnapshot',
      metadata: { name: snapshotName(snapshotId), namespace, labels: diskLabels(diskId) },
      spec: {
        ...(this.#snapshotClass === null ? {} : { volumeSnapshotClassName: this.#snapshotClass }),
        source: { persistentVolumeClaimName: claim },
      },
    };
    try {
      return await attempt(`creating snapshot ${snapshotId}`, async () => {
        return (await custom.createNamespacedCustomObject({ ...API, namespace, body })) as Snapshot;
      });
    } catch (error) {
      if (hasStatus(error, 409)) {
        const found = await this.read(snapshotId);
        if (found !== null) return found;
      }
      if (hasStatus(error, 404) && error.reason !== 'NotFound') return 'unsupported';
      throw error;
    }
  }

  /** Delete a snapshot of this disk; one that does not bear the disk's label is left alone. */
  async remove(diskId: string, snapshotId: string): Promise<void> {
    const found = await this.read(snapshotId);
    if (found === null || !bears(found, diskId)) return;
    const call = { ...API, namespace: this.#client.namespace, name: snapshotName(snapshotId) };
    try {
      await attemptOrNull(`removing snapshot ${snapshotId}`, () =>
        this.#client.custom.deleteNamespacedCustomObject({
          ...call,
          body: { preconditions: { uid: found.metadata?.uid ?? '' } },
        }),
      );
    } catch (error) {
      if (!hasStatus(error, 409)) throw error;
    }
  }
}
