/** What the cluster really has: complete lists of what bears our label, as metadata where that is enough. */
import { setHeaderOptions, type V1Job, type V1ObjectMeta } from '@kubernetes/client-node';
import {
  type ClusterKind,
  type FoundObject,
  isNameKind,
  type Kind,
  type Reality,
  type ServerExtras,
  type Subject,
} from '../../../actors/reality/ports.ts';
import type { ServerRef } from '../../../actors/reservation/ports.ts';
import { briefly, type KubernetesClient } from './client.ts';
import { attempt, attemptOrNull, hasStatus } from './errors.ts';
import {
  accessSecretName,
  ANNOTATION,
  environmentSecretName,
  gangServiceName,
  jupyterPolicyName,
  jupyterServiceName,
  LABEL,
  MANAGED_BY,
  podName,
  policyName,
  scriptsName,
  serverOf,
  sshServiceName,
} from './objects.ts';

/** Objects of one page. */
const PAGE = 500;
/** How often a list is begun anew because its pages had become too old to go on. */
const TRIES = 3;

const SNAPSHOTS = { group: 'snapshot.storage.k8s.io', version: 'v1', plural: 'volumesnapshots' };

interface Item {
  metadata?: V1ObjectMeta;
  spec?: unknown;
  status?: unknown;
}
interface Page {
  metadata?: { resourceVersion?: string; _continue?: string; continue?: string };
  items?: Item[] | null;
}
interface Query {
  namespace: string;
  labelSelector: string;
  limit: number;
  _continue?: string;
}
interface Calls {
  list: (query: Query) => Promise<Page>;
  read: (name: string) => Promise<unknown>;
  remove: (name: string, body: { preconditions: { uid: string; resourceVersion: string } }) => Promise<unknown>;
}

/** Option of a list of which we need no more than the metadata. */
function metadataOnly() {
  return setHeaderOptions('Accept', 'application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json');
}

export class KubernetesReality implements Reality {
  readonly #client: KubernetesClient;
  readonly #calls: Record<ClusterKind, Calls>;
  readonly #pageSize: number;

  constructor({ client, pageSize = PAGE }: { client: KubernetesClient; pageSize?: number }) {
    this.#client = client;
    this.#calls = callsOf(client);
    this.#pageSize = pageSize;
  }

  async list(kind: Kind): Promise<FoundObject[] | null> {
    if (isNameKind(kind)) return null;
    for (let tries = 1; ; tries++) {
      try {
        return await this.#pages(kind);
      } catch (error) {
        // A 404 without a Status: the cluster does not know the kind.
        if (hasStatus(error, 404) && error.reason !== 'NotFound' && kind === 'VolumeSnapshot') return null;
        if (!hasStatus(error, 410) || tries >= TRIES) throw error;
      }
    }
  }

  /** Page by page trimmed to what is looked at: what else the metadata holds is many times as much. */
  async #pages(kind: ClusterKind): Promise<FoundObject[]> {
    const found: FoundObject[] = [];
    let next: string | undefined;
    do {
      const query = {
        namespace: this.#client.namespace,
        labelSelector: `${LABEL.managedBy}=${MANAGED_BY}`,
        limit: this.#pageSize,
        ...(next === undefined ? {} : { _continue: next }),
      };
      const page = await attempt(`listing ${kind}s`, () => this.#calls[kind].list(query));
      // An empty list has null for its items in some answers; one without a version is none.
      if (page.metadata?.resourceVersion === undefined) throw new Error(`listing ${kind}s: the answer is no list`);
      for (const item of page.items ?? []) found.push(...foundOf(kind, item));
      next = page.metadata?._continue || page.metadata?.continue || undefined;
    } while (next !== undefined);
    return found;
  }

