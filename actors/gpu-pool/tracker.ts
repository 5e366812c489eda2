/**
 * The tracker: consumes the changes of the cluster, keeps one row a node, and tells pools and reservations. One process at a time tracks,
 * under a lease whose token fences its writes; the others wait to take over.
 *
 * Changes are gathered for a few milliseconds and written in one transaction, so a burst costs one write. Facts have keys, so a new tracker
 * that tells everything again tells nothing new.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import type { Store } from '../../persistence/database.ts';
import type { NodeRow } from '../../persistence/gpu-nodes.ts';
import { dropLease, holdLease, LeaseLostError } from '../../persistence/leases.ts';
import type { Message } from '../../persistence/mailbox.ts';
import type { Kernel } from '../kernel/kernel.ts';
import { Loop } from '../kernel/loop.ts';
import { ClusterState } from './cluster-state.ts';
import { type Facts, isPoison, piecesOf, writeFacts } from './facts.ts';
import { knownServers } from './known-servers.ts';
import { searchMissing } from './missing.ts';
import { type OfferedType, readNodeTypes, readRecordedTypes } from './node-types.ts';
import { podEvents, podGone } from './pod-events.ts';
import type { ClusterEvents, NodeView, PodView } from './ports.ts';

const LEASE = 'tracker';
/** How long changes are gathered, in milliseconds: what a pod goes through in that time costs its reservation one transaction. */
const GATHER = 20;
/** Messages that are taken by their actors in the transaction that tells them; more would hold the tracker's lease for too long. */
const AT_ONCE = 200;
/** How long new dev servers wait until they are looked at: a pod that nobody wants is no emergency. */
const LOOK_AFTER = 200;
/** When questions that found no answer are asked again, in milliseconds. */
const ASK_AGAIN = 2_000;

export interface TrackerSettings {
  db: Store;
  kernel: Kernel;
  /** A fresh feed for each time this process becomes the tracker. */
  connect: () => ClusterEvents;
  /** Called with dev servers that live on, for the sweep of those whose reservation has ended; not again before it is done. */
  onServers: (pods: readonly PodView[]) => Promise<unknown>;
  /** Positive proof that the pod of this life does not exist (the API server answers 404 for it); throws if it cannot tell. */
  confirmGone: (server: { reservationId: string; generation: number }) => Promise<boolean>;
  /** Positive proof that the node does not exist (the API server answers 404 for it); throws if it cannot tell. */
  confirmNodeGone: (node: string) => Promise<boolean>;
  /** Told of dev servers whose reservation the database does not know. What they take counts as taken until it does. */
  onStrangers?: (pods: readonly PodView[]) => void;
  onError: (error: unknown) => void;
  /** Told when most servers vanish at once, so that none is taken for gone before an operator says so, and when that is over (null). */
  onBrake?: (why: string | null) => void;
  leaseSeconds?: number;
  /** How long changes are gathered, in milliseconds. */
  gatherMs?: number;
  /**
   * How often all dev servers are shown to onServers again, the catalogue is read, and pods and nodes are asked for that our rows know and
   * the cluster's lists do not have, in milliseconds.
   */
  sweepMs?: number;
}

export class Tracker {
  readonly #settings: TrackerSettings;
  readonly #holder = randomUUID();
  readonly #lease: Loop;
  readonly #flush: Loop;
  readonly #sweep: Loop;
  readonly #missing: Loop;
  readonly #sweepMs: number;
  #token: number | null = null;
  #feed: ClusterEvents | null = null;
  #state = new ClusterState();
  #catalogue: ReadonlyMap<string, OfferedType> = new Map();
  /** The type of each node on record. */
  #recorded = new Map<string, string>();
  readonly #dirtyNodes = new Set<string>();
  readonly #goneNodes = new Set<string>();
  #messages: Message[] = [];
  /** Dev servers not shown yet, and when all are shown again. */
  #fresh: PodView[] = [];
  #nextSweep = 0;
  #written = new Map<string, string>();
  #lastWrite = 0;
  #leaseAsked = false;
  #caughtUp = false;
  #synced = false;
  /** Whether dev servers that the database does not know were told apart in this view. */
  #toldApart = false;
  #brake: string | null = null;
  #stopping = false;

