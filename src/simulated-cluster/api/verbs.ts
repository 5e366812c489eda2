import { copyJson } from '../copy.ts';
import {
  alreadyExists,
  ApiError,
  badRequest,
  forbidden,
  methodNotAllowed,
  notFound,
  unknownPath,
  unsupportedMedia,
} from '../errors.ts';
import { jsonPatch, mergePatch } from '../patch.ts';
import { apiVersionOf, parsePath, RESOURCES, type Resource, type Target } from '../resources.ts';
import { keyFor } from '../store.ts';
import { strategicMergePatch } from '../strategic-patch.ts';
import type { ApiRequest, ApiResponse, KubeObject, Loose } from '../types.ts';
import { validate } from '../validation.ts';
import type { World } from '../world.ts';
import { prepareCreate } from './defaults.ts';
import { discovery } from './discovery.ts';
import { listPage } from './lists.ts';
import { bindPod, evictPod } from './pod-subresources.ts';
import { one } from './query.ts';
import { inFormat } from './formats.ts';
import { checkPreconditions, prepareUpdate } from './updates.ts';

/** Answers one request of the Kubernetes API, except watch, log and exec. Never throws for what a client did: errors are Statuses. */
export function answer(world: World, request: ApiRequest): ApiResponse {
  try {
    const found = request.method === 'GET' ? discovery(request, (resource) => world.serves(resource)) : undefined;
    if (found !== undefined) return { status: 200, body: found };
    const target = parsePath(request.path);
    // A real API server has no Status for a group that nobody defined.
    if (isOfAbsentGroup(world, request.path)) return { status: 404, body: '404 page not found\n' };
    if (target === undefined) throw unknownPath();
    return dispatch(world, target, request);
  } catch (error) {
    if (error instanceof ApiError) return { status: error.code, body: error.status() };
    throw error;
  }
}

/** Whether a path leads to custom kinds that this cluster does without. */
function isOfAbsentGroup(world: World, path: string): boolean {
  const group = /^\/apis\/([^/]+)/.exec(path)?.[1];
  return RESOURCES.some((resource) => resource.group === group && !world.serves(resource));
}

function dispatch(world: World, target: Target, request: ApiRequest): ApiResponse {
  const { resource } = target;
  const { method } = request;
  if (method !== 'GET' && !resource.verbs.includes('update')) throw methodNotAllowed();
  if (method === 'POST') return post(world, target, request);
  if (target.name === undefined) {
    if (method === 'GET') return list(world, target, request);
    if (method === 'DELETE') return deleteCollection(world, target, request);
    throw methodNotAllowed();
  }
  const stored = existing(world, target);
  if (method === 'GET') return { status: 200, body: inFormat(world, request, resource, stored) };
  if (method === 'DELETE') return remove(world, resource, stored, request);
  const wanted = method === 'PUT' ? bodyObject(request, target) : patched(resource, stored, request);
  if (wanted.metadata?.name !== undefined && wanted.metadata.name !== target.name) {
    throw badRequest(`the name of the object (${wanted.metadata.name}) does not match the name on the URL (${target.name})`);
  }
  wanted.metadata = { ...wanted.metadata, name: target.name };
  const next = prepareUpdate(world, resource, stored, wanted, target.subresource);
  const result = one(request.query, 'dryRun') === 'All' ? next : world.replace(resource.id, stored, next);
  return { status: 200, body: inFormat(world, request, resource, result) };
}

function existing(world: World, { resource, namespace, name = '' }: Target): KubeObject {
  const stored = world.get(resource.id, keyFor(resource.namespaced ? namespace : undefined, name));
  if (stored === undefined || (resource.namespaced && namespace === undefined)) throw notFound(resource, name);
  return stored;
}

function list(world: World, target: Target, request: ApiRequest): ApiResponse {
  const page = listPage(world, target, request.query);
  const metadata = {
    resourceVersion: page.resourceVersion,
    ...(page.continue === undefined ? {} : { continue: page.continue }),
    ...(page.remaining === undefined ? {} : { remainingItemCount: page.remaining }),
  };
  return { status: 200, body: inFormat(world, request, target.resource, { metadata, items: page.items }) };
}

function bodyObject(request: ApiRequest, { resource, namespace }: Target): KubeObject {
  const { body, contentType = 'application/json' } = request;
  if (!/json/.test(contentType))
    throw unsupportedMedia(`the body of the request was in an unknown format - accepted media types include: application/json`);
  if (typeof body !== 'object' || body === null || Array.isArray(body))
    throw badRequest('the body of the request must be a JSON object');
  const sentKind = body.kind ?? resource.kind;
  const sentVersion = body.apiVersion ?? apiVersionOf(resource);
  if (sentKind !== resource.kind || sentVersion !== apiVersionOf(resource)) {
    throw badRequest(
      `${resource.kind} in version "${apiVersionOf(resource)}" cannot be handled as a ${sentKind} in version "${sentVersion}"`,
    );
  }
  const sentNamespace = body.metadata?.namespace;
  if (namespace !== undefined && sentNamespace !== undefined && sentNamespace !== namespace) {
    throw badRequest(`the namespace of the provided object does not match the namespace sent on the request`);
  }
  const ours = request.givesBody ? body : copyJson(body);
  return { ...ours, apiVersion: sentVersion, kind: sentKind, metadata: { ...ours.metadata } };
}

