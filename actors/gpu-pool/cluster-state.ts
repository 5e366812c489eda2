/**
 * What the tracker knows of the cluster: nodes, pods, and what pods take of each node that the ledger does not know of. In memory, fed by
 * changes.
 */
import type { NodeRow } from '../../persistence/gpu-nodes.ts';
import { Departures } from './departures.ts';
import type { OfferedType } from './node-types.ts';
import type { NodeView, PodView } from './ports.ts';

interface Usage {
  cpuMillis: number;
  memoryBytes: number;
  resources: Record<string, number>;
  /** Dev servers among them. */
  servers: number;
}

const NOTHING: Usage = { cpuMillis: 0, memoryBytes: 0, resources: {}, servers: 0 };

export class ClusterState {
  readonly nodes = new Map<string, NodeView>();
  readonly pods = new Map<string, PodView>();
  readonly departures = new Departures();
  /** Usage by pods that are not dev servers of ours, by node; kept incrementally, so that work is per change and not per cluster. */
  readonly #foreign = new Map<string, Usage>();
  /** Dev servers, by uid, of which nobody has said yet that the database knows their reservation. */
  readonly #unproven = new Set<string>();
  /** Those of them that it does not know: no slots are held for them, so they are counted as foreign pods are. */
  readonly #strangers = new Set<string>();

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
    if (before === null && pod.server !== null) this.#unproven.add(pod.uid);
    return { before, touched: [...touched] };
  }

  /** @param seen as {@link removeNode} takes it */
  removePod(pod: PodView, seen = true): { touched: string[] } {
    const before = this.pods.get(pod.uid) ?? null;
    this.pods.delete(pod.uid);
    this.departures.podGone(pod, seen);
    const touched = this.#count(before, -1);
    this.#unproven.delete(pod.uid);
    this.#strangers.delete(pod.uid);
    return { touched };
  }

  /** Dev servers of which it is not known that the database knows their reservation. */
  unproven(): PodView[] {
    return [...this.#unproven].map((uid) => this.pods.get(uid)!);
  }

  /**
   * Of these dev servers the database knows those of these reservations. The others count as foreign until it knows them, or they are gone.
   * @returns those that are found to be unknown, and were not before; and the nodes whose usage changed
   */
  tellApart(asked: readonly PodView[], known: ReadonlySet<string>): { strangers: PodView[]; touched: string[] } {
    const strangers: PodView[] = [];
    const touched = new Set<string>();
    for (const { uid, server } of asked) {
      // It may have changed since it was asked for, be gone, or be proven meanwhile.
      const pod = this.pods.get(uid);
      if (pod === undefined || !this.#unproven.has(uid)) continue;
      const isKnown = known.has(server!.reservationId);
      if (isKnown) this.#unproven.delete(uid);
      // One that is known and was no stranger, or a stranger that still is one: nothing changes.
      if (isKnown !== this.#strangers.has(uid)) continue;
      for (const node of this.#count(pod, -1)) touched.add(node);
      if (isKnown) this.#strangers.delete(uid);
      else this.#strangers.add(uid);
      for (const node of this.#count(pod, 1)) touched.add(node);
      if (!isKnown) strangers.push(pod);
    }
    return { strangers, touched: [...touched] };
  }

  #count(pod: PodView | null, sign: 1 | -1): string[] {
    // A pod that has finished takes nothing; one that is not bound takes nothing of any node.
    if (pod === null || pod.node === null || pod.phase === 'Succeeded' || pod.phase === 'Failed') return [];
    // What one of ours takes is held in the ledger.
    if (pod.server !== null && !this.#strangers.has(pod.uid)) return [];
    const usage = this.#foreign.get(pod.node) ?? { ...NOTHING, resources: {} };
    usage.servers += pod.server === null ? 0 : sign;
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
    const foreign = this.#foreign.get(name) ?? NOTHING;
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
      foreignSlots: resource === null ? foreign.servers : (foreign.resources[resource] ?? 0),
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
