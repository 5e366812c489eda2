import { ApiError, badRequest, conflict, notFound } from '../errors.ts';
import { resourceById } from '../resources.ts';
import { matchesSelector } from '../selectors.ts';
import { keyOf } from '../store.ts';
import type { ApiResponse, KubeObject, Loose } from '../types.ts';
import { setCondition, type World } from '../world.ts';
import { checkPreconditions } from './updates.ts';

const SUCCESS = { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Success', code: 201 };

/** The eviction subresource: deletes the pod with its grace, unless a PodDisruptionBudget says no (429). */
export function evictPod(world: World, pod: KubeObject, body: Loose): ApiResponse {
  const options = body?.deleteOptions ?? {};
  checkPreconditions(resourceById('pods'), pod, options.preconditions);
  for (const budget of world.store.values('poddisruptionbudgets.policy')) {
    if (budget.metadata.namespace !== pod.metadata.namespace) continue;
    if (!matchesSelector(budget.spec?.selector, pod.metadata.labels ?? {})) continue;
    if (disruptionsAllowed(world, budget) > 0) continue;
    throw new ApiError(429, 'TooManyRequests', "Cannot evict pod as it would violate the pod's disruption budget.", {
      causes: [{ reason: 'DisruptionBudget', message: `The disruption budget ${budget.metadata.name} does not allow it now` }],
    });
  }
  const marked = world.update('pods', keyOf(pod), (draft) => {
    setCondition(draft.status, world.stamp, {
      type: 'DisruptionTarget',
      status: 'True',
      reason: 'EvictionByEvictionAPI',
      message: 'Eviction API: evicting',
    });
  });
  const grace = options.gracePeriodSeconds;
  world.delete('pods', marked ?? pod, grace === undefined ? {} : { graceSeconds: grace });
  return { status: 201, body: SUCCESS };
}

/** How many more pods of a budget may go now. */
export function disruptionsAllowed(world: World, budget: KubeObject): number {
  let total = 0;
  let healthy = 0;
  for (const key of world.store.indexes.keysInNamespace('pods', budget.metadata.namespace ?? '')) {
    const pod = world.get('pods', key);
    if (pod === undefined || !matchesSelector(budget.spec?.selector, pod.metadata.labels ?? {})) continue;
    total++;
    const ready = pod.status?.conditions?.some((each: Loose) => each.type === 'Ready' && each.status === 'True');
    if (ready && pod.metadata.deletionTimestamp === undefined) healthy++;
  }
  const amount = (value: string | number): number =>
    String(value).endsWith('%') ? Math.ceil((total * Number.parseInt(String(value), 10)) / 100) : Number(value);
  const { minAvailable, maxUnavailable } = budget.spec ?? {};
  if (minAvailable !== undefined) return healthy - amount(minAvailable);
  if (maxUnavailable !== undefined) return healthy - (total - amount(maxUnavailable));
  return healthy - total + 1;
}

/** The binding subresource: puts a pod on a node, as another scheduler would. */
export function bindPod(world: World, pod: KubeObject, body: Loose): ApiResponse {
  const node: string | undefined = body?.target?.name;
  if (!node) throw badRequest('target.name: Required value');
  if (world.get('nodes', node) === undefined) throw notFound(resourceById('nodes'), node);
  if (pod.spec.nodeName) {
    throw conflict(
      resourceById('pods'),
      pod.metadata.name,
      `pod ${pod.metadata.name} is already assigned to node "${pod.spec.nodeName}"`,
    );
  }
  assign(world, pod, node);
  return { status: 201, body: SUCCESS };
}

/** Writes the node into a pod, with its PodScheduled condition. */
export function assign(world: World, pod: KubeObject, node: string): KubeObject | undefined {
  return world.updateStatus('pods', keyOf(pod), (draft) => {
    draft.spec = { ...draft.spec, nodeName: node };
    draft.status.conditions = (draft.status.conditions ?? []).filter((each: Loose) => each.type !== 'PodScheduled');
    setCondition(draft.status, world.stamp, { type: 'PodScheduled', status: 'True' });
  });
}
