/** What the tracker needs of the cluster: nodes and pods as they change, already trimmed to what matters. */

/** A node, trimmed. */
export interface NodeView {
  name: string;
  uid: string;
  /** Label GpuType, exactly; null if it is none of ours. */
  gpuType: string | null;
  ready: boolean;
  cordoned: boolean;
  /** Keys of NoSchedule and NoExecute taints other than those our pods tolerate. */
  foreignTaints: string[];
  /** Allocatable extended resources by name (nvidia.com/gpu, MIG profiles, EFA). */
  resources: Record<string, number>;
  cpuMillis: number;
  memoryBytes: number;
  address: string | null;
  zone: string | null;
  labels: Record<string, string>;
}

/** A pod, trimmed. All namespaces: what is not ours takes capacity too. */
export interface PodView {
  uid: string;
  name: string;
  namespace: string;
  resourceVersion: string;
  node: string | null;
  /** Ours: reservation and life from its labels; null if the pod is not a dev server. */
  server: { reservationId: string; generation: number } | null;
  phase: 'Pending' | 'Running' | 'Succeeded' | 'Failed' | 'Unknown';
  /** Requests of all containers, init containers by the usual rule (the larger of both). */
  cpuMillis: number;
  memoryBytes: number;
  resources: Record<string, number>;
  unschedulable: string | null;
  /** All main containers have started. */
  started: boolean;
  ready: boolean;
  unreadyReason: string | null;
  terminating: boolean;
  /** Why the pod is dead in place (failed, evicted, preempted, node lost), in words for its user; null while it lives. */
  death: string | null;
  /** Out-of-memory kills seen, by container. */
  ooms: { container: string; restarts: number; at: string | null }[];
}

export interface ClusterChanges {
  nodeChanged(node: NodeView): void;
  /** @param seen as {@link podDeleted} takes it */
  nodeDeleted(node: { name: string }, seen: boolean): void;
  podChanged(pod: PodView): void;
  /**
   * @param seen the watch said DELETED: positive proof that the pod object is gone. False: a complete list no longer has it, which only raises
   * the question
   */
  podDeleted(pod: PodView, seen: boolean): void;
  /** A complete list of nodes and pods has been delivered; changes follow. Called again after every relist. */
  synced(): void;
}

/** A feed of changes of the cluster: informers, restarted on error with backoff, relisted on 410. */
export interface ClusterEvents {
  /** Start the feed; resolves when the first complete list was delivered. */
  start(changes: ClusterChanges): Promise<void>;
  stop(): Promise<void>;
  /** When the API server last answered anything, in milliseconds since the epoch; null before the first answer. */
  lastContact(): number | null;
}
