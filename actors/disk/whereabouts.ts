/** Where a disk's volume is, and whether its server can be where it was granted. */
import type { VolumePlace } from '../../machines/disk.events.ts';
import type { Queryable } from '../../persistence/database.ts';
import { isFixed, isIn } from '../gpu-pool/places.ts';
import type { Volumes } from './ports.ts';

/**
 * The place of the disk's volume, as its storage says it now; null if that is not decided, or the storage does not answer: nothing waits for it,
 * and what is not known now is found by the comparison with the cluster.
 */
export async function placeOf(volumes: Volumes, diskId: string): Promise<VolumePlace | null> {
  return (await volumes.placeOf?.(diskId).catch(() => null)) ?? null;
}

export const LABELS_OF_NODE = 'select node, labels from nodes where node = $1';

/** Whether the volume can certainly not be used on the node. @throws the database's error */
export async function isElsewhere(db: Queryable, node: string, place: VolumePlace | null): Promise<boolean> {
  if (!isFixed(place)) return false;
  const { rows } = await db.query<{ node: string; labels: Record<string, string> }>(LABELS_OF_NODE, [node]);
  return rows[0] !== undefined && !isIn(rows[0], place);
}
