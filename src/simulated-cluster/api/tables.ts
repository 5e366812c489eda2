import { age } from '../quantities.ts';
import type { Resource } from '../resources.ts';
import type { KubeObject, Loose } from '../types.ts';

interface Column {
  name: string;
  /** Columns of priority 1 show with -o wide only. */
  wide?: boolean;
  cell(object: KubeObject, now: number): Loose;
}

const name: Column = { name: 'Name', cell: (object) => object.metadata.name };
const created: Column = { name: 'Age', cell: (object, now) => age(object.metadata.creationTimestamp, now) };
const column = (title: string, cell: Column['cell'], wide = false): Column => ({ name: title, cell, wide });
const none = (value: Loose): Loose => (value === undefined || value === '' || value === null ? '<none>' : value);
const labelText = (labels: Record<string, string> | undefined): string =>
  Object.entries(labels ?? {})
    .map(([key, value]) => `${key}=${value}`)
    .join(',') || '<none>';

/** What kubectl shows in the STATUS column of a pod. */
export function podStatusText(pod: KubeObject): string {
  const { status = {}, metadata } = pod;
  let text: string = status.reason || status.phase || 'Pending';
  for (const [index, container] of ((status.initContainerStatuses ?? []) as Loose[]).entries()) {
    const total = status.initContainerStatuses.length;
    if (container.state?.terminated?.exitCode === 0 || container.started) continue;
    const reason = container.state?.terminated?.reason ?? container.state?.waiting?.reason;
    text = reason && reason !== 'PodInitializing' ? `Init:${reason}` : `Init:${index}/${total}`;
    if (metadata.deletionTimestamp) break;
    return text;
  }
  for (const container of [...((status.containerStatuses ?? []) as Loose[])].reverse()) {
    const { waiting, terminated } = container.state ?? {};
    if (waiting?.reason) text = waiting.reason;
    else if (terminated)
      text = terminated.reason || (terminated.signal ? `Signal:${terminated.signal}` : `ExitCode:${terminated.exitCode}`);
  }
  if (status.reason === 'Evicted') text = 'Evicted';
  if (metadata.deletionTimestamp) return status.reason === 'NodeLost' ? 'Unknown' : 'Terminating';
  return text;
}

const ready = (pod: KubeObject): string => {
  const statuses: Loose[] = pod.status?.containerStatuses ?? [];
  return `${statuses.filter((each) => each.ready).length}/${pod.spec.containers.length}`;
};

const restarts = (pod: KubeObject, now: number): string => {
  const statuses: Loose[] = pod.status?.containerStatuses ?? [];
  const total = statuses.reduce((sum, each) => sum + (each.restartCount ?? 0), 0);
  const last = statuses
    .map((each) => each.lastState?.terminated?.finishedAt)
    .filter(Boolean)
    .sort()
    .pop();
  return total > 0 && last ? `${total} (${age(last, now)} ago)` : String(total);
};

const nodeStatus = (node: KubeObject): string => {
  const condition = node.status?.conditions?.find((each: Loose) => each.type === 'Ready');
  const text = condition === undefined ? 'Unknown' : condition.status === 'True' ? 'Ready' : 'NotReady';
  return node.spec?.unschedulable ? `${text},SchedulingDisabled` : text;
};

const portText = (port: Loose): string => `${port.port}${port.nodePort ? `:${port.nodePort}` : ''}/${port.protocol}`;
const address = (node: KubeObject, type: string): string =>
  none(node.status?.addresses?.find((each: Loose) => each.type === type)?.address);

