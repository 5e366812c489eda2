/** How snapshots of disks are taken on a cluster: by it, if it knows VolumeSnapshots, else as copies. What was taken stays usable either way. */
import type { KubernetesClient } from '../kubernetes/client.ts';
import { attempt, hasStatus } from '../kubernetes/errors.ts';

export const SNAPSHOT_KINDS = ['volume-snapshots', 'copy'] as const;
export type SnapshotKind = (typeof SNAPSHOT_KINDS)[number];
export type SnapshotSetting = SnapshotKind | 'auto';

const API = { group: 'snapshot.storage.k8s.io', version: 'v1' };

/** Whether the cluster serves VolumeSnapshots. @throws KubernetesError if it does not say */
export async function hasVolumeSnapshots(client: KubernetesClient): Promise<boolean> {
  try {
    const { resources } = await attempt('asking for VolumeSnapshots', () => client.custom.getAPIResources(API));
    return resources.some(({ name }) => name === 'volumesnapshots');
  } catch (error) {
    if (hasStatus(error, 404)) return false;
    throw error;
  }
}

/** The kind that a setting means on this cluster, asked for once. */
export class SnapshotChoice {
  readonly #client: KubernetesClient;
  readonly #setting: SnapshotSetting;
  #known: SnapshotKind | null = null;

  constructor(client: KubernetesClient, setting: SnapshotSetting) {
    this.#client = client;
    this.#setting = setting;
  }

  /** @throws KubernetesError while the cluster does not say */
  async kind(): Promise<SnapshotKind> {
    if (this.#setting !== 'auto') return this.#setting;
    this.#known ??= (await hasVolumeSnapshots(this.#client)) ? 'volume-snapshots' : 'copy';
    return this.#known;
  }

  /** The cluster did not know VolumeSnapshots when one was to be made. @returns whether a copy may be taken in its place */
  fallBack(): boolean {
    if (this.#setting !== 'auto') return false;
    this.#known = 'copy';
    return true;
  }
}

/** What a setting asks for and the cluster does not have, in words for the operator. @throws KubernetesError if it does not say */
export async function findSnapshotObstacles(client: KubernetesClient, setting: SnapshotSetting): Promise<string[]> {
  if (setting !== 'volume-snapshots' || (await hasVolumeSnapshots(client))) return [];
  return ['This cluster does not know VolumeSnapshots (snapshot.storage.k8s.io/v1), and GPU_DEV_SNAPSHOTS asks for them'];
}
