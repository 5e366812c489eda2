/**
 * How a pod gets an EBS volume of ours: a PersistentVolume that names it, made by hand, and a claim bound to nothing else. The volume's driver
 * attaches it to the node. Neither of the two holds data: both are made again at will, and deleting them deletes nothing in EBS.
 */
import type { V1PersistentVolume, V1PersistentVolumeClaim } from '@kubernetes/client-node';
import { NotYet, TerminalError } from '../../../actors/errors.ts';
import type { KubernetesClient } from '../kubernetes/client.ts';
import { attempt, attemptOrNull, hasStatus } from '../kubernetes/errors.ts';
import { ANNOTATION, claimName, LABEL, labelValue, MANAGED_BY } from '../kubernetes/objects.ts';
import { VolumeUsers } from '../local/volume-users.ts';

const DRIVER = 'ebs.csi.aws.com';
export const ZONE_LABEL = 'topology.kubernetes.io/zone';

/** The volume that the claim is to lead to. */
export interface Backing {
  diskId: string;
  generation: number;
  owner: string;
  volumeId: string;
  zone: string;
  sizeGb: number;
}

export const persistentVolumeName = (diskId: string, generation: number): string => `${claimName(diskId)}-${generation}`;

export class StaticClaims {
  readonly #client: KubernetesClient;
  readonly #users: VolumeUsers;

  constructor(client: KubernetesClient) {
    this.#client = client;
    this.#users = new VolumeUsers(client);
  }

  /**
   * Create the claim and its PersistentVolume, or adopt them. One that leads to an earlier volume, or is too small, is made anew.
   * @returns the claim's name
   * @throws NotYet while an earlier one is in use or going; TerminalError if the name is taken by somebody else's
   */
  async ensure(backing: Backing): Promise<string> {
    const { diskId, generation, sizeGb } = backing;
    const found = await this.#claim(diskId);
    if (found !== null) {
      const fits =
        found.metadata?.deletionTimestamp === undefined &&
        found.spec?.volumeName === persistentVolumeName(diskId, generation) &&
        found.spec.resources?.requests?.storage === `${sizeGb}Gi` &&
        found.status?.phase !== 'Lost';
      if (!fits) {
        await this.#removeClaim(diskId, found);
        throw new NotYet(200, `the claim ${claimName(diskId)} is being made anew`);
      }
    }
    await this.#ensureVolume(backing, found?.metadata?.uid ?? null);
    if (found === null) await this.#createClaim(backing);
    return claimName(diskId);
  }

  /**
   * Take away the claim and the PersistentVolumes of these generations; resolves when none of them is left.
   * @throws NotYet while they are in use or going
   */
  async remove(diskId: string, generations: readonly number[]): Promise<void> {
    const found = await this.#claim(diskId, true);
    const names = generations.map((generation) => persistentVolumeName(diskId, generation));
    if (found !== null && names.includes(found.spec?.volumeName ?? '')) {
      await this.#removeClaim(diskId, found);
      throw new NotYet(200, `the claim ${claimName(diskId)} is being removed`);
    }
    for (const name of names) await this.#removeVolume(diskId, name);
  }

  /** How many pods and nodes the cluster knows that use it; null: it has no such claim, so none. */
  async users(diskId: string, generation: number): Promise<number> {
    return this.#users.of(claimName(diskId), persistentVolumeName(diskId, generation));
  }

  /** The EBS volume that the claim leads to, as the cluster has it; null: there is none. */
  async volumeOf(claim: string): Promise<string | null> {
    const { core, namespace } = this.#client;
    const found = await attemptOrNull(`reading claim ${claim}`, () =>
      core.readNamespacedPersistentVolumeClaim({ namespace, name: claim }),
    );
    const name = found?.spec?.volumeName;
    if (name === undefined) return null;
    const volume = await attemptOrNull(`reading volume ${name}`, () => core.readPersistentVolume({ name }));
    return volume?.spec?.csi?.volumeHandle ?? null;
  }

  /** Zone of the node, as its labels tell; null if they do not. */
  async zoneOf(node: string): Promise<string | null> {
    const found = await attemptOrNull(`reading node ${node}`, () => this.#client.core.readNode({ name: node }));
    return found?.metadata?.labels?.[ZONE_LABEL] ?? null;
  }

  async #claim(diskId: string, lenient = false): Promise<V1PersistentVolumeClaim | null> {
    const { core, namespace } = this.#client;
    const name = claimName(diskId);
    const found = await attemptOrNull(`reading claim ${name}`, () =>
      core.readNamespacedPersistentVolumeClaim({ namespace, name }),
    );
    if (found === null || bears(found, diskId)) return found;
    if (lenient) return null;
    throw new TerminalError(`The claim ${name} on the cluster does not bear this disk's label`);
  }

