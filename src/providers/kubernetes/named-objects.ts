/** Objects of the cluster that settings name and somebody else makes: what is missing is found at the start, and not by the first server. */
import type { V1Pod } from '@kubernetes/client-node';
import type { KubernetesClient } from './client.ts';
import { attempt, attemptOrNull, hasStatus, KubernetesError } from './errors.ts';
import type { SharedVolume } from './pod-volumes.ts';

/** What settings name; null: nothing. */
export interface NamedObjects {
  priorityClass: string | null;
  registrySecret: string | null;
  sharedVolume: SharedVolume | null;
  storageClass: string | null;
}

const REGISTRY_TYPE = 'kubernetes.io/dockerconfigjson';
/** What the API server says of a pod whose class there is not; it may refuse one for many other reasons. */
const NO_CLASS = /no PriorityClass with name \S+ was found/i;

/**
 * Look for what the settings name. Only what the API server says is not there counts: what we may not look at is no obstacle.
 * @returns what is missing, in words for the operator: the setting, the object, and what to do
 * @throws KubernetesError if the cluster does not say
 */
export async function findMissingObjects(client: KubernetesClient, named: NamedObjects): Promise<string[]> {
  const { priorityClass, registrySecret, sharedVolume, storageClass } = named;
  const found = await Promise.all([
    priorityClass === null ? null : withoutClass(client, priorityClass),
    registrySecret === null ? null : withoutSecret(client, registrySecret),
    sharedVolume === null || !('claim' in sharedVolume) ? null : withoutClaim(client, sharedVolume.claim),
    storageClass === null ? null : withoutStorageClass(client, storageClass),
  ]);
  return found.filter((each) => each !== null);
}

/** Classes are nothing that we may read; a pod that is only tried out is judged by its class as any other, and never made. */
async function withoutClass({ core, namespace }: KubernetesClient, name: string): Promise<string | null> {
  const body: V1Pod = {
    metadata: { name: 'gpu-dev-start-check', namespace },
    spec: {
      priorityClassName: name,
      automountServiceAccountToken: false,
      securityContext: { runAsNonRoot: true, runAsUser: 10_001, seccompProfile: { type: 'RuntimeDefault' } },
      containers: [
        {
          name: 'none',
          image: 'none:0',
          resources: { requests: { cpu: '1m', memory: '1Mi' }, limits: { cpu: '1m', memory: '1Mi' } },
          securityContext: { allowPrivilegeEscalation: false, capabilities: { drop: ['ALL'] } },
        },
      ],
    },
  };
  try {
    await attempt('trying out a pod', () => core.createNamespacedPod({ namespace, body, dryRun: 'All' }));
    return null;
  } catch (error) {
    if (!(error instanceof KubernetesError) || error.status === null || error.status >= 500) throw error;
    if (!NO_CLASS.test(error.detail)) return null;
    return `There is no PriorityClass ${name} (GPU_DEV_PRIORITY_CLASS): apply deploy/kubernetes/priority-classes.yaml, or name one that exists`;
  }
}

async function withoutSecret({ core, namespace }: KubernetesClient, name: string): Promise<string | null> {
  const read = () => attemptOrNull(`reading Secret ${name}`, () => core.readNamespacedSecret({ namespace, name }));
  const found = await ifAllowed(read);
  if (found === 'unknown' || found?.type === REGISTRY_TYPE) return null;
  const make = `kubectl -n ${namespace} create secret docker-registry ${name} --docker-server=… --docker-username=… --docker-password=…`;
  const what =
    found === null
      ? `There is no Secret ${name} in the namespace ${namespace}`
      : `The Secret ${name} in the namespace ${namespace} is of type ${found.type}, not ${REGISTRY_TYPE}`;
  return `${what} (BUILDKIT_REGISTRY_SECRET): make it with ${make}, or leave the setting out if the registry asks for no credentials`;
}

async function withoutClaim({ core, namespace }: KubernetesClient, name: string): Promise<string | null> {
  const read = () => attemptOrNull(`reading claim ${name}`, () => core.readNamespacedPersistentVolumeClaim({ namespace, name }));
  if ((await ifAllowed(read)) !== null) return null;
  return (
    `There is no PersistentVolumeClaim ${name} in the namespace ${namespace} (GPU_DEV_SHARED_VOLUME=pvc:${name}): ` +
    'create it with the access mode ReadWriteMany, name one that exists, or leave the setting out'
  );
}

async function withoutStorageClass({ storage }: KubernetesClient, name: string): Promise<string | null> {
  const read = () => attemptOrNull(`reading StorageClass ${name}`, () => storage.readStorageClass({ name }));
  if ((await ifAllowed(read)) !== null) return null;
  return `There is no StorageClass ${name} (GPU_DEV_STORAGE_CLASS): create it, name one that kubectl get storageclass shows, or leave the setting out for the cluster's default`;
}

async function ifAllowed<T>(read: () => Promise<T>): Promise<T | 'unknown'> {
  try {
    return await read();
  } catch (error) {
    if (hasStatus(error, 403)) return 'unknown';
    throw error;
  }
}
