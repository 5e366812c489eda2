/** What the comparison with reality needs of the cluster: complete lists of what bears our label, removal of one object, and proof of absence. */
import type { ServerRef } from '../reservation/ports.ts';

/** Kinds of objects that we make on the cluster, in the order in which they are looked at. */
export const CLUSTER_KINDS = [
  'Pod',
  'Service',
  'Secret',
  'ConfigMap',
  'NetworkPolicy',
  'Job',
  'PersistentVolumeClaim',
  'VolumeSnapshot',
] as const;
export type ClusterKind = (typeof CLUSTER_KINDS)[number];

/** What leads to servers from outside of it: records in DNS by their name, rules of a load balancer and target groups by their ids. */
export const NAME_KINDS = ['NameRecord', 'JupyterRule', 'TargetGroup'] as const;
export type NameKind = (typeof NAME_KINDS)[number];

export const KINDS = [...CLUSTER_KINDS, ...NAME_KINDS] as const;
export type Kind = ClusterKind | NameKind;

export const isNameKind = (kind: Kind): kind is NameKind => (NAME_KINDS as readonly Kind[]).includes(kind);

/** Kinds that hold data of users: they are reported, and never removed here. */
export const DATA: ReadonlySet<Kind> = new Set(['PersistentVolumeClaim', 'VolumeSnapshot']);

/** Whose an object is, as its labels say. */
export type Subject =
  | { of: 'server'; server: ServerRef }
  | { of: 'build'; hash: string; attempt: number }
  /** `snapshot`: of a copy or of what makes one, the id of the snapshot that it is. */
  | { of: 'disk'; diskId: string; snapshot?: string }
  /** It bears our label and no id that we could read. */
  | { of: 'nobody' };

export interface FoundObject {
  kind: Kind;
  name: string;
  uid: string;
  resourceVersion: string;
  terminating: boolean;
  subject: Subject;
  /**
   * The cluster removes it by itself: it belongs to an object that is judged in its place (a Job's pod), or it has ended and has a time to
   * live (a Job).
   */
  cared: boolean;
}

/** What a server has beside what every server has. */
export interface ServerExtras {
  /** Its Jupyter is on. */
  jupyter: boolean;
  /** It was given variables. */
  environment: boolean;
  /** Id of the gang whose members find each other by it; null if it leads none. */
  leads: string | null;
}

export interface Reality {
  /**
   * Everything of this kind that bears our label. Complete, or it throws: half a list would make the rest look missing.
   * @returns null if this cluster does not know the kind at all
   */
  list(kind: Kind): Promise<FoundObject[] | null>;
  /**
   * Remove exactly the object that was looked at, in exactly the state in which it was.
   * @returns 'changed' if it is another by now, which is left alone
   */
  remove(object: FoundObject): Promise<'removed' | 'changed' | 'gone'>;
  /** True only if the API server answers 404 for this very object. @throws if it cannot tell */
  isGone(kind: Kind, name: string): Promise<boolean>;
  /**
   * Names of what a running server has around its pod without which nobody can log in or reach its Jupyter, its gang does not find it, or it
   * does not start again.
   */
  accessOf(server: ServerRef, extras: ServerExtras): { kind: Kind; name: string }[];
  /** Name of the pod of this life. */
  podOf(server: ServerRef): string;
}
