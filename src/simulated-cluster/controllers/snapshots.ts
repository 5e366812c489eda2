import { keyOf } from '../store.ts';
import { copyTree, dropTree, tree } from '../trees.ts';
import type { KubeObject, Loose, StoreEvent } from '../types.ts';
import type { Controller, World } from '../world.ts';
import { PROVISIONER } from './volumes.ts';

const NAME = 'snapshots';
const POLL = 200;
const SNAPSHOTS = 'volumesnapshots.snapshot.storage.k8s.io';
const CONTENTS = 'volumesnapshotcontents.snapshot.storage.k8s.io';
const CLASSES = 'volumesnapshotclasses.snapshot.storage.k8s.io';
const COMPONENT = 'snapshot-controller';

/** Captures disks: a VolumeSnapshot gets a content, is readyToUse after its time, and takes the content along when it goes. */
export class Snapshots implements Controller {
  readonly name = NAME;
  private readonly world: World;

  constructor(world: World) {
    this.world = world;
  }

  onChange({ type, resource, object }: StoreEvent): void {
    if (resource === SNAPSHOTS) {
      if (type === 'ADDED') this.world.wake(NAME, `make/${keyOf(object)}`, 0);
      if (type === 'DELETED') this.world.wake(NAME, `drop/${object.status?.boundVolumeSnapshotContentName ?? ''}`, 0);
    } else if (resource === CONTENTS && type === 'DELETED') this.world.wake(NAME, `clean/${object.metadata.name}`, 0);
  }

  onTimer(key: string): void {
    const slash = key.indexOf('/');
    const name = key.slice(slash + 1);
    const what = key.slice(0, slash);
    if (what === 'drop') this.drop(name);
    if (what === 'clean') dropTree(this.world, tree.snapshot(name));
    const snapshot = this.world.get(SNAPSHOTS, name);
    if (snapshot === undefined || snapshot.metadata.deletionTimestamp) return;
    if (what === 'make') this.make(snapshot, name);
    if (what === 'ready') this.complete(snapshot, name);
  }

  private make(snapshot: KubeObject, key: string): void {
    const given: string | undefined = snapshot.spec.source.volumeSnapshotContentName;
    const content = given === undefined ? this.capture(snapshot) : this.world.get(CONTENTS, given);
    if (content === undefined || 'problem' in content) {
      const message = (content as Loose)?.problem ?? `VolumeSnapshotContent ${given} not found`;
      this.world.update(SNAPSHOTS, key, (draft) => {
        draft.status = {
          ...draft.status,
          readyToUse: false,
          error: { message, time: draft.status?.error?.time ?? this.world.stamp },
        };
      });
      this.world.event(snapshot, 'Warning', 'SnapshotContentCreationFailed', message, COMPONENT);
      this.world.wake(NAME, `make/${key}`, POLL);
      return;
    }
    const bound = (content as KubeObject).metadata.name;
    this.world.update(SNAPSHOTS, key, (draft) => {
      draft.status = { boundVolumeSnapshotContentName: bound, creationTime: this.world.stamp, readyToUse: false };
    });
    this.world.event(
      snapshot,
      'Normal',
      'CreatingSnapshot',
      `Waiting for a snapshot ${key} to be created by the CSI driver.`,
      COMPONENT,
    );
    this.world.wake(NAME, `ready/${key}`, given === undefined ? this.world.settings.delays.snapshot : 0);
  }

