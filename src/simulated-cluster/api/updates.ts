import { copyJson } from '../copy.ts';
import { conflict, type FieldProblem, forbidden, invalid, MODIFIED } from '../errors.ts';
import { sameJson } from '../patch.ts';
import { parseQuantity } from '../quantities.ts';
import type { Resource } from '../resources.ts';
import type { KubeObject, Loose } from '../types.ts';
import { forbiddenField, validate } from '../validation.ts';
import type { World } from '../world.ts';
import { foldStringData, withDefaultTolerations } from './defaults.ts';
import { allocateService } from './services.ts';

/** 409 unless the uid and resourceVersion in `sent` (where given) are those stored. */
export function checkPreconditions(
  resource: Resource,
  stored: KubeObject,
  sent: { uid?: string; resourceVersion?: string } | undefined,
): void {
  const { name, uid, resourceVersion } = stored.metadata;
  if (sent?.uid && sent.uid !== uid) {
    throw conflict(resource, name, `Precondition failed: UID in precondition: ${sent.uid}, UID in object meta: ${uid}`);
  }
  if (sent?.resourceVersion && sent.resourceVersion !== resourceVersion) throw conflict(resource, name, MODIFIED);
}

/** What will be stored when a client asks to replace `stored` by `wanted`: server-owned fields kept, rules of the kind applied. */
export function prepareUpdate(
  world: World,
  resource: Resource,
  stored: KubeObject,
  wanted: KubeObject,
  subresource?: string,
): KubeObject {
  checkPreconditions(resource, stored, wanted.metadata);
  const kept = stored.metadata;
  if (subresource === 'status') {
    return { ...stored, ...(wanted.status === undefined ? {} : { status: wanted.status }) };
  }
  const next = { ...wanted };
  next.apiVersion = stored.apiVersion;
  next.kind = stored.kind;
  const { managedFields: _, selfLink: __, ...metadata } = next.metadata as Loose;
  for (const field of ['deletionTimestamp', 'deletionGracePeriodSeconds', 'generation', 'namespace', 'generateName'] as const) {
    delete metadata[field];
    if (kept[field] !== undefined) metadata[field] = kept[field];
  }
  for (const field of ['labels', 'annotations', 'ownerReferences', 'finalizers']) {
    const value = metadata[field];
    if (value === null || (value !== undefined && Object.keys(value).length === 0)) delete metadata[field];
  }
  next.metadata = {
    ...metadata,
    name: kept.name,
    uid: kept.uid,
    creationTimestamp: kept.creationTimestamp,
    resourceVersion: kept.resourceVersion,
  };
  if (resource.status) {
    if (stored.status === undefined) delete next.status;
    else next.status = stored.status;
  }
  if (resource.id === 'secrets') {
    foldStringData(next);
    // One that is sent without a type is of the usual one, as at its creation.
    next.type ||= 'Opaque';
  }
  if (resource.id === 'pods' && next.spec) next.spec = withDefaultTolerations(next.spec);
  if (resource.id === 'services' && next.spec) {
    next.spec = copyJson(next.spec);
    allocateService(world, next, stored);
  }
  validate(resource, next);
  const problems = immutableProblems(resource, stored, next);
  if (problems.length > 0) throw invalid(resource, kept.name, problems);
  if (resource.id === 'persistentvolumeclaims') refuseResize(world, resource, stored, next);
  if (kept.generation !== undefined && !sameJson(stored.spec, next.spec)) next.metadata.generation = kept.generation + 1;
  return next;
}

function immutableProblems(resource: Resource, stored: KubeObject, next: KubeObject): FieldProblem[] {
  switch (resource.id) {
    case 'pods':
      return sameJson(frozenPodSpec(stored), frozenPodSpec(next)) && tolerationsOnlyGrow(stored, next)
        ? []
        : [
            forbiddenField(
              'spec',
              'pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)',
            ),
          ];
    case 'jobs.batch':
      return ['template', 'selector', 'completions', 'completionMode']
        .filter((field) => !sameJson(stored.spec[field], next.spec[field]))
        .map((field) => ({
          field: `spec.${field}`,
          reason: 'FieldValueInvalid' as const,
          message: 'Invalid value: field is immutable',
        }));
    case 'persistentvolumeclaims':
      return claimChanges(stored, next);
    case 'services':
      return stored.spec.clusterIP && stored.spec.type !== 'ExternalName' && next.spec.clusterIP !== stored.spec.clusterIP
        ? [{ field: 'spec.clusterIPs[0]', reason: 'FieldValueInvalid', message: 'Invalid value: may not change once set' }]
        : [];
    case 'secrets':
    case 'configmaps':
      if (stored.immutable === true && !sameJson([stored.data, stored.binaryData], [next.data, next.binaryData])) {
        return [forbiddenField('data', 'field is immutable when `immutable` is set')];
      }
      return stored.type === next.type
        ? []
        : [{ field: 'type', reason: 'FieldValueInvalid', message: 'Invalid value: field is immutable' }];
    default:
      return [];
  }
}

function frozenPodSpec(pod: KubeObject): Loose {
  const { tolerations: _, activeDeadlineSeconds: __, ...spec } = pod.spec ?? {};
  const withoutImage = (containers: Loose[] | undefined): Loose[] => (containers ?? []).map(({ image: ___, ...rest }) => rest);
  return { ...spec, containers: withoutImage(spec.containers), initContainers: withoutImage(spec.initContainers) };
}

function tolerationsOnlyGrow(stored: KubeObject, next: KubeObject): boolean {
  const after: Loose[] = next.spec.tolerations ?? [];
  return (stored.spec.tolerations ?? []).every((old: Loose) => after.some((each) => sameJson(old, each)));
}

/** What the admission of claims refuses: growing where the class of storage does not allow it. */
function refuseResize(world: World, resource: Resource, stored: KubeObject, next: KubeObject): void {
  if (sizeOf(next) <= sizeOf(stored)) return;
  const storageClass = world.get('storageclasses.storage.k8s.io', stored.spec.storageClassName ?? '');
  if (storageClass?.allowVolumeExpansion === true) return;
  const why = 'only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize';
  throw forbidden(resource, stored.metadata.name, why);
}

const sizeOf = (claim: KubeObject): number => parseQuantity(claim.spec.resources.requests.storage);

function claimChanges(stored: KubeObject, next: KubeObject): FieldProblem[] {
  const fixed = (claim: KubeObject): Loose => ({ ...claim.spec, resources: undefined, volumeName: undefined });
  const nameChanged = stored.spec.volumeName !== undefined && stored.spec.volumeName !== next.spec.volumeName;
  if (nameChanged || !sameJson(fixed(stored), fixed(next))) {
    return [
      forbiddenField(
        'spec',
        'spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims',
      ),
    ];
  }
  return sizeOf(next) < sizeOf(stored)
    ? [forbiddenField('spec.resources.requests.storage', 'field can not be less than status.capacity')]
    : [];
}
