import { RESOURCES } from '../resources.ts';
import type { KubeObject, StoreEvent } from '../types.ts';
import { type Controller, ownerExists, type World } from '../world.ts';

const NAME = 'collector';

/** Removes objects whose owners are all gone, in the background, also those created with an owner that never was. */
export class Collector implements Controller {
  readonly name = NAME;
  private readonly world: World;

  constructor(world: World) {
    this.world = world;
  }

  onChange({ type, object }: StoreEvent): void {
    const delay = this.world.settings.delays.collect;
    if (type === 'DELETED') {
      for (const { resource, key } of this.world.store.indexes.dependents(object.metadata.uid)) {
        const dependent = this.world.get(resource, key);
        if (dependent !== undefined) this.world.wake(NAME, dependent.metadata.uid, delay);
      }
    } else if (object.metadata.ownerReferences?.length && !this.isOwned(object)) {
      // One whose owner is there is looked at when the owner goes.
      this.world.wake(NAME, object.metadata.uid, delay);
    }
  }

  onTimer(uid: string): void {
    const found = this.world.store.indexes.byUid(uid);
    const object = found === undefined ? undefined : this.world.get(found.resource, found.key);
    if (found === undefined || object === undefined || object.metadata.deletionTimestamp !== undefined) return;
    if (!object.metadata.ownerReferences?.length || this.isOwned(object)) return;
    this.world.delete(found.resource, object);
  }

  private isOwned({ metadata: { ownerReferences, namespace } }: KubeObject): boolean {
    return ownerReferences?.some((owner) => ownerExists(this.world.store, owner, namespace)) ?? false;
  }
}

const POLL = 50;

/** Empties a namespace that is being deleted, then lets it go; also gives every namespace its default service account. */
export class Namespaces implements Controller {
  readonly name = 'namespaces';
  private readonly world: World;

  constructor(world: World) {
    this.world = world;
  }

  onChange({ type, resource, object }: StoreEvent): void {
    if (resource === 'namespaces' && type !== 'DELETED') this.world.wake(this.name, object.metadata.name, 0);
  }

  onTimer(name: string): void {
    const { store } = this.world;
    const namespace = store.get('namespaces', name);
    if (namespace === undefined) return;
    if (namespace.metadata.deletionTimestamp === undefined) {
      this.world.create('serviceaccounts', { metadata: { name: 'default', namespace: name } });
      return;
    }
    let left = 0;
    for (const { id, namespaced } of RESOURCES) {
      if (!namespaced) continue;
      for (const key of [...store.indexes.keysInNamespace(id, name)].sort()) {
        const object = store.get(id, key);
        if (object !== undefined && (object.metadata.deletionTimestamp || !this.world.delete(id, object).gone)) left++;
      }
    }
    if (left > 0) this.world.wake(this.name, name, POLL);
    else if ((namespace.metadata.finalizers?.length ?? 0) === 0) store.remove('namespaces', name);
  }
}

/** Lets Events go after their time. */
export class EventExpiry implements Controller {
  readonly name = 'events';
  private readonly world: World;

  constructor(world: World) {
    this.world = world;
  }

  onChange(): void {}

  onTimer(identity: string): void {
    const { store, settings } = this.world;
    const key: string | undefined = store.side.get('event-names', identity);
    const event = key === undefined ? undefined : store.get('events', key);
    if (key !== undefined && event !== undefined) {
      const left = Date.parse(event.lastTimestamp) + settings.eventTtlSeconds * 1000 - store.now;
      if (left > 0) {
        this.world.wake(this.name, identity, left);
        return;
      }
      store.remove('events', key);
    }
    store.side.delete('event-names', identity);
  }
}
