import { Indexes } from './indexes.ts';
import { createRandom, type Random } from './random.ts';
import { SideTables } from './side-tables.ts';
import { Timers } from './timers.ts';
import type { Commit, KubeObject, RecordedEvent, SideOperation, StoreEvent } from './types.ts';

/** The key of an object inside its resource: namespace/name, or the name alone when it has no namespace. */
export function keyOf(object: { metadata: { name: string; namespace?: string } }): string {
  return keyFor(object.metadata.namespace, object.metadata.name);
}

export function keyFor(namespace: string | undefined, name: string): string {
  return namespace === undefined ? name : `${namespace}/${name}`;
}

/**
 * All objects, one rising version over all of them, and a bounded log of what changed. Pure: time is what `now` was last set to, and
 * randomness comes from the generator given. Objects are replaced, never changed, so what is read may be kept.
 */
export class Store {
  now: number;
  random: Random;
  readonly indexes = new Indexes();
  readonly side: SideTables;
  readonly timers: Timers;
  private current = 1;
  private readonly resources = new Map<string, Map<string, KubeObject>>();
  private readonly sortedKeys = new Map<string, string[]>();
  private readonly log: StoreEvent[] = [];
  private compacted = 1;
  private readonly logLimit: number;
  private pendingEvents: StoreEvent[] = [];
  private pendingSide: SideOperation[] = [];
  /** Told of every change as it is made. It may set timers, but must not write objects. */
  onChange: (event: StoreEvent) => void = () => {};

  constructor(options: { now: number; random: number[]; eventLogLimit: number }) {
    this.now = options.now;
    this.random = createRandom(options.random, true);
    this.logLimit = options.eventLogLimit;
    this.side = new SideTables((operation) => {
      this.pendingSide.push(operation);
    });
    this.timers = new Timers(this.side);
  }

  /** The version of the latest change. It only ever rises. */
  get version(): number {
    return this.current;
  }

  /** Versions before this one can no longer be watched from. */
  get compactedVersion(): number {
    return this.compacted;
  }

  get(resource: string, key: string): KubeObject | undefined {
    return this.resources.get(resource)?.get(key);
  }

  count(resource: string): number {
    return this.resources.get(resource)?.size ?? 0;
  }

  values(resource: string): IterableIterator<KubeObject> {
    return (this.resources.get(resource) ?? new Map<string, KubeObject>()).values();
  }

  /** Keys of a resource in order; cached until one is added or removed. */
  keys(resource: string): readonly string[] {
    let keys = this.sortedKeys.get(resource);
    if (keys === undefined) {
      keys = [...(this.resources.get(resource)?.keys() ?? [])].sort();
      this.sortedKeys.set(resource, keys);
    }
    return keys;
  }

  /** Stores `object` under a new version and returns what was stored. */
  put(resource: string, object: KubeObject): KubeObject {
    const key = keyOf(object);
    const previous = this.get(resource, key);
    const version = ++this.current;
    const stored = { ...object, metadata: { ...object.metadata, resourceVersion: String(version) } };
    const type = previous === undefined ? 'ADDED' : 'MODIFIED';
    this.change({ type, resource, version, object: stored, ...(previous === undefined ? {} : { previous }) });
    return stored;
  }

  /** Takes an object out; its last form, with the version of the deletion, is what watchers see. */
  remove(resource: string, key: string): KubeObject | undefined {
    const previous = this.get(resource, key);
    if (previous === undefined) return undefined;
    const version = ++this.current;
    const object = { ...previous, metadata: { ...previous.metadata, resourceVersion: String(version) } };
    this.change({ type: 'DELETED', resource, version, object, previous });
    return object;
  }

  /** Changes after `version`, oldest first; undefined when they are no longer known. */
  eventsSince(version: number): StoreEvent[] | undefined {
    if (version < this.compacted) return undefined;
    let low = 0;
    let high = this.log.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.log[middle] as StoreEvent).version <= version) low = middle + 1;
      else high = middle;
    }
    return this.log.slice(low);
  }

  /** Forgets the whole log, so that every older version answers 410, as after a compaction of etcd. */
  compact(): void {
    this.log.length = 0;
    this.compacted = this.current;
  }

  /** What changed since the last call; undefined when nothing did. */
  takeCommit(): Commit | undefined {
    if (this.pendingEvents.length === 0 && this.pendingSide.length === 0) return undefined;
    const commit = {
      now: this.now,
      version: this.current,
      random: this.random.state(),
      events: this.pendingEvents,
      side: this.pendingSide,
    };
    this.pendingEvents = [];
    this.pendingSide = [];
    return commit;
  }

  /** Puts back an object of a snapshot, with the version it has. */
  restoreObject(resource: string, object: KubeObject): void {
    this.index(resource, keyOf(object), object);
  }

  /** Sets clock, version and generator as a snapshot or commit has them. */
  restoreHead(head: { now: number; version: number; random: number[] }): void {
    this.now = Math.max(this.now, head.now);
    this.current = Math.max(this.current, head.version);
    this.random = createRandom(head.random);
  }

  /** Applies a commit read from disk. `previous` in its events need not be filled in. */
  replay(commit: Omit<Commit, 'events'> & { events: RecordedEvent[] }): void {
    for (const event of commit.events) {
      const key = keyOf(event.object);
      const previous = this.get(event.resource, key);
      const { keepsSpec, ...change } = event;
      if (keepsSpec) change.object.spec = previous?.spec;
      this.index(change.resource, key, change.type === 'DELETED' ? undefined : change.object);
      this.append({ ...change, ...(previous === undefined ? {} : { previous }) });
    }
    for (const operation of commit.side) this.side.apply(operation);
    this.restoreHead(commit);
  }

  /** To be called between restoreObject and replay: what a snapshot holds has no log. */
  startLogHere(): void {
    this.compact();
  }

  private change(event: StoreEvent): void {
    this.index(event.resource, keyOf(event.object), event.type === 'DELETED' ? undefined : event.object);
    this.append(event);
    this.pendingEvents.push(event);
    this.onChange(event);
  }

  private append(event: StoreEvent): void {
    this.log.push(event);
    if (this.log.length > this.logLimit * 1.25) {
      const gone = this.log.splice(0, this.log.length - this.logLimit);
      this.compacted = gone[gone.length - 1]?.version ?? this.compacted;
    }
  }

  private index(resource: string, key: string, object: KubeObject | undefined): void {
    let objects = this.resources.get(resource);
    if (objects === undefined) {
      objects = new Map();
      this.resources.set(resource, objects);
    }
    const previous = objects.get(key);
    if ((previous === undefined) !== (object === undefined)) this.sortedKeys.delete(resource);
    if (object === undefined) objects.delete(key);
    else objects.set(key, object);
    this.indexes.update(resource, key, previous, object);
  }
}
