/** Which cluster it is that answers: the uids of its namespaces, which no other cluster has, and which a namespace made anew has not. */
import type { ClusterFacts } from '../../../actors/reality/cluster-guard.ts';
import { briefly, type KubernetesClient } from './client.ts';
import { attemptOrNull, hasStatus } from './errors.ts';

/** Made with the cluster, and deleted by nobody. */
const SYSTEM = 'kube-system';

/**
 * Ask the cluster who it is.
 * @param client one that is not guarded
 * @throws KubernetesError if it does not say; that kube-system may not be read is none
 */
export async function readIdentity(client: KubernetesClient): Promise<ClusterFacts> {
  const { namespace } = client;
  const read = async (name: string) => {
    const found = await attemptOrNull(`reading namespace ${name}`, () => client.core.readNamespace({ name }, briefly()));
    if (found === null) return null;
    const uid = found.metadata?.uid;
    if (uid === undefined || uid === '') throw new Error(`reading namespace ${name}: the answer has no uid`);
    return uid;
  };
  const [namespaceUid, systemUid] = await Promise.all([
    read(namespace),
    read(SYSTEM).catch((error: unknown) => {
      if (hasStatus(error, 403)) return null;
      throw error;
    }),
  ]);
  return { namespace, namespaceUid, systemUid, server: client.config.getCurrentCluster()?.server ?? '' };
}
