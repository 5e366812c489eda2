/** Objects that belong to the pod of a dev server: created or adopted, owned by it, so that they go when it goes. */
import type { V1ObjectMeta } from '@kubernetes/client-node';
import { NotYet, TerminalError } from '../../../actors/errors.ts';
import type { ServerRef } from '../../../actors/reservation/ports.ts';
import type { KubernetesClient } from './client.ts';
import { attempt, attemptOrNull, hasStatus } from './errors.ts';
import { belongsTo, ownedByPod, serverLabels } from './objects.ts';

export interface PodIdentity {
  name: string;
  uid: string;
}

export type WithMetadata = { metadata?: V1ObjectMeta };

/** The calls by which one object is created or adopted. */
export interface Calls<T> {
  /** Kind and name, for words to people. */
  what: string;
  create: () => Promise<T>;
  read: () => Promise<T>;
  remove: (uid: string) => Promise<unknown>;
}

/**
 * Create an object of this pod, or adopt the one that an earlier try left.
 * One left by an earlier pod of that name is on its way out: it is removed, and the caller comes again.
 * @throws TerminalError if a foreign object has the name
 */
export async function createOrAdopt<T extends WithMetadata>(server: ServerRef, pod: PodIdentity, calls: Calls<T>): Promise<T> {
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

/** Metadata of an object of this server's pod. */
export function ownedMetadata(
  client: KubernetesClient,
  server: ServerRef,
  pod: PodIdentity,
  name: string,
  labels: Record<string, string> = {},
): V1ObjectMeta {
  return {
    name,
    namespace: client.namespace,
    labels: { ...serverLabels(server), ...labels },
    ownerReferences: [ownedByPod(pod)],
  };
}

/** Remove an object of this server, and exactly the one that was looked at. A foreign one of that name stays; a missing one is fine. */
export async function removeOwned<T extends WithMetadata>(
  server: ServerRef,
  { what, read, remove }: Omit<Calls<T>, 'create'>,
): Promise<void> {
  const found = await attemptOrNull(`reading ${what}`, read);
  if (found === null || !belongsTo(found.metadata, server)) return;
  try {
    await attemptOrNull(`removing ${what}`, () => remove(found.metadata?.uid ?? ''));
  } catch (error) {
    // Another has its name by now, so ours is gone.
    if (!hasStatus(error, 409)) throw error;
  }
}
