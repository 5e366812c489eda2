import { type Amounts, addAmounts, parseAmounts } from '../quantities.ts';
import { matchesExpression } from '../selectors.ts';
import type { KubeObject, Loose } from '../types.ts';

export const HOSTNAME = 'kubernetes.io/hostname';

/** Worked out once for all versions of a pod that share their spec. */
const requested = new WeakMap<object, Amounts>();

/** What a pod asks of its node: the sum of its containers, or its largest init container where that is more. */
export function podRequests({ spec }: KubeObject): Readonly<Amounts> {
  let amounts = requested.get(spec);
  if (amounts === undefined) {
    amounts = sumOfRequests(spec);
    requested.set(spec, amounts);
  }
  return amounts;
}

function sumOfRequests(spec: Loose): Amounts {
  const total: Amounts = { pods: 1 };
  for (const container of spec.containers ?? []) addAmounts(total, parseAmounts(container.resources?.requests));
  for (const container of spec.initContainers ?? []) {
    const amounts = parseAmounts(container.resources?.requests);
    if (container.restartPolicy === 'Always') addAmounts(total, amounts);
    else for (const [name, value] of Object.entries(amounts)) total[name] = Math.max(total[name] ?? 0, value);
  }
  return total;
}

/** Whether a pod holds its requests on its node. */
export function holdsResources(pod: KubeObject): boolean {
  return Boolean(pod.spec.nodeName) && pod.status?.phase !== 'Succeeded' && pod.status?.phase !== 'Failed';
}

/** Resources the node has too little of, as the scheduler names them; empty when the pod fits. */
export function shortages(requests: Amounts, allocatable: Amounts, used: Amounts): string[] {
  const short: string[] = [];
  for (const [name, value] of Object.entries(requests)) {
    if (value > 0 && value > (allocatable[name] ?? 0) - (used[name] ?? 0)) {
      short.push(name === 'pods' ? 'Too many pods' : `Insufficient ${name}`);
    }
  }
  return short;
}

/** Whether the pod's nodeSelector and required node affinity accept the node. */
export function selectsNode(pod: KubeObject, node: KubeObject): boolean {
  const labels = node.metadata.labels ?? {};
  for (const [key, value] of Object.entries(pod.spec.nodeSelector ?? {})) if (labels[key] !== value) return false;
  const terms: Loose[] | undefined =
    pod.spec.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution?.nodeSelectorTerms;
  return terms === undefined || terms.some((term) => matchesTerm(term, node));
}

/** The hosts that the required node affinity names; undefined where one of its alternatives names none. */
export function requiredHosts(pod: KubeObject): string[] | undefined {
  const terms: Loose[] = pod.spec.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution?.nodeSelectorTerms ?? [];
  const hosts = terms.map((term) =>
    (term.matchExpressions ?? []).find(({ key, operator }: Loose) => key === HOSTNAME && operator === 'In'),
  );
  return hosts.length === 0 || hosts.includes(undefined) ? undefined : hosts.flatMap(({ values }) => values ?? []);
}

/** Whether all volumes of these affinities can be used on the node. */
export function reachesVolumes(affinities: readonly Loose[][], node: KubeObject): boolean {
  return affinities.every((terms) => terms.some((term) => matchesTerm(term, node)));
}

function matchesTerm(term: Loose, node: KubeObject): boolean {
  const fields = { 'metadata.name': node.metadata.name };
  return (
    (term.matchExpressions ?? []).every((each: Loose) => matchesExpression(each, node.metadata.labels ?? {})) &&
    (term.matchFields ?? []).every((each: Loose) => matchesExpression(each, fields))
  );
}

/** The weight of the preferred node affinities this node satisfies. */
export function preference(pod: KubeObject, node: KubeObject): number {
  const preferred: Loose[] = pod.spec.affinity?.nodeAffinity?.preferredDuringSchedulingIgnoredDuringExecution ?? [];
  return preferred.reduce((sum, each) => sum + (matchesTerm(each.preference ?? {}, node) ? (each.weight ?? 0) : 0), 0);
}

/** The first taint of the node that keeps the pod out. */
export function untoleratedTaint(pod: KubeObject, node: KubeObject): Loose | undefined {
  return (node.spec?.taints ?? []).find(
    (taint: Loose) =>
      taint.effect !== 'PreferNoSchedule' && !(pod.spec.tolerations ?? []).some((each: Loose) => tolerates(each, taint)),
  );
}

/** Whether a toleration covers a taint. */
export function tolerates(toleration: Loose, taint: Loose): boolean {
  if (toleration.effect && toleration.effect !== taint.effect) return false;
  if (toleration.key && toleration.key !== taint.key) return false;
  if (toleration.operator === 'Exists') return true;
  return Boolean(toleration.key) && (toleration.value ?? '') === (taint.value ?? '');
}
