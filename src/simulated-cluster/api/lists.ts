import { ApiError, badRequest, expired } from '../errors.ts';
import type { Target } from '../resources.ts';
import { fieldMatcher, labelMatcher, type Matcher, pinnedName, pinnedNode } from '../selectors.ts';
import { keyFor, keyOf } from '../store.ts';
import type { KubeObject, Query } from '../types.ts';
import type { World } from '../world.ts';
import { count, one } from './query.ts';

export interface Page {
  items: KubeObject[];
  resourceVersion: string;
  continue?: string;
  remaining?: number;
}

/** The label and field selectors of a request as one matcher, with the namespace and name of the path. */
export function requestMatcher(target: Target, query: Query | undefined): Matcher {
  const labels = labelMatcher(one(query, 'labelSelector'));
  const fields = fieldMatcher(target.resource.id, one(query, 'fieldSelector'));
  const { namespace, name } = target;
  return (object) =>
    (namespace === undefined || object.metadata.namespace === namespace) &&
    (name === undefined || object.metadata.name === name) &&
    labels(object) &&
    fields(object);
}

/**
 * One page of a list, in key order. Pages after the first show the state of the first one's version, undoing what changed since, as
 * long as the log reaches back; then 410.
 */
export function listPage(world: World, target: Target, query: Query | undefined): Page {
  const { store } = world;
  const matches = requestMatcher(target, query);
  const limit = count(query, 'limit') ?? 0;
  const token = one(query, 'continue');
  const from = token ? readToken(token) : undefined;
  const version = from?.version ?? requestedVersion(world, query);
  const objects =
    from === undefined && version === store.version ? candidates(world, target, query) : objectsAt(world, target, version);
  const start = from?.after;
  const items: KubeObject[] = [];
  let more = 0;
  for (const object of objects) {
    if (start !== undefined && keyOf(object) <= start) continue;
    if (!matches(object)) continue;
    if (limit > 0 && items.length >= limit) more++;
    else items.push(object);
  }
  const last = items[items.length - 1];
  const page: Page = { items, resourceVersion: String(version) };
  if (more === 0 || last === undefined) return page;
  return { ...page, continue: writeToken(version, keyOf(last)), remaining: more };
}

function requestedVersion(world: World, query: Query | undefined): number {
  const text = one(query, 'resourceVersion');
  const match = one(query, 'resourceVersionMatch');
  if (text === undefined || text === '' || text === '0') return world.store.version;
  const version = parseVersion(text);
  if (version > world.store.version) throw tooLarge(version, world.store.version);
  return match === 'Exact' ? version : world.store.version;
}

/** The number in a resourceVersion; 400 when it is none. */
export function parseVersion(text: string): number {
  if (!/^\d+$/.test(text)) throw badRequest(`Invalid value: ${JSON.stringify(text)}: invalid resource version`);
  return Number(text);
}

function tooLarge(wanted: number, current: number): ApiError {
  return new ApiError(504, 'Timeout', `Timeout: Too large resource version: ${wanted}, current: ${current}`, {
    causes: [{ reason: 'ResourceVersionTooLarge', message: 'Too large resource version' }],
    retryAfterSeconds: 1,
  });
}

/** Objects as they are now, in key order; only those of the node or name a field selector pins, when it does. */
function* candidates(world: World, target: Target, query: Query | undefined): Generator<KubeObject> {
  const { store } = world;
  const { resource, namespace } = target;
  const fields = one(query, 'fieldSelector');
  const name = target.name ?? pinnedName(fields);
  if (name !== undefined && (namespace !== undefined || !resource.namespaced)) {
    const object = store.get(resource.id, keyFor(resource.namespaced ? namespace : undefined, name));
    if (object !== undefined) yield object;
    return;
  }
  const node = resource.id === 'pods' ? pinnedNode(fields) : undefined;
  let keys: Iterable<string> = store.keys(resource.id);
  if (node !== undefined) keys = [...store.indexes.podsOnNode(node)].sort();
  else if (namespace !== undefined) {
    const inside = store.indexes.keysInNamespace(resource.id, namespace);
    if (inside.size < store.count(resource.id) / 8) keys = [...inside].sort();
  }
  for (const key of keys) {
    const object = store.get(resource.id, key);
    if (object !== undefined) yield object;
  }
}

/** All objects of a resource as they were at `version`. */
function objectsAt(world: World, target: Target, version: number): KubeObject[] {
  const { store } = world;
  const changes = store.eventsSince(version);
  if (changes === undefined) {
    throw expired(
      'The provided continue parameter is too old to display a consistent list result. You must start a new list without it.',
    );
  }
  const undone = new Map<string, KubeObject | undefined>();
  for (const change of changes) {
    const key = keyOf(change.object);
    if (change.resource === target.resource.id && !undone.has(key)) undone.set(key, change.previous);
  }
  const keys = new Set([...store.keys(target.resource.id), ...undone.keys()]);
  const objects: KubeObject[] = [];
  for (const key of [...keys].sort()) {
    const object = undone.has(key) ? undone.get(key) : store.get(target.resource.id, key);
    if (object !== undefined) objects.push(object);
  }
  return objects;
}

function writeToken(version: number, after: string): string {
  return Buffer.from(JSON.stringify({ v: version, after })).toString('base64url');
}

function readToken(token: string): { version: number; after: string } {
  try {
    const { v, after } = JSON.parse(Buffer.from(token, 'base64url').toString('utf8'));
    if (typeof v === 'number' && typeof after === 'string') return { version: v, after };
  } catch {
    // Falls through to the same answer as a token of another shape.
  }
  throw badRequest('continue key is not valid');
}
