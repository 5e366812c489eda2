import { type FieldProblem, invalid } from './errors.ts';
import { parseQuantity } from './quantities.ts';
import type { Resource } from './resources.ts';
import type { KubeObject, Loose } from './types.ts';

const LABEL = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/;
const SUBDOMAIN = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;
const SERVICE_NAME = /^[a-z]([-a-z0-9]*[a-z0-9])?$/;
const QUALIFIED_PART = /^([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$/;
const LABEL_VALUE = /^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$/;
const ENV_NAME = /^[-._a-zA-Z][-._a-zA-Z0-9]*$/;

const LABEL_TEXT =
  "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN_TEXT =
  "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const SERVICE_TEXT =
  "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";

export const required = (field: string, message = 'Required value'): FieldProblem => ({
  field,
  reason: 'FieldValueRequired',
  message,
});
export const bad = (field: string, value: Loose, why: string): FieldProblem => ({
  field,
  reason: 'FieldValueInvalid',
  message: `Invalid value: ${JSON.stringify(value)}: ${why}`,
});
export const forbiddenField = (field: string, why: string): FieldProblem => ({
  field,
  reason: 'FieldValueForbidden',
  message: `Forbidden: ${why}`,
});
const duplicate = (field: string, value: Loose): FieldProblem => ({
  field,
  reason: 'FieldValueDuplicate',
  message: `Duplicate value: ${JSON.stringify(value)}`,
});
const notSupported = (field: string, value: Loose, values: string[]): FieldProblem => ({
  field,
  reason: 'FieldValueNotSupported',
  message: `Unsupported value: ${JSON.stringify(value)}: supported values: ${values.map((each) => `"${each}"`).join(', ')}`,
});

/** Throws 422 with every problem found in `object`. */
export function validate(resource: Resource, object: KubeObject): void {
  const problems = [...metadataProblems(resource, object), ...specProblems(resource, object)];
  if (problems.length > 0) throw invalid(resource, object.metadata?.name ?? '', problems);
}

function metadataProblems(resource: Resource, object: KubeObject): FieldProblem[] {
  const { metadata } = object;
  const problems: FieldProblem[] = [];
  if (!metadata.name) problems.push(required('metadata.name', 'Required value: name or generateName is required'));
  else problems.push(...nameProblems(resource, metadata.name));
  for (const [key, value] of Object.entries(metadata.labels ?? {})) {
    problems.push(...keyProblems('metadata.labels', key));
    if (typeof value !== 'string' || value.length > 63 || !LABEL_VALUE.test(value)) {
      problems.push(
        bad(
          'metadata.labels',
          value,
          "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', must be at most 63 characters, and must start and end with an alphanumeric character",
        ),
      );
    }
  }
  for (const [key, value] of Object.entries(metadata.annotations ?? {})) {
    problems.push(...keyProblems('metadata.annotations', key.toLowerCase()));
    if (typeof value !== 'string') problems.push(bad('metadata.annotations', value, 'must be a string'));
  }
  metadata.ownerReferences?.forEach((owner, index) => {
    for (const field of ['apiVersion', 'kind', 'name', 'uid'] as const) {
      if (!owner[field])
        problems.push(bad(`metadata.ownerReferences[${index}].${field}`, owner[field] ?? '', 'must not be empty'));
    }
  });
  return problems;
}

function nameProblems(resource: Resource, name: string): FieldProblem[] {
  if (resource.id === 'services') {
    return name.length <= 63 && SERVICE_NAME.test(name) ? [] : [bad('metadata.name', name, SERVICE_TEXT)];
  }
  if (resource.id === 'namespaces') return name.length <= 63 && LABEL.test(name) ? [] : [bad('metadata.name', name, LABEL_TEXT)];
  if (name.length > 253) return [bad('metadata.name', name, 'must be no more than 253 characters')];
  return SUBDOMAIN.test(name) ? [] : [bad('metadata.name', name, SUBDOMAIN_TEXT)];
}

function keyProblems(field: string, key: string): FieldProblem[] {
  const [first = '', second, ...more] = key.split('/');
  const name = second ?? first;
  const okay =
    more.length === 0 &&
    name.length <= 63 &&
    QUALIFIED_PART.test(name) &&
    (second === undefined || (first.length <= 253 && SUBDOMAIN.test(first)));
  return okay ? [] : [bad(field, key, 'name part must consist of alphanumeric characters, and a prefix must be a DNS subdomain')];
}

function specProblems(resource: Resource, object: KubeObject): FieldProblem[] {
  switch (resource.id) {
    case 'pods':
      return podSpecProblems(object.spec, 'spec', ['Always', 'OnFailure', 'Never']);
    case 'jobs.batch':
      return [
        ...podSpecProblems(object.spec?.template?.spec, 'spec.template.spec', ['OnFailure', 'Never']),
        ...(object.spec?.backoffLimit < 0
          ? [bad('spec.backoffLimit', object.spec.backoffLimit, 'must be greater than or equal to 0')]
          : []),
      ];
    case 'services':
      return serviceProblems(object);
    case 'persistentvolumeclaims':
      return claimProblems(object);
    case 'configmaps':
    case 'secrets':
      return dataProblems(object);
    case 'volumesnapshots.snapshot.storage.k8s.io': {
      const source = object.spec?.source;
      const count = [source?.persistentVolumeClaimName, source?.volumeSnapshotContentName].filter(Boolean).length;
      return count === 1
        ? []
        : [
            bad(
              'spec.source',
              source ?? null,
              'exactly one of volumeSnapshotContentName and persistentVolumeClaimName must be set',
            ),
          ];
    }
    default:
      return [];
  }
}

function podSpecProblems(spec: Loose, path: string, restartPolicies: string[]): FieldProblem[] {
  if (!Array.isArray(spec?.containers) || spec.containers.length === 0) return [required(`${path}.containers`)];
  const problems: FieldProblem[] = [];
  if (!restartPolicies.includes(spec.restartPolicy))
    problems.push(notSupported(`${path}.restartPolicy`, spec.restartPolicy, restartPolicies));
  const volumes = new Set<string>();
  (spec.volumes ?? []).forEach((volume: Loose, index: number) => {
    const at = `${path}.volumes[${index}]`;
    if (!volume?.name) problems.push(required(`${at}.name`));
    else if (!LABEL.test(volume.name) || volume.name.length > 63) problems.push(bad(`${at}.name`, volume.name, LABEL_TEXT));
    else if (volumes.has(volume.name)) problems.push(duplicate(`${at}.name`, volume.name));
    volumes.add(volume?.name);
  });
  const names = new Set<string>();
  for (const list of ['initContainers', 'containers']) {
    (spec[list] ?? []).forEach((container: Loose, index: number) => {
      problems.push(...containerProblems(container, `${path}.${list}[${index}]`, names, volumes));
    });
  }
  return problems;
}

function containerProblems(container: Loose, at: string, names: Set<string>, volumes: Set<string>): FieldProblem[] {
  const problems: FieldProblem[] = [];
  if (!container?.name) problems.push(required(`${at}.name`));
  else if (!LABEL.test(container.name) || container.name.length > 63)
    problems.push(bad(`${at}.name`, container.name, LABEL_TEXT));
  else if (names.has(container.name)) problems.push(duplicate(`${at}.name`, container.name));
  names.add(container?.name);
  if (!container?.image) problems.push(required(`${at}.image`));
  (container?.volumeMounts ?? []).forEach((mount: Loose, index: number) => {
    if (!volumes.has(mount.name)) {
      problems.push({
        field: `${at}.volumeMounts[${index}].name`,
        reason: 'FieldValueInvalid',
        message: `Not found: "${mount.name}"`,
      });
    }
    if (!mount.mountPath) problems.push(required(`${at}.volumeMounts[${index}].mountPath`));
  });
  (container?.env ?? []).forEach((entry: Loose, index: number) => {
    if (!ENV_NAME.test(entry?.name ?? ''))
      problems.push(bad(`${at}.env[${index}].name`, entry?.name ?? '', 'a valid environment variable name is required'));
    if (entry?.value !== undefined && typeof entry.value !== 'string')
      problems.push(bad(`${at}.env[${index}].value`, entry.value, 'must be a string'));
  });
  return [...problems, ...resourceProblems(container?.resources, `${at}.resources`)];
}

function resourceProblems(resources: Loose, at: string): FieldProblem[] {
  const problems: FieldProblem[] = [];
  const { requests = {}, limits = {} } = resources ?? {};
  for (const [kind, list] of Object.entries({ requests, limits })) {
    for (const [name, value] of Object.entries(list as Record<string, string>)) {
      const amount = parseQuantity(value);
      if (Number.isNaN(amount) || amount < 0)
        problems.push(bad(`${at}.${kind}[${name}]`, value, 'must be a quantity not below 0'));
      else if (name.includes('/') && !Number.isInteger(amount))
        problems.push(bad(`${at}.${kind}[${name}]`, value, 'must be an integer'));
    }
  }
  for (const [name, value] of Object.entries(requests as Record<string, string>)) {
    const extended = name.includes('/');
    if (limits[name] === undefined) {
      if (extended) problems.push(required(`${at}.limits`, 'Required value: Limit must be set for non overcommitable resources'));
      continue;
    }
    const [asked, limit] = [parseQuantity(value), parseQuantity(limits[name])];
    if (asked > limit)
      problems.push(bad(`${at}.requests`, value, `must be less than or equal to ${name} limit of ${limits[name]}`));
    else if (extended && asked !== limit)
      problems.push(bad(`${at}.requests`, value, `must be equal to ${name} limit of ${limits[name]}`));
  }
  return problems;
}

function serviceProblems(object: KubeObject): FieldProblem[] {
  const problems: FieldProblem[] = [];
  const { spec } = object;
  if (!['ClusterIP', 'NodePort', 'LoadBalancer', 'ExternalName'].includes(spec?.type)) {
    problems.push(notSupported('spec.type', spec?.type, ['ClusterIP', 'ExternalName', 'LoadBalancer', 'NodePort']));
  }
  const ports: Loose[] = spec?.ports ?? [];
  if (ports.length === 0 && spec?.clusterIP !== 'None' && spec?.type !== 'ExternalName') problems.push(required('spec.ports'));
  ports.forEach((port, index) => {
    if (!Number.isInteger(port.port) || port.port < 1 || port.port > 65535) {
      problems.push(bad(`spec.ports[${index}].port`, port.port ?? null, 'must be between 1 and 65535, inclusive'));
    }
    if (ports.length > 1 && !port.name) problems.push(required(`spec.ports[${index}].name`));
  });
  return problems;
}

function claimProblems(object: KubeObject): FieldProblem[] {
  const problems: FieldProblem[] = [];
  const modes: string[] = object.spec?.accessModes ?? [];
  if (modes.length === 0) problems.push(required('spec.accessModes', 'Required value: at least 1 access mode is required'));
  const known = ['ReadWriteOnce', 'ReadOnlyMany', 'ReadWriteMany', 'ReadWriteOncePod'];
  modes.forEach((mode, index) => {
    if (!known.includes(mode)) problems.push(notSupported(`spec.accessModes[${index}]`, mode, known));
  });
  const size = object.spec?.resources?.requests?.storage;
  if (size === undefined) problems.push(required('spec.resources[storage]'));
  else if (!(parseQuantity(size) > 0)) problems.push(bad('spec.resources[storage]', size, 'must be greater than zero'));
  return problems;
}

function dataProblems(object: KubeObject): FieldProblem[] {
  const problems: FieldProblem[] = [];
  let total = 0;
  for (const field of ['data', 'stringData', 'binaryData']) {
    for (const [key, value] of Object.entries(object[field] ?? {})) {
      total += String(value).length;
      if (!/^[-._a-zA-Z0-9]+$/.test(key))
        problems.push(bad(`${field}[${key}]`, key, 'a valid config key must consist of alphanumeric characters, -, _ or .'));
      if (typeof value !== 'string') problems.push(bad(`${field}[${key}]`, value, 'must be a string'));
    }
  }
  if (total > 1_048_576) problems.push(bad('data', '', 'Too long: must have at most 1048576 bytes'));
  return problems;
}
