/** What is on a disk, for people: told by its server before that goes, or by whoever takes the snapshot. Nice to have, and never in the way. */
import { dropListing, keepListing, linkListing, recordContents } from '../../persistence/disk-contents.ts';
import type { Store } from '../../persistence/database.ts';
import { ServerGoneError } from '../errors.ts';
import type { DiskContents } from './ports.ts';

/**
 * Keep what a complete snapshot holds: what was seen in it, else what its server told at the end of the session. Never fails: a snapshot without
 * a listing is a good one.
 */
export async function keepContents(db: Store, snapshotId: string, seen: DiskContents | null): Promise<void> {
  try {
    if (seen !== null) await recordContents(db, snapshotId, seen);
    await linkListing(db, snapshotId);
  } catch {
    // Then nobody has listed it, and the API says so.
  }
}

/**
 * Ask a server what is on its disk, and keep that for the snapshot that is taken next. Never fails; how long it takes is `list`'s affair.
 * What was told earlier counts no more, unless `list` says by a ServerGoneError that there is nobody to be asked.
 */
export async function askForContents(
  db: Store,
  { diskId, reservationId }: { diskId: string; reservationId: string },
  list: () => Promise<DiskContents | null>,
): Promise<void> {
  try {
    const told = await list().catch((error: unknown) => (error instanceof ServerGoneError ? 'gone' : null));
    if (told === null) await dropListing(db, diskId);
    else if (told !== 'gone') await keepListing(db, diskId, reservationId, told);
  } catch {
    // The same.
  }
}
