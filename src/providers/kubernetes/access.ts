/** What surrounds the pod of a dev server: its Secrets and Services, owned by the pod, so that they go when it goes. */
import {
  PatchStrategy,
  setHeaderOptions,
  type V1ObjectMeta,
  type V1Pod,
  type V1Secret,
  type V1Service,
} from '@kubernetes/client-node';
import { NotYet, TerminalError } from '../../../actors/errors.ts';
import type { ServerRef } from '../../../actors/reservation/ports.ts';
import type { Secret } from '../../../actors/secret.ts';
import { briefly, type KubernetesClient } from './client.ts';
import { attempt, attemptOrNull, hasStatus } from './errors.ts';
import { accessSecretName, belongsTo, environmentSecretName, LABEL, ownedByPod, serverLabels, serverOf } from './objects.ts';

export interface PodIdentity {
  name: string;
  uid: string;
}

/** The two calls by which a kind of object is created or adopted. */
interface Calls<T> {
  what: string;
  create: () => Promise<T>;
  read: () => Promise<T>;
  remove: (uid: string) => Promise<unknown>;
}

type WithMetadata = { metadata?: V1ObjectMeta };

/**
 * Create an object of this pod, or adopt the one that an earlier try left.
 * One left by an earlier pod of that name is on its way out: it is removed, and the caller comes again.
 * @throws TerminalError if a foreign object has the name
 */
async function createOrAdopt<T extends WithMetadata>(server: ServerRef, pod: PodIdentity, calls: Calls<T>): Promise<T> {
  try {
    return await attempt(`creating ${calls.what}`, calls.create);
  } catch (error) {
    if (!hasStatus(error, 409)) throw error;
  }
  const found = await attemptOrNull(`reading ${calls.what}`, calls.read);
  if (found === null) throw new NotYet(100, `${calls.what} was there and is no more`);
  if (!belongsTo(found.metadata, server)) throw new TerminalError(`There is a ${calls.what} on the cluster that is not ours`);
  if (found.metadata?.ownerReferences?.some(({ uid }) => uid === pod.uid)) return found;
  await attemptOrNull(`removing ${calls.what}`, () => calls.remove(found.metadata?.uid ?? ''));
  throw new NotYet(100, `${calls.what} of an earlier pod is being removed`);
}

function metadata(client: KubernetesClient, server: ServerRef, pod: PodIdentity, name: string): V1ObjectMeta {
  return { name, namespace: client.namespace, labels: serverLabels(server), ownerReferences: [ownedByPod(pod)] };
}

/** A NodePort Service to one port of the server; the API server picks the node's port, so two can never get the same. */
export async function ensureService(
  client: KubernetesClient,
  server: ServerRef,
  pod: PodIdentity,
  { name, port, label }: { name: string; port: number; label: string },
): Promise<{ nodePort: number }> {
  const { namespace, core } = client;
  const body: V1Service = {
    metadata: metadata(client, server, pod, name),
    spec: {
      type: 'NodePort',
      externalTrafficPolicy: 'Local',
      selector: { [LABEL.reservation]: server.reservationId, [LABEL.generation]: String(server.generation) },
      ports: [{ name: label, port, targetPort: port, protocol: 'TCP' }],
    },
  };
  const service = await createOrAdopt(server, pod, {
    what: `Service ${name}`,
    create: () => core.createNamespacedService({ namespace, body }),
    read: () => core.readNamespacedService({ namespace, name }),
    remove: (uid) => core.deleteNamespacedService({ namespace, name, body: { preconditions: { uid } } }),
  });
  const nodePort = service.spec?.ports?.[0]?.nodePort;
  if (nodePort === undefined) throw new NotYet(200, `Service ${name} has no port yet`);
  return { nodePort };
}

/** The Secret with the lines of authorized_keys and the Jupyter token. An adopted one keeps its keys: later changes win over ours. */
export async function ensureAccessSecret(
  client: KubernetesClient,
  server: ServerRef,
  pod: PodIdentity,
  { authorizedKeys, jupyterToken }: { authorizedKeys: string[]; jupyterToken: Secret<string> | null },
): Promise<void> {
  const token = jupyterToken?.reveal() ?? '';
  await ensureSecret(client, server, pod, accessSecretName(server), {
    authorized_keys: keyFile(authorizedKeys),
    ...(token === '' ? {} : { jupyter_token: token }),
  });
}

