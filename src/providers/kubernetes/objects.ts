/** Names and labels of what we make on a cluster: they derive from whole ids, so a second try meets the work of the first. */
import { createHash } from 'node:crypto';
import type { V1ObjectMeta, V1OwnerReference } from '@kubernetes/client-node';
import type { ServerRef } from '../../../actors/reservation/ports.ts';

export const LABEL = {
  app: 'app',
  managedBy: 'app.kubernetes.io/managed-by',
  reservation: 'gpu-dev.io/reservation',
  generation: 'gpu-dev.io/generation',
  owner: 'gpu-dev.io/owner',
  name: 'gpu-dev.io/name',
  claim: 'gpu-dev.io/claim',
  gang: 'gpu-dev.io/gang',
  gangIndex: 'gpu-dev.io/gang-index',
  disk: 'gpu-dev.io/disk',
  build: 'gpu-dev.io/build',
  attempt: 'gpu-dev.io/attempt',
  scripts: 'gpu-dev.io/scripts',
  /** On a claim: it is a copy of a disk. On a Job: what it copies. */
  snapshot: 'gpu-dev.io/snapshot',
  /** What a Job copies for: save or fill. */
  copy: 'gpu-dev.io/copy',
} as const;

export const ANNOTATION = {
  /** The owner in full; the label bears only what a label may. */
  owner: 'gpu-dev.io/owner',
  /** The spec without its secrets, as JSON: enough to write the reservation's row again. */
  spec: 'gpu-dev.io/spec',
  /** Hash of the keys that were last set. Its change makes the node look at the pod, and at the Secret mounted there, at once. */
  keys: 'gpu-dev.io/keys',
  /** The whole hash of a build context; the label bears only what a label may. */
  build: 'gpu-dev.io/build',
  /** The whole id of the snapshot that a claim or a Job is about. */
  snapshot: 'gpu-dev.io/snapshot',
  /** On a copy: when all of it was there. Without it, it is no snapshot. */
  complete: 'gpu-dev.io/complete',
  /** On the claim of a disk that was made from a copy: the snapshot, and when it held all of it. Until then nobody may use it. */
  fillFrom: 'gpu-dev.io/fill-from',
  filled: 'gpu-dev.io/filled',
  /** On the pod of a server, and on what holds the data of a disk: what only the database knows of it (src/rebuild/records.ts). */
  record: 'gpu-dev.io/record',
  /** On the Job of a copy: the uids of the claims it copies between. */
  claims: 'gpu-dev.io/claims',
} as const;

export const MANAGED_BY = 'gpu-dev';
export const SERVER_APP = 'gpu-dev-pod';
/** The container that people log in to. Pods have others (sidecars, debug containers), so calls name it. */
export const MAIN_CONTAINER = 'gpu-dev';

export function podName({ reservationId, generation }: ServerRef): string {
  return `gpu-dev-${reservationId}-${generation}`;
}
export const sshServiceName = (server: ServerRef): string => `${podName(server)}-ssh`;
export const jupyterServiceName = (server: ServerRef): string => `${podName(server)}-jupyter`;
/** Secret with authorized_keys and the Jupyter token, mounted into the server. */
export const accessSecretName = (server: ServerRef): string => `${podName(server)}-access`;
/** Secret with the user's own environment variables. */
export const environmentSecretName = (server: ServerRef): string => `${podName(server)}-env`;
/** ConfigMap with the scripts of this server. */
export const scriptsName = (server: ServerRef): string => `${podName(server)}-scripts`;
/** NetworkPolicy of the server, and the one that opens Jupyter's port while it is on. */
export const policyName = podName;
export const jupyterPolicyName = (server: ServerRef): string => `${podName(server)}-jupyter`;
/** Headless Service of a gang: leads to its member 0. */
export const gangServiceName = (gangId: string): string => `gang-${gangId}`;
export const claimName = (diskId: string): string => `disk-${diskId}`;
/** A Job's name ends in the label of its pods: 63 characters at most, so a long hash gives its first 40; what is no hash gives its own. */
export function buildJobName(hash: string, attempt: number): string {
  const digits = /^[0-9a-f]+$/.test(hash) ? hash : createHash('sha256').update(hash).digest('hex');
  return `build-${digits.slice(0, 40)}-${attempt}`;
}

/** Job that copies a disk to its snapshot, or back. A pair of ids always gives the same name, and no other pair gives it. */
export function copyJobName(mode: 'save' | 'fill', diskId: string, snapshotId: string): string {
  return `${mode}-${createHash('sha256').update(`${diskId}\0${snapshotId}`).digest('hex').slice(0, 40)}`;
}

/** Text as a label value: 63 characters of letters, digits, `-_.`, beginning and ending with a letter or digit. */
export function labelValue(text: string): string {
  return text
    .replace(/[^A-Za-z0-9._-]+/g, '-')
    .slice(0, 63)
    .replace(/^[^A-Za-z0-9]+|[^A-Za-z0-9]+$/g, '');
}

/** Text as a host name label (RFC 1123): lower case letters, digits and `-`. */
export function hostLabel(text: string): string {
  return text
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .slice(0, 63)
    .replace(/^-+|-+$/g, '');
}

/** Labels that make an object one of this server's. */
export function serverLabels(server: ServerRef): Record<string, string> {
  return {
    [LABEL.managedBy]: MANAGED_BY,
    [LABEL.reservation]: server.reservationId,
    [LABEL.generation]: String(server.generation),
  };
}

/** Which server an object says it belongs to; null if it is not ours. */
export function serverOf(metadata: V1ObjectMeta | undefined): ServerRef | null {
  const labels = metadata?.labels ?? {};
  const reservationId = labels[LABEL.reservation];
  const generation = Number(labels[LABEL.generation]);
  if (labels[LABEL.managedBy] !== MANAGED_BY || reservationId === undefined || !Number.isInteger(generation)) return null;
  return { reservationId, generation };
}

export function belongsTo(metadata: V1ObjectMeta | undefined, server: ServerRef): boolean {
  const found = serverOf(metadata);
  return found?.reservationId === server.reservationId && found.generation === server.generation;
}

/** Reference by which the cluster deletes an object together with its pod. */
export function ownedByPod(pod: { name: string; uid: string }): V1OwnerReference {
  return { apiVersion: 'v1', kind: 'Pod', name: pod.name, uid: pod.uid };
}
