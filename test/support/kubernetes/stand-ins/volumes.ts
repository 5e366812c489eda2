/**
 * STAND-IN for a CSI driver's provisioner, attacher and resizer. There is no storage behind it: claims get volumes, attachments come about,
 * claims grow, and released volumes go. Binding, protection of what is in use, and who is attached where are the real controllers' work.
 */
import type { KubeConfig } from '@kubernetes/client-node';
import { bytes } from '../../../../src/providers/kubernetes/quantities.ts';
import { type Api, type Loose, MERGE } from '../api.ts';
import { type Followed, follow, insist } from './follow.ts';

export const DRIVER = 'stand-in.csi.gpu-dev';
const STORAGE = '/apis/storage.k8s.io/v1';
const VOLUMES = '/api/v1/persistentvolumes';

/** The default class binds at once; `wait` binds where its first pod is to run. */
const CLASSES = [
  { name: 'standard', volumeBindingMode: 'Immediate', annotations: { 'storageclass.kubernetes.io/is-default-class': 'true' } },
  { name: 'wait', volumeBindingMode: 'WaitForFirstConsumer', annotations: {} },
];

export async function standInVolumes(api: Api, config: KubeConfig): Promise<{ stop(): Promise<void> }> {
  await api.ensure(`${STORAGE}/csidrivers`, {
    metadata: { name: DRIVER },
    spec: { attachRequired: true, podInfoOnMount: false },
  });
  for (const { name, annotations, volumeBindingMode } of CLASSES) {
    const facts = { provisioner: DRIVER, reclaimPolicy: 'Delete', allowVolumeExpansion: true, volumeBindingMode };
    await api.ensure(`${STORAGE}/storageclasses`, { metadata: { name, annotations }, ...facts });
  }
  let stopped = false;
  const until = (call: () => Promise<{ status: number }>): void => void insist(call, () => stopped);
  const followed: Followed[] = [
    follow(api, config, '/api/v1/persistentvolumeclaims', {
      changed: (claim) => {
        if (isOurs(claim)) until(() => provision(api, claim));
        else if (mustGrow(claim)) until(() => grow(api, claim));
      },
    }),
    follow(api, config, VOLUMES, {
      changed: ({ metadata, spec, status }) => {
        const ours = spec.csi?.driver === DRIVER && metadata.deletionTimestamp === undefined;
        if (ours && status?.phase === 'Released' && spec.persistentVolumeReclaimPolicy === 'Delete')
          until(() => api.call('DELETE', `${VOLUMES}/${metadata.name}`));
      },
    }),
    follow(api, config, `${STORAGE}/volumeattachments`, {
      changed: ({ metadata, spec, status }) => {
        if (spec.attacher !== DRIVER || status?.attached || metadata.deletionTimestamp !== undefined) return;
        const path = `${STORAGE}/volumeattachments/${metadata.name}/status`;
        until(() => api.call('PATCH', path, { status: { attached: true } }, MERGE));
      },
    }),
  ];
  return {
    async stop() {
      stopped = true;
      await Promise.all(followed.map((each) => each.stop()));
    },
  };
}

/** The controller that binds marks a claim for its provisioner once it is time. */
function isOurs({ metadata, spec }: Loose): boolean {
  return !spec.volumeName && metadata.annotations?.['volume.beta.kubernetes.io/storage-provisioner'] === DRIVER;
}

async function provision(api: Api, { metadata, spec }: Loose): Promise<{ status: number }> {
  if (spec.dataSource?.kind === 'VolumeSnapshot') {
    const path = `/apis/snapshot.storage.k8s.io/v1/namespaces/${metadata.namespace}/volumesnapshots/${spec.dataSource.name}`;
    const { body } = await api.call('GET', path);
    // Not there or not complete yet: looked at again, as long as the claim is there.
    if (body.status?.readyToUse !== true) {
      const { status } = await api.call(
        'GET',
        `/api/v1/namespaces/${metadata.namespace}/persistentvolumeclaims/${metadata.name}`,
      );
      return { status: status === 404 ? 404 : 503 };
    }
  }
  return api.call('POST', VOLUMES, {
    metadata: { name: `pvc-${metadata.uid}`, annotations: { 'pv.kubernetes.io/provisioned-by': DRIVER } },
    spec: {
      capacity: { storage: spec.resources.requests.storage },
      accessModes: spec.accessModes,
      volumeMode: spec.volumeMode ?? 'Filesystem',
      storageClassName: spec.storageClassName,
      persistentVolumeReclaimPolicy: 'Delete',
      claimRef: { kind: 'PersistentVolumeClaim', namespace: metadata.namespace, name: metadata.name, uid: metadata.uid },
      csi: { driver: DRIVER, volumeHandle: `pvc-${metadata.uid}`, fsType: 'ext4' },
    },
  });
}

function mustGrow({ spec, status }: Loose): boolean {
  const has = status?.capacity?.storage;
  return status?.phase === 'Bound' && has !== undefined && bytes(spec.resources.requests.storage) > bytes(has);
}

async function grow(api: Api, { metadata, spec }: Loose): Promise<{ status: number }> {
  const capacity = { storage: spec.resources.requests.storage };
  await api.call('PATCH', `${VOLUMES}/${spec.volumeName}`, { spec: { capacity } }, MERGE);
  const path = `/api/v1/namespaces/${metadata.namespace}/persistentvolumeclaims/${metadata.name}/status`;
  return api.call('PATCH', path, { metadata: { uid: metadata.uid }, status: { capacity, conditions: null } }, MERGE);
}
