import { copyJson, sharing } from './copy.ts';
import { timestamp } from './quantities.ts';
import { apiVersionOf, type Resource, resourceById, resourceOfKind } from './resources.ts';
import type { Settings } from './settings.ts';
import { keyFor, keyOf, type Store } from './store.ts';
import type { KubeObject, Loose, StoreEvent } from './types.ts';

/** A control loop: changes make it set timers, timers make it act. State lives in the store only. */
export interface Controller {
  name: string;
  /** May set timers, must not write objects. */
  onChange(event: StoreEvent): void;
  onTimer(key: string): void;
}

export interface DeleteOptions {
  /** Seconds; pods only. Left out: what the pod's spec says. */
  graceSeconds?: number;
  propagation?: 'Background' | 'Orphan' | 'Foreground';
}

/** The store with what API and controllers share: time, updates by a function, deletion, Events. */
export class World {
  readonly store: Store;
  readonly settings: Settings;

  constructor(store: Store, settings: Settings) {
    this.store = store;
    this.settings = settings;
  }

  /** Whether this cluster knows a kind of object. */
  serves({ custom }: Pick<Resource, 'custom'>): boolean {
    return !custom || this.settings.volumeSnapshots;
  }

  /** Now as a Kubernetes timestamp. */
  get stamp(): string {
    return timestamp(this.store.now);
  }

  get(resource: string, key: string): KubeObject | undefined {
    return this.store.get(resource, key);
  }

  /** Asks for `controller.onTimer(key)` in `delay` milliseconds, unless it is due earlier already. */
  wake(controller: string, key: string, delay: number): void {
    this.store.timers.atLatest(`${controller}|${key}`, this.store.now + delay);
  }

  /** Creates an object on a controller's behalf; metadata that the server owns is filled in. An existing one is left as it is. */
  create(resource: string, object: Loose): KubeObject {
    const { id, kind } = { ...resourceById(resource) };
    const key = keyFor(object.metadata.namespace, object.metadata.name);
    const existing = this.store.get(id, key);
    if (existing !== undefined) return existing;
    const metadata = { ...object.metadata, uid: this.store.random.uuid(), creationTimestamp: this.stamp };
    return this.store.put(id, { apiVersion: apiVersionOf(resourceById(id)), kind, ...object, metadata });
  }

  /** Replaces an object by a changed copy; nothing happens when it is gone or unchanged. */
  update(resource: string, key: string, change: (draft: KubeObject) => void): KubeObject | undefined {
    const current = this.store.get(resource, key);
    if (current === undefined) return undefined;
    const draft = copyJson(current);
    change(draft);
    return this.replace(resource, current, draft);
  }

  /** As update, for a change of the status alone: the rest is shared with the version before. */
  updateStatus(resource: string, key: string, change: (draft: KubeObject) => void): KubeObject | undefined {
    const current = this.store.get(resource, key);
    if (current === undefined) return undefined;
    const draft = { ...current, status: copyJson(current.status) };
    change(draft);
    return this.replace(resource, current, draft);
  }

  /** Stores `next` in place of `current`; an object that was only waiting for its finalizers goes. */
  replace(resource: string, current: KubeObject, next: KubeObject): KubeObject {
    const wanted = sharing(current, next);
    const stored = wanted === current ? current : this.store.put(resource, wanted);
    return this.mayGo(resource, stored) ? (this.store.remove(resource, keyOf(stored)) ?? stored) : stored;
  }

  /** Begins or completes the deletion of an object; the result is its last form and whether it is gone. */
  delete(resource: string, object: KubeObject, options: DeleteOptions = {}): { object: KubeObject; gone: boolean } {
    if (options.propagation === 'Orphan') this.orphanDependents(object.metadata.uid);
    const grace = resource === 'pods' ? this.podGrace(object, options.graceSeconds) : 0;
    const pending = object.metadata.deletionTimestamp !== undefined;
    const finalizers = (object.metadata.finalizers?.length ?? 0) > 0 || resource === 'namespaces';
    if (grace === 0 && !finalizers) return { object: this.store.remove(resource, keyOf(object)) ?? object, gone: true };
    if (pending && (object.metadata.deletionGracePeriodSeconds ?? 0) <= grace) return { object, gone: false };
    const metadata = {
      ...object.metadata,
      deletionTimestamp: timestamp(this.store.now + grace * 1000),
      deletionGracePeriodSeconds: grace,
    };
    const status = resource === 'namespaces' ? { status: { ...object.status, phase: 'Terminating' } } : {};
    return { object: this.store.put(resource, { ...object, ...status, metadata }), gone: false };
  }

