/** Dev servers as the cluster has them, with the records that are kept on their pods: for a database that is built anew. */
import { PatchStrategy, setHeaderOptions, type V1Pod, type V1Secret } from '@kubernetes/client-node';
import type { PodView } from '../../../actors/gpu-pool/ports.ts';
import type { FoundServer, ServerSecrets } from '../../rebuild/ports.ts';
import type { KubernetesClient } from './client.ts';
import { attemptOrNull, hasStatus } from './errors.ts';
import { accessSecretName, ANNOTATION, environmentSecretName, LABEL, MANAGED_BY, SERVER_APP, serverOf } from './objects.ts';
import { wholeList } from './pages.ts';
import { podView } from './pod-view.ts';

export class ServerRemains {
  readonly #client: KubernetesClient;

  constructor(client: KubernetesClient) {
    this.#client = client;
  }

  /** Complete, or it throws. */
  async servers(): Promise<FoundServer[]> {
    const { core, namespace } = this.#client;
    const labelSelector = `${LABEL.managedBy}=${MANAGED_BY},${LABEL.app}=${SERVER_APP}`;
    return wholeList('listing servers', (page) => core.listNamespacedPod({ namespace, labelSelector, ...page }), foundServer);
  }

  /** @throws KubernetesError if one of its Secrets cannot be read */
  async secretsOf(server: { reservationId: string; generation: number }): Promise<ServerSecrets> {
    const read = (name: string) =>
      attemptOrNull(`reading Secret ${name}`, () =>
        this.#client.core.readNamespacedSecret({ namespace: this.#client.namespace, name }),
      );
    const [access, environment] = await Promise.all([read(accessSecretName(server)), read(environmentSecretName(server))]);
    return { environment: decoded(environment), jupyterToken: decoded(access)['jupyter_token'] ?? null };
  }

  async viewOf(pod: string): Promise<PodView | null> {
    const { core, namespace } = this.#client;
    const found = await attemptOrNull(`reading pod ${pod}`, () => core.readNamespacedPod({ namespace, name: pod }));
    return found === null ? null : podView(found, namespace);
  }

  /** The uid goes along: only this very pod gets the record. @returns false if it is gone */
  async keepServer({ pod, uid }: { pod: string; uid: string }, record: string): Promise<boolean> {
    const { core, namespace } = this.#client;
    const body = { metadata: { uid, annotations: { [ANNOTATION.record]: record } } };
    return patched(`keeping the record of ${pod}`, () => core.patchNamespacedPod({ namespace, name: pod, body }, MERGE));
  }
}

export const MERGE = setHeaderOptions('Content-Type', PatchStrategy.MergePatch);

/** Do a merge patch. @returns false if what it was for is gone, or another has its name */
export async function patched(doing: string, patch: () => Promise<unknown>): Promise<boolean> {
  try {
    return (await attemptOrNull(doing, patch)) !== null;
  } catch (error) {
    if (hasStatus(error, 409)) return false;
    throw error;
  }
}

function foundServer({ metadata, spec, status }: V1Pod): FoundServer[] {
  const server = serverOf(metadata);
  if (server === null || metadata?.name === undefined || metadata.uid === undefined) return [];
  const home = spec?.volumes?.find(({ name }) => name === 'home');
  return [
    {
      pod: metadata.name,
      uid: metadata.uid,
      ...server,
      owner: metadata.annotations?.[ANNOTATION.owner] ?? null,
      node: spec?.nodeName ?? null,
      claim: home?.persistentVolumeClaim?.claimName ?? null,
      terminating: metadata.deletionTimestamp !== undefined,
      ready: status?.conditions?.some(({ type, status: is }) => type === 'Ready' && is === 'True') === true,
      record: metadata.annotations?.[ANNOTATION.record] ?? null,
    },
  ];
}

function decoded(secret: V1Secret | null): Record<string, string> {
  return Object.fromEntries(
    Object.entries(secret?.data ?? {}).map(([name, value]) => [name, Buffer.from(value, 'base64').toString('utf8')]),
  );
}
