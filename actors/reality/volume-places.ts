/**
 * Where the volumes are of disks of which nobody has asked yet: those that had their volume before places were recorded, and those whose storage
 * did not answer at the end of their session.
 */
import { randomUUID } from 'node:crypto';
import type { DiskMessage } from '../../machines/disk.events.ts';
import type { Queryable } from '../../persistence/database.ts';
import type { Message } from '../../persistence/mailbox.ts';
import type { Volumes } from '../disk/ports.ts';
import { eachOf } from '../gpu-pool/parallel.ts';

/** Disks that are asked about in one comparison. */
const AT_MOST = 200;

// In any order: one whose storage never says where it is must not hide the others.
const UNPLACED = `
  select disk_id as "diskId", volume_claim as claim from disks
   where volume_claim is not null and volume_place is null and purged_at is null and state in ('idle', 'held', 'attached', 'deleted')
   order by random() limit $1`;

export interface PlacesSettings {
  db: Queryable;
  placeOf: NonNullable<Volumes['placeOf']>;
  post: (messages: readonly Message[]) => Promise<unknown>;
  isOver: () => boolean;
  onError: (error: unknown) => void;
}

/**
 * Ask for the places that are not known, and tell the disks. Storage that does not say is asked again at the next comparison.
 * @returns the disks that were told
 * @throws the database's error
 */
export async function tellPlaces({ db, placeOf, post, isOver, onError }: PlacesSettings): Promise<string[]> {
  const { rows } = await db.query<{ diskId: string; claim: string }>(UNPLACED, [AT_MOST]);
  const told: string[] = [];
  const messages: Message[] = [];
  const ask = async ({ diskId, claim }: { diskId: string; claim: string }) => {
    const place = isOver() ? null : await placeOf(diskId);
    if (place === null) return;
    const event: DiskMessage = { type: 'volume.placed', claim, place };
    messages.push({ actor: `disk/${diskId}`, key: `placed:${randomUUID()}`, event, sender: 'reality' });
    told.push(diskId);
  };
  await eachOf(rows, ask, onError);
  if (messages.length > 0) await post(messages);
  return told;
}
