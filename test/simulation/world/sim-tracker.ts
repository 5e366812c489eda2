/** The tracker's part of a process: the same facts, lease and writes as the service's, stepped by the scheduler instead of its own loops. */
import { ClusterState } from '../../../actors/gpu-pool/cluster-state.ts';
import { type Facts, writeFacts } from '../../../actors/gpu-pool/facts.ts';
import { askForMissing, missingNodes, missingPods } from '../../../actors/gpu-pool/missing.ts';
import { readNodeTypes, readRecordedTypes, type OfferedType } from '../../../actors/gpu-pool/node-types.ts';
import { removeOrphans } from '../../../actors/gpu-pool/orphans.ts';
import { podEvents, podGone } from '../../../actors/gpu-pool/pod-events.ts';
import type { NodeView, PodView } from '../../../actors/gpu-pool/ports.ts';
import type { Kernel } from '../../../actors/kernel/kernel.ts';
import type { DevServers } from '../../../actors/reservation/ports.ts';
import type { Store } from '../../../persistence/database.ts';
import { holdLease, LeaseLostError } from '../../../persistence/leases.ts';
import type { Message } from '../../../persistence/mailbox.ts';

export const LEASE = 'tracker';
export const LEASE_SECONDS = 3;

/** A change as the watch tells it. */
export type Change = { node: NodeView } | { nodeGone: string } | { pod: PodView } | { podGone: PodView } | { synced: true };

export interface TrackerParts {
  name: string;
  db: Store;
  kernel: Kernel;
  servers: DevServers;
  confirmNodeGone: (node: string) => Promise<boolean>;
  /** Begin a fresh watch: everything that is there, then what changes. */
  connect: () => void;
  disconnect: () => void;
}

export class SimTracker {
  token: number | null = null;
  /** Changes that have arrived and are not looked at. */
  readonly inbox: Change[] = [];
  readonly #parts: TrackerParts;
  #state = new ClusterState();
  #catalogue: ReadonlyMap<string, OfferedType> = new Map();
  #recorded = new Map<string, string>();
  #written = new Map<string, string>();
  #dirty = new Set<string>();
  #gone = new Set<string>();
  #messages: Message[] = [];
  synced = false;

  constructor(parts: TrackerParts) {
    this.#parts = parts;
  }

  get hasWork(): boolean {
    return this.inbox.length > 0 || this.#dirty.size > 0 || this.#gone.size > 0 || this.#messages.length > 0;
  }

  /** Take the lease or keep it; begin anew if it was lost in between. @returns false if another process tracks. */
  async hold(): Promise<boolean> {
    const { db, name, disconnect } = this.#parts;
    const token = await holdLease(db, LEASE, name, LEASE_SECONDS);
    if (token === this.token) return token !== null;
    this.token = null;
    disconnect();
    this.inbox.length = 0;
    if (token === null) return false;
    this.#catalogue = await readNodeTypes(db);
    this.#recorded = await readRecordedTypes(db);
    this.#state = new ClusterState();
    this.#written = new Map();
    this.#dirty = new Set();
    this.#gone = new Set();
    this.#messages = [];
    this.synced = false;
    this.token = token;
    this.#parts.connect();
    return true;
  }

  /** Look at what arrived, and write it. */
  async flush(): Promise<void> {
    for (const change of this.inbox.splice(0)) this.#see(change);
    const { token } = this;
    if (token === null || !this.synced) return;
    const facts: Facts = { rows: this.#changedRows(), gone: [...this.#gone], messages: this.#messages };
    this.#messages = [];
    this.#dirty.clear();
    this.#gone.clear();
    if (facts.rows.length + facts.gone.length + facts.messages.length === 0) return;
    const { db, kernel } = this.#parts;
    const isBrief = facts.rows.length + facts.gone.length === 0;
    const around = { lease: { name: LEASE, token }, pods: this.#state.pods, recorded: this.#recorded };
    try {
      if (isBrief) await kernel.deliver((tx, post) => writeFacts(tx, { ...around, post }, facts));
      else await db.withTransaction((tx) => writeFacts(tx, { ...around, post: (messages) => kernel.post(messages, tx) }, facts));
    } catch (error) {
      if (this.token === token && !(error instanceof LeaseLostError)) this.#again(facts);
      throw error;
    }
    if (this.token !== token) return;
    for (const row of facts.rows) {
      this.#written.set(row.node, JSON.stringify(row));
      this.#recorded.set(row.node, row.gpuType);
    }
    for (const node of facts.gone) {
      this.#written.delete(node);
      this.#recorded.delete(node);
    }
  }

  /** Ask for what our rows know and the cluster does not have, and remove pods of what has ended. */
  async sweep(): Promise<void> {
    const { db, kernel, servers, confirmNodeGone } = this.#parts;
    const { token } = this;
    if (token === null || !this.synced) return;
    const state = this.#state;
    const isOver = () => this.token !== token;
    const onError = () => {};
    const nodes = await missingNodes(db, state);
    const pods = await missingPods(db, state);
    const confirmGone = async (server: { reservationId: string; generation: number }) => !(await servers.exists(server));
    await askForMissing({ nodes, pods }, { confirmGone, confirmNodeGone, isOver, onError }, async (found) => {
      if ('message' in found) await kernel.post([found.message]);
      else if (!isOver() && !state.nodes.has(found.node)) this.#gone.add(found.node);
    });
    await removeOrphans(db, servers, [...state.pods.values()], onError);
  }

  #see(change: Change): void {
    if ('node' in change) {
      this.#state.setNode(change.node);
      this.#gone.delete(change.node.name);
      this.#dirty.add(change.node.name);
    } else if ('nodeGone' in change) {
      this.#state.removeNode(change.nodeGone);
      this.#dirty.delete(change.nodeGone);
      this.#gone.add(change.nodeGone);
    } else if ('pod' in change) {
      const { before, touched } = this.#state.setPod(change.pod);
      for (const node of touched) this.#dirty.add(node);
      this.#messages.push(...podEvents(before, change.pod));
    } else if ('podGone' in change) {
      const { touched } = this.#state.removePod(change.podGone);
      for (const node of touched) this.#dirty.add(node);
      this.#messages.push(...podGone(change.podGone, 'the cluster reported its deletion'));
    } else this.synced = true;
  }

  #again({ rows, gone, messages }: Facts): void {
    this.#messages = [...messages, ...this.#messages];
    for (const row of rows) this.#dirty.add(row.node);
    for (const node of gone) if (!this.#state.nodes.has(node)) this.#gone.add(node);
  }

  #changedRows() {
    return [...this.#dirty].flatMap((name) => {
      const row = this.#state.rowOf(name, this.#catalogue, this.#recorded.get(name));
      return row === null || this.#written.get(name) === JSON.stringify(row) ? [] : [row];
    });
  }
}
