/** One kind of object the API serves. `id` is unique: plural.group, or the plural alone for the core group. */
export interface Resource {
  id: string;
  group: string;
  version: string;
  plural: string;
  singular: string;
  kind: string;
  shortNames: string[];
  namespaced: boolean;
  /** Whether status is written by the status subresource only. */
  status: boolean;
  subresources: string[];
  verbs: string[];
  categories: string[];
  /** Custom resources take no strategic merge patch. */
  custom: boolean;
}

const ALL_VERBS = ['create', 'delete', 'deletecollection', 'get', 'list', 'patch', 'update', 'watch'];

interface Extra {
  short?: string[];
  namespaced?: boolean;
  status?: boolean;
  subresources?: string[];
  verbs?: string[];
  categories?: string[];
  custom?: boolean;
}

function define(groupVersion: string, kind: string, plural: string, extra: Extra = {}): Resource {
  const [first = '', second] = groupVersion.split('/');
  const group = second === undefined ? '' : first;
  return {
    id: group === '' ? plural : `${plural}.${group}`,
    group,
    version: second ?? first,
    plural,
    singular: kind.toLowerCase(),
    kind,
    shortNames: extra.short ?? [],
    namespaced: extra.namespaced ?? true,
    status: extra.status ?? false,
    subresources: extra.subresources ?? [],
    verbs: extra.verbs ?? ALL_VERBS,
    categories: extra.categories ?? [],
    custom: extra.custom ?? false,
  };
}

const SNAPSHOTS = 'snapshot.storage.k8s.io/v1';

export const RESOURCES: readonly Resource[] = [
  define('v1', 'Namespace', 'namespaces', { short: ['ns'], namespaced: false, status: true }),
  define('v1', 'Node', 'nodes', { short: ['no'], namespaced: false, status: true }),
  define('v1', 'Pod', 'pods', {
    short: ['po'],
    status: true,
    subresources: ['log', 'exec', 'binding', 'eviction'],
    categories: ['all'],
  }),
  define('v1', 'Service', 'services', { short: ['svc'], status: true, categories: ['all'] }),
  define('v1', 'ConfigMap', 'configmaps', { short: ['cm'] }),
  define('v1', 'Secret', 'secrets'),
  define('v1', 'Event', 'events', { short: ['ev'] }),
  define('v1', 'ServiceAccount', 'serviceaccounts', { short: ['sa'] }),
  define('v1', 'PersistentVolumeClaim', 'persistentvolumeclaims', { short: ['pvc'], status: true }),
  define('v1', 'PersistentVolume', 'persistentvolumes', { short: ['pv'], namespaced: false, status: true }),
  define('batch/v1', 'Job', 'jobs', { status: true, categories: ['all'] }),
  define('networking.k8s.io/v1', 'NetworkPolicy', 'networkpolicies', { short: ['netpol'] }),
  define('policy/v1', 'PodDisruptionBudget', 'poddisruptionbudgets', { short: ['pdb'], status: true }),
  define('scheduling.k8s.io/v1', 'PriorityClass', 'priorityclasses', { short: ['pc'], namespaced: false }),
  define('coordination.k8s.io/v1', 'Lease', 'leases'),
  define('storage.k8s.io/v1', 'StorageClass', 'storageclasses', { short: ['sc'], namespaced: false }),
  define('storage.k8s.io/v1', 'VolumeAttachment', 'volumeattachments', { namespaced: false, status: true }),
  define(SNAPSHOTS, 'VolumeSnapshot', 'volumesnapshots', { short: ['vs'], status: true, custom: true }),
  define(SNAPSHOTS, 'VolumeSnapshotContent', 'volumesnapshotcontents', {
    short: ['vsc', 'vscs'],
    namespaced: false,
    status: true,
    custom: true,
  }),
  define(SNAPSHOTS, 'VolumeSnapshotClass', 'volumesnapshotclasses', {
    short: ['vsclass', 'vsclasses'],
    namespaced: false,
    custom: true,
  }),
  define('apiextensions.k8s.io/v1', 'CustomResourceDefinition', 'customresourcedefinitions', {
    short: ['crd', 'crds'],
    namespaced: false,
    verbs: ['get', 'list', 'watch'],
  }),
];

const byId = new Map(RESOURCES.map((resource) => [resource.id, resource]));
const byKind = new Map(RESOURCES.map((resource) => [`${apiVersionOf(resource)}/${resource.kind}`, resource]));

/** group/version as written in an object's apiVersion. */
export function apiVersionOf(resource: Pick<Resource, 'group' | 'version'>): string {
  return resource.group === '' ? resource.version : `${resource.group}/${resource.version}`;
}

/** The resource with this id; throws for an id that is not in the table (a programming error, not a client's). */
export function resourceById(id: string): Resource {
  const found = byId.get(id);
  if (found === undefined) throw new Error(`unknown resource ${id}`);
  return found;
}

export function findResource(group: string, version: string, plural: string): Resource | undefined {
  const found = byId.get(group === '' ? plural : `${plural}.${group}`);
  return found?.version === version ? found : undefined;
}

export function resourceOfKind(apiVersion: string, kind: string): Resource | undefined {
  return byKind.get(`${apiVersion}/${kind}`);
}

export interface Target {
  resource: Resource;
  namespace?: string;
  name?: string;
  subresource?: string;
}

/** Reads an API path; undefined when it names no known resource. */
export function parsePath(path: string): Target | undefined {
  const parts = path.split('/').filter((part) => part !== '');
  let group = '';
  let version: string | undefined;
  let rest: string[];
  if (parts[0] === 'api') [version, ...rest] = parts.slice(1);
  else if (parts[0] === 'apis') [group = '', version, ...rest] = parts.slice(1);
  else return undefined;
  if (version === undefined) return undefined;
  let namespace: string | undefined;
  if (rest[0] === 'namespaces' && rest.length > 2 && !(rest[2] === 'status' || rest[2] === 'finalize')) {
    namespace = decodeURIComponent(rest[1] ?? '');
    rest = rest.slice(2);
  }
  const [plural, name, ...sub] = rest;
  if (plural === undefined || sub.length > 1) return undefined;
  const resource = findResource(group, version, plural);
  if (resource === undefined || (namespace !== undefined && !resource.namespaced)) return undefined;
  const subresource = sub[0];
  if (subresource !== undefined && !(subresource === 'status' ? resource.status : resource.subresources.includes(subresource)))
    return undefined;
  return {
    resource,
    ...(namespace === undefined ? {} : { namespace }),
    ...(name === undefined ? {} : { name: decodeURIComponent(name) }),
    ...(subresource === undefined ? {} : { subresource }),
  };
}
