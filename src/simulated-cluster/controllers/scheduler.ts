import { assign } from '../api/pod-subresources.ts';
import { type Amounts, addAmounts, parseAmounts } from '../quantities.ts';
import { keyOf } from '../store.ts';
import type { KubeObject, Loose, StoreEvent } from '../types.ts';
import { type Controller, setCondition, type World } from '../world.ts';
import {
  HOSTNAME,
  holdsResources,
  podRequests,
  preference,
  reachesVolumes,
  requiredHosts,
  selectsNode,
  shortages,
  untoleratedTaint,
} from './fit.ts';

const NAME = 'scheduler';
const CYCLE = 'cycle';
const SELECTED_NODE = 'volume.kubernetes.io/selected-node';

type Verdict = { node: KubeObject } | { refusal: string } | { waiting: true };

/** Binds pods to nodes. What is used on each node is kept up with every change, never counted anew. */
export class Scheduler implements Controller {
  readonly name = NAME;
  private readonly world: World;
  private readonly used = new Map<string, Amounts>();
  /** Pods without a node; those in `ready` are looked at in the next cycle. */
  private readonly unbound = new Set<string>();
  private readonly ready = new Set<string>();

  constructor(world: World) {
    this.world = world;
  }

  /** Counts everything anew, after the store was read from disk. */
  rebuild(): void {
    for (const pod of this.world.store.values('pods')) this.account(undefined, pod);
    for (const key of this.unbound) this.ready.add(key);
    if (this.ready.size > 0) this.world.wake(NAME, CYCLE, 0);
  }

  onChange(event: StoreEvent): void {
    if (event.resource === 'pods') {
      const next = event.type === 'DELETED' ? undefined : event.object;
      this.account(event.previous, next);
      const key = keyOf(event.object);
      if (this.unbound.has(key) && (event.type === 'ADDED' || event.previous?.metadata.deletionTimestamp !== undefined))
        this.look(key);
      if (event.previous !== undefined && holdsResources(event.previous) && !(next !== undefined && holdsResources(next)))
        this.lookAtAll();
    } else if (event.resource === 'nodes') {
      if (!onlyHeartbeat(event)) this.lookAtAll();
    } else if (event.resource === 'persistentvolumeclaims') {
      for (const key of this.world.store.indexes.podsWithClaim(keyOf(event.object))) if (this.unbound.has(key)) this.look(key);
    }
  }

  onTimer(): void {
    const pods = [...this.ready].map((key) => this.world.get('pods', key)).filter((pod) => pod !== undefined);
    this.ready.clear();
    pods.sort((a, b) => (b.spec.priority ?? 0) - (a.spec.priority ?? 0) || arrival(a) - arrival(b));
    // Pods that ask for the same need not be tried again in the same cycle once one of them was refused.
    const refused = new Map<string, string>();
    for (const pod of pods) {
      if (pod.spec.nodeName || pod.metadata.deletionTimestamp || (pod.spec.schedulingGates ?? []).length > 0) continue;
      if (pod.spec.schedulerName !== 'default-scheduler') continue;
      const known = refused.size === 0 ? undefined : refused.get(this.likeness(pod));
      const verdict = this.claimsVerdict(pod) ?? (known === undefined ? this.choose(pod) : { refusal: known });
      if ('refusal' in verdict) {
        if (!('claims' in verdict)) refused.set(this.likeness(pod), verdict.refusal);
        this.refuse(pod, verdict.refusal);
      } else if ('node' in verdict) this.bind(pod, verdict.node);
    }
  }

  /** The same for pods that ask the same of their node. */
  private likeness(pod: KubeObject): string {
    const { nodeSelector, affinity, tolerations } = pod.spec;
    return JSON.stringify([podRequests(pod), nodeSelector, affinity, tolerations, this.volumeAffinities(pod)]);
  }

  private look(key: string): void {
    this.ready.add(key);
    this.world.wake(NAME, CYCLE, this.world.settings.delays.schedule);
  }

  private lookAtAll(): void {
    if (this.unbound.size === 0) return;
    for (const key of this.unbound) this.ready.add(key);
    this.world.wake(NAME, CYCLE, this.world.settings.delays.schedule);
  }

