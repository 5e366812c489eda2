/**
 * The tracker: consumes the changes of the cluster, keeps one row a node, and tells pools and reservations. One process at a time tracks,
 * under a lease whose token fences its writes; the others wait to take over.
 *
 * Changes are gathered for a few milliseconds and written in one transaction, so a burst costs one write. Facts have keys, so a new tracker
 * that tells everything again tells nothing new.
 */
import { randomUUID } from 'node:crypto';
import type { Database, Transaction } from '../../persistence/database.ts';
import { holdersOn, knownNodes, type NodeRow, removeNodes, writeNodes } from '../../persistence/gpu-nodes.ts';
import { assertLease, dropLease, holdLease, LeaseLostError } from '../../persistence/leases.ts';
import type { Message } from '../../persistence/mailbox.ts';
import { type GpuType, readCatalogue } from '../intake/catalogue.ts';
import type { Kernel } from '../kernel/kernel.ts';
import { Loop } from '../kernel/loop.ts';
import { ClusterState } from './cluster-state.ts';
import { podEvents, podGone } from './pod-events.ts';
import type { ClusterEvents, NodeView, PodView } from './ports.ts';

const LEASE = 'tracker';

export interface TrackerSettings {
  db: Database;
  kernel: Kernel;
  /** A fresh feed for each time this process becomes the tracker. */
  connect: () => ClusterEvents;
  /** Called with dev servers that live on, for the sweep of those whose reservation has ended. */
  onServers: (pods: readonly PodView[]) => void;
  /** Positive proof that the pod of this life does not exist (the API server answers 404 for it); throws if it cannot tell. */
  confirmGone: (server: { reservationId: string; generation: number }) => Promise<boolean>;
  onError: (error: unknown) => void;
  leaseSeconds?: number;
  /** How long changes are gathered, in milliseconds. */
  gatherMs?: number;
  /** How often all dev servers are shown to onServers again, in milliseconds: its first try may have failed, or come too early. */
  sweepMs?: number;
}

export class Tracker {
  readonly #settings: TrackerSettings;
  readonly #holder = randomUUID();
  readonly #lease: Loop;
  readonly #flush: Loop;
  readonly #sweep: Loop;
  #token: number | null = null;
  #feed: ClusterEvents | null = null;
  #state = new ClusterState();
  #catalogue = new Map<string, GpuType>();
  readonly #dirtyNodes = new Set<string>();
  readonly #goneNodes = new Set<string>();
  #messages: Message[] = [];
  #written = new Map<string, string>();
  #synced = false;
  #resync = false;

  constructor(settings: TrackerSettings) {
    this.#settings = settings;
    const seconds = settings.leaseSeconds ?? 3;
    this.#lease = new Loop({ name: 'tracker lease', work: () => this.#keepLease(seconds), onError: settings.onError });
    this.#flush = new Loop({ name: 'tracker', work: () => this.#write(), onError: settings.onError });
    this.#sweep = new Loop({ name: 'tracker sweep', work: () => this.#showServers(), onError: settings.onError });
  }

  start(): void {
    this.#lease.start();
    this.#flush.start();
    this.#sweep.start();
  }

