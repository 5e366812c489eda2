import { parseQuantity } from '../quantities.ts';
import type { Resource } from '../resources.ts';
import type { KubeObject, Loose } from '../types.ts';
import type { World } from '../world.ts';
import { allocateService } from './services.ts';

/** Fills in what the API server and its admission plug-ins would, and resets what a client may not set at creation. */
export function prepareCreate(world: World, resource: Resource, object: KubeObject): void {
  switch (resource.id) {
    case 'pods':
      preparePod(world, object);
      return;
    case 'jobs.batch':
      prepareJob(object);
      return;
    case 'services':
      object.spec ??= {};
      object.spec.type ??= 'ClusterIP';
      allocateService(world, object, undefined);
      object.status = { loadBalancer: {} };
      return;
    case 'secrets':
      foldStringData(object);
      object.type ??= 'Opaque';
      return;
    case 'namespaces':
      object.metadata.labels = { ...object.metadata.labels, 'kubernetes.io/metadata.name': object.metadata.name };
      object.spec = { finalizers: ['kubernetes'] };
      object.status = { phase: 'Active' };
      return;
    case 'persistentvolumeclaims':
      object.metadata.finalizers = [...new Set([...(object.metadata.finalizers ?? []), 'kubernetes.io/pvc-protection'])];
      object.spec ??= {};
      object.spec.volumeMode ??= 'Filesystem';
      if (object.spec.storageClassName === undefined) {
        for (const storageClass of world.store.values('storageclasses.storage.k8s.io')) {
          if (storageClass.metadata.annotations?.['storageclass.kubernetes.io/is-default-class'] === 'true') {
            object.spec.storageClassName = storageClass.metadata.name;
          }
        }
      }
      object.status = { phase: 'Pending' };
      return;
    case 'persistentvolumes':
      object.metadata.finalizers = [...new Set([...(object.metadata.finalizers ?? []), 'kubernetes.io/pv-protection'])];
      object.spec ??= {};
      object.spec.persistentVolumeReclaimPolicy ??= 'Retain';
      object.spec.volumeMode ??= 'Filesystem';
      object.status = { phase: 'Available' };
      return;
    case 'volumesnapshots.snapshot.storage.k8s.io':
    case 'volumesnapshotcontents.snapshot.storage.k8s.io':
      object.metadata.generation = 1;
      delete object.status;
      return;
    case 'nodes':
      object.spec ??= {};
      object.status ??= {};
      object.status.allocatable ??= object.status.capacity;
      return;
    case 'poddisruptionbudgets.policy':
    case 'networkpolicies.networking.k8s.io':
      object.metadata.generation = 1;
      return;
    case 'events':
      object.count ??= 1;
      return;
    default:
      return;
  }
}

/** stringData is write-only: it ends in data. */
export function foldStringData(object: KubeObject): void {
  for (const [key, value] of Object.entries((object.stringData ?? {}) as Record<string, string>)) {
    object.data = { ...object.data, [key]: Buffer.from(String(value), 'utf8').toString('base64') };
  }
  delete object.stringData;
}

function preparePod(world: World, pod: KubeObject): void {
  const spec = pod.spec;
  if (spec === undefined) return;
  defaultPodSpec(spec, 'Always');
  spec.serviceAccountName ??= 'default';
  spec.serviceAccount ??= spec.serviceAccountName;
  spec.preemptionPolicy ??= 'PreemptLowerPriority';
  if (spec.priorityClassName !== undefined) {
    spec.priority = world.get('priorityclasses.scheduling.k8s.io', spec.priorityClassName)?.value ?? 0;
  } else spec.priority ??= 0;
  pod.spec = withDefaultTolerations(spec);
  pod.status = { phase: 'Pending', qosClass: qualityOfService(spec) };
}

/** A pod's spec that lets it stay on a silent node for five minutes, unless it says otherwise; at updates too, as admission does. */
export function withDefaultTolerations(spec: Loose): Loose {
  const tolerations: Loose[] = [...(spec.tolerations ?? [])];
  for (const key of ['node.kubernetes.io/not-ready', 'node.kubernetes.io/unreachable']) {
    const covered = tolerations.some((each) => (each.key === key || !each.key) && (!each.effect || each.effect === 'NoExecute'));
    if (!covered) tolerations.push({ key, operator: 'Exists', effect: 'NoExecute', tolerationSeconds: 300 });
  }
  return tolerations.length === spec.tolerations?.length ? spec : { ...spec, tolerations };
}

/** Defaults of a pod spec, also inside a Job's template. */
export function defaultPodSpec(spec: Loose, restartPolicy: string | undefined): void {
  if (restartPolicy !== undefined) spec.restartPolicy ??= restartPolicy;
  spec.terminationGracePeriodSeconds ??= 30;
  spec.dnsPolicy ??= 'ClusterFirst';
  spec.schedulerName ??= 'default-scheduler';
  spec.securityContext ??= {};
  spec.enableServiceLinks ??= true;
  for (const container of [...(spec.initContainers ?? []), ...(spec.containers ?? [])]) {
    const image: string = container.image ?? '';
    container.imagePullPolicy ??=
      /:latest$/.test(image) || !/[:@]/.test(image.split('/').pop() ?? '') ? 'Always' : 'IfNotPresent';
    container.terminationMessagePath ??= '/dev/termination-log';
    container.terminationMessagePolicy ??= 'File';
    container.resources ??= {};
    const { limits, requests } = container.resources;
    if (limits !== undefined) container.resources.requests = { ...limits, ...requests };
    for (const port of container.ports ?? []) port.protocol ??= 'TCP';
  }
  for (const volume of spec.volumes ?? []) {
    for (const source of ['secret', 'configMap']) if (volume[source]) volume[source].defaultMode ??= 420;
  }
}

function qualityOfService(spec: Loose): string {
  const containers: Loose[] = [...(spec.containers ?? []), ...(spec.initContainers ?? [])];
  const guaranteed = containers.every(({ resources }) =>
    ['cpu', 'memory'].every((name) => {
      const limit = resources?.limits?.[name];
      return limit !== undefined && parseQuantity(limit) === parseQuantity(resources.requests?.[name] ?? limit);
    }),
  );
  if (guaranteed) return 'Guaranteed';
  const any = containers.some(({ resources }) =>
    Object.keys({ ...resources?.requests, ...resources?.limits }).some((name) => name === 'cpu' || name === 'memory'),
  );
  return any ? 'Burstable' : 'BestEffort';
}

function prepareJob(job: KubeObject): void {
  const spec = job.spec;
  job.metadata.generation = 1;
  delete job.status;
  job.status = {};
  if (spec?.template === undefined) return;
  spec.parallelism ??= 1;
  spec.completions ??= 1;
  spec.backoffLimit ??= 6;
  spec.completionMode ??= 'NonIndexed';
  spec.suspend ??= false;
  spec.template.metadata ??= {};
  const labels = { 'batch.kubernetes.io/controller-uid': job.metadata.uid, 'batch.kubernetes.io/job-name': job.metadata.name };
  spec.selector ??= { matchLabels: { 'batch.kubernetes.io/controller-uid': job.metadata.uid } };
  spec.template.metadata.labels = {
    ...spec.template.metadata.labels,
    ...labels,
    'controller-uid': job.metadata.uid,
    'job-name': job.metadata.name,
  };
  if (spec.template.spec !== undefined) defaultPodSpec(spec.template.spec, undefined);
}
