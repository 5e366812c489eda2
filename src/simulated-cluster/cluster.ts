import { answer } from './api/verbs.ts';
import { openWatch, type Watch } from './api/watches.ts';
import { Collector, EventExpiry, Namespaces } from './controllers/collector.ts';
import { Jobs } from './controllers/jobs.ts';
import { Graves, Kubelet } from './controllers/kubelet.ts';
import { Nodes } from './controllers/nodes.ts';
import { Scheduler } from './controllers/scheduler.ts';
import { Snapshots } from './controllers/snapshots.ts';
import { Volumes } from './controllers/volumes.ts';
import { seedCustomKinds, seedObjects } from './first-objects.ts';
import { seedState } from './random.ts';
import type { Target } from './resources.ts';
import { parseSettings, type SettingsInput } from './settings.ts';
import { Store } from './store.ts';
import type { ApiRequest, ApiResponse, Commit, Query } from './types.ts';
import { type Controller, World } from './world.ts';

export interface ClusterOptions {
  /** Milliseconds since 1970: where the virtual clock starts. */
  now: number;
  seed?: number;
  settings?: SettingsInput;
  /** Puts back what an earlier cluster had; without it (or when it returns false) the first objects are made. */
  restore?: (store: Store) => boolean;
  /** Names of the only controllers to run, on a store that starts empty: for parts that stand in beside a real API server. */
  only?: readonly string[];
}

/** How many timers one tick runs before it gives up: more means two controllers answer each other for ever. */
const RUNAWAY = 5_000_000;

/**
 * A whole cluster as a pure machine: no I/O, no clock, no timers, no randomness of its own. The same options and the same calls at the
 * same times give the same commits. Its clock is what callers pass in, and never goes back.
 */
export class Cluster {
  readonly world: World;
  readonly kubelet: Kubelet;
  readonly nodes: Nodes;
  private readonly controllers = new Map<string, Controller>();
  private readonly listeners = new Set<(commit: Commit) => void>();

  constructor(options: ClusterOptions) {
    const settings = parseSettings({ ...options.settings, ...(options.seed === undefined ? {} : { seed: options.seed }) });
    const store = new Store({ now: options.now, random: seedState(settings.seed), eventLogLimit: settings.eventLogLimit });
    this.world = new World(store, settings);
    this.kubelet = new Kubelet(this.world);
    this.nodes = new Nodes(this.world);
    const scheduler = new Scheduler(this.world);
    const all = [scheduler, this.kubelet, new Graves(this.world), this.nodes, new Jobs(this.world), new Volumes(this.world)];
    const rest = [new Snapshots(this.world), new Collector(this.world), new Namespaces(this.world), new EventExpiry(this.world)];
    for (const controller of [...all, ...rest]) {
      if (options.only?.includes(controller.name) !== false) this.controllers.set(controller.name, controller);
    }
    const restored = options.restore?.(store) ?? false;
    store.onChange = (event) => {
      for (const controller of this.controllers.values()) controller.onChange(event);
    };
    if (restored) {
      store.timers.rebuild();
      scheduler.rebuild();
      seedCustomKinds(this.world);
    } else if (options.only === undefined) seedObjects(this.world);
  }

  /** Answers one API request at `now` (milliseconds), then lets everything happen that is due. Watch, log and exec have their own calls. */
  handle(request: ApiRequest, now: number): ApiResponse {
    return this.at(now, () => answer(this.world, request));
  }

  /** Opens a watch; feed it the events of later commits by its `view`. */
  watch(target: Target, query: Query | undefined, now: number): Watch {
    return this.at(now, () => openWatch(this.world, target, query));
  }

  /** Does `work` at `now` as one commit together with all that falls due by then. */
  at<T>(now: number, work: () => T): T {
    this.runDue(now);
    this.world.store.now = Math.max(this.world.store.now, now);
    const result = work();
    this.runDue(now);
    this.publish();
    return result;
  }

  /** Lets time pass up to `now`: every timer fires at its own time, in order. */
  tick(now: number): void {
    this.at(now, () => undefined);
  }

  /** When the next thing happens by itself, in milliseconds; undefined when nothing is under way. */
  nextWakeup(): number | undefined {
    return this.world.store.timers.next();
  }

  /** Told of every commit, in order, before the call that made it returns. The result ends the subscription. */
  subscribe(listener: (commit: Commit) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  private runDue(now: number): void {
    const { store } = this.world;
    for (let count = 0; ; count++) {
      const timer = store.timers.take(now);
      if (timer === undefined) return;
      if (count > RUNAWAY) throw new Error(`the simulated cluster does not come to rest: ${timer.key}`);
      store.now = Math.max(store.now, timer.due);
      const bar = timer.key.indexOf('|');
      this.controllers.get(timer.key.slice(0, bar))?.onTimer(timer.key.slice(bar + 1));
    }
  }

  private publish(): void {
    const commit = this.world.store.takeCommit();
    if (commit === undefined) return;
    for (const listener of this.listeners) listener(commit);
  }
}

export function createCluster(options: ClusterOptions): Cluster {
  return new Cluster(options);
}
