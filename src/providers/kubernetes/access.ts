/** What surrounds the pod of a dev server: its Secrets, its scripts, and the removal of all of it. */
import { createHash } from 'node:crypto';
import { PatchStrategy, setHeaderOptions, type V1Pod, type V1Secret } from '@kubernetes/client-node';
import type { ServerRef } from '../../../actors/reservation/ports.ts';
import type { Secret } from '../../../actors/secret.ts';
import { briefly, type KubernetesClient } from './client.ts';
import { attempt, attemptOrNull } from './errors.ts';
import { policyCalls } from './network-policy.ts';
import {
  ANNOTATION,
  accessSecretName,
  belongsTo,
  environmentSecretName,
  jupyterPolicyName,
  jupyterServiceName,
  podName,
  policyName,
  scriptsName,
  sshServiceName,
} from './objects.ts';
import { createOrAdopt, ownedMetadata, type PodIdentity, removeOwned } from './owned.ts';
import { scriptsData } from './scripts.ts';
import { serviceCalls } from './services.ts';

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
  const body: V1Secret = {
    metadata: ownedMetadata(client, server, pod, name),
    type: 'Opaque',
    data: encoded(values),
  };
  await createOrAdopt(server, pod, {
    ...secretCalls(client, name),
    create: () => core.createNamespacedSecret({ namespace, body }, briefly()),
  });
}

/** The ConfigMap with the scripts of this server. One that an earlier try left is kept, whichever version it has: the pod may run it. */
export async function ensureScripts(client: KubernetesClient, server: ServerRef, pod: PodIdentity): Promise<void> {
  const { namespace, core } = client;
  const name = scriptsName(server);
  const { labels, ...content } = scriptsData();
  const body = { metadata: ownedMetadata(client, server, pod, name, labels), ...content };
  await createOrAdopt(server, pod, {
    ...configMapCalls(client, name),
    create: () => core.createNamespacedConfigMap({ namespace, body }, briefly()),
  });
}

function secretCalls({ namespace, core }: KubernetesClient, name: string) {
  return {
    what: `Secret ${name}`,
    read: () => core.readNamespacedSecret({ namespace, name }, briefly()),
    remove: (uid: string) => core.deleteNamespacedSecret({ namespace, name, body: { preconditions: { uid } } }),
  };
}

function configMapCalls({ namespace, core }: KubernetesClient, name: string) {
  return {
    what: `ConfigMap ${name}`,
    read: () => core.readNamespacedConfigMap({ namespace, name }, briefly()),
    remove: (uid: string) => core.deleteNamespacedConfigMap({ namespace, name, body: { preconditions: { uid } } }),
  };
}

/** Write the keys into the server's Secret, and make its node look there now and not in a minute. @returns false if there is no such Secret */
export async function patchKeys(client: KubernetesClient, server: ServerRef, authorizedKeys: string[]): Promise<boolean> {
  const { namespace, core } = client;
  const name = accessSecretName(server);
  const file = keyFile(authorizedKeys);
  const merge = setHeaderOptions('Content-Type', PatchStrategy.MergePatch);
  const patched = await attemptOrNull(`writing Secret ${name}`, () =>
    core.patchNamespacedSecret({ namespace, name, body: { data: encoded({ authorized_keys: file }) } }, merge),
  );
  if (patched === null) return false;
  const pod = podName(server);
  const body = {
    metadata: { annotations: { [ANNOTATION.keys]: createHash('sha256').update(file).digest('hex').slice(0, 16) } },
  };
  await attemptOrNull(`marking pod ${pod}`, () => core.patchNamespacedPod({ namespace, name: pod, body }, merge));
  return true;
}

/**
 * Remove what surrounds this life of the reservation and earlier ones. Missing ones are fine: they went with their pod.
 * By name: a list would make the API server walk everybody's objects for each server that ends.
 */
export async function removeLeftovers(client: KubernetesClient, { reservationId, generation }: ServerRef): Promise<void> {
  const lives = Array.from({ length: generation }, (_, index) => ({ reservationId, generation: index + 1 }));
  await Promise.all(
    lives.flatMap((server) => [
      removeOwned(server, serviceCalls(client, sshServiceName(server))),
      removeOwned(server, serviceCalls(client, jupyterServiceName(server))),
      removeOwned(server, policyCalls(client, policyName(server))),
      removeOwned(server, policyCalls(client, jupyterPolicyName(server))),
      removeOwned(server, secretCalls(client, accessSecretName(server))),
      removeOwned(server, secretCalls(client, environmentSecretName(server))),
      removeOwned(server, configMapCalls(client, scriptsName(server))),
    ]),
  );
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

/** Where the ports of a node answer. @throws KubernetesError */
export async function readNode(client: KubernetesClient, name: string) {
  return attempt(`reading node ${name}`, () => client.core.readNode({ name }));
}

const keyFile = (lines: string[]): string => lines.map((line) => `${line.trim()}\n`).join('');

function encoded(values: Record<string, string>): Record<string, string> {
  return Object.fromEntries(Object.entries(values).map(([name, value]) => [name, Buffer.from(value).toString('base64')]));
}