  /** The contents are those of the moment of asking, not of the moment it is ready. */
  private capture(snapshot: KubeObject): KubeObject | { problem: string } {
    const { namespace, name, uid } = snapshot.metadata;
    const claimName: string = snapshot.spec.source.persistentVolumeClaimName;
    const claim = this.world.get('persistentvolumeclaims', `${namespace}/${claimName}`);
    if (claim === undefined)
      return {
        problem: `Failed to create snapshot content with error snapshot controller failed to update ${name} on API server: cannot get claim from snapshot: persistentvolumeclaims "${claimName}" not found`,
      };
    if (claim.status?.phase !== 'Bound')
      return { problem: `the PVC ${claimName} is not yet bound to a PV, will not attempt to take a snapshot` };
    const snapshotClass = this.classOf(snapshot);
    if (snapshotClass === undefined)
      return { problem: `volumesnapshotclass "${snapshot.spec.volumeSnapshotClassName ?? '(default)'}" not found` };
    const content = `snapcontent-${uid}`;
    if (this.world.get(CONTENTS, content) === undefined)
      copyTree(this.world, tree.volume(claim.spec.volumeName), tree.snapshot(content));
    return this.world.create(CONTENTS, {
      metadata: { name: content },
      spec: {
        deletionPolicy: snapshotClass.deletionPolicy,
        driver: PROVISIONER,
        source: {
          volumeHandle:
            this.world.get('persistentvolumes', claim.spec.volumeName)?.spec.csi?.volumeHandle ?? claim.spec.volumeName,
        },
        volumeSnapshotClassName: snapshotClass.metadata.name,
        volumeSnapshotRef: { apiVersion: snapshot.apiVersion, kind: 'VolumeSnapshot', name, namespace, uid },
      },
      status: { readyToUse: false, restoreSize: bytes(claim.status.capacity?.storage) },
    });
  }

  private complete(snapshot: KubeObject, key: string): void {
    const name: string = snapshot.status?.boundVolumeSnapshotContentName ?? '';
    const size = this.world.get(
      'persistentvolumeclaims',
      `${snapshot.metadata.namespace}/${snapshot.spec.source.persistentVolumeClaimName}`,
    )?.status?.capacity?.storage;
    const handle = `snap-${snapshot.metadata.uid.replaceAll('-', '').slice(0, 17)}`;
    const content = this.world.update(CONTENTS, name, (draft) => {
      draft.status = {
        snapshotHandle: draft.spec.source?.snapshotHandle ?? handle,
        creationTime: this.world.store.now * 1_000_000,
        restoreSize: bytes(size ?? '0'),
        ...withoutEmpty(draft.status),
        readyToUse: true,
      };
    });
    if (content === undefined) return;
    const restoreSize = size ?? String(content.status.restoreSize);
    this.world.update(SNAPSHOTS, key, (draft) => {
      draft.status = { ...draft.status, readyToUse: true, restoreSize };
      delete draft.status.error;
    });
    this.world.event(snapshot, 'Normal', 'SnapshotReady', `Snapshot ${key} is ready to use.`, COMPONENT);
  }

  private drop(name: string): void {
    const content = name === '' ? undefined : this.world.get(CONTENTS, name);
    if (content?.spec.deletionPolicy === 'Delete') this.world.delete(CONTENTS, content);
  }

  private classOf(snapshot: KubeObject): KubeObject | undefined {
    const wanted: string | undefined = snapshot.spec.volumeSnapshotClassName;
    if (wanted !== undefined) return this.world.get(CLASSES, wanted);
    for (const each of this.world.store.values(CLASSES)) {
      if (each.metadata.annotations?.['snapshot.storage.kubernetes.io/is-default-class'] === 'true') return each;
    }
    return undefined;
  }
}

const UNITS: Record<string, number> = { Ki: 2 ** 10, Mi: 2 ** 20, Gi: 2 ** 30, Ti: 2 ** 40 };

/** restoreSize of a content is a number of bytes. */
function bytes(quantity: string): number {
  const match = /^(\d+)(Ki|Mi|Gi|Ti)?$/.exec(quantity);
  return match === null ? 0 : Number(match[1]) * (UNITS[match[2] ?? ''] ?? 1);
}

function withoutEmpty(status: Loose): Loose {
  return Object.fromEntries(Object.entries(status ?? {}).filter(([, value]) => value !== undefined && value !== 0));
}
