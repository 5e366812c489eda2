import { parseQuantity } from '../quantities.ts';
import { keyOf } from '../store.ts';
import { copyTree, dropTree, tree } from '../trees.ts';
import type { KubeObject, Loose, StoreEvent } from '../types.ts';
import type { Controller, World } from '../world.ts';
import { attachmentsOf, detachUnused } from './mounts.ts';

const NAME = 'volumes';
const POLL = 200;
const CLAIMS = 'persistentvolumeclaims';
const VOLUMES = 'persistentvolumes';
const ATTACHMENTS = 'volumeattachments.storage.k8s.io';
export const PROVISIONER = 'simulated.csi.gpu-dev';
const COMPONENT = `${PROVISIONER}_controller`;

/** Binds claims to volumes it makes, attaches and detaches them, protects claims in use, removes volumes of claims that are gone. */
export class Volumes implements Controller {
  readonly name = NAME;
  private readonly world: World;

  constructor(world: World) {
    this.world = world;
  }

  onChange({ type, resource, object, previous }: StoreEvent): void {
    const { delays } = this.world.settings;
    if (resource === CLAIMS) {
      if (type === 'DELETED') {
        if (object.spec.volumeName) this.world.wake(NAME, `volume/${object.spec.volumeName}`, 0);
      } else this.world.wake(NAME, `claim/${keyOf(object)}`, type === 'ADDED' ? delays.provision : 0);
    } else if (resource === VOLUMES && type !== 'DELETED') this.world.wake(NAME, `volume/${keyOf(object)}`, 0);
    else if (resource === ATTACHMENTS) {
      if (type === 'ADDED') this.world.wake(NAME, `attach/${object.metadata.name}`, delays.attach);
      if (type === 'DELETED') this.world.wake(NAME, `volume/${object.spec.source?.persistentVolumeName}`, 0);
    } else if (resource === 'pods') this.podChanged(type === 'DELETED' ? undefined : object, previous);
  }

  onTimer(key: string): void {
    const slash = key.indexOf('/');
    const [kind, name] = [key.slice(0, slash), key.slice(slash + 1)];
    if (kind === 'claim') this.claim(name);
    else if (kind === 'volume') this.volume(name);
    else if (kind === 'attach') {
      this.world.update(ATTACHMENTS, name, (draft) => {
        draft.status = { attached: true };
      });
    } else if (kind === 'detach') detachUnused(this.world, name);
  }

  private podChanged(next: KubeObject | undefined, previous: KubeObject | undefined): void {
    const ended = (pod: KubeObject | undefined): boolean =>
      pod === undefined || pod.status?.phase === 'Succeeded' || pod.status?.phase === 'Failed';
    if (previous === undefined || ended(previous) || !ended(next)) return;
    for (const name of attachmentsOf(this.world, previous))
      this.world.wake(NAME, `detach/${name}`, this.world.settings.delays.detach);
    for (const volume of previous.spec.volumes ?? []) {
      const claim = volume.persistentVolumeClaim?.claimName;
      if (claim) this.world.wake(NAME, `claim/${previous.metadata.namespace}/${claim}`, 0);
    }
  }

  private claim(key: string): void {
    const claim = this.world.get(CLAIMS, key);
    if (claim === undefined) return;
    if (claim.metadata.deletionTimestamp !== undefined) {
      this.release(claim, key);
      return;
    }
    if (claim.status?.phase === 'Pending') this.bind(claim, key);
    else if (claim.status?.phase === 'Bound') this.grow(claim, key);
  }

  /** Where a volume of this class can be used: with `topologyKey` only on nodes that have this label in common with its first one. */
  private staying(storageClass: KubeObject, chosen: string | undefined): Loose {
    const key: string | undefined = storageClass.parameters?.topologyKey;
    const value = key && chosen && this.world.get('nodes', chosen)?.metadata.labels?.[key];
    if (!key || !value) return {};
    return {
      nodeAffinity: { required: { nodeSelectorTerms: [{ matchExpressions: [{ key, operator: 'In', values: [value] }] }] } },
    };
  }