  async stop(): Promise<void> {
    await this.#lease.stop();
    await this.#flush.stop();
    await this.#sweep.stop();
    await this.#feed?.stop();
    this.#feed = null;
    if (this.#token !== null) await dropLease(this.#settings.db, LEASE, this.#holder).catch(() => {});
    this.#token = null;
  }

  /** True if this process is the tracker. */
  get active(): boolean {
    return this.#token !== null;
  }

  /** Milliseconds since the API server last answered; null if this process does not track, or has not reached it yet. */
  ageMs(): number | null {
    const contact = this.#feed?.lastContact() ?? null;
    return contact === null ? null : Date.now() - contact;
  }

  async #keepLease(seconds: number): Promise<number> {
    const token = await holdLease(this.#settings.db, LEASE, this.#holder, seconds);
    if (token !== this.#token) {
      await this.#feed?.stop();
      this.#feed = null;
      this.#token = token;
      if (token !== null) await this.#begin();
    }
    return (seconds * 1000) / 3;
  }

  /** Become the tracker: a fresh view of the cluster, and a comparison with the rows once it is complete. */
  async #begin(): Promise<void> {
    this.#catalogue = await readCatalogue(this.#settings.db);
    this.#state = new ClusterState();
    this.#written = new Map();
    this.#dirtyNodes.clear();
    this.#goneNodes.clear();
    this.#messages = [];
    this.#synced = false;
    const feed = this.#settings.connect();
    this.#feed = feed;
    feed
      .start({
        nodeChanged: (node) => this.#nodeChanged(node),
        nodeDeleted: ({ name }) => this.#nodeDeleted(name),
        podChanged: (pod) => this.#podChanged(pod),
        podDeleted: (pod) => this.#podDeleted(pod),
        synced: () => {
          this.#synced = true;
          this.#resync = true;
          this.#flush.wake();
        },
      })
      .catch(this.#settings.onError);
  }

  #nodeChanged(node: NodeView): void {
    this.#state.setNode(node);
    this.#goneNodes.delete(node.name);
    this.#dirtyNodes.add(node.name);
    this.#flush.wake();
  }