/** The Secret with the user's variables; none is made when there are none. */
export async function ensureEnvironmentSecret(
  client: KubernetesClient,
  server: ServerRef,
  pod: PodIdentity,
  environment: Secret<Record<string, string>>,
): Promise<void> {
  const values = environment.reveal();
  if (Object.keys(values).length === 0) return;
  await ensureSecret(client, server, pod, environmentSecretName(server), values);
}

async function ensureSecret(
  client: KubernetesClient,
  server: ServerRef,
  pod: PodIdentity,
  name: string,
  values: Record<string, string>,
) {
  const { namespace, core } = client;
  const body: V1Secret = { metadata: metadata(client, server, pod, name), type: 'Opaque', data: encoded(values) };
  await createOrAdopt(server, pod, {
    what: `Secret ${name}`,
    create: () => core.createNamespacedSecret({ namespace, body }, briefly()),
    read: () => core.readNamespacedSecret({ namespace, name }),
    remove: (uid) => core.deleteNamespacedSecret({ namespace, name, body: { preconditions: { uid } } }),
  });
}

/** Write the keys into the server's Secret. @returns false if there is no such Secret */
export async function patchKeys(client: KubernetesClient, server: ServerRef, authorizedKeys: string[]): Promise<boolean> {
  const { namespace, core } = client;
  const name = accessSecretName(server);
  const body = { data: encoded({ authorized_keys: keyFile(authorizedKeys) }) };
  const patched = await attemptOrNull(`writing Secret ${name}`, () =>
    core.patchNamespacedSecret({ namespace, name, body }, setHeaderOptions('Content-Type', PatchStrategy.MergePatch)),
  );
  return patched !== null;
}

/** Remove Services and Secrets of this life of the reservation and of earlier ones. Missing ones are fine. */
export async function removeLeftovers(client: KubernetesClient, server: ServerRef): Promise<void> {
  const { namespace, core } = client;
  const labelSelector = `${LABEL.managedBy}=gpu-dev,${LABEL.reservation}=${server.reservationId}`;
  const [services, secrets] = await Promise.all([
    attempt('listing services', () => core.listNamespacedService({ namespace, labelSelector })),
    attempt('listing secrets', () => core.listNamespacedSecret({ namespace, labelSelector })),
  ]);
  const old = ({ metadata: found }: WithMetadata): boolean => (serverOf(found)?.generation ?? Infinity) <= server.generation;
  await Promise.all([
    ...services.items.filter(old).map((one) => removeFound(one, (call) => core.deleteNamespacedService({ namespace, ...call }))),
    ...secrets.items.filter(old).map((one) => removeFound(one, (call) => core.deleteNamespacedSecret({ namespace, ...call }))),
  ]);
}

/** Delete exactly the object that was found; if another has its name by now, ours is gone. */
async function removeFound(
  { metadata: { name = '', uid } = {} }: WithMetadata,
  call: (request: { name: string; body: { preconditions?: { uid: string } } }) => Promise<unknown>,
): Promise<void> {
  try {
    await attemptOrNull(`removing ${name}`, () => call({ name, body: uid === undefined ? {} : { preconditions: { uid } } }));
  } catch (error) {
    if (!hasStatus(error, 409)) throw error;
  }
}

/** The pod of a server, or null if the API server says that there is none. @throws Error if its name is taken by what is not ours */
export async function readPod(client: KubernetesClient, server: ServerRef, name: string): Promise<V1Pod | null> {
  const { namespace, core } = client;
  const pod = await attemptOrNull(`reading pod ${name}`, () => core.readNamespacedPod({ namespace, name }));
  // No TerminalError and no "gone": a pod of ours that lost its labels still holds its GPUs. A person must look.
  if (pod !== null && !belongsTo(pod.metadata, server))
    throw new Error(`The pod ${name} on the cluster does not bear our labels`);
  return pod;
}

const keyFile = (lines: string[]): string => lines.map((line) => `${line.trim()}\n`).join('');

function encoded(values: Record<string, string>): Record<string, string> {
  return Object.fromEntries(Object.entries(values).map(([name, value]) => [name, Buffer.from(value).toString('base64')]));
}
