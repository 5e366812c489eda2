/** How far a snapshot is: its disk is told from time to time, and tells whoever waits for it. */
import type { DiskMessage } from '../../machines/disk.events.ts';
import type { Store } from '../../persistence/database.ts';
import { enqueue } from '../../persistence/mailbox.ts';
import type { SnapshotProgress } from './ports.ts';

/** News are whole steps of so many percent: each is a turn of the disk and of the reservation that waits for it. */
const STEP = 5;

/** Tells each step once; which was told last is only remembered so that nothing is sent in vain. */
export class SnapshotTeller {
  readonly #db: Store;
  readonly #told = new Map<string, number>();

  constructor(db: Store) {
    this.#db = db;
  }

  /** @throws the database's error */
  async tell(diskId: string, round: number, progress: SnapshotProgress): Promise<void> {
    if (progress.state !== 'pending') {
      this.#told.delete(diskId);
      return;
    }
    const percent = Math.floor(progress.percent / STEP) * STEP;
    const step = round * 1_000 + percent;
    if (percent === 0 || this.#told.get(diskId) === step) return;
    const event: DiskMessage = { type: 'snapshot.progress', round, percent };
    await enqueue(this.#db, [{ actor: `disk/${diskId}`, key: `progress:${round}:${percent}`, event, sender: 'effect' }]);
    this.#told.set(diskId, step);
  }
}

/** What a snapshot that is not complete waits for, in words. */
export function wordsOf({ percent, detail }: Extract<SnapshotProgress, { state: 'pending' }>): string {
  const far = `The snapshot is at ${Math.round(percent)} %`;
  return detail === undefined ? far : `${far} (${detail})`;
}