  #nodeDeleted(name: string): void {
    this.#state.removeNode(name);
    this.#dirtyNodes.delete(name);
    this.#goneNodes.add(name);
    this.#flush.wake();
  }

  #podChanged(pod: PodView): void {
    const { before, touched } = this.#state.setPod(pod);
    for (const node of touched) this.#dirtyNodes.add(node);
    const messages = podEvents(before, pod);
    this.#messages.push(...messages);
    if (before === null && pod.server !== null) this.#settings.onServers([pod]);
    if (messages.length > 0 || touched.length > 0) this.#flush.wake();
  }

  #podDeleted(pod: PodView): void {
    const { touched } = this.#state.removePod(pod);
    for (const node of touched) this.#dirtyNodes.add(node);
    this.#messages.push(...podGone(pod, 'the cluster reported its deletion'));
    this.#flush.wake();
  }

  #showServers(): Promise<number> {
    const servers = [...this.#state.pods.values()].filter((pod) => pod.server !== null && !pod.terminating);
    if (this.#token !== null && this.#synced && servers.length > 0) this.#settings.onServers(servers);
    return Promise.resolve(this.#settings.sweepMs ?? 30_000);
  }

  async #write(): Promise<number> {
    const { db, kernel } = this.#settings;
    const token = this.#token;
    // Nothing is said of nodes before the first complete list: half a list would look like a shrunken fleet.
    if (token === null || !this.#synced) return 1_000;
    if (this.#dirtyNodes.size === 0 && this.#goneNodes.size === 0 && this.#messages.length === 0 && !this.#resync) return 1_000;
    await new Promise((resolve) => setTimeout(resolve, this.#settings.gatherMs ?? 2));
    const messages = this.#messages;
    const dirty = [...this.#dirtyNodes];
    const gone = [...this.#goneNodes];
    const resync = this.#resync;
    this.#messages = [];
    this.#dirtyNodes.clear();
    this.#goneNodes.clear();
    this.#resync = false;
    try {
      const rows = this.#changedRows(dirty);
      // A node's heartbeat changes nothing that anybody wants to know.
      if (rows.length === 0 && gone.length === 0 && messages.length === 0 && !resync) return 0;
      await db.withTransaction(async (tx) => {
        await assertLease(tx, LEASE, token);
        const vanished = resync
          ? (await knownNodes(tx)).map((row) => row.node).filter((node) => this.#state.rowOf(node, this.#catalogue) === null)
          : [];
        const lost = [...new Set([...gone, ...vanished])];
        const types = new Set(rows.map((row) => row.gpuType));
        if (lost.length > 0) for (const known of await knownNodes(tx)) if (lost.includes(known.node)) types.add(known.gpuType);
        await writeNodes(tx, rows);
        const losses = (await Promise.all(lost.map(async (node) => this.#lossOf(node, await holdersOn(tx, node))))).flat();
        if (lost.length > 0) await removeNodes(tx, lost);
        const changed = [...types].map((type): Message => {
          const nodes = rows.filter((row) => row.gpuType === type).map((row) => row.node);
          return {
            actor: `gpu-pool/${type}`,
            key: `nodes:${token}:${randomUUID()}`,
            event: { type: 'nodes.changed', nodes } as { type: string },
            sender: 'tracker',
          };
        });
        await kernel.post([...(await ofKnownActors(tx, messages)), ...losses, ...changed], tx);
      });
      for (const row of rows) this.#written.set(row.node, JSON.stringify(row));
      for (const node of gone) this.#written.delete(node);
    } catch (error) {
      // Nothing was written: it all comes again with the next try, in the old order.
      this.#messages = [...messages, ...this.#messages];
      for (const node of dirty) this.#dirtyNodes.add(node);
      for (const node of gone) if (!this.#state.nodes.has(node)) this.#goneNodes.add(node);
      this.#resync ||= resync;
      if (error instanceof LeaseLostError) return 100;
      throw error;
    }
    kernel.wake();
    if (resync) await this.#findMissing();
    return 0;
  }

  /**
   * Pods that vanished while nobody watched: a reservation believes in one that the complete list does not have. Each is asked for by name,
   * so that a stale list is no proof.
   */
  async #findMissing(): Promise<void> {
    const { db, kernel, confirmGone, onError } = this.#settings;
    const seen = new Set([...this.#state.pods.values()].map((pod) => pod.uid));
    const { rows } = await db.query<{ id: string; generation: number; uid: string }>(
      `select substr(actor, 13) as id, (snapshot #>> '{context,generation}')::int as generation, snapshot #>> '{context,pod,uid}' as uid
         from actors where kind = 'reservation' and state in ('provisioning', 'running', 'extending') and snapshot #>> '{context,pod,uid}' is not null`,
    );
    for (const { id, generation, uid } of rows) {
      if (seen.has(uid)) continue;
      try {
        if (!(await confirmGone({ reservationId: id, generation }))) continue;
      } catch (error) {
        onError(error);
        continue;
      }
      const event = { type: 'pod.gone', generation, proof: 'the API server no longer has it' } as { type: string };
      await kernel.post([{ actor: `reservation/${id}`, key: `pod:${uid}:gone`, event, sender: 'tracker' }]);
      kernel.wake();
    }
  }

  /** Rows that differ from what was written last: a heartbeat of a node changes nothing. */
  #changedRows(names: readonly string[]): NodeRow[] {
    return names.flatMap((name) => {
      const row = this.#state.rowOf(name, this.#catalogue);
      return row === null || this.#written.get(name) === JSON.stringify(row) ? [] : [row];
    });
  }

  /** The node object is deleted: its pods are dead, and that is proof enough that nobody computes on its GPUs. */
  #lossOf(node: string, holders: readonly { reservationId: string; generation: number }[]): Message[] {
    return holders.flatMap(({ reservationId, generation }) => {
      const actor = `reservation/${reservationId}`;
      const uid =
        [...this.#state.pods.values()].find(
          (pod) => pod.server?.reservationId === reservationId && pod.server.generation === generation,
        )?.uid ?? '';
      const died = { type: 'pod.died', generation, uid, reason: `Node ${node} was lost` } as { type: string };
      const gone = { type: 'pod.gone', generation, proof: `node ${node} was deleted` } as { type: string };
      return [
        { actor, key: `node:${node}:${generation}:died`, event: died, sender: 'tracker' },
        { actor, key: `node:${node}:${generation}:gone`, event: gone, sender: 'tracker' },
      ];
    });
  }
}

/** Facts of pods whose reservation this database does not know are nobody's news: the pod belongs to another installation, or is left over. */
async function ofKnownActors(tx: Transaction, messages: readonly Message[]): Promise<Message[]> {
  if (messages.length === 0) return [];
  const { rows } = await tx.query<{ actor: string }>('select actor from actors where actor = any($1::text[])', [
    [...new Set(messages.map((message) => message.actor))],
  ]);
  const known = new Set(rows.map((row) => row.actor));
  return messages.filter((message) => known.has(message.actor));
}
