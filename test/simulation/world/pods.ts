/** The truth of a simulated cluster: nodes, pods, and what runs on which GPU. Lean; what the API server would say, and what is really there. */
import type { NodeView, PodView } from '../../../actors/gpu-pool/ports.ts';
import type { ServerSpec } from '../../../actors/reservation/ports.ts';
import type { Random } from './random.ts';
import type { Scheduler, Session } from './scheduler.ts';
import type { Volumes } from './volumes.ts';

export interface SimNode {
  name: string;
  uid: string;
  gpuType: string;
  gpus: number;
  /** The kubelet answers. */
  ready: boolean;
  cordoned: boolean;
}

export interface SimPod {
  uid: string;
  name: string;
  reservationId: string;
  generation: number;
  node: string;
  slots: number;
  claim: string | null;
  version: number;
  bound: boolean;
  /** The machine it was bound to: another may have its name later. */
  machine: string | null;
  started: boolean;
  ready: boolean;
  waiting: string | null;
  unschedulable: string | null;
  /** Its node was not there, or went before it was bound: that node's end counts as its own. */
  homeless: boolean;
  terminating: boolean;
  death: string | null;
  ooms: number;
  /** Its creator was no longer in charge when the pod came to be. */
  late: boolean;
}

/** How pods fare, drawn from the seed. */
export interface PodFortune {
  neverReady: number;
  slow: number;
}

export interface ClusterListener {
  pod(view: PodView, deleted: boolean): void;
  node(view: NodeView | { name: string }, deleted: boolean): void;
}

/** The world's own part: no crash reaches it. */
const GIB = 1024 ** 3;

export class Pods {
  readonly nodes = new Map<string, SimNode>();
  readonly pods = new Map<string, SimPod>();
  /** Processes that hold GPUs, by pod uid: they may outlive their pod's object on a node that does not answer. */
  readonly containers = new Map<string, SimPod>();
  /** Services and Secrets, by name, with the pod that owns them. */
  readonly access = new Map<string, string>();
  listener: ClusterListener | null = null;
  readonly #scheduler: Scheduler;
  readonly #random: Random;
  readonly #world: Session;
  readonly #volumes: Volumes;
  fortune: PodFortune;
  #version = 0;
  /** Told of what must never be. */
  readonly #violated: (rule: string, what: string) => void;

  constructor(given: {
    scheduler: Scheduler;
    random: Random;
    world: Session;
    volumes: Volumes;
    fortune: PodFortune;
    violated: (rule: string, what: string) => void;
  }) {
    this.#scheduler = given.scheduler;
    this.#random = given.random;
    this.#world = given.world;
    this.#volumes = given.volumes;
    this.fortune = given.fortune;
    this.#violated = given.violated;
  }

  static nameOf(reservationId: string, generation: number): string {
    return `gpu-dev-${reservationId}-${generation}`;
  }

  addNode(node: SimNode): void {
    this.nodes.set(node.name, node);
    this.listener?.node(this.nodeView(node), false);
  }

  changeNode(name: string, change: Partial<SimNode>): void {
    const node = this.nodes.get(name);
    if (node === undefined) return;
    const came = change.ready === true && !node.ready;
    Object.assign(node, change);
    this.listener?.node(this.nodeView(node), false);
    for (const pod of [...this.pods.values()]) if (pod.node === name && pod.bound) this.#nodeChanged(pod, node);
    // The kubelet is back: it ends what is no longer meant to run.
    if (came)
      for (const [uid, pod] of this.containers) if (pod.node === name && this.pods.get(pod.name)?.uid !== uid) this.#stop(pod);
  }

