import type { KubeObject, Loose, StoreEvent } from '../types.ts';
import { type Controller, setCondition, type World } from '../world.ts';
import { tolerates } from './fit.ts';
import { LOST_NODES } from './kubelet.ts';

const NAME = 'nodes';
const UNREACHABLE = 'node.kubernetes.io/unreachable';
const UNSCHEDULABLE = 'node.kubernetes.io/unschedulable';

/** Notices lost nodes, taints them, evicts their pods after their toleration, and removes pods whose node object is gone. */
export class Nodes implements Controller {
  readonly name = NAME;
  private readonly world: World;

  constructor(world: World) {
    this.world = world;
  }

  onChange({ type, resource, object, previous }: StoreEvent): void {
    if (resource === 'nodes') {
      const name = object.metadata.name;
      if (type === 'DELETED') this.world.wake(NAME, `orphans/${name}`, this.world.settings.delays.orphan);
      else if (Boolean(previous?.spec?.unschedulable) !== Boolean(object.spec?.unschedulable))
        this.world.wake(NAME, `cordon/${name}`, 0);
    } else if (resource === 'pods' && object.spec.nodeName && !previous?.spec.nodeName) {
      if (this.world.get('nodes', object.spec.nodeName) === undefined) {
        this.world.wake(NAME, `orphans/${object.spec.nodeName}`, this.world.settings.delays.orphan);
      }
    }
  }

  onTimer(key: string): void {
    const slash = key.indexOf('/');
    const name = key.slice(slash + 1);
    switch (key.slice(0, slash)) {
      case 'cordon':
        this.cordon(name);
        return;
      case 'unreachable':
        this.unreachable(name);
        return;
      case 'evict':
        this.evict(name);
        return;
      case 'orphans':
        this.orphans(name);
        return;
      default:
        return;
    }
  }

  /** The node falls silent; its pods go on or not, nobody knows. */
  lose(name: string): void {
    this.world.store.side.set(LOST_NODES, name, this.world.store.now);
    this.world.wake(NAME, `unreachable/${name}`, this.world.settings.delays.nodeGrace);
  }

  /** The node is back: Ready again, and its kubelet takes up where it was. */
  recover(name: string): void {
    this.world.store.side.delete(LOST_NODES, name);
    this.world.store.timers.clear(`${NAME}|unreachable/${name}`);
    const node = this.world.update('nodes', name, (draft) => {
      setNodeConditions(draft, this.world.stamp, 'True', 'KubeletReady', 'kubelet is posting ready status');
      draft.spec = withoutTaint(draft.spec, UNREACHABLE);
    });
    if (node !== undefined)
      this.world.event(node, 'Normal', 'NodeReady', `Node ${name} status is now: NodeReady`, 'kubelet', name);
    for (const key of this.world.store.indexes.podsOnNode(name)) this.world.wake('kubelet', key, 0);
  }

  private cordon(name: string): void {
    this.world.update('nodes', name, (draft) => {
      draft.spec = withoutTaint(draft.spec, UNSCHEDULABLE);
      if (draft.spec.unschedulable) {
        draft.spec.taints = [
          ...(draft.spec.taints ?? []),
          { key: UNSCHEDULABLE, effect: 'NoSchedule', timeAdded: this.world.stamp },
        ];
      }
    });
  }

  private unreachable(name: string): void {
    const { store } = this.world;
    if (store.side.get(LOST_NODES, name) === undefined) return;
    const node = this.world.update('nodes', name, (draft) => {
      setNodeConditions(draft, this.world.stamp, 'Unknown', 'NodeStatusUnknown', 'Kubelet stopped posting node status.');
      draft.spec = withoutTaint(draft.spec, UNREACHABLE);
      const taint = (effect: string): Loose => ({ key: UNREACHABLE, effect, timeAdded: this.world.stamp });
      draft.spec.taints = [...(draft.spec.taints ?? []), taint('NoSchedule'), taint('NoExecute')];
    });
    if (node === undefined) return;
    this.world.event(node, 'Normal', 'NodeNotReady', `Node ${name} status is now: NodeNotReady`, 'node-controller');
    for (const key of [...store.indexes.podsOnNode(name)].sort()) {
      const pod = this.world.update('pods', key, (draft) => {
        if (draft.status?.phase === 'Succeeded' || draft.status?.phase === 'Failed') return;
        setCondition(draft.status, this.world.stamp, { type: 'Ready', status: 'False' });
      });
      if (pod !== undefined) this.planEviction(pod, key);
    }
  }

