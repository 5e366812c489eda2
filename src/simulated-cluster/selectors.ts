import { badRequest } from './errors.ts';
import type { KubeObject, Loose } from './types.ts';

export type Matcher = (object: KubeObject) => boolean;

const everything: Matcher = () => true;

/** Splits on commas that are not inside parentheses. */
function split(text: string): string[] {
  return text.split(/,(?![^(]*\))/).map((part) => part.trim());
}

/** A matcher for a label selector such as `a=b,c!=d,e in (f,g),h,!i`. Throws 400 when it cannot be read. */
export function labelMatcher(selector: string | undefined): Matcher {
  if (selector === undefined || selector === '') return everything;
  const terms = split(selector).map(labelTerm);
  return (object) => {
    const labels = object.metadata.labels ?? {};
    return terms.every((term) => term(labels));
  };
}

type LabelTerm = (labels: Record<string, string>) => boolean;

function labelTerm(text: string): LabelTerm {
  const set = /^([^\s!=()]+)\s+(in|notin)\s+\(([^)]*)\)$/.exec(text);
  if (set !== null) {
    const [, key = '', operator, list = ''] = set;
    const values = new Set(list.split(',').map((value) => value.trim()));
    return operator === 'in'
      ? (l) => key in l && values.has(l[key] as string)
      : (l) => !(key in l && values.has(l[key] as string));
  }
  const pair = /^([^\s!=()]+)\s*(==|=|!=)\s*([^\s=!]*)$/.exec(text);
  if (pair !== null) {
    const [, key = '', operator, value] = pair;
    return operator === '!=' ? (labels) => labels[key] !== value : (labels) => labels[key] === value;
  }
  const exists = /^(!?)\s*([^\s!=(),]+)$/.exec(text);
  if (exists !== null) {
    const [, not, key = ''] = exists;
    return not === '!' ? (labels) => !(key in labels) : (labels) => key in labels;
  }
  throw badRequest(`unable to parse requirement: found '${text}', expected: a label selector`);
}

/** Whether labels satisfy a selector object (matchLabels and matchExpressions); an empty one matches everything. */
export function matchesSelector(selector: Loose, labels: Record<string, string>): boolean {
  for (const [key, value] of Object.entries(selector?.matchLabels ?? {})) if (labels[key] !== value) return false;
  return (selector?.matchExpressions ?? []).every((term: Loose) => matchesExpression(term, labels));
}

/** One requirement as in node affinity and label selectors. */
export function matchesExpression(term: Loose, labels: Record<string, string>): boolean {
  const value = labels[term.key];
  const values: string[] = term.values ?? [];
  switch (term.operator) {
    case 'In':
      return value !== undefined && values.includes(value);
    case 'NotIn':
      return value === undefined || !values.includes(value);
    case 'Exists':
      return value !== undefined;
    case 'DoesNotExist':
      return value === undefined;
    case 'Gt':
      return value !== undefined && Number(value) > Number(values[0]);
    case 'Lt':
      return value !== undefined && Number(value) < Number(values[0]);
    default:
      return false;
  }
}

type Getter = (object: KubeObject) => string;

const COMMON: Record<string, Getter> = {
  'metadata.name': (object) => object.metadata.name,
  'metadata.namespace': (object) => object.metadata.namespace ?? '',
};

const involved = (field: string): Getter => {
  return (object) => String(object.involvedObject?.[field] ?? '');
};

const FIELDS: Record<string, Record<string, Getter>> = {
  pods: {
    'spec.nodeName': (object) => object.spec?.nodeName ?? '',
    'spec.restartPolicy': (object) => object.spec?.restartPolicy ?? '',
    'spec.schedulerName': (object) => object.spec?.schedulerName ?? '',
    'spec.serviceAccountName': (object) => object.spec?.serviceAccountName ?? '',
    'spec.hostNetwork': (object) => String(object.spec?.hostNetwork ?? false),
    'status.phase': (object) => object.status?.phase ?? '',
    'status.podIP': (object) => object.status?.podIP ?? '',
    'status.nominatedNodeName': (object) => object.status?.nominatedNodeName ?? '',
  },
  nodes: { 'spec.unschedulable': (object) => String(object.spec?.unschedulable ?? false) },
  namespaces: { 'status.phase': (object) => object.status?.phase ?? '' },
  secrets: { type: (object) => object.type ?? '' },
  services: { 'spec.clusterIP': (object) => object.spec?.clusterIP ?? '', 'spec.type': (object) => object.spec?.type ?? '' },
  jobs: { 'status.successful': (object) => String(object.status?.succeeded ?? 0) },
  events: {
    ...Object.fromEntries(
      ['kind', 'namespace', 'name', 'uid', 'apiVersion', 'resourceVersion', 'fieldPath'].map((field) => [
        `involvedObject.${field}`,
        involved(field),
      ]),
    ),
    reason: (object) => object.reason ?? '',
    reportingComponent: (object) => object.reportingComponent ?? object.source?.component ?? '',
    source: (object) => object.source?.component ?? object.reportingComponent ?? '',
    type: (object) => object.type ?? '',
  },
};

/** A matcher for a field selector; 400 for a field this resource cannot be selected by. */
export function fieldMatcher(resource: string, selector: string | undefined): Matcher {
  if (selector === undefined || selector === '') return everything;
  const terms = split(selector)
    .filter((part) => part !== '')
    .map((part): Matcher => {
      const match = /^([^=!]+?)\s*(==|=|!=)\s*(.*)$/.exec(part);
      if (match === null) throw badRequest(`invalid selector: '${selector}'; can't understand '${part}'`);
      const [, field = '', operator, value = ''] = match;
      const get = COMMON[field] ?? FIELDS[resource.split('.')[0] ?? '']?.[field];
      if (get === undefined) throw badRequest(`field label not supported: ${field}`);
      return operator === '!=' ? (object) => get(object) !== value : (object) => get(object) === value;
    });
  return (object) => terms.every((term) => term(object));
}

/** The name a field selector pins, so that a list of one need not look at all. */
export function pinnedName(selector: string | undefined): string | undefined {
  return /(?:^|,)metadata\.name==?([^,]+)/.exec(selector ?? '')?.[1];
}

/** The node a field selector pins. */
export function pinnedNode(selector: string | undefined): string | undefined {
  return /(?:^|,)spec\.nodeName==?([^,]+)/.exec(selector ?? '')?.[1];
}
