/** Questions about single nodes. */
import type { KubernetesClient } from './client.ts';
import { asPort, attemptOrNull } from './errors.ts';

/**
 * Whether the node object is gone.
 * @returns true only if the API server answers 404 for it
 * @throws KubernetesError if it gave another answer or none
 */
export function nodeGone(client: KubernetesClient, name: string): Promise<boolean> {
  return asPort(async () => (await attemptOrNull(`reading node ${name}`, () => client.core.readNode({ name }))) === null);
}