  #nodeChanged(pod: SimPod, node: SimNode): void {
    if (pod.terminating && node.ready) this.#endSoon(pod);
    else if (pod.started && pod.death === null && pod.ready !== node.ready) {
      pod.ready = node.ready;
      this.#changed(pod);
    }
  }

  /** The node's object is deleted, its machine is off, and its pods follow. */
  removeNode(name: string): void {
    if (!this.nodes.delete(name)) return;
    for (const pod of [...this.containers.values()]) if (pod.node === name) this.#stop(pod);
    this.listener?.node({ name }, true);
    for (const pod of [...this.pods.values()]) {
      if (pod.node === name && !pod.bound) pod.homeless = true;
      if (pod.node === name && pod.bound) this.#later(this.#random.between(0, 60_000), () => this.#delete(pod));
    }
  }

  /** Create the pod of a server, or find it. */
  create(spec: ServerSpec, late: boolean): SimPod {
    const name = Pods.nameOf(spec.reservationId, spec.generation);
    const found = this.pods.get(name);
    if (found !== undefined) return found;
    const pod: SimPod = {
      uid: this.#random.uuid(),
      name,
      reservationId: spec.reservationId,
      generation: spec.generation,
      node: spec.node,
      slots: spec.resource?.count ?? 1,
      claim: spec.claim,
      version: 0,
      bound: false,
      machine: null,
      started: false,
      ready: false,
      waiting: null,
      unschedulable: null,
      homeless: !this.nodes.has(spec.node),
      terminating: false,
      death: null,
      ooms: 0,
      late,
    };
    this.pods.set(name, pod);
    this.#changed(pod);
    const stuck = this.#random.chance(this.fortune.neverReady);
    this.#later(stuck ? this.#random.between(300_000, 900_000) : this.#random.between(0, 200), () => this.#bind(pod));
    return pod;
  }

  /** The scheduler: a pod gets its node when there is room by the API server's books. */
  #bind(pod: SimPod): void {
    if (this.pods.get(pod.name) !== pod || pod.bound || pod.terminating) return;
    const node = this.nodes.get(pod.node);
    const fits = node?.ready === true && !node.cordoned && this.#booked(pod.node) + pod.slots <= node.gpus;
    const reached = !fits || pod.claim === null || this.#volumes.reaches(pod.claim, pod.node);
    if (!fits || !reached) {
      pod.unschedulable ??= fits ? 'the volume is on another node' : 'no node fits';
      if (pod.unschedulable !== null) this.#changed(pod);
      this.#later(this.#random.between(1_000, 20_000), () => this.#bind(pod));
      return;
    }
    pod.bound = true;
    pod.machine = node.uid;
    pod.unschedulable = null;
    this.#changed(pod);
    const slow = this.#random.chance(this.fortune.slow) ? 60_000 : 2_000;
    this.#later(this.#random.between(10, slow), () => this.#start(pod));
  }

  /** Slots taken on a node by the API server's books. */
  #booked(node: string): number {
    let sum = 0;
    for (const pod of this.pods.values()) if (pod.node === node && pod.bound && pod.death === null) sum += pod.slots;
    return sum;
  }

  #start(pod: SimPod): void {
    const node = this.nodes.get(pod.node);
    if (this.pods.get(pod.name) !== pod || pod.terminating || pod.death !== null || node?.uid !== pod.machine) return;
    if (!node.ready) {
      this.#later(5_000, () => this.#start(pod));
      return;
    }
    const problem = pod.claim === null ? null : this.#volumes.mount(pod.claim, pod.uid);
    if (problem !== null) {
      if (pod.waiting !== problem) {
        pod.waiting = problem;
        this.#changed(pod);
      }
      this.#later(this.#random.between(2_000, 30_000), () => this.#start(pod));
      return;
    }
    this.containers.set(pod.uid, pod);
    let used = 0;
    for (const other of this.containers.values()) if (other.node === pod.node) used += other.slots;
    if (used > node.gpus) {
      this.#violated('a GPU has one holder', `on ${pod.node} pods use ${used} of ${node.gpus} GPUs, the last is ${pod.name}`);
    }
    pod.started = true;
    pod.waiting = null;
    this.#changed(pod);
    if (this.#random.chance(this.fortune.neverReady)) return;
    this.#later(this.#random.between(10, 3_000), () => this.#becomeReady(pod));
  }

  #becomeReady(pod: SimPod): void {
    if (this.pods.get(pod.name) !== pod || !this.isThere(pod) || pod.terminating || pod.death !== null || pod.ready) return;
    if (this.nodes.get(pod.node)?.ready !== true) {
      this.#later(5_000, () => this.#becomeReady(pod));
      return;
    }
    pod.ready = true;
    if (pod.claim !== null) this.#volumes.write(pod.claim, pod.uid);
    this.#changed(pod);
  }

  /** Ask for deletion. @returns true if the object is gone. */
  remove(name: string, force: boolean): boolean {
    const pod = this.pods.get(name);
    if (pod === undefined) return true;
    if (force) {
      const node = this.nodes.get(pod.node);
      // The object goes at once; the containers go with it only where a kubelet hears of it.
      if (node === undefined || node.ready || !pod.bound) this.#stop(pod);
      this.#delete(pod);
      return true;
    }
    if (!pod.terminating) {
      pod.terminating = true;
      this.#changed(pod);
      if (!pod.bound) this.#later(this.#random.between(0, 50), () => this.#delete(pod));
      else if (this.nodes.get(pod.node)?.ready === true) this.#endSoon(pod);
    }
    return false;
  }

  #endSoon(pod: SimPod): void {
    const slow = this.#random.chance(this.fortune.slow) ? 150_000 : 3_000;
    this.#later(this.#random.between(10, slow), () => {
      if (this.nodes.get(pod.node)?.ready === false) return; // it goes on when the node is back
      this.#stop(pod);
      this.#delete(pod);
    });
  }

  /** The containers end. */
  #stop(pod: SimPod): void {
    if (!this.containers.delete(pod.uid)) return;
    if (pod.claim !== null) this.#volumes.unmount(pod.claim, pod.uid, pod.ready);
  }

  /** The object goes, and what it owns. */
  #delete(pod: SimPod): void {
    if (this.pods.get(pod.name) !== pod) return;
    this.pods.delete(pod.name);
    for (const [name, owner] of this.access) if (owner === pod.uid) this.access.delete(name);
    this.listener?.pod(this.podView(pod), true);
  }

  /** The pod fails in place: evicted, killed, crashed. */
  die(pod: SimPod, reason: string): void {
    if (pod.death !== null || pod.terminating || this.pods.get(pod.name) !== pod) return;
    pod.death = reason;
    pod.ready = false;
    this.#stop(pod);
    this.#changed(pod);
  }

  /** True if the pod may run, or its machine is there to run it. */
  isThere(pod: SimPod): boolean {
    return pod.bound ? this.nodes.get(pod.node)?.uid === pod.machine : !pod.homeless;
  }

  /** Somebody else deletes the pod. */
  deleteFromOutside(pod: SimPod): void {
    this.remove(pod.name, false);
  }

  outOfMemory(pod: SimPod): void {
    if (!pod.started || pod.death !== null || this.pods.get(pod.name) !== pod) return;
    pod.ooms++;
    this.#changed(pod);
  }

  #changed(pod: SimPod): void {
    pod.version = ++this.#version;
    this.listener?.pod(this.podView(pod), false);
  }

  #later(milliseconds: number, run: () => void): void {
    this.#scheduler.at(this.#scheduler.now + milliseconds, this.#world, run);
  }

  nodeView(node: SimNode): NodeView {
    const resources: Record<string, number> = node.gpuType.startsWith('cpu') ? {} : { 'nvidia.com/gpu': node.gpus };
    return {
      name: node.name,
      uid: node.uid,
      gpuType: node.gpuType,
      ready: node.ready,
      cordoned: node.cordoned,
      foreignTaints: [],
      resources,
      cpuMillis: 192_000,
      memoryBytes: 2_048 * GIB,
      address: '10.0.0.1',
      zone: null,
      labels: {},
    };
  }

  podView(pod: SimPod): PodView {
    return {
      uid: pod.uid,
      name: pod.name,
      namespace: 'gpu-dev',
      resourceVersion: String(pod.version),
      node: pod.bound ? pod.node : null,
      server: { reservationId: pod.reservationId, generation: pod.generation },
      phase: pod.death !== null ? 'Failed' : pod.started ? 'Running' : 'Pending',
      cpuMillis: 0,
      memoryBytes: 0,
      resources: {},
      unschedulable: pod.unschedulable,
      started: pod.started,
      ready: pod.ready,
      unreadyReason: pod.waiting,
      terminating: pod.terminating,
      death: pod.death,
      ooms: pod.ooms === 0 ? [] : [{ container: 'dev', restarts: pod.ooms, at: null }],
    };
  }
}
