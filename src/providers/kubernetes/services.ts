/** Services of a dev server: ports of nodes that lead to it, and the name under which the members of a gang find each other. */
import type { V1Service } from '@kubernetes/client-node';
import { NotYet } from '../../../actors/errors.ts';
import type { ServerRef } from '../../../actors/reservation/ports.ts';
import type { KubernetesClient } from './client.ts';
import { KubernetesError } from './errors.ts';
import { PORTS } from './layout.ts';
import { gangServiceName, LABEL } from './objects.ts';
import { type Calls, createOrAdopt, ownedMetadata, type PodIdentity } from './owned.ts';

function callsOf(client: KubernetesClient, name: string, body: V1Service): Calls<V1Service> {
  const { namespace, core } = client;
  return { ...serviceCalls(client, name), create: () => core.createNamespacedService({ namespace, body }) };
}

/** The calls that read and remove a Service. */
export function serviceCalls({ namespace, core }: KubernetesClient, name: string) {
  return {
    what: `Service ${name}`,
    read: () => core.readNamespacedService({ namespace, name }),
    remove: (uid: string) => core.deleteNamespacedService({ namespace, name, body: { preconditions: { uid } } }),
  };
}

/** Ports come free when servers end: the refusal passes, though it comes as one of the object (422) or of the API server (500). */
const NO_PORT = /failed to allocate a nodePort/;

/** The port that was asked for has gone to another Service meanwhile, or is none of this cluster's. */
const PORT_TAKEN = /provided port is already allocated|provided port is not in the valid range/;

/**
 * A NodePort Service to one port of the server. The API server picks the node's port, so two can never get the same; one that people know already
 * (`nodePort`) is asked for first.
 */
export async function ensureService(
  client: KubernetesClient,
  server: ServerRef,
  pod: PodIdentity,
  { name, port, label, nodePort: known = null }: { name: string; port: number; label: string; nodePort?: number | null },
): Promise<{ nodePort: number }> {
  const bodyWith = (nodePort: number | null): V1Service => ({
    metadata: ownedMetadata(client, server, pod, name),
    spec: {
      type: 'NodePort',
      externalTrafficPolicy: 'Local',
      selector: { [LABEL.reservation]: server.reservationId, [LABEL.generation]: String(server.generation) },
      ports: [{ name: label, port, targetPort: port, protocol: 'TCP', ...(nodePort === null ? {} : { nodePort }) }],
    },
  });
  const ensure = (nodePort: number | null) => createOrAdopt(server, pod, callsOf(client, name, bodyWith(nodePort)));
  const says = (error: unknown, words: RegExp) => error instanceof KubernetesError && words.test(error.detail);
  const service = await ensure(known)
    .catch((error: unknown) => {
      if (known !== null && says(error, PORT_TAKEN)) return ensure(null);
      throw error;
    })
    .catch((error: unknown) => {
      if (says(error, NO_PORT)) throw new NotYet(5_000, 'Every node port of the cluster is taken');
      throw error;
    });
  const nodePort = service.spec?.ports?.[0]?.nodePort;
  if (nodePort === undefined) throw new NotYet(200, `Service ${name} has no port yet`);
  return { nodePort };
}

/**
 * The headless Service of a gang, made and owned by its member 0, to whom it leads; the others only know its name.
 * Members meet before they are ready, so it tells of pods that are not.
 */
export async function ensureGangService(
  client: KubernetesClient,
  server: ServerRef,
  pod: PodIdentity,
  gangId: string,
): Promise<void> {
  const name = gangServiceName(gangId);
  const body: V1Service = {
    metadata: ownedMetadata(client, server, pod, name, { [LABEL.gang]: gangId }),
    spec: {
      clusterIP: 'None',
      publishNotReadyAddresses: true,
      selector: { [LABEL.reservation]: server.reservationId, [LABEL.generation]: String(server.generation) },
      ports: [{ name: 'rendezvous', port: PORTS.rendezvous, targetPort: PORTS.rendezvous, protocol: 'TCP' }],
    },
  };
  await createOrAdopt(server, pod, callsOf(client, name, body));
}

/** Where every member of a gang reaches its member 0. */
export function gangAddress(gangId: string, namespace: string): string {
  return `${gangServiceName(gangId)}.${namespace}.svc`;
}