  private planEviction(pod: KubeObject, key: string): void {
    this.world.event(pod, 'Warning', 'NodeNotReady', 'Node is not ready', 'node-controller');
    const taint = { key: UNREACHABLE, effect: 'NoExecute' };
    const toleration = (pod.spec.tolerations ?? []).filter((each: Loose) => tolerates(each, taint));
    const seconds = toleration.map((each: Loose) => each.tolerationSeconds ?? Number.POSITIVE_INFINITY);
    const wait = toleration.length === 0 ? 0 : Math.min(...seconds);
    if (Number.isFinite(wait)) this.world.wake(NAME, `evict/${key}`, (wait * 1000) / this.world.settings.evictionSpeed);
  }

  /** The pod is marked for deletion; with its node lost nobody stops it, so it stays until the node is back or deleted. */
  private evict(key: string): void {
    const pod = this.world.get('pods', key);
    if (
      pod === undefined ||
      pod.metadata.deletionTimestamp ||
      this.world.store.side.get(LOST_NODES, pod.spec.nodeName) === undefined
    )
      return;
    const message = 'Taint manager: deleting due to NoExecute taint';
    const marked = this.world.update('pods', key, (draft) => {
      setCondition(draft.status, this.world.stamp, {
        type: 'DisruptionTarget',
        status: 'True',
        reason: 'DeletionByTaintManager',
        message,
      });
    });
    this.world.event(pod, 'Normal', 'TaintManagerEviction', `Marking for deletion Pod ${key}`, 'taint-eviction-controller');
    if (marked !== undefined) this.world.delete('pods', marked);
  }

  private orphans(node: string): void {
    if (this.world.get('nodes', node) !== undefined) return;
    for (const key of [...this.world.store.indexes.podsOnNode(node)].sort()) {
      const pod = this.world.update('pods', key, (draft) => {
        if (draft.status?.phase !== 'Succeeded') draft.status.phase = 'Failed';
        const message = 'PodGC: node no longer exists';
        setCondition(draft.status, this.world.stamp, {
          type: 'DisruptionTarget',
          status: 'True',
          reason: 'DeletionByPodGC',
          message,
        });
      });
      if (pod !== undefined) this.world.delete('pods', pod, { graceSeconds: 0 });
    }
    this.world.store.side.delete(LOST_NODES, node);
    for (const attachment of [...this.world.store.values('volumeattachments.storage.k8s.io')]) {
      if (attachment.spec.nodeName === node) this.world.delete('volumeattachments.storage.k8s.io', attachment);
    }
  }
}

function setNodeConditions(node: KubeObject, stamp: string, status: string, reason: string, message: string): void {
  for (const condition of node.status?.conditions ?? []) {
    const target = condition.type === 'Ready' ? status : status === 'Unknown' ? 'Unknown' : 'False';
    if (condition.status !== target) condition.lastTransitionTime = stamp;
    condition.status = target;
    condition.lastHeartbeatTime = stamp;
    if (condition.type === 'Ready' || status === 'Unknown') {
      condition.reason = reason;
      condition.message = message;
    }
  }
}

function withoutTaint(spec: Loose, key: string): Loose {
  const taints = (spec?.taints ?? []).filter((each: Loose) => each.key !== key);
  const { taints: _, ...rest } = spec ?? {};
  return taints.length > 0 ? { ...rest, taints } : rest;
}
