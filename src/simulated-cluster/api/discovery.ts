import { apiVersionOf, RESOURCES, type Resource } from '../resources.ts';
import type { ApiRequest, Loose } from '../types.ts';

const VERSION = {
  major: '1',
  minor: '32',
  gitVersion: 'v1.32.0-simulated',
  gitCommit: '',
  gitTreeState: 'clean',
  buildDate: '1970-01-01T00:00:00Z',
  goVersion: '',
  compiler: '',
  platform: 'simulated/cluster',
};

/** Answers what clients ask to learn the API: groups, resources, version, health, OpenAPI. Undefined for any other path. */
export function discovery({ path }: ApiRequest, serves: (resource: Resource) => boolean): Loose | undefined {
  const known = RESOURCES.filter(serves);
  const clean = path.replace(/\/+$/, '') || '/';
  if (clean === '/version') return VERSION;
  if (clean === '/healthz' || clean === '/livez' || clean === '/readyz') return 'ok';
  if (clean === '/')
    return { paths: ['/api', '/api/v1', '/apis', ...groups(known).map((group) => `/apis/${group}`), '/openapi/v3', '/version'] };
  if (clean === '/api') return { kind: 'APIVersions', versions: ['v1'], serverAddressByClientCIDRs: [] };
  if (clean === '/apis') return { kind: 'APIGroupList', apiVersion: 'v1', groups: groups(known).map(describeGroup) };
  if (clean === '/openapi/v3') return openapiRoot(known);
  const openapi = /^\/openapi\/v3\/(api\/v1|apis\/[^/]+\/[^/]+)$/.exec(clean)?.[1];
  if (openapi !== undefined) return openapiOf(known, openapi);
  const resources = /^\/(?:api|apis\/([^/]+))\/([^/]+)$/.exec(clean);
  if (resources !== null) return resourceList(known, resources[1] ?? '', resources[2] ?? '');
  const group = /^\/apis\/([^/]+)$/.exec(clean)?.[1];
  if (group !== undefined && groups(known).includes(group))
    return { apiVersion: 'v1', ...describeGroup(group), kind: 'APIGroup' };
  return undefined;
}

function groups(known: readonly Resource[]): string[] {
  return [...new Set(known.map((resource) => resource.group))].filter((group) => group !== '');
}

function describeGroup(group: string): Loose {
  const version = RESOURCES.find((resource) => resource.group === group)?.version;
  const entry = { groupVersion: `${group}/${version}`, version };
  return { name: group, versions: [entry], preferredVersion: entry };
}

function resourceList(known: readonly Resource[], group: string, version: string): Loose | undefined {
  const members = known.filter((resource) => resource.group === group && resource.version === version);
  const first = members[0];
  if (first === undefined) return undefined;
  return { kind: 'APIResourceList', apiVersion: 'v1', groupVersion: apiVersionOf(first), resources: members.flatMap(describe) };
}

function describe(resource: Resource): Loose[] {
  const { plural, singular, namespaced, kind, verbs, shortNames, categories } = resource;
  const entry = {
    name: plural,
    singularName: singular,
    namespaced,
    kind,
    verbs,
    ...(shortNames.length > 0 ? { shortNames } : {}),
    ...(categories.length > 0 ? { categories } : {}),
  };
  const status = { name: `${plural}/status`, singularName: '', namespaced, kind, verbs: ['get', 'patch', 'update'] };
  const others = resource.subresources.map((name) => {
    const base = { name: `${plural}/${name}`, singularName: '', namespaced, kind };
    if (name === 'eviction') return { ...base, group: 'policy', version: 'v1', kind: 'Eviction', verbs: ['create'] };
    if (name === 'binding') return { ...base, kind: 'Binding', verbs: ['create'] };
    return { ...base, verbs: name === 'exec' ? ['create', 'get'] : ['get'] };
  });
  return [entry, ...(resource.status ? [status] : []), ...others];
}

const openapiPath = (resource: Resource): string =>
  resource.group === '' ? 'api/v1' : `apis/${resource.group}/${resource.version}`;

function openapiRoot(known: readonly Resource[]): Loose {
  const paths = new Set(known.map(openapiPath));
  return { paths: Object.fromEntries([...paths].map((path) => [path, { serverRelativeURL: `/openapi/v3/${path}` }])) };
}

/**
 * Just enough of OpenAPI for `kubectl apply`: that every kind can be patched with fieldValidation, so that it leaves validation to the
 * server. Strategic merge is not announced here, so that kubectl computes it from the types it knows itself.
 */
function openapiOf(known: readonly Resource[], path: string): Loose | undefined {
  const members = known.filter((resource) => openapiPath(resource) === path);
  if (members.length === 0) return undefined;
  const paths = members.map((resource) => {
    const where = `/${path}/${resource.namespaced ? 'namespaces/{namespace}/' : ''}${resource.plural}/{name}`;
    const patch = {
      operationId: `patch${resource.kind}`,
      parameters: ['dryRun', 'fieldManager', 'fieldValidation', 'force'].map((name) => ({
        name,
        in: 'query',
        schema: { type: 'string', uniqueItems: true },
      })),
      requestBody: { content: { 'application/merge-patch+json': { schema: { type: 'object' } } } },
      responses: { 200: { description: 'OK' } },
      'x-kubernetes-action': 'patch',
      'x-kubernetes-group-version-kind': { group: resource.group, version: resource.version, kind: resource.kind },
    };
    return [where, { patch }];
  });
  return {
    openapi: '3.0.0',
    info: { title: 'Simulated cluster', version: VERSION.gitVersion },
    paths: Object.fromEntries(paths),
    components: { schemas: {} },
  };
}
