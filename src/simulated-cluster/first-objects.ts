import { fleetNodes } from './fleet.ts';
import { PROVISIONER } from './controllers/volumes.ts';
import { RESOURCES } from './resources.ts';
import type { Loose } from './types.ts';
import type { World } from './world.ts';

const NAMESPACES = ['default', 'gpu-controlplane', 'gpu-dev', 'kube-system'];

/** What a new cluster has: namespaces, the fleet, storage classes, and custom kinds. */
export function seedObjects(world: World): void {
  const create = (resource: string, object: Loose): void => {
    world.create(resource, object);
  };
  for (const name of NAMESPACES) {
    create('namespaces', {
      metadata: { name, labels: { 'kubernetes.io/metadata.name': name } },
      spec: { finalizers: ['kubernetes'] },
      status: { phase: 'Active' },
    });
    create('serviceaccounts', { metadata: { name: 'default', namespace: name } });
  }
  for (const node of fleetNodes(world.settings, world.store.now)) create('nodes', node);
  create('services', {
    metadata: { name: 'kubernetes', namespace: 'default', labels: { component: 'apiserver', provider: 'kubernetes' } },
    spec: {
      type: 'ClusterIP',
      clusterIP: '10.96.0.1',
      clusterIPs: ['10.96.0.1'],
      ports: [{ name: 'https', port: 443, protocol: 'TCP', targetPort: 6443 }],
      sessionAffinity: 'None',
    },
    status: { loadBalancer: {} },
  });
  const storageClass = (name: string, volumeBindingMode: string, standard: boolean): void =>
    create('storageclasses.storage.k8s.io', {
      metadata: { name, annotations: standard ? { 'storageclass.kubernetes.io/is-default-class': 'true' } : {} },
      provisioner: PROVISIONER,
      reclaimPolicy: 'Delete',
      volumeBindingMode,
      allowVolumeExpansion: true,
    });
  storageClass('standard', 'Immediate', true);
  storageClass('gp3', 'WaitForFirstConsumer', false);
  for (const priority of [
    { name: 'system-cluster-critical', value: 2_000_000_000 },
    { name: 'system-node-critical', value: 2_000_001_000 },
  ]) {
    create('priorityclasses.scheduling.k8s.io', {
      metadata: { name: priority.name },
      value: priority.value,
      globalDefault: false,
    });
  }
  seedCustomKinds(world);
}

/** What a cluster has that knows VolumeSnapshots; one that learns of them later gets it then. */
export function seedCustomKinds(world: World): void {
  if (!world.settings.volumeSnapshots) return;
  world.create('volumesnapshotclasses.snapshot.storage.k8s.io', {
    metadata: { name: 'standard', annotations: { 'snapshot.storage.kubernetes.io/is-default-class': 'true' } },
    driver: PROVISIONER,
    deletionPolicy: 'Delete',
  });
  for (const resource of RESOURCES.filter((each) => each.custom)) {
    world.create('customresourcedefinitions.apiextensions.k8s.io', {
      metadata: { name: `${resource.plural}.${resource.group}` },
      spec: {
        group: resource.group,
        names: {
          kind: resource.kind,
          listKind: `${resource.kind}List`,
          plural: resource.plural,
          singular: resource.singular,
          shortNames: resource.shortNames,
        },
        scope: resource.namespaced ? 'Namespaced' : 'Cluster',
        versions: [
          {
            name: resource.version,
            served: true,
            storage: true,
            schema: { openAPIV3Schema: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true } },
          },
        ],
      },
      status: {
        conditions: [
          {
            type: 'Established',
            status: 'True',
            lastTransitionTime: world.stamp,
            reason: 'InitialNamesAccepted',
            message: 'the initial names have been accepted',
          },
        ],
        storedVersions: [resource.version],
      },
    });
  }
}