const COLUMNS: Record<string, Column[]> = {
  pods: [
    name,
    column('Ready', ready),
    column('Status', podStatusText),
    column('Restarts', restarts),
    created,
    column('IP', (pod) => none(pod.status?.podIP), true),
    column('Node', (pod) => none(pod.spec.nodeName), true),
    column('Nominated Node', (pod) => none(pod.status?.nominatedNodeName), true),
    column('Readiness Gates', () => '<none>', true),
  ],
  nodes: [
    name,
    column('Status', nodeStatus),
    column('Roles', () => '<none>'),
    created,
    column('Version', (node) => none(node.status?.nodeInfo?.kubeletVersion)),
    column('Internal-IP', (node) => address(node, 'InternalIP'), true),
    column('External-IP', (node) => address(node, 'ExternalIP'), true),
    column('OS-Image', (node) => none(node.status?.nodeInfo?.osImage), true),
    column('Kernel-Version', (node) => none(node.status?.nodeInfo?.kernelVersion), true),
    column('Container-Runtime', (node) => none(node.status?.nodeInfo?.containerRuntimeVersion), true),
  ],
  services: [
    name,
    column('Type', (service) => service.spec.type),
    column('Cluster-IP', (service) => none(service.spec.clusterIP)),
    column('External-IP', (service) => (service.spec.type === 'LoadBalancer' ? '<pending>' : none(service.spec.externalName))),
    column('Port(s)', (service) => (service.spec.ports ?? []).map(portText).join(',') || '<none>'),
    created,
    column('Selector', (service) => labelText(service.spec.selector), true),
  ],
  persistentvolumeclaims: [
    name,
    column('Status', (claim) => (claim.metadata.deletionTimestamp ? 'Terminating' : (claim.status?.phase ?? ''))),
    column('Volume', (claim) => claim.spec.volumeName ?? ''),
    column('Capacity', (claim) => claim.status?.capacity?.storage ?? ''),
    column('Access Modes', (claim) => modes(claim.status?.accessModes)),
    column('StorageClass', (claim) => claim.spec.storageClassName ?? ''),
    column('VolumeAttributesClass', () => '<unset>'),
    created,
    column('VolumeMode', (claim) => claim.spec.volumeMode ?? '', true),
  ],
  persistentvolumes: [
    name,
    column('Capacity', (volume) => volume.spec.capacity?.storage ?? ''),
    column('Access Modes', (volume) => modes(volume.spec.accessModes)),
    column('Reclaim Policy', (volume) => volume.spec.persistentVolumeReclaimPolicy),
    column('Status', (volume) => (volume.metadata.deletionTimestamp ? 'Terminating' : volume.status?.phase)),
    column('Claim', ({ spec }) => (spec.claimRef ? `${spec.claimRef.namespace}/${spec.claimRef.name}` : '')),
    column('StorageClass', (volume) => volume.spec.storageClassName ?? ''),
    column('VolumeAttributesClass', () => '<unset>'),
    column('Reason', () => ''),
    created,
    column('VolumeMode', (volume) => volume.spec.volumeMode ?? '', true),
  ],
  configmaps: [name, column('Data', (map) => Object.keys({ ...map.data, ...map.binaryData }).length), created],
  secrets: [
    name,
    column('Type', (secret) => secret.type),
    column('Data', (secret) => Object.keys(secret.data ?? {}).length),
    created,
  ],
  namespaces: [name, column('Status', (space) => space.status?.phase ?? ''), created],
  serviceaccounts: [name, column('Secrets', (account) => account.secrets?.length ?? 0), created],
  events: [
    column('Last Seen', (event, now) => age(event.lastTimestamp ?? event.eventTime ?? event.metadata.creationTimestamp, now)),
    column('Type', (event) => event.type ?? ''),
    column('Reason', (event) => event.reason ?? ''),
    column('Object', (event) => `${String(event.involvedObject?.kind).toLowerCase()}/${event.involvedObject?.name}`),
    column('Subobject', (event) => event.involvedObject?.fieldPath ?? '', true),
    column('Source', (event) => [event.source?.component, event.source?.host].filter(Boolean).join(', '), true),
    column('Message', (event) => String(event.message ?? '').trim()),
    column('First Seen', (event, now) => age(event.firstTimestamp ?? event.metadata.creationTimestamp, now), true),
    column('Count', (event) => event.count ?? 1, true),
    column('Name', (event) => event.metadata.name, true),
  ],
  'jobs.batch': [
    name,
    column('Status', (job) => jobStatus(job)),
    column('Completions', (job) => `${job.status?.succeeded ?? 0}/${job.spec.completions ?? 1}`),
    column('Duration', (job, now) => {
      const { startTime, completionTime } = job.status ?? {};
      if (!startTime) return '';
      return age(startTime, completionTime ? Date.parse(completionTime) : now);
    }),
    created,
    column('Containers', (job) => job.spec.template.spec.containers.map((each: Loose) => each.name).join(','), true),
    column('Images', (job) => job.spec.template.spec.containers.map((each: Loose) => each.image).join(','), true),
    column('Selector', (job) => labelText(job.spec.selector?.matchLabels), true),
  ],
  'storageclasses.storage.k8s.io': [
    column('Name', (object) => {
      const standard = object.metadata.annotations?.['storageclass.kubernetes.io/is-default-class'] === 'true';
      return standard ? `${object.metadata.name} (default)` : object.metadata.name;
    }),
    column('Provisioner', (object) => object.provisioner),
    column('ReclaimPolicy', (object) => object.reclaimPolicy ?? 'Delete'),
    column('VolumeBindingMode', (object) => object.volumeBindingMode ?? 'Immediate'),
    column('AllowVolumeExpansion', (object) => object.allowVolumeExpansion ?? false),
    created,
  ],
  'volumesnapshots.snapshot.storage.k8s.io': [
    name,
    column('ReadyToUse', (object) => object.status?.readyToUse ?? ''),
    column('SourcePVC', (object) => object.spec?.source?.persistentVolumeClaimName ?? ''),
    column('SourceSnapshotContent', (object) => object.spec?.source?.volumeSnapshotContentName ?? ''),
    column('RestoreSize', (object) => object.status?.restoreSize ?? ''),
    column('SnapshotClass', (object) => object.spec?.volumeSnapshotClassName ?? ''),
    column('SnapshotContent', (object) => object.status?.boundVolumeSnapshotContentName ?? ''),
    column('CreationTime', (object, now) => (object.status?.creationTime ? age(object.status.creationTime, now) : '')),
    created,
  ],
  'volumesnapshotcontents.snapshot.storage.k8s.io': [
    name,
    column('ReadyToUse', (object) => object.status?.readyToUse ?? ''),
    column('RestoreSize', (object) => object.status?.restoreSize ?? ''),
    column('DeletionPolicy', (object) => object.spec?.deletionPolicy ?? ''),
    column('Driver', (object) => object.spec?.driver ?? ''),
    column('VolumeSnapshotClass', (object) => object.spec?.volumeSnapshotClassName ?? ''),
    column('VolumeSnapshot', (object) => object.spec?.volumeSnapshotRef?.name ?? ''),
    created,
  ],
};