  async #createClaim({ diskId, generation, owner, sizeGb }: Backing): Promise<void> {
    const { core, namespace } = this.#client;
    const body: V1PersistentVolumeClaim = {
      metadata: {
        name: claimName(diskId),
        namespace,
        labels: { ...diskLabels(diskId), [LABEL.owner]: labelValue(owner) },
        annotations: { [ANNOTATION.owner]: owner },
      },
      spec: {
        accessModes: ['ReadWriteOnce'],
        // No class: the cluster's default would make a volume of its own.
        storageClassName: '',
        volumeName: persistentVolumeName(diskId, generation),
        resources: { requests: { storage: `${sizeGb}Gi` } },
      },
    };
    try {
      await attempt(`creating claim ${claimName(diskId)}`, () => core.createNamespacedPersistentVolumeClaim({ namespace, body }));
    } catch (error) {
      if (!hasStatus(error, 409)) throw error;
      throw new NotYet(100, `the claim ${claimName(diskId)} was made by another at the same time`);
    }
  }

  async #ensureVolume(backing: Backing, claimUid: string | null): Promise<void> {
    const { core } = this.#client;
    const name = persistentVolumeName(backing.diskId, backing.generation);
    const found = await attemptOrNull(`reading volume ${name}`, () => core.readPersistentVolume({ name }));
    if (found === null) {
      try {
        await attempt(`creating volume ${name}`, () =>
          core.createPersistentVolume({ body: persistentVolume(name, backing, this.#client.namespace) }),
        );
      } catch (error) {
        if (!hasStatus(error, 409)) throw error;
        throw new NotYet(100, `the volume ${name} was made by another at the same time`);
      }
      return;
    }
    if (!bears(found, backing.diskId) || found.spec?.csi?.volumeHandle !== backing.volumeId) {
      throw new TerminalError(`The PersistentVolume ${name} on the cluster is not this disk's`);
    }
    const boundTo = found.spec.claimRef?.uid;
    // Of a claim that is no more, or too small: it leads to nothing that it holds itself.
    const stale =
      found.metadata?.deletionTimestamp !== undefined ||
      found.spec.capacity?.storage !== `${backing.sizeGb}Gi` ||
      (boundTo !== undefined && boundTo !== claimUid);
    if (stale) {
      await this.#removeVolume(backing.diskId, name);
      throw new NotYet(200, `the volume ${name} is being made anew`);
    }
  }

  /** @throws NotYet while a pod or a node uses it */
  async #removeClaim(diskId: string, found: V1PersistentVolumeClaim): Promise<void> {
    const { core, namespace } = this.#client;
    const name = claimName(diskId);
    if (found.metadata?.deletionTimestamp !== undefined) return;
    if ((await this.#users.of(name, found.spec?.volumeName ?? null)) > 0) throw new NotYet(500, `${name} is still in use`);
    const body = { preconditions: { uid: found.metadata?.uid ?? '' } };
    await this.#unlessChanged(`removing claim ${name}`, () =>
      core.deleteNamespacedPersistentVolumeClaim({ namespace, name, body }),
    );
  }

  /** @throws NotYet until it is gone */
  async #removeVolume(diskId: string, name: string): Promise<void> {
    const { core } = this.#client;
    const found = await attemptOrNull(`reading volume ${name}`, () => core.readPersistentVolume({ name }));
    if (found === null || !bears(found, diskId)) return;
    if (found.metadata?.deletionTimestamp === undefined) {
      const body = { preconditions: { uid: found.metadata?.uid ?? '' } };
      await this.#unlessChanged(`removing volume ${name}`, () => core.deletePersistentVolume({ name, body }));
    }
    throw new NotYet(200, `the volume ${name} is being removed`);
  }

  async #unlessChanged(doing: string, work: () => Promise<unknown>): Promise<void> {
    try {
      await attemptOrNull(doing, work);
    } catch (error) {
      if (!hasStatus(error, 409)) throw error;
    }
  }
}

function diskLabels(diskId: string): Record<string, string> {
  return { [LABEL.managedBy]: MANAGED_BY, [LABEL.disk]: diskId };
}

function bears({ metadata }: V1PersistentVolume | V1PersistentVolumeClaim, diskId: string): boolean {
  return metadata?.labels?.[LABEL.managedBy] === MANAGED_BY && metadata.labels[LABEL.disk] === diskId;
}

function persistentVolume(name: string, { diskId, volumeId, zone, sizeGb }: Backing, namespace: string): V1PersistentVolume {
  return {
    metadata: { name, labels: diskLabels(diskId) },
    spec: {
      capacity: { storage: `${sizeGb}Gi` },
      accessModes: ['ReadWriteOnce'],
      persistentVolumeReclaimPolicy: 'Retain',
      storageClassName: '',
      volumeMode: 'Filesystem',
      claimRef: { apiVersion: 'v1', kind: 'PersistentVolumeClaim', namespace, name: claimName(diskId) },
      csi: { driver: DRIVER, volumeHandle: volumeId, fsType: 'ext4' },
      nodeAffinity: {
        required: { nodeSelectorTerms: [{ matchExpressions: [{ key: ZONE_LABEL, operator: 'In', values: [zone] }] }] },
      },
    },
  };
}
