/** Who uses a volume: the proof that nobody does is what a snapshot waits for. */
import type { V1Pod, V1VolumeAttachment } from '@kubernetes/client-node';
import type { KubernetesClient } from '../kubernetes/client.ts';
import { attempt, hasStatus } from '../kubernetes/errors.ts';
import { LABEL } from '../kubernetes/objects.ts';

const PAGE = 500;

/**
 * How many pods and nodes hold the claim. Servers bear its name as a label, so they are found by it. Anybody else's pod shows by
 * the node that its volume is attached to; where volumes are not attached at all, every pod of the namespace is looked at.
 */
export async function usersOf(client: KubernetesClient, claim: string, volume: string | null): Promise<number> {
  const { core, namespace } = client;
  const labelled = await attempt(`listing pods of ${claim}`, () =>
    core.listNamespacedPod({ namespace, labelSelector: `${LABEL.claim}=${claim}` }),
  );
  const servers = labelled.items.filter((pod) => uses(pod, claim)).length;
  // A claim without a volume was never mounted.
  if (servers > 0 || volume === null) return servers;
  const nodes = await attachments(client, volume);
  if (nodes !== null && (nodes > 0 || (await isAttachable(client, volume)))) return nodes;
  return count(
    (next) =>
      attempt('listing pods', () => core.listNamespacedPod({ namespace, limit: PAGE, ...(next ? { _continue: next } : {}) })),
    (pod: V1Pod) => uses(pod, claim),
  );
}

/** A pod that ended has let go of its volumes, or its node's attachment shows that it has not. */
function uses(pod: V1Pod, claim: string): boolean {
  const ended = pod.status?.phase === 'Succeeded' || pod.status?.phase === 'Failed';
  return !ended && (pod.spec?.volumes ?? []).some(({ persistentVolumeClaim }) => persistentVolumeClaim?.claimName === claim);
}

/** Nodes that the volume is attached to; null if we may not know. */
async function attachments({ storage }: KubernetesClient, volume: string): Promise<number | null> {
  try {
    return await count(
      (next) =>
        attempt('listing attachments', () => storage.listVolumeAttachment({ limit: PAGE, ...(next ? { _continue: next } : {}) })),
      (attachment: V1VolumeAttachment) => attachment.spec.source.persistentVolumeName === volume,
    );
  } catch (error) {
    if (hasStatus(error, 403) || hasStatus(error, 404)) return null;
    throw error;
  }
}

/** Whether the driver attaches volumes to nodes, so that no attachment means no user. */
async function isAttachable({ core, storage }: KubernetesClient, volume: string): Promise<boolean> {
  try {
    const { spec } = await attempt(`reading volume ${volume}`, () => core.readPersistentVolume({ name: volume }));
    const driver = spec?.csi?.driver;
    if (driver === undefined) return false;
    const found = await attempt(`reading driver ${driver}`, () => storage.readCSIDriver({ name: driver }));
    return found.spec.attachRequired !== false;
  } catch (error) {
    if (hasStatus(error, 403) || hasStatus(error, 404)) return false;
    throw error;
  }
}

async function count<T>(
  list: (next: string | undefined) => Promise<{ items: T[]; metadata?: { _continue?: string } }>,
  matches: (item: T) => boolean,
): Promise<number> {
  let found = 0;
  let next: string | undefined;
  do {
    const page = await list(next);
    found += page.items.filter(matches).length;
    next = page.metadata?._continue;
  } while (next !== undefined && next !== '');
  return found;
}