  /** Records an Event about an object; the same event again only counts up. */
  event(about: KubeObject, type: 'Normal' | 'Warning', reason: string, message: string, component: string, host?: string): void {
    const namespace = about.metadata.namespace ?? 'default';
    const identity = `${about.metadata.uid}/${reason}/${message}`;
    const known: string | undefined = this.store.side.get('event-names', identity);
    if (known !== undefined && this.get('events', known) !== undefined) {
      this.update('events', known, (draft) => {
        draft.count += 1;
        draft.lastTimestamp = this.stamp;
      });
      return;
    }
    const name = `${about.metadata.name}.${this.store.random.uuid().replaceAll('-', '').slice(0, 16)}`;
    this.create('events', {
      metadata: { name, namespace },
      involvedObject: {
        kind: about.kind,
        ...(about.metadata.namespace === undefined ? {} : { namespace }),
        name: about.metadata.name,
        uid: about.metadata.uid,
        apiVersion: about.apiVersion,
        resourceVersion: about.metadata.resourceVersion,
      },
      reason,
      message,
      source: { component, ...(host === undefined ? {} : { host }) },
      firstTimestamp: this.stamp,
      lastTimestamp: this.stamp,
      count: 1,
      type,
      eventTime: null,
      reportingComponent: component,
      reportingInstance: host ?? '',
    });
    this.store.side.set('event-names', identity, `${namespace}/${name}`);
    this.wake('events', identity, this.settings.eventTtlSeconds * 1000);
  }

  private mayGo(resource: string, object: KubeObject): boolean {
    const { deletionTimestamp, finalizers, deletionGracePeriodSeconds } = object.metadata;
    if (deletionTimestamp === undefined || (finalizers?.length ?? 0) > 0 || resource === 'namespaces') return false;
    return resource !== 'pods' || deletionGracePeriodSeconds === 0;
  }

  private podGrace(pod: KubeObject, asked: number | undefined): number {
    if (!pod.spec.nodeName || pod.status?.phase === 'Succeeded' || pod.status?.phase === 'Failed') return 0;
    return Math.max(0, asked ?? pod.spec.terminationGracePeriodSeconds ?? 30);
  }

  private orphanDependents(uid: string): void {
    for (const { resource, key } of this.store.indexes.dependents(uid)) {
      this.update(resource, key, ({ metadata }) => {
        metadata.ownerReferences = (metadata.ownerReferences ?? []).filter((owner) => owner.uid !== uid);
        if (metadata.ownerReferences.length === 0) delete metadata.ownerReferences;
      });
    }
  }
}

/** Whether `owner` refers to a stored object: the same uid, kind, name, and namespace if the kind has one. */
export function ownerExists(store: Store, owner: Loose, namespace: string | undefined): boolean {
  const resource = resourceOfKind(owner.apiVersion, owner.kind);
  if (resource === undefined) return false;
  const found = store.get(resource.id, keyFor(resource.namespaced ? namespace : undefined, owner.name));
  return found?.metadata.uid === owner.uid;
}

/** Sets or replaces a condition; lastTransitionTime moves only when the status does. */
export function setCondition(
  status: Loose,
  stamp: string,
  condition: { type: string; status: string; reason?: string; message?: string },
): void {
  const conditions: Loose[] = status.conditions ?? [];
  const index = conditions.findIndex((each) => each.type === condition.type);
  const previous = conditions[index];
  const next = {
    lastProbeTime: null,
    lastTransitionTime: previous?.status === condition.status ? previous.lastTransitionTime : stamp,
    ...condition,
  };
  if (index < 0) conditions.push(next);
  else conditions[index] = next;
  status.conditions = conditions;
}
