import type { KubeObject } from './types.ts';

/** Adds and removes members of named sets; an empty set is forgotten. */
class MultiMap {
  private readonly sets = new Map<string, Set<string>>();

  add(name: string, member: string): void {
    const set = this.sets.get(name);
    if (set === undefined) this.sets.set(name, new Set([member]));
    else set.add(member);
  }

  remove(name: string, member: string): void {
    const set = this.sets.get(name);
    if (set?.delete(member) && set.size === 0) this.sets.delete(name);
  }

  get(name: string): ReadonlySet<string> {
    return this.sets.get(name) ?? EMPTY;
  }
}

const EMPTY: ReadonlySet<string> = new Set();

export interface ObjectRef {
  resource: string;
  key: string;
}

/** Names under which a claim is found: the volumes of a pod that are claims, with their namespace. */
export function claimKeysOf(pod: KubeObject): string[] {
  const keys: string[] = [];
  for (const volume of pod.spec?.volumes ?? []) {
    if (volume.persistentVolumeClaim) keys.push(`${pod.metadata.namespace}/${volume.persistentVolumeClaim.claimName}`);
  }
  return keys;
}

/** Whether two versions of an object are found under the same names: most differ in their status alone, and share the rest. */
function sameIndexed({ metadata: before, spec }: KubeObject, next: KubeObject): boolean {
  const { uid, ownerReferences, labels } = next.metadata;
  return uid === before.uid && ownerReferences === before.ownerReferences && labels === before.labels && spec === next.spec;
}

/** What the controllers look up: by uid, owner, namespace, pods by node and by claim, nodes by label. */
export class Indexes {
  private readonly uids = new Map<string, ObjectRef>();
  private readonly owners = new MultiMap();
  private readonly namespaces = new MultiMap();
  private readonly nodes = new MultiMap();
  private readonly claims = new MultiMap();
  private readonly nodeLabels = new MultiMap();
  private readonly nodePorts = new MultiMap();
  private readonly clusterIps = new MultiMap();

  update(resource: string, key: string, previous: KubeObject | undefined, next: KubeObject | undefined): void {
    if (previous !== undefined && next !== undefined && sameIndexed(previous, next)) return;
    if (previous !== undefined) this.walk(resource, key, previous, 'remove');
    if (next !== undefined) this.walk(resource, key, next, 'add');
  }

  byUid(uid: string): ObjectRef | undefined {
    return this.uids.get(uid);
  }

  /** References ("resource|key") of all objects that name `uid` as an owner. */
  dependents(uid: string): ObjectRef[] {
    return [...this.owners.get(uid)].map((member) => {
      const bar = member.indexOf('|');
      return { resource: member.slice(0, bar), key: member.slice(bar + 1) };
    });
  }

  keysInNamespace(resource: string, namespace: string): ReadonlySet<string> {
    return this.namespaces.get(`${resource}|${namespace}`);
  }

  podsOnNode(node: string): ReadonlySet<string> {
    return this.nodes.get(node);
  }

  podsWithClaim(claimKey: string): ReadonlySet<string> {
    return this.claims.get(claimKey);
  }

  nodesWithLabel(name: string, value: string): ReadonlySet<string> {
    return this.nodeLabels.get(`${name}=${value}`);
  }

  /** Keys of the services that hold this node port; at most one, unless a write is under way. */
  servicesWithNodePort(port: number): ReadonlySet<string> {
    return this.nodePorts.get(String(port));
  }

  servicesWithClusterIp(address: string): ReadonlySet<string> {
    return this.clusterIps.get(address);
  }

  private walk(resource: string, key: string, object: KubeObject, how: 'add' | 'remove'): void {
    const { metadata } = object;
    if (how === 'add') this.uids.set(metadata.uid, { resource, key });
    else this.uids.delete(metadata.uid);
    for (const owner of metadata.ownerReferences ?? []) this.owners[how](owner.uid, `${resource}|${key}`);
    if (metadata.namespace !== undefined) this.namespaces[how](`${resource}|${metadata.namespace}`, key);
    if (resource === 'pods') {
      if (object.spec.nodeName) this.nodes[how](object.spec.nodeName, key);
      for (const claim of claimKeysOf(object)) this.claims[how](claim, key);
    } else if (resource === 'services') {
      for (const port of object.spec.ports ?? []) if (port.nodePort) this.nodePorts[how](String(port.nodePort), key);
      if (object.spec.clusterIP && object.spec.clusterIP !== 'None') this.clusterIps[how](object.spec.clusterIP, key);
    } else if (resource === 'nodes') {
      for (const [name, value] of Object.entries(metadata.labels ?? {})) this.nodeLabels[how](`${name}=${value}`, key);
    }
  }
}