  /** A claim that is being deleted stays as long as a pod uses it. */
  private release(claim: KubeObject, key: string): void {
    for (const podKey of this.world.store.indexes.podsWithClaim(key)) {
      const phase = this.world.get('pods', podKey)?.status?.phase;
      if (phase !== undefined && phase !== 'Succeeded' && phase !== 'Failed') return;
    }
    if (!claim.metadata.finalizers?.includes('kubernetes.io/pvc-protection')) return;
    this.world.update(CLAIMS, key, ({ metadata }) => {
      metadata.finalizers = (metadata.finalizers ?? []).filter((each) => each !== 'kubernetes.io/pvc-protection');
      if (metadata.finalizers.length === 0) delete metadata.finalizers;
    });
  }

  private bind(claim: KubeObject, key: string): void {
    const existing = this.matching(claim);
    if (existing !== undefined) {
      this.join(claim, existing);
      return;
    }
    const className: string = claim.spec.storageClassName ?? '';
    if (claim.spec.volumeName || className === '') return;
    const storageClass = this.world.get('storageclasses.storage.k8s.io', className);
    if (storageClass === undefined) {
      this.world.event(
        claim,
        'Warning',
        'ProvisioningFailed',
        `storageclass.storage.k8s.io "${className}" not found`,
        'persistentvolume-controller',
      );
      this.world.wake(NAME, `claim/${key}`, POLL);
      return;
    }
    const chosen = claim.metadata.annotations?.['volume.kubernetes.io/selected-node'];
    if (storageClass.volumeBindingMode === 'WaitForFirstConsumer' && chosen === undefined) {
      const message = 'waiting for first consumer to be created before binding';
      this.world.event(claim, 'Normal', 'WaitForFirstConsumer', message, 'persistentvolume-controller');
      return;
    }
    const source = this.source(claim);
    if ('problem' in source) {
      if (source.problem !== '') this.world.event(claim, 'Warning', 'ProvisioningFailed', source.problem, COMPONENT);
      this.world.wake(NAME, `claim/${key}`, POLL);
      return;
    }
    const name = `pvc-${claim.metadata.uid}`;
    const volume = this.world.create(VOLUMES, {
      metadata: {
        name,
        annotations: { 'pv.kubernetes.io/provisioned-by': PROVISIONER },
        finalizers: ['kubernetes.io/pv-protection'],
      },
      spec: {
        capacity: { storage: claim.spec.resources.requests.storage },
        accessModes: claim.spec.accessModes,
        persistentVolumeReclaimPolicy: storageClass.reclaimPolicy ?? 'Delete',
        storageClassName: className,
        volumeMode: claim.spec.volumeMode ?? 'Filesystem',
        csi: { driver: PROVISIONER, volumeHandle: `vol-${claim.metadata.uid.replaceAll('-', '').slice(0, 17)}`, fsType: 'ext4' },
        ...this.staying(storageClass, chosen),
      },
      status: { phase: 'Available' },
    });
    if (source.tree !== undefined) copyTree(this.world, source.tree, tree.volume(name));
    this.world.event(claim, 'Normal', 'ProvisioningSucceeded', `Successfully provisioned volume ${name}`, COMPONENT);
    this.join(claim, volume);
  }

  /** Where the first contents of a volume come from; a problem that is only a matter of time has no text. */
  private source(claim: KubeObject): { tree?: string } | { problem: string } {
    const source: Loose = claim.spec.dataSource ?? claim.spec.dataSourceRef;
    if (!source) return {};
    const key = `${claim.metadata.namespace}/${source.name}`;
    if (source.kind === 'PersistentVolumeClaim') {
      const other = this.world.get(CLAIMS, key);
      return other?.spec.volumeName
        ? { tree: tree.volume(other.spec.volumeName) }
        : { problem: `claim ${source.name} to clone is not bound` };
    }
    if (source.kind !== 'VolumeSnapshot') return { problem: `unsupported data source kind ${source.kind}` };
    const snapshot = this.world.get('volumesnapshots.snapshot.storage.k8s.io', key);
    if (snapshot === undefined)
      return { problem: `error getting snapshot ${source.name} from api server: volumesnapshots "${source.name}" not found` };
    if (snapshot.status?.readyToUse !== true) return { problem: `snapshot ${source.name} is not Ready` };
    const asked = claim.spec.resources.requests.storage;
    if (parseQuantity(asked) < parseQuantity(snapshot.status.restoreSize)) {
      return {
        problem: `requested volume size ${asked} is less than the size ${snapshot.status.restoreSize} for the source snapshot ${source.name}`,
      };
    }
    return { tree: tree.snapshot(snapshot.status.boundVolumeSnapshotContentName) };
  }

