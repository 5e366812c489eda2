/** Disks on plain Kubernetes as the cluster has them: claims, and snapshots as the cluster took them or as copies. */
import type { V1PersistentVolumeClaim } from '@kubernetes/client-node';
import type { DiskCarrier, DiskRemains, FoundDisks, FoundSnapshot, FoundVolume } from '../../rebuild/ports.ts';
import type { KubernetesClient } from '../kubernetes/client.ts';
import { hasStatus } from '../kubernetes/errors.ts';
import { ANNOTATION, claimName, LABEL, MANAGED_BY } from '../kubernetes/objects.ts';
import { type ListPage, wholeList } from '../kubernetes/pages.ts';
import { bytes } from '../kubernetes/quantities.ts';
import { MERGE, patched } from '../kubernetes/remains.ts';
import { isComplete, sizeOf } from './volume-copies.ts';
import { type Snapshot, snapshotName } from './volume-snapshots.ts';

const API = { group: 'snapshot.storage.k8s.io', version: 'v1', plural: 'volumesnapshots' };
const GB = 2 ** 30;

export class LocalDiskRemains implements DiskRemains {
  readonly #client: KubernetesClient;

  constructor(client: KubernetesClient) {
    this.#client = client;
  }

  async find(): Promise<FoundDisks> {
    const { core, namespace } = this.#client;
    const labelSelector = `${LABEL.managedBy}=${MANAGED_BY},${LABEL.disk}`;
    const claims = await wholeList(
      'listing volumes',
      (page) => core.listNamespacedPersistentVolumeClaim({ namespace, labelSelector, ...page }),
      (claim) => [sort(claim)],
    );
    const copies = claims.flatMap((each) => ('snapshots' in each ? [each.snapshots] : []));
    return {
      volumes: claims.flatMap((each) => ('volumes' in each ? [each.volumes] : [])),
      snapshots: [...copies, ...(await this.#snapshots(labelSelector))],
      ignored: claims.flatMap((each) => ('ignored' in each ? [each.ignored] : [])),
    };
  }

  /** A claim is the volume itself. */
  async behind(claim: string): Promise<string | null> {
    return claim;
  }

  carrierOf({ id, claim, latest }: { id: string; claim: string | null; latest: string | null }): DiskCarrier | null {
    if (claim !== null) return { volume: claimName(id) };
    return latest === null ? null : { snapshot: latest };
  }

  async keep(diskId: string, carrier: DiskCarrier, record: string): Promise<boolean> {
    const { core, custom, namespace } = this.#client;
    const body = { metadata: { annotations: { [ANNOTATION.record]: record } } };
    const ofClaim = (name: string) =>
      patched(`keeping the record of ${name}`, () => core.patchNamespacedPersistentVolumeClaim({ namespace, name, body }, MERGE));
    if ('volume' in carrier) return ofClaim(claimName(diskId));
    const name = snapshotName(carrier.snapshot);
    try {
      const kept = await patched(`keeping the record of ${name}`, () =>
        custom.patchNamespacedCustomObject({ ...API, namespace, name, body }, MERGE),
      );
      if (kept) return true;
    } catch (error) {
      // The cluster knows no snapshots at all: they are copies.
      if (!hasStatus(error, 404)) throw error;
    }
    return ofClaim(name);
  }

  /** What there is says itself whose it is; nothing more is on record of it. */
  async adopt(): Promise<void> {}

  async #snapshots(labelSelector: string): Promise<FoundSnapshot[]> {
    const { custom, namespace } = this.#client;
    const list = (page: object): Promise<ListPage<Snapshot>> =>
      custom.listNamespacedCustomObject({ ...API, namespace, labelSelector, ...page });
    try {
      return await wholeList('listing snapshots', list, (snapshot) => [foundSnapshot(snapshot)]);
    } catch (error) {
      // A 404 without a Status: the cluster does not know the kind.
      if (hasStatus(error, 404) && error.reason !== 'NotFound') return [];
      throw error;
    }
  }
}

function foundSnapshot({ metadata, status }: Snapshot): FoundSnapshot {
  const { name = '', labels = {}, annotations = {}, creationTimestamp, deletionTimestamp } = metadata ?? {};
  const { readyToUse, restoreSize } = status ?? {};
  return {
    name,
    // What it is named by; see snapshotName.
    snapshotId: name,
    diskId: labels[LABEL.disk] ?? '',
    owner: null,
    diskName: null,
    volume: null,
    generation: 0,
    complete: readyToUse === true && deletionTimestamp === undefined,
    sizeGb: Math.ceil(bytes(restoreSize) / GB),
    sizeBytes: restoreSize === undefined ? null : bytes(restoreSize),
    createdAt: moment(creationTimestamp),
    record: annotations[ANNOTATION.record] ?? null,
  };
}

/** What a claim is, by the list that it belongs to. */
type Sorted = { volumes: FoundVolume } | { snapshots: FoundSnapshot } | { ignored: FoundDisks['ignored'][number] };

/** A claim is a disk's volume, or a copy of one. */
function sort(claim: V1PersistentVolumeClaim): Sorted {
  const { name = '', labels = {}, annotations = {}, creationTimestamp, deletionTimestamp } = claim.metadata ?? {};
  const diskId = labels[LABEL.disk] ?? '';
  const common = {
    name,
    diskId,
    owner: annotations[ANNOTATION.owner] ?? null,
    diskName: null,
    createdAt: moment(creationTimestamp),
    record: annotations[ANNOTATION.record] ?? null,
  };
  const snapshotId = annotations[ANNOTATION.snapshot];
  if (labels[LABEL.snapshot] !== undefined && snapshotId !== undefined) {
    const sizeBytes = sizeOf(claim);
    const complete = isComplete(claim) && deletionTimestamp === undefined;
    return {
      snapshots: { ...common, snapshotId, volume: null, generation: 0, complete, sizeGb: Math.ceil(sizeBytes / GB), sizeBytes },
    };
  }
  if (name !== claimName(diskId))
    return { ignored: { name, why: 'It bears the label of a disk, and not the name of its volume' } };
  const { phase } = claim.status ?? {};
  return {
    volumes: {
      ...common,
      claim: name,
      attached: false,
      sizeGb: Math.ceil(bytes(claim.spec?.resources?.requests?.['storage']) / GB),
      generation: 1,
      unfit: deletionTimestamp !== undefined ? 'it is being deleted' : phase === 'Lost' ? 'its volume is lost' : null,
    },
  };
}

function moment(at: Date | string | undefined): string {
  return new Date(at ?? 0).toISOString();
}
