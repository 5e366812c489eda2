/** What the tracker knows of the cluster: nodes, pods, and what pods that are not ours take of each node. In memory, fed by changes. */
import type { NodeRow } from '../../persistence/gpu-nodes.ts';
import { Departures } from './departures.ts';
import type { OfferedType } from './node-types.ts';
import type { NodeView, PodView } from './ports.ts';

interface Usage {
  cpuMillis: number;
  memoryBytes: number;
  resources: Record<string, number>;
}

export class ClusterState {
  readonly nodes = new Map<string, NodeView>();
  readonly pods = new Map<string, PodView>();
  readonly departures = new Departures();
  /** Usage by pods that are not dev servers, by node; kept incrementally, so that work is per change and not per cluster. */
  readonly #foreign = new Map<string, Usage>();

  setNode(node: NodeView): void {
    this.nodes.set(node.name, node);
    this.departures.nodeThere(node.name);
  }

  /** @param seen false: a list lacks it, and nobody saw its deletion */
  removeNode(name: string, seen = true): void {
    this.nodes.delete(name);
    this.departures.nodeGone(name, seen);
  }

  /** @returns the pod as it was known before, and the nodes whose usage changed. */
  setPod(pod: PodView): { before: PodView | null; touched: string[] } {
    const before = this.pods.get(pod.uid) ?? null;
    const touched = new Set([...this.#count(before, -1), ...this.#count(pod, 1)]);
    this.pods.set(pod.uid, pod);
    return { before, touched: [...touched] };
  }

  /** @param seen as {@link removeNode} takes it */
  removePod(pod: PodView, seen = true): { touched: string[] } {
    const before = this.pods.get(pod.uid) ?? null;
    this.pods.delete(pod.uid);
    this.departures.podGone(pod, seen);
    return { touched: this.#count(before, -1) };
  }

  #count(pod: PodView | null, sign: 1 | -1): string[] {
    // A pod that has finished takes nothing; one that is not bound takes nothing of any node.
    if (pod === null || pod.server !== null || pod.node === null || pod.phase === 'Succeeded' || pod.phase === 'Failed')
      return [];
    const usage = this.#foreign.get(pod.node) ?? { cpuMillis: 0, memoryBytes: 0, resources: {} };
    usage.cpuMillis += sign * pod.cpuMillis;
    usage.memoryBytes += sign * pod.memoryBytes;
    for (const [name, count] of Object.entries(pod.resources))
      usage.resources[name] = (usage.resources[name] ?? 0) + sign * count;
    this.#foreign.set(pod.node, usage);
    return [pod.node];
  }

  /**
   * The row of a node; null if it is none of a type in the catalogue (matched exactly) and was none before.
   * @param before its type on record: a node that lost its label keeps its row and its slots, for servers run on it.
   */
  rowOf(name: string, catalogue: ReadonlyMap<string, OfferedType>, before: string | undefined): NodeRow | null {
    const node = this.nodes.get(name);
    if (node === undefined) return null;
    const labelled = node.gpuType === null ? undefined : catalogue.get(node.gpuType);
    const type = labelled ?? (before === undefined ? undefined : catalogue.get(before));
    if (type === undefined) return null;
    const foreign = this.#foreign.get(name) ?? { cpuMillis: 0, memoryBytes: 0, resources: {} };
    const why =
      labelled === undefined
        ? `no longer labelled GpuType=${type.gpuType}`
        : !type.offered
          ? 'type is not offered'
          : whyClosed(node);
    const resource = type.resourceName;
    return {
      node: name,
      uid: node.uid,
      gpuType: type.gpuType,
      ready: node.ready,
      schedulable: why === null,
      reason: why,
      slots: resource === null ? type.maxPerNode : Math.min(node.resources[resource] ?? 0, 64),
      foreignSlots: resource === null ? 0 : (foreign.resources[resource] ?? 0),
      cpuMillis: node.cpuMillis,
      memoryBytes: node.memoryBytes,
      foreignCpu: foreign.cpuMillis,
      foreignMemory: foreign.memoryBytes,
      address: node.address,
      zone: node.zone,
      labels: node.labels,
    };
  }
}

/** Why a node takes no more work by itself; null if it does. */
function whyClosed(node: NodeView): string | null {
  if (!node.ready) return 'not ready';
  if (node.cordoned) return 'cordoned';
  return node.foreignTaints.length > 0 ? `tainted ${node.foreignTaints.join(', ')}` : null;
}