  private account(previous: KubeObject | undefined, next: KubeObject | undefined): void {
    const held = previous !== undefined && holdsResources(previous);
    const holds = next !== undefined && holdsResources(next);
    if (held && holds && previous.spec === next.spec) return;
    if (held) this.add(previous, -1);
    if (holds) this.add(next, 1);
    const key = keyOf((next ?? previous) as KubeObject);
    if (next === undefined || next.spec.nodeName) {
      this.unbound.delete(key);
      this.ready.delete(key);
    } else this.unbound.add(key);
  }

  private add(pod: KubeObject, sign: 1 | -1): void {
    const node: string = pod.spec.nodeName;
    const total = this.used.get(node) ?? {};
    addAmounts(total, podRequests(pod), sign);
    this.used.set(node, total);
  }

  /** Claims must exist and be bound, or be of a class that waits for its first pod. */
  private claimsVerdict(pod: KubeObject): (Verdict & { claims?: true }) | undefined {
    for (const volume of pod.spec.volumes ?? []) {
      const name: string | undefined = volume.persistentVolumeClaim?.claimName;
      if (name === undefined) continue;
      const claim = this.world.get('persistentvolumeclaims', `${pod.metadata.namespace}/${name}`);
      if (claim === undefined) return { refusal: `persistentvolumeclaim "${name}" not found`, claims: true };
      if (claim.metadata.deletionTimestamp) return { refusal: `persistentvolumeclaim "${name}" is being deleted`, claims: true };
      if (claim.status?.phase === 'Bound') continue;
      const storageClass = this.world.get('storageclasses.storage.k8s.io', claim.spec.storageClassName ?? '');
      if (storageClass?.volumeBindingMode !== 'WaitForFirstConsumer') {
        return { refusal: 'pod has unbound immediate PersistentVolumeClaims', claims: true };
      }
      const verdict = this.choose(pod);
      if (!('node' in verdict)) return verdict;
      const chosen = verdict.node.metadata.name;
      this.world.update('persistentvolumeclaims', keyOf(claim), (draft) => {
        draft.metadata.annotations = { ...draft.metadata.annotations, [SELECTED_NODE]: chosen };
      });
      return { waiting: true };
    }
    return undefined;
  }

  /** What the bound volumes of the pod ask of its node. */
  private volumeAffinities(pod: KubeObject): Loose[][] {
    return (pod.spec.volumes ?? []).flatMap((volume: Loose) => {
      const name: string | undefined = volume.persistentVolumeClaim?.claimName;
      if (name === undefined) return [];
      const claim = this.world.get('persistentvolumeclaims', `${pod.metadata.namespace}/${name}`);
      const bound = this.world.get('persistentvolumes', claim?.spec.volumeName ?? '');
      const terms: Loose[] | undefined = bound?.spec.nodeAffinity?.required?.nodeSelectorTerms;
      return terms === undefined ? [] : [terms];
    });
  }

  private choose(pod: KubeObject): Verdict {
    const { store } = this.world;
    const requests = podRequests(pod);
    const reasons = new Map<string, number>();
    const count = (reason: string, times = 1): void => {
      reasons.set(reason, (reasons.get(reason) ?? 0) + times);
    };
    const affinities = this.volumeAffinities(pod);
    const candidates = this.candidates(pod, affinities.length === 0);
    let best: { node: KubeObject; preference: number; load: number } | undefined;
    for (const key of candidates) {
      const node = store.get('nodes', key);
      if (node === undefined) continue;
      const refusal = reachesVolumes(affinities, node)
        ? this.refusal(pod, node, requests)
        : ['node(s) had volume node affinity conflict'];
      if (refusal.length > 0) {
        for (const reason of refusal) count(reason);
        continue;
      }
      const candidate = { node, preference: preference(pod, node), load: this.load(node) };
      const better =
        best === undefined ||
        candidate.preference > best.preference ||
        (candidate.preference === best.preference && candidate.load < best.load);
      if (better) best = candidate;
    }
    if (best !== undefined) return { node: best.node };
    const total = store.count('nodes');
    const elsewhere = total - candidates.length;
    if (elsewhere > 0) count("node(s) didn't match Pod's node affinity/selector", elsewhere);
    if (total === 0) return { refusal: 'no nodes available to schedule pods' };
    const text = [...reasons].map(([reason, times]) => `${times} ${reason}`).sort();
    return {
      refusal: `0/${total} nodes are available: ${text.join(', ')}. preemption: 0/${total} nodes are available: ${total} Preemption is not helpful for scheduling.`,
    };
  }

