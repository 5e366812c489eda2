/** How far a snapshot is, or what is copied into a volume: the disk is told from time to time, and tells whoever waits for it. */
import type { DiskMessage } from '../../machines/disk.events.ts';
import type { Store } from '../../persistence/database.ts';
import { enqueue } from '../../persistence/mailbox.ts';
import type { SnapshotProgress } from './ports.ts';

/** News are whole steps of so many percent: each is a turn of the disk and of the reservation that waits for it. */
const STEP = 5;

/** Tells each step once; which was told last is only remembered so that nothing is sent in vain. */
export class ProgressTeller {
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
    if (progress.percent >= STEP) await this.#tell(diskId, 'snapshot.progress', round, progress.percent);
  }

  /**
   * Data comes into the volume. Each step is told once a round, so one that begins anew gains no time by it.
   * @throws the database's error
   */
  async tellFilling(diskId: string, round: number, percent: number): Promise<void> {
    await this.#tell(diskId, 'volume.progress', round, percent);
  }

  /** All of it is there, or none will be. */
  end(diskId: string): void {
    this.#told.delete(diskId);
  }

  async #tell(diskId: string, type: 'snapshot.progress' | 'volume.progress', round: number, exact: number): Promise<void> {
    const percent = Math.floor(exact / STEP) * STEP;
    const step = round * 1_000 + percent;
    if (this.#told.get(diskId) === step) return;
    const event: DiskMessage = { type, round, percent };
    await enqueue(this.#db, [{ actor: `disk/${diskId}`, key: `progress:${round}:${percent}`, event, sender: 'effect' }]);
    this.#told.set(diskId, step);
  }
}

/** What a snapshot that is not complete waits for, in words. */
export function wordsOf({ percent, detail }: Extract<SnapshotProgress, { state: 'pending' }>): string {
  const far = `The snapshot is at ${Math.round(percent)} %`;
  return detail === undefined ? far : `${far} (${detail})`;
}