function post(world: World, target: Target, request: ApiRequest): ApiResponse {
  const { resource, namespace, name, subresource } = target;
  if (name !== undefined) {
    if (subresource === 'eviction') return evictPod(world, existing(world, target), request.body);
    if (subresource === 'binding') return bindPod(world, existing(world, target), request.body);
    throw methodNotAllowed();
  }
  if (resource.namespaced && namespace === undefined) throw badRequest('an empty namespace may not be set during creation');
  const object = bodyObject(request, target);
  const {
    managedFields: _,
    selfLink: __,
    deletionTimestamp: ___,
    deletionGracePeriodSeconds: ____,
    ...sent
  } = object.metadata as Loose;
  // A real API server gives this one as 500, without a reason.
  if (sent.resourceVersion) throw new ApiError(500, '', 'resourceVersion should not be set on objects to be created');
  if (sent.generateName && !sent.name) sent.name = `${String(sent.generateName).slice(0, 58)}${world.store.random.suffix(5)}`;
  object.metadata = {
    ...sent,
    ...(resource.namespaced ? { namespace } : {}),
    uid: world.store.random.uuid(),
    creationTimestamp: world.stamp,
  };
  if (!resource.namespaced) delete object.metadata.namespace;
  if (resource.namespaced) checkNamespace(world, resource, object, namespace ?? '');
  if (object.metadata.name && world.get(resource.id, keyFor(object.metadata.namespace, object.metadata.name)) !== undefined) {
    throw alreadyExists(resource, object.metadata.name);
  }
  prepareCreate(world, resource, object);
  validate(resource, object);
  const stored = one(request.query, 'dryRun') === 'All' ? object : world.store.put(resource.id, object);
  return { status: 201, body: inFormat(world, request, resource, stored) };
}

function checkNamespace(world: World, resource: Resource, object: KubeObject, namespace: string): void {
  const home = world.get('namespaces', namespace);
  if (home === undefined) throw notFound({ group: '', plural: 'namespaces', kind: 'Namespace' }, namespace);
  if (home.metadata.deletionTimestamp === undefined) return;
  throw forbidden(
    resource,
    object.metadata.name,
    `unable to create new content in namespace ${namespace} because it is being terminated`,
  );
}

function patched(resource: Resource, stored: KubeObject, request: ApiRequest): KubeObject {
  const type = (request.contentType ?? '').split(';')[0]?.trim();
  switch (type) {
    case 'application/merge-patch+json':
      return mergePatch(stored, request.givesBody ? request.body : copyJson(request.body));
    case 'application/json-patch+json':
      return jsonPatch(stored, request.body);
    case 'application/strategic-merge-patch+json':
      if (!resource.custom) return strategicMergePatch(stored, copyJson(request.body));
      throw unsupportedMedia('strategic merge patch is not supported for custom resources; use application/merge-patch+json');
    case 'application/apply-patch+yaml':
    case 'application/apply-patch+cbor':
      throw unsupportedMedia(
        'server-side apply is not supported by the simulated cluster; use create, merge patch or kubectl apply without --server-side',
      );
    default:
      throw unsupportedMedia(
        `the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json${resource.custom ? '' : ', application/strategic-merge-patch+json'}`,
      );
  }
}

interface SentDeleteOptions {
  gracePeriodSeconds?: number;
  propagationPolicy?: 'Background' | 'Orphan' | 'Foreground';
  orphanDependents?: boolean;
  preconditions?: { uid?: string; resourceVersion?: string };
  dryRun?: string[];
}

function deleteOptions(request: ApiRequest): SentDeleteOptions {
  const options: SentDeleteOptions = { ...request.body };
  const grace = one(request.query, 'gracePeriodSeconds');
  const policy = one(request.query, 'propagationPolicy');
  if (grace !== undefined) options.gracePeriodSeconds ??= Number(grace);
  if (policy !== undefined) options.propagationPolicy ??= policy as 'Background';
  if (one(request.query, 'dryRun') === 'All') options.dryRun = ['All'];
  if (options.gracePeriodSeconds !== undefined && !(options.gracePeriodSeconds >= 0))
    throw badRequest('gracePeriodSeconds must not be negative');
  return options;
}

function remove(world: World, resource: Resource, stored: KubeObject, request: ApiRequest): ApiResponse {
  const options = deleteOptions(request);
  checkPreconditions(resource, stored, options.preconditions);
  if (options.dryRun?.includes('All')) return { status: 200, body: stored };
  const propagation = options.orphanDependents ? 'Orphan' : options.propagationPolicy;
  const { object, gone } = world.delete(resource.id, stored, {
    ...(options.gracePeriodSeconds === undefined ? {} : { graceSeconds: options.gracePeriodSeconds }),
    ...(propagation === undefined ? {} : { propagation }),
  });
  // Pods, claims and the like answer with their last form; most kinds answer with a Status once they are gone.
  if (!gone || ['pods', 'persistentvolumeclaims', 'persistentvolumes', 'services', 'serviceaccounts'].includes(resource.id)) {
    return { status: 200, body: object };
  }
  const details = { name: stored.metadata.name, group: resource.group, kind: resource.plural, uid: stored.metadata.uid };
  return { status: 200, body: { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Success', details } };
}

function deleteCollection(world: World, target: Target, request: ApiRequest): ApiResponse {
  const page = listPage(world, target, request.query);
  for (const object of page.items) remove(world, target.resource, object, request);
  return list(world, target, { ...request, query: { limit: '1', labelSelector: 'deleted in (none)' } });
}
