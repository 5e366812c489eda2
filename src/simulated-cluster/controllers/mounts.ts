import { keyOf } from '../store.ts';
import type { KubeObject, Loose } from '../types.ts';
import type { World } from '../world.ts';

const ATTACHMENTS = 'volumeattachments.storage.k8s.io';

/** The name of the VolumeAttachment of a volume on a node. */
export function attachmentName(volume: string, node: string): string {
  return `csi-${volume}-${node}`;
}

/** Why the volumes of a pod cannot be mounted yet; undefined when they can. Without a message it is only a matter of time. */
export function mountProblem(world: World, pod: KubeObject): { reason: string; message?: string } | undefined {
  const { namespace } = pod.metadata;
  for (const volume of pod.spec.volumes ?? []) {
    for (const [field, resource, nameField] of [
      ['secret', 'secrets', 'secretName'],
      ['configMap', 'configmaps', 'name'],
    ] as const) {
      const source = volume[field];
      if (!source || source.optional || world.get(resource, `${namespace}/${source[nameField]}`) !== undefined) continue;
      return {
        reason: 'FailedMount',
        message: `MountVolume.SetUp failed for volume "${volume.name}" : ${field.toLowerCase()} "${source[nameField]}" not found`,
      };
    }
    if (volume.persistentVolumeClaim) {
      const problem = attach(world, pod, volume);
      if (problem !== undefined) return problem;
    }
  }
  return missingEnvironment(world, pod);
}

function attach(world: World, pod: KubeObject, volume: Loose): { reason: string; message?: string } | undefined {
  const claim = world.get('persistentvolumeclaims', `${pod.metadata.namespace}/${volume.persistentVolumeClaim.claimName}`);
  const name: string | undefined = claim?.spec.volumeName;
  if (claim === undefined || claim.status?.phase !== 'Bound' || name === undefined) return { reason: 'FailedMount' };
  const node: string = pod.spec.nodeName;
  const key = attachmentName(name, node);
  const attachment = world.get(ATTACHMENTS, key);
  if (attachment?.status?.attached && attachment.metadata.deletionTimestamp === undefined) return undefined;
  const shared = (claim.spec.accessModes as string[]).some((mode) => mode === 'ReadWriteMany' || mode === 'ReadOnlyMany');
  if (!shared) {
    for (const other of world.store.values(ATTACHMENTS)) {
      if (other.spec.source?.persistentVolumeName !== name || other.spec.nodeName === node) continue;
      return {
        reason: 'FailedAttachVolume',
        message: `Multi-Attach error for volume "${name}" Volume is already exclusively attached to one node and can't be attached to another`,
      };
    }
  }
  if (attachment === undefined) {
    world.create(ATTACHMENTS, {
      metadata: { name: key },
      spec: { attacher: 'simulated.csi.gpu-dev', nodeName: node, source: { persistentVolumeName: name } },
      status: { attached: false },
    });
  }
  return { reason: 'FailedAttachVolume' };
}

function missingEnvironment(world: World, pod: KubeObject): { reason: string; message: string } | undefined {
  const { namespace } = pod.metadata;
  for (const container of [...(pod.spec.initContainers ?? []), ...pod.spec.containers]) {
    const references: [string, Loose][] = [];
    for (const each of container.env ?? []) {
      if (each.valueFrom?.secretKeyRef) references.push(['secrets', each.valueFrom.secretKeyRef]);
      if (each.valueFrom?.configMapKeyRef) references.push(['configmaps', each.valueFrom.configMapKeyRef]);
    }
    for (const each of container.envFrom ?? []) {
      if (each.secretRef) references.push(['secrets', each.secretRef]);
      if (each.configMapRef) references.push(['configmaps', each.configMapRef]);
    }
    for (const [resource, reference] of references) {
      if (reference.optional || world.get(resource, `${namespace}/${reference.name}`) !== undefined) continue;
      return {
        reason: 'Failed',
        message: `Error: ${resource === 'secrets' ? 'secret' : 'configmap'} "${reference.name}" not found`,
      };
    }
  }
  return undefined;
}

/** Takes volumes off nodes where no pod uses them any more. */
export function detachUnused(world: World, name: string): void {
  const attachment = world.get(ATTACHMENTS, name);
  if (attachment === undefined) return;
  const volume = world.get('persistentvolumes', attachment.spec.source?.persistentVolumeName ?? '');
  const claim = volume?.spec.claimRef;
  if (claim !== undefined) {
    for (const key of world.store.indexes.podsWithClaim(`${claim.namespace}/${claim.name}`)) {
      const pod = world.get('pods', key);
      if (
        pod?.spec.nodeName === attachment.spec.nodeName &&
        pod?.status?.phase !== 'Succeeded' &&
        pod?.status?.phase !== 'Failed'
      )
        return;
    }
  }
  world.delete(ATTACHMENTS, attachment);
}

/** Names of the attachments a pod holds. */
export function attachmentsOf(world: World, pod: KubeObject): string[] {
  const names: string[] = [];
  if (!pod.spec.nodeName) return names;
  for (const volume of pod.spec.volumes ?? []) {
    const claimName = volume.persistentVolumeClaim?.claimName;
    if (claimName === undefined) continue;
    const claim = world.get(
      'persistentvolumeclaims',
      keyOf({ metadata: { namespace: pod.metadata.namespace ?? '', name: claimName } }),
    );
    if (claim?.spec.volumeName) names.push(attachmentName(claim.spec.volumeName, pod.spec.nodeName));
  }
  return names;
}