  /** A volume made beforehand that this claim names, that names this claim, or (without a class) that is free and large enough. */
  private matching(claim: KubeObject): KubeObject | undefined {
    const { namespace, name } = claim.metadata;
    if (claim.spec.volumeName) return this.world.get(VOLUMES, claim.spec.volumeName);
    const asked = parseQuantity(claim.spec.resources.requests.storage);
    for (const volume of this.world.store.values(VOLUMES)) {
      const reference = volume.spec.claimRef;
      if (
        reference?.namespace === namespace &&
        reference?.name === name &&
        (!reference.uid || reference.uid === claim.metadata.uid)
      )
        return volume;
      const sameClass = (volume.spec.storageClassName ?? '') === (claim.spec.storageClassName ?? '');
      if (
        !reference &&
        sameClass &&
        volume.status?.phase === 'Available' &&
        parseQuantity(volume.spec.capacity?.storage) >= asked
      )
        return volume;
    }
    return undefined;
  }

  private join(claim: KubeObject, volume: KubeObject): void {
    const { name, namespace, uid } = claim.metadata;
    this.world.update(VOLUMES, volume.metadata.name, (draft) => {
      draft.spec.claimRef = { apiVersion: 'v1', kind: 'PersistentVolumeClaim', name, namespace, uid };
      draft.status = { ...draft.status, phase: 'Bound' };
    });
    this.world.update(CLAIMS, keyOf(claim), (draft) => {
      draft.spec.volumeName = volume.metadata.name;
      draft.metadata.annotations = { ...draft.metadata.annotations, 'pv.kubernetes.io/bind-completed': 'yes' };
      draft.status = { phase: 'Bound', accessModes: volume.spec.accessModes, capacity: volume.spec.capacity };
    });
  }

  private grow(claim: KubeObject, key: string): void {
    const asked: string = claim.spec.resources.requests.storage;
    const volume = this.world.get(VOLUMES, claim.spec.volumeName);
    if (volume === undefined) {
      this.world.update(CLAIMS, key, (draft) => {
        draft.status.phase = 'Lost';
      });
      return;
    }
    if (parseQuantity(asked) <= parseQuantity(claim.status?.capacity?.storage)) return;
    this.world.update(VOLUMES, volume.metadata.name, (draft) => {
      draft.spec.capacity = { storage: asked };
    });
    this.world.update(CLAIMS, key, (draft) => {
      draft.status.capacity = { storage: asked };
    });
    this.world.event(
      claim,
      'Normal',
      'FileSystemResizeSuccessful',
      'MountVolume.NodeExpandVolume succeeded for volume',
      'kubelet',
    );
  }

  /** What becomes of a volume whose claim is gone, or that someone deletes. */
  private volume(name: string): void {
    const volume = this.world.get(VOLUMES, name);
    if (volume === undefined) return;
    const reference = volume.spec.claimRef;
    const claim = reference ? this.world.get(CLAIMS, `${reference.namespace}/${reference.name}`) : undefined;
    const held = claim !== undefined && (!reference.uid || claim.metadata.uid === reference.uid);
    if (!held && volume.status?.phase === 'Bound') {
      const released = this.world.update(VOLUMES, name, (draft) => {
        draft.status.phase = 'Released';
      });
      if (released?.spec.persistentVolumeReclaimPolicy === 'Delete' && !released.metadata.deletionTimestamp)
        this.world.delete(VOLUMES, released);
    }
    const now = this.world.get(VOLUMES, name);
    if (now?.metadata.deletionTimestamp === undefined || held) return;
    for (const attachment of this.world.store.values(ATTACHMENTS))
      if (attachment.spec.source?.persistentVolumeName === name) return;
    dropTree(this.world, tree.volume(name));
    this.world.update(VOLUMES, name, ({ metadata }) => {
      metadata.finalizers = (metadata.finalizers ?? []).filter((each) => each !== 'kubernetes.io/pv-protection');
      if (metadata.finalizers.length === 0) delete metadata.finalizers;
    });
  }
}