  /** Nodes worth a look: those with the rarest label the pod selects by, or that its affinity names where that may be `pinned`. */
  private candidates(pod: KubeObject, pinned: boolean): readonly string[] {
    const { store } = this.world;
    const sets = Object.entries((pod.spec.nodeSelector ?? {}) as Record<string, string>).map(([key, value]) =>
      store.indexes.nodesWithLabel(key, value),
    );
    const hosts = pinned ? requiredHosts(pod) : undefined;
    if (hosts !== undefined) sets.push(new Set(hosts.flatMap((host) => [...store.indexes.nodesWithLabel(HOSTNAME, host)])));
    const smallest = sets.sort((a, b) => a.size - b.size)[0];
    return smallest === undefined ? store.keys('nodes') : [...smallest].sort();
  }

  private refusal(pod: KubeObject, node: KubeObject, requests: Amounts): string[] {
    if (!selectsNode(pod, node)) return ["node(s) didn't match Pod's node affinity/selector"];
    if (node.spec?.unschedulable) return ['node(s) were unschedulable'];
    const taint = untoleratedTaint(pod, node);
    if (taint !== undefined) return [`node(s) had untolerated taint {${taint.key}: ${taint.value ?? ''}}`];
    return shortages(requests, allocatableOf(node), this.used.get(node.metadata.name) ?? {});
  }

  /** How full a node is, by its fullest resource, so that pods spread. */
  private load(node: KubeObject): number {
    const used = this.used.get(node.metadata.name);
    const allocatable = allocatableOf(node);
    let load = 0;
    for (const name in used) load = Math.max(load, (used[name] ?? 0) / (allocatable[name] || 1));
    return load;
  }

  private refuse(pod: KubeObject, message: string): void {
    const before = pod.status?.conditions?.find((each: Loose) => each.type === 'PodScheduled');
    if (before?.message === message) return;
    const updated = this.world.update('pods', keyOf(pod), (draft) => {
      setCondition(draft.status, this.world.stamp, { type: 'PodScheduled', status: 'False', reason: 'Unschedulable', message });
    });
    if (updated !== undefined) this.world.event(updated, 'Warning', 'FailedScheduling', message, 'default-scheduler');
  }

  private bind(pod: KubeObject, node: KubeObject): void {
    const { namespace, name } = pod.metadata;
    const bound = assign(this.world, pod, node.metadata.name);
    if (bound === undefined) return;
    this.world.event(
      bound,
      'Normal',
      'Scheduled',
      `Successfully assigned ${namespace}/${name} to ${node.metadata.name}`,
      'default-scheduler',
    );
  }
}

const allocatable = new WeakMap<KubeObject, Amounts>();

/** What a node has to give, as numbers; worked out once for each version of the node. */
function allocatableOf(node: KubeObject): Amounts {
  let amounts = allocatable.get(node);
  if (amounts === undefined) {
    amounts = parseAmounts(node.status?.allocatable ?? node.status?.capacity);
    allocatable.set(node, amounts);
  }
  return amounts;
}

/** Order of arrival: the version a pod was last written with would change, its creation does not. */
const arrival = (pod: KubeObject): number => Date.parse(pod.metadata.creationTimestamp);

function onlyHeartbeat(event: StoreEvent): boolean {
  const { previous, object } = event;
  if (previous === undefined) return false;
  const view = (node: KubeObject): string => JSON.stringify([node.spec, node.metadata.labels, node.status?.allocatable]);
  return event.type === 'MODIFIED' && view(previous) === view(object);
}