  constructor(settings: TrackerSettings) {
    this.#settings = settings;
    const seconds = settings.leaseSeconds ?? 3;
    this.#lease = new Loop({ name: 'tracker lease', work: () => this.#keepLease(seconds), onError: settings.onError });
    this.#flush = new Loop({ name: 'tracker', work: () => this.#write(), onError: settings.onError });
    this.#sweepMs = settings.sweepMs ?? 30_000;
    this.#sweep = new Loop({ name: 'tracker sweep', work: () => this.#showServers(), onError: settings.onError });
    this.#missing = new Loop({ name: 'tracker missing', work: () => this.#findMissing(), onError: settings.onError });
  }

  start(): void {
    this.#lease.start();
    this.#flush.start();
    this.#sweep.start();
    this.#missing.start();
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    await Promise.all([this.#lease, this.#flush, this.#sweep, this.#missing].map((loop) => loop.stop()));
    await this.#feed?.stop();
    this.#feed = null;
    if (this.#token !== null) await dropLease(this.#settings.db, LEASE, this.#holder).catch(() => {});
    this.#token = null;
  }

  /** True if this process is the tracker. */
  get active(): boolean {
    return this.#token !== null;
  }

  /** True once what the cluster looks like has been told, or another process is there to tell it. */
  get settled(): boolean {
    return this.#leaseAsked && (this.#token === null || this.#caughtUp);
  }

  /** Why nobody is told of servers that vanished, in words for an operator; null if nothing is held back. */
  get brake(): string | null {
    return this.#token === null ? null : this.#brake;
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
      this.#token = null;
      if (token !== null) await this.#begin(token);
    }
    this.#leaseAsked = true;
    return (seconds * 1000) / 3;
  }

  /** Become the tracker: a fresh view of the cluster, and a comparison with the rows once it is complete. */
  async #begin(token: number): Promise<void> {
    const { db } = this.#settings;
    this.#catalogue = await readNodeTypes(db);
    this.#recorded = await readRecordedTypes(db);
    this.#state = new ClusterState();
    this.#written = new Map();
    this.#dirtyNodes.clear();
    this.#goneNodes.clear();
    this.#messages = [];
    this.#fresh = [];
    this.#synced = false;
    this.#toldApart = false;
    this.#caughtUp = false;
    this.#token = token;
    const feed = this.#settings.connect();
    this.#feed = feed;
    feed
      .start({
        nodeChanged: (node) => this.#nodeChanged(node),
        nodeDeleted: ({ name }, seen) => this.#nodeDeleted(name, seen),
        podChanged: (pod) => this.#podChanged(pod),
        podDeleted: (pod, seen) => this.#podDeleted(pod, seen),
        synced: () => {
          this.#synced = true;
          for (const loop of [this.#flush, this.#sweep, this.#missing]) loop.wake();
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

  /** What a list merely lacks is asked for by name. */
  #nodeDeleted(name: string, seen: boolean): void {
    this.#state.removeNode(name, seen);
    this.#dirtyNodes.delete(name);
    if (seen) this.#goneNodes.add(name);
    else this.#missing.wake();
    this.#flush.wake();
  }

  #podChanged(pod: PodView): void {
    const { before, touched } = this.#state.setPod(pod);
    for (const node of touched) this.#dirtyNodes.add(node);
    const messages = podEvents(before, pod);
    this.#messages.push(...messages);
    if (before === null && pod.server !== null) {
      this.#fresh.push(pod);
      if (this.#synced) this.#sweep.wake();
    }
    if (messages.length > 0 || touched.length > 0) this.#flush.wake();
  }

  #podDeleted(pod: PodView, seen: boolean): void {
    const { touched } = this.#state.removePod(pod, seen);
    for (const node of touched) this.#dirtyNodes.add(node);
    if (seen) this.#messages.push(...podGone(pod, 'the cluster reported its deletion'));
    else if (pod.server !== null) this.#missing.wake();
    this.#flush.wake();
  }

  /** Show dev servers that are new, and from time to time all: the first try may have failed, or come too early. */
  async #showServers(): Promise<number> {
    if (this.#token === null || !this.#synced) return 1_000;
    await pause(this.#settings.gatherMs ?? LOOK_AFTER);
    await this.#tellApart();
    const all = Date.now() >= this.#nextSweep;
    const pods = all ? [...this.#state.pods.values()].filter((pod) => pod.server !== null) : this.#fresh;
    const servers = pods.filter((pod) => !pod.terminating);
    this.#fresh = [];
    if (servers.length > 0) {
      try {
        await this.#settings.onServers(servers);
      } catch (error) {
        this.#fresh = [...servers, ...this.#fresh];
        throw error;
      }
    }
    if (all) {
      await this.#readCatalogue();
      this.#nextSweep = Date.now() + this.#sweepMs;
    }
    const next = Math.max(1, this.#nextSweep - Date.now());
    // A rebuild may make them known at any time, and frees what counts twice until then.
    return this.#state.unproven().length === 0 ? next : Math.min(next, ASK_AGAIN);
  }

  /**
   * Which dev servers does the database know? One that is known once stays known. What was made after the first view is asked for with the
   * sweep: a pod of ours is made when its reservation stands.
   */
  async #tellApart(): Promise<void> {
    const state = this.#state;
    const asked = state.unproven();
    if (asked.length === 0) return;
    const { strangers, touched } = state.tellApart(asked, await knownServers(this.#settings.db, asked));
    if (state !== this.#state) return;
    for (const node of touched) this.#dirtyNodes.add(node);
    if (touched.length > 0) this.#flush.wake();
    if (strangers.length > 0) this.#settings.onStrangers?.(strangers);
  }

  /** A type that is no longer offered, or is again, changes what its nodes may take. */
  async #readCatalogue(): Promise<void> {
    const catalogue = await readNodeTypes(this.#settings.db);
    if (JSON.stringify([...catalogue]) === JSON.stringify([...this.#catalogue])) return;
    this.#catalogue = catalogue;
    for (const name of this.#state.nodes.keys()) this.#dirtyNodes.add(name);
    this.#flush.wake();
  }

  async #write(): Promise<number> {
    const token = this.#token;
    // Nothing is said of nodes before the first complete list: half a list would look like a shrunken fleet.
    if (token === null || !this.#synced) return 1_000;
    if (!this.#toldApart) {
      await this.#tellApart();
      if (this.#token !== token) return 0;
      this.#toldApart = true;
    }
    if (this.#dirtyNodes.size === 0 && this.#goneNodes.size === 0 && this.#messages.length === 0) {
      this.#caughtUp = true;
      return 1_000;
    }
    // The first change after a quiet time goes out at once; those of a busy time go together.
    await pause(Math.max(0, this.#lastWrite + (this.#settings.gatherMs ?? GATHER) - performance.now()));
    this.#lastWrite = performance.now();
    const facts: Facts = {
      rows: this.#changedRows([...this.#dirtyNodes]),
      gone: [...this.#goneNodes],
      messages: this.#messages,
    };
    this.#messages = [];
    this.#dirtyNodes.clear();
    this.#goneNodes.clear();
    // A node's heartbeat changes nothing that anybody wants to know.
    if (facts.rows.length === 0 && facts.gone.length === 0 && facts.messages.length === 0) return 0;
    try {
      await this.#tell(facts, token);
    } catch (error) {
      if (error instanceof LeaseLostError) return 100;
      throw error;
    }
    return 0;
  }

  /** Write all at once. If something in it can never be written, write piece by piece, and drop what it is. */
  async #tell(facts: Facts, token: number): Promise<void> {
    try {
      await this.#commit(facts, token);
    } catch (error) {
      if (!isPoison(error)) return this.#again([facts], error);
      const pieces = piecesOf(facts);
      for (const [index, piece] of pieces.entries()) {
        try {
          await this.#commit(piece, token);
        } catch (cause) {
          if (!isPoison(cause)) return this.#again(pieces.slice(index), cause);
          this.#settings.onError(new Error(`The tracker drops what cannot be written: ${nameOf(piece)}`, { cause }));
        }
      }
    }
  }

  async #commit(facts: Facts, token: number): Promise<void> {
    const { db, kernel } = this.#settings;
    const around = { lease: { name: LEASE, token }, pods: this.#state.pods, recorded: this.#recorded };
    // Turns under the lock of all slots would hold up every pool: with nodes, the messages go by mailbox.
    const isBrief = facts.rows.length + facts.gone.length === 0 && facts.messages.length <= AT_ONCE;
    if (isBrief) await kernel.deliver((tx, post) => writeFacts(tx, { ...around, post }, facts));
    else {
      await db.withTransaction((tx) => writeFacts(tx, { ...around, post: (messages) => kernel.post(messages, tx) }, facts));
      kernel.wake();
    }
    if (this.#token !== token) return;
    for (const row of facts.rows) {
      this.#written.set(row.node, JSON.stringify(row));
      this.#recorded.set(row.node, row.gpuType);
    }
    for (const node of facts.gone) {
      this.#written.delete(node);
      this.#recorded.delete(node);
    }
  }

  /** This was not written: it all comes again with the next try, in the old order. */
  #again(left: readonly Facts[], error: unknown): never {
    this.#messages = [...left.flatMap(({ messages }) => messages), ...this.#messages];
    for (const { rows, gone } of left) {
      for (const row of rows) this.#dirtyNodes.add(row.node);
      for (const node of gone) if (!this.#state.nodes.has(node)) this.#goneNodes.add(node);
    }
    throw error;
  }

  /**
   * Ask for pods and nodes that vanished while nobody watched, or whose end could not be told. Beside the flow of changes: a slow answer
   * holds up nothing.
   */
  async #findMissing(): Promise<number> {
    const { db, kernel, confirmGone, confirmNodeGone, onError } = this.#settings;
    const token = this.#token;
    if (token === null || !this.#synced) return 1_000;
    const state = this.#state;
    const isOver = () => this.#stopping || this.#token !== token;
    const questions = { confirmGone, confirmNodeGone, isOver, onError };
    const failed = await searchMissing(
      { db, kernel, state, questions },
      (why) => this.#braked(why),
      (node) => {
        this.#goneNodes.add(node);
        this.#flush.wake();
      },
    );
    return failed === 0 ? this.#sweepMs : Math.min(this.#sweepMs, ASK_AGAIN);
  }

  #braked(why: string | null): void {
    if ((why === null) !== (this.#brake === null)) this.#settings.onBrake?.(why);
    this.#brake = why;
  }

  /** Rows that differ from what was written last: a heartbeat of a node changes nothing. */
  #changedRows(names: readonly string[]): NodeRow[] {
    return names.flatMap((name) => {
      const row = this.#state.rowOf(name, this.#catalogue, this.#recorded.get(name));
      return row === null || this.#written.get(name) === JSON.stringify(row) ? [] : [row];
    });
  }
}

function nameOf({ rows, gone, messages }: Facts): string {
  return [
    ...rows.map((row) => `node ${row.node}`),
    ...gone.map((node) => `the end of node ${node}`),
    ...messages.map(({ actor, key }) => `${key} for ${actor}`),
  ].join(', ');
}