function modes(list: string[] | undefined): string {
  const short: Record<string, string> = {
    ReadWriteOnce: 'RWO',
    ReadOnlyMany: 'ROX',
    ReadWriteMany: 'RWX',
    ReadWriteOncePod: 'RWOP',
  };
  return (list ?? []).map((mode) => short[mode] ?? mode).join(',');
}

function jobStatus(job: KubeObject): string {
  const holds = (type: string): boolean =>
    job.status?.conditions?.some((each: Loose) => each.type === type && each.status === 'True');
  if (holds('Complete')) return 'Complete';
  if (holds('Failed')) return 'Failed';
  if (job.metadata.deletionTimestamp) return 'Terminating';
  return holds('Suspended') ? 'Suspended' : 'Running';
}

/** A meta.k8s.io/v1 Table of the given objects, as `kubectl get` asks for. */
export function tableOf(resource: Resource, items: KubeObject[], metadata: Loose, now: number, include: Loose): Loose {
  const columns = COLUMNS[resource.id] ?? [name, created];
  return {
    kind: 'Table',
    apiVersion: 'meta.k8s.io/v1',
    metadata,
    columnDefinitions: columns.map((each) => ({
      name: each.name,
      type: 'string',
      format: each.name === 'Name' ? 'name' : '',
      description: '',
      priority: each.wide ? 1 : 0,
    })),
    rows: items.map((object) => ({
      cells: columns.map((each) => each.cell(object, now)),
      object:
        include === 'Object'
          ? object
          : { kind: 'PartialObjectMetadata', apiVersion: 'meta.k8s.io/v1', metadata: object.metadata },
    })),
  };
}
