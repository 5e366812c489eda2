/** What the service must be allowed to do on the cluster. The manifests grant exactly this, and a start without it names what is missing. */
import type { V1ResourceAttributes } from '@kubernetes/client-node';
import type { KubernetesClient } from './client.ts';
import { attempt, attemptOrNull } from './errors.ts';

/** Rights on one kind of object. */
export interface Right {
  group: string;
  /** Plural; a subresource follows a slash. */
  resource: string;
  verbs: readonly string[];
  /** In the namespace of the dev servers, or everywhere. */
  scope: 'namespace' | 'cluster';
  /** Only the one with this name. */
  object?: (namespace: string) => string;
  /** Objects that a cluster may do without: with this missing, the service starts all the same. */
  optional?: true;
}

export const RIGHTS: readonly Right[] = [
  // Which cluster it is: what another one lacks is no proof of anything.
  { group: '', resource: 'namespaces', verbs: ['get'], scope: 'cluster', object: (namespace) => namespace },
  { group: '', resource: 'namespaces', verbs: ['get'], scope: 'cluster', object: () => 'kube-system', optional: true },
  // The tracker: every node, and every pod, for whatever is not ours takes capacity too.
  { group: '', resource: 'nodes', verbs: ['get', 'list', 'watch'], scope: 'cluster' },
  { group: '', resource: 'pods', verbs: ['list', 'watch'], scope: 'cluster' },
  // Who holds a volume.
  { group: '', resource: 'persistentvolumes', verbs: ['get'], scope: 'cluster', optional: true },
  { group: 'storage.k8s.io', resource: 'volumeattachments', verbs: ['list'], scope: 'cluster', optional: true },
  { group: 'storage.k8s.io', resource: 'csidrivers', verbs: ['get'], scope: 'cluster', optional: true },
  // The class of disks that the settings name.
  { group: 'storage.k8s.io', resource: 'storageclasses', verbs: ['get'], scope: 'cluster', optional: true },
  // Dev servers, and what surrounds them. Lists are for the comparison with the database: one a kind, from time to time.
  { group: '', resource: 'pods', verbs: ['get', 'create', 'patch', 'delete'], scope: 'namespace' },
  { group: '', resource: 'pods/exec', verbs: ['get', 'create'], scope: 'namespace' },
  { group: '', resource: 'services', verbs: ['get', 'list', 'create', 'delete'], scope: 'namespace' },
  { group: '', resource: 'secrets', verbs: ['get', 'list', 'create', 'patch', 'delete'], scope: 'namespace' },
  { group: '', resource: 'configmaps', verbs: ['get', 'list', 'create', 'delete'], scope: 'namespace' },
  { group: 'networking.k8s.io', resource: 'networkpolicies', verbs: ['get', 'list', 'create', 'delete'], scope: 'namespace' },
  // Disks.
  { group: '', resource: 'persistentvolumeclaims', verbs: ['get', 'list', 'create', 'patch', 'delete'], scope: 'namespace' },
  {
    group: 'snapshot.storage.k8s.io',
    resource: 'volumesnapshots',
    verbs: ['get', 'list', 'create', 'patch', 'delete'],
    scope: 'namespace',
  },
  // Builds.
  { group: 'batch', resource: 'jobs', verbs: ['get', 'list', 'create', 'delete'], scope: 'namespace' },
  { group: '', resource: 'pods/log', verbs: ['get'], scope: 'namespace' },
];

/**
 * Ask the cluster whether the namespace exists and everything needed is allowed.
 * @param more that this provider needs
 * @returns what is missing, in words for the operator
 * @throws KubernetesError if the cluster does not say
 */
export async function findMissingRights(client: KubernetesClient, more: readonly Right[] = []): Promise<string[]> {
  const { namespace } = client;
  // Without the right to look at namespaces nothing is known of them.
  const found = await attemptOrNull(`reading namespace ${namespace}`, () => client.core.readNamespace({ name: namespace })).catch(
    () => 'unknown',
  );
  if (found === null) return [`There is no namespace ${namespace} (GPU_DEV_NAMESPACE)`];
  const asked = [...RIGHTS, ...more]
    .filter(({ optional }) => optional !== true)
    .flatMap((right) => right.verbs.map((verb) => ({ ...right, verb })));
  const answers = await Promise.all(
    asked.map(async ({ group, resource: name, verb, scope, object }) => {
      const [resource = '', subresource] = name.split('/');
      const resourceAttributes: V1ResourceAttributes = {
        group,
        resource,
        verb,
        ...(subresource === undefined ? {} : { subresource }),
        ...(scope === 'namespace' ? { namespace } : {}),
        ...(object === undefined ? {} : { name: object(namespace) }),
      };
      const body = { spec: { resourceAttributes } };
      const { status } = await attempt('asking for our rights', () =>
        client.authorization.createSelfSubjectAccessReview({ body }),
      );
      if (status?.allowed === true) return [];
      const where =
        object !== undefined ? object(namespace) : scope === 'cluster' ? 'of all namespaces' : `in the namespace ${namespace}`;
      return [`May not ${verb} ${name}${group === '' ? '' : `.${group}`} ${where}`];
    }),
  );
  return answers.flat();
}
