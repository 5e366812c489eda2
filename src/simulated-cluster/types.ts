// The shapes shared by the whole simulated cluster. Kubernetes objects are kept as plain JSON documents, as on the wire.

// biome-ignore lint/suspicious/noExplicitAny: the inside of a Kubernetes object is open JSON; validation.ts checks what matters.
export type Loose = any;

export interface OwnerReference {
  apiVersion: string;
  kind: string;
  name: string;
  uid: string;
  controller?: boolean;
  blockOwnerDeletion?: boolean;
}

export interface ObjectMeta {
  name: string;
  generateName?: string;
  namespace?: string;
  uid: string;
  resourceVersion: string;
  generation?: number;
  creationTimestamp: string;
  deletionTimestamp?: string;
  deletionGracePeriodSeconds?: number;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
  ownerReferences?: OwnerReference[];
  finalizers?: string[];
}

/** A stored object. Objects are never changed in place: every write stores a new one, so references may be shared freely. */
export interface KubeObject {
  apiVersion: string;
  kind: string;
  metadata: ObjectMeta;
  spec?: Loose;
  status?: Loose;
  [field: string]: Loose;
}

export type Query = Record<string, string | string[] | undefined>;

/** One call of the Kubernetes API as data; the HTTP front makes these from real requests, a simulation makes them by hand. */
export interface ApiRequest {
  method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  /** Path without query, for example /api/v1/namespaces/gpu-dev/pods/x. */
  path: string;
  query?: Query;
  contentType?: string;
  accept?: string;
  body?: Loose;
  /** Whether the caller gives the body away: then parts of it may be stored without a copy. */
  givesBody?: boolean;
}

export interface ApiResponse {
  status: number;
  body: Loose;
}

export type WatchEventType = 'ADDED' | 'MODIFIED' | 'DELETED' | 'BOOKMARK' | 'ERROR';

export interface WatchEvent {
  type: WatchEventType;
  object: Loose;
}

/** One change of one object, as the event log keeps it. `previous` is absent for a creation. */
export interface StoreEvent {
  type: 'ADDED' | 'MODIFIED' | 'DELETED';
  resource: string;
  version: number;
  object: KubeObject;
  previous?: KubeObject;
}

/** A change as the journal has it; the spec that an object shares with its version before is not written down again. */
export interface RecordedEvent extends StoreEvent {
  keepsSpec?: boolean;
}

/** A write to the side tables (timers, logs, files, pod run-times), which the API does not show as objects. */
export type SideOperation =
  | { op: 'set'; table: string; key: string; value: Loose }
  | { op: 'delete'; table: string; key: string }
  | { op: 'append'; table: string; key: string; value: Loose }
  | { op: 'drop'; table: string };

/** All that one call or one tick changed; writing these down in order is enough to rebuild the cluster. */
export interface Commit {
  now: number;
  version: number;
  random: number[];
  events: StoreEvent[];
  side: SideOperation[];
}
