/** Takes a disk over: its row, what its provider has of it, and its birth as what it is. */
import type { Kernel } from '../../actors/kernel/kernel.ts';
import type { DiskMessage } from '../../machines/disk.events.ts';
import type { Transaction } from '../../persistence/database.ts';
import type { Message } from '../../persistence/mailbox.ts';
import type { DiskPlan } from './plan-disks.ts';
import type { DiskRemains } from './ports.ts';

/** Who sends what a rebuild brings back. */
export const SENDER = 'rebuild';

/** It cannot be taken over now: what stands in the way, in words for the operator. Nothing was written. */
export class Refused extends Error {
  override readonly name = 'Refused';
}

const INSERT_DISK = `
  insert into disks (disk_id, user_id, disk_name, size_gb, created_at) values ($1, $2, $3, $4, $5) on conflict do nothing`;

/** The server that uses a disk. */
export interface Holder {
  reservationId: string;
  generation: number;
  node: string;
  zone: string | null;
}

/**
 * Take it over, in the transaction of the caller.
 * @param held by whom it is used now; null: by nobody
 * @returns the messages by which it is born
 * @throws Refused if the database has a disk of this id or of this name
 */
export async function adoptDisk(tx: Transaction, remains: DiskRemains, disk: DiskPlan, held: Holder | null): Promise<Message[]> {
  const { id, owner, name, sizeGb, createdAt, round, latest, deleteAt, volume, snapshots } = disk;
  const { rowCount } = await tx.query(INSERT_DISK, [id, owner, name, sizeGb, createdAt]);
  if (rowCount === 0) throw new Refused('The database has a disk of this id, or another of this name');
  await remains.adopt(tx, id, volume, snapshots);
  const event: DiskMessage = {
    type: 'disk.adopted',
    id,
    owner,
    name,
    sizeGb,
    round,
    claim: volume?.claim ?? null,
    latestSnapshot: latest,
    snapshots: snapshots.map(({ snapshotId, sizeBytes, createdAt: takenAt }) => ({
      snapshotId,
      reservationId: null,
      sizeBytes,
      createdAt: takenAt,
    })),
    held,
    deleteAt: held === null ? deleteAt : null,
  };
  return [{ actor: `disk/${id}`, key: 'adopted', event, sender: SENDER }];
}

/** What a rebuild works with. */
export type Poster = Pick<Kernel, 'post' | 'pump'>;
