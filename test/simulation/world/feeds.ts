/** What the watches of the trackers tell: in order for nodes and for pods, late, twice, and from the start again when a watch breaks. */
import type { NodeView, PodView } from '../../../actors/gpu-pool/ports.ts';
import type { ClusterListener } from './pods.ts';
import type { Process } from './process.ts';
import type { Change } from './sim-tracker.ts';
import type { Simulation } from './simulation.ts';

interface Feed {
  process: Process;
  /** When the last change of each watch arrives: none overtakes another. */
  nodesAt: number;
  podsAt: number;
  /** What the other end knows of, to tell what vanished while the watch was broken. */
  pods: Map<string, PodView>;
  nodes: Set<string>;
  broken: boolean;
  number: number;
}

export class Feeds implements ClusterListener {
  readonly #simulation: Simulation;
  readonly #feeds = new Map<Process, Feed>();
  #number = 0;

  constructor(simulation: Simulation) {
    this.#simulation = simulation;
  }

  connect(process: Process): void {
    const { scheduler } = this.#simulation;
    const number = ++this.#number;
    const feed: Feed = {
      process,
      nodesAt: scheduler.now,
      podsAt: scheduler.now,
      pods: new Map(),
      nodes: new Set(),
      broken: false,
      number,
    };
    this.#feeds.set(process, feed);
    this.#list(feed);
  }

  disconnect(process: Process): void {
    this.#feeds.delete(process);
  }

  #list(feed: Feed): void {
    const { pods } = this.#simulation;
    for (const name of feed.nodes) if (!pods.nodes.has(name)) this.#tellNode(feed, { nodeGone: name });
    for (const view of feed.pods.values()) if (pods.pods.get(view.name)?.uid !== view.uid) this.#tellPod(feed, { podGone: view });
    for (const node of pods.nodes.values()) this.#tellNode(feed, { node: pods.nodeView(node) });
    for (const pod of pods.pods.values()) this.#tellPod(feed, { pod: pods.podView(pod) });
    this.#deliver(feed, { synced: true }, Math.max(feed.nodesAt, feed.podsAt));
  }

  /** All watches break for a while; then everything is listed again. */
  breakFor(milliseconds: number): void {
    const { scheduler, world } = this.#simulation;
    for (const feed of this.#feeds.values()) {
      if (feed.broken) continue;
      feed.broken = true;
      scheduler.at(scheduler.now + milliseconds, world, () => {
        feed.broken = false;
        if (this.#feeds.get(feed.process) === feed) this.#list(feed);
      });
    }
  }

  pod(view: PodView, deleted: boolean): void {
    for (const feed of this.#live()) this.#tellPod(feed, deleted ? { podGone: view } : { pod: view });
  }

  node(view: NodeView | { name: string }, deleted: boolean): void {
    for (const feed of this.#live()) this.#tellNode(feed, deleted ? { nodeGone: view.name } : { node: view as NodeView });
  }

  *#live(): Generator<Feed> {
    for (const [process, feed] of this.#feeds) {
      if (!process.session.alive) this.#feeds.delete(process);
      else if (!feed.broken) yield feed;
    }
  }

  #tellPod(feed: Feed, change: { pod: PodView } | { podGone: PodView }): void {
    if ('pod' in change) feed.pods.set(change.pod.uid, change.pod);
    else feed.pods.delete(change.podGone.uid);
    feed.podsAt = Math.max(feed.podsAt, this.#simulation.scheduler.now + this.#lag());
    this.#deliver(feed, change, feed.podsAt);
    if ('pod' in change && this.#simulation.random.chance(this.#simulation.rates.watchRepeats))
      this.#deliver(feed, change, feed.podsAt);
  }

  #tellNode(feed: Feed, change: { node: NodeView } | { nodeGone: string }): void {
    if ('node' in change) feed.nodes.add(change.node.name);
    else feed.nodes.delete(change.nodeGone);
    feed.nodesAt = Math.max(feed.nodesAt, this.#simulation.scheduler.now + this.#lag());
    this.#deliver(feed, change, feed.nodesAt);
  }

  #lag(): number {
    const { random, rates } = this.#simulation;
    return random.int(rates.watchLag + 1);
  }

  #deliver(feed: Feed, change: Change, at: number): void {
    this.#simulation.scheduler.at(at, feed.process.session, () => {
      // A watch that was begun anew has taken this one's place.
      if (this.#feeds.get(feed.process)?.number === feed.number) feed.process.tracker.inbox.push(change);
    });
  }
}