  async remove({ kind, name, uid, resourceVersion }: FoundObject): Promise<'removed' | 'changed' | 'gone'> {
    if (isNameKind(kind)) return notHere(kind);
    const body = { preconditions: { uid, resourceVersion } };
    try {
      const removed = await attemptOrNull(`removing ${kind} ${name}`, () => this.#calls[kind].remove(name, body));
      return removed === null ? 'gone' : 'removed';
    } catch (error) {
      if (hasStatus(error, 409)) return 'changed';
      throw error;
    }
  }

  async isGone(kind: Kind, name: string): Promise<boolean> {
    if (isNameKind(kind)) return notHere(kind);
    return (await attemptOrNull(`reading ${kind} ${name}`, () => this.#calls[kind].read(name))) === null;
  }

  accessOf(server: ServerRef, { jupyter, environment, leads }: ServerExtras): { kind: Kind; name: string }[] {
    const named = (kind: Kind, name: string) => ({ kind, name });
    return [
      named('Service', sshServiceName(server)),
      named('Secret', accessSecretName(server)),
      named('ConfigMap', scriptsName(server)),
      named('NetworkPolicy', policyName(server)),
      ...(environment ? [named('Secret', environmentSecretName(server))] : []),
      ...(leads === null ? [] : [named('Service', gangServiceName(leads))]),
      ...(jupyter ? [named('Service', jupyterServiceName(server)), named('NetworkPolicy', jupyterPolicyName(server))] : []),
    ];
  }

  podOf(server: ServerRef): string {
    return podName(server);
  }
}

function notHere(kind: Kind): Promise<never> {
  return Promise.reject(new Error(`A cluster knows no ${kind}`));
}

function callsOf(client: KubernetesClient): Record<ClusterKind, Calls> {
  const { core, batch, networking, custom, namespace } = client;
  const brief = metadataOnly();
  return {
    Pod: {
      list: (query) => core.listNamespacedPod(query, brief),
      read: (name) => core.readNamespacedPod({ namespace, name }, briefly()),
      remove: (name, body) => core.deleteNamespacedPod({ namespace, name, body }),
    },
    Service: {
      list: (query) => core.listNamespacedService(query, brief),
      read: (name) => core.readNamespacedService({ namespace, name }, briefly()),
      remove: (name, body) => core.deleteNamespacedService({ namespace, name, body }),
    },
    Secret: {
      list: (query) => core.listNamespacedSecret(query, brief),
      read: (name) => core.readNamespacedSecret({ namespace, name }, briefly()),
      remove: (name, body) => core.deleteNamespacedSecret({ namespace, name, body }),
    },
    ConfigMap: {
      list: (query) => core.listNamespacedConfigMap(query, brief),
      read: (name) => core.readNamespacedConfigMap({ namespace, name }, briefly()),
      remove: (name, body) => core.deleteNamespacedConfigMap({ namespace, name, body }),
    },
    NetworkPolicy: {
      list: (query) => networking.listNamespacedNetworkPolicy(query, brief),
      read: (name) => networking.readNamespacedNetworkPolicy({ namespace, name }, briefly()),
      remove: (name, body) => networking.deleteNamespacedNetworkPolicy({ namespace, name, body }),
    },
    Job: {
      // Whether a Job has ended stands in its status.
      list: (query) => batch.listNamespacedJob(query),
      read: (name) => batch.readNamespacedJob({ namespace, name }, briefly()),
      remove: (name, body) => batch.deleteNamespacedJob({ namespace, name, body: { ...body, propagationPolicy: 'Background' } }),
    },
    PersistentVolumeClaim: {
      list: (query) => core.listNamespacedPersistentVolumeClaim(query, brief),
      read: (name) => core.readNamespacedPersistentVolumeClaim({ namespace, name }, briefly()),
      remove: refuse,
    },
    VolumeSnapshot: {
      list: (query) => custom.listNamespacedCustomObject({ ...SNAPSHOTS, ...query }, brief) as Promise<Page>,
      read: (name) => custom.getNamespacedCustomObject({ ...SNAPSHOTS, namespace, name }, briefly()),
      remove: refuse,
    },
  };
}

/** What holds data is never removed here, whoever asks. */
function refuse(name: string): Promise<never> {
  return Promise.reject(new Error(`${name} holds data and is not removed`));
}

function foundOf(kind: Kind, item: Item): FoundObject[] {
  const { metadata } = item;
  const { name, uid, resourceVersion } = metadata ?? {};
  if (metadata === undefined || name === undefined || uid === undefined || resourceVersion === undefined) return [];
  const ofJob = metadata.ownerReferences?.some((owner) => owner.kind === 'Job') === true;
  return [
    {
      kind,
      name,
      uid,
      resourceVersion,
      terminating: metadata.deletionTimestamp !== undefined,
      subject: subjectOf(metadata),
      cared: ofJob || (kind === 'Job' && expires(item as V1Job)),
    },
  ];
}

/** Whether the Job has ended, and the cluster removes it after a time. */
function expires({ spec, status }: V1Job): boolean {
  const ended = (status?.conditions ?? []).some(
    ({ type, status: is }) => (type === 'Complete' || type === 'Failed') && is === 'True',
  );
  return ended && spec?.ttlSecondsAfterFinished !== undefined;
}

function subjectOf(metadata: V1ObjectMeta): Subject {
  const server = serverOf(metadata);
  if (server !== null) return { of: 'server', server };
  const labels = metadata.labels ?? {};
  const diskId = labels[LABEL.disk];
  const snapshot = metadata.annotations?.[ANNOTATION.snapshot];
  if (diskId !== undefined) return { of: 'disk', diskId, ...(snapshot === undefined ? {} : { snapshot }) };
  // The label is too short for a whole hash.
  const hash = metadata.annotations?.[ANNOTATION.build];
  const number = Number(labels[LABEL.attempt]);
  if (hash !== undefined && Number.isInteger(number) && number > 0) return { of: 'build', hash, attempt: number };
  return { of: 'nobody' };
}
