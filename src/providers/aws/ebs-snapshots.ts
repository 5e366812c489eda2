/** Snapshots of disks in EBS: taken once each, found again after a crash, and believed only if they are on record. */
import { Filling, type SnapshotProgress } from '../../../actors/disk/ports.ts';
import { NotYet, TerminalError } from '../../../actors/errors.ts';
import type { Store } from '../../../persistence/database.ts';
import {
  attemptSnapshot,
  diskFacts,
  type EbsSnapshot,
  forgetSnapshot,
  giveUpSnapshot,
  intendSnapshot,
  snapshotDone,
  snapshotOf,
  snapshotTaken,
} from '../../../persistence/ebs.ts';
import type { Ec2, SnapshotView } from './ec2.ts';
import { AwsError } from './errors.ts';
import { bearsTags, TAG } from './tags.ts';

const GIB = 2 ** 30;
/** A snapshot takes minutes or hours, and looks at it share one allowance of the account: often at first, then seldom. */
const LOOK_MS = { atFirst: 2_000, later: 15_000 } as const;

/** A snapshot that a new volume may start from. */
export interface Origin {
  ebsSnapshotId: string;
  sizeGb: number;
}

export class EbsSnapshots {
  readonly #db: Store;
  readonly #ec2: Ec2;

  constructor(db: Store, ec2: Ec2) {
    this.#db = db;
    this.#ec2 = ec2;
  }

  /**
   * Take the snapshot of that id, or look at it.
   * @param volume of this disk, with nobody writing to it
   */
  async take(snapshotId: string, volume: { diskId: string; volumeId: string; generation: number }): Promise<SnapshotProgress> {
    await intendSnapshot(this.#db, { snapshotId, diskId: volume.diskId, volumeId: volume.volumeId });
    const record = await snapshotOf(this.#db, snapshotId);
    if (record === null || record.diskId !== volume.diskId) return failed(`The snapshot ${snapshotId} is another disk's`);
    if (record.ebsSnapshotId !== null) return this.progress(record);
    if (!(await attemptSnapshot(this.#db, snapshotId))) return { state: 'pending', percent: 0 };
    const view = (await this.#find(record)) ?? (await this.#create(record, volume.generation));
    if (typeof view !== 'string') return progressOf(view);
    return { state: 'pending', percent: 0 };
  }

  /** How far a snapshot on record has come. */
  async progress(record: EbsSnapshot): Promise<SnapshotProgress> {
    if (record.ebsSnapshotId === null) return { state: 'pending', percent: 0 };
    const view = await this.#ec2.snapshot(record.ebsSnapshotId);
    if (view === null && record.fresh) return { state: 'pending', percent: 0 };
    if (view === null) return { state: 'failed', reason: `EBS has no snapshot ${record.ebsSnapshotId} any more` };
    const progress = progressOf(view);
    if (progress.state === 'complete') await snapshotDone(this.#db, record.snapshotId);
    if (progress.state !== 'pending') return progress;
    return { ...progress, lookAgainMs: record.fresh ? LOOK_MS.atFirst : LOOK_MS.later };
  }

  /** Whether this volume's data is proven to be in that snapshot. */
  async holds(snapshotId: string, volume: { diskId: string; volumeId: string }): Promise<boolean> {
    const record = await snapshotOf(this.#db, snapshotId);
    if (record === null || record.diskId !== volume.diskId || record.volumeId !== volume.volumeId) return false;
    return (await this.progress(record)).state === 'complete';
  }

  /**
   * What a volume is to start from: of this disk, or of the one that it is a clone of. Only what is on record counts, whatever tags say.
   * @throws TerminalError if there is none, or it is broken; NotYet while it is not complete
   */
  async origin(snapshotId: string): Promise<Origin> {
    const record = await snapshotOf(this.#db, snapshotId);
    const gone = `The snapshot ${snapshotId} of this disk does not exist`;
    if (record === null) throw new TerminalError(gone);
    if (record.ebsSnapshotId === null) throw new NotYet(1_000, `The snapshot ${snapshotId} is being taken`);
    const view = await this.#ec2.snapshot(record.ebsSnapshotId);
    if (view === null) throw new TerminalError(gone);
    if (view.state === 'pending') throw new Filling(1_000, view.percent, `The snapshot ${snapshotId} is at ${view.percent} %`);
    if (view.state !== 'completed') throw new TerminalError(`The snapshot ${snapshotId} is unusable: ${view.why || view.state}`);
    return { ebsSnapshotId: view.id, sizeGb: view.sizeGb };
  }

  /** Delete what is on record as this disk's under this id, and copies of it that a broken attempt left; whatever else stays. */
  async remove(diskId: string, snapshotId: string): Promise<void> {
    const record = await snapshotOf(this.#db, snapshotId);
    if (record === null || record.diskId !== diskId) return;
    const tags = this.#tags(record);
    const known = record.ebsSnapshotId === null ? null : await this.#ec2.snapshot(record.ebsSnapshotId);
    const all = new Map((await this.#ec2.snapshots(tags, record.volumeId)).map((view) => [view.id, view]));
    if (known !== null && bearsTags(known.tags, tags)) all.set(known.id, known);
    for (const id of all.keys()) await this.#ec2.deleteSnapshot(id);
    await forgetSnapshot(this.#db, snapshotId);
  }

  /** One that an earlier attempt took. Copies by others name another volume, or none. */
  async #find(record: EbsSnapshot): Promise<SnapshotView | null> {
    const found = await this.#ec2.snapshots(this.#tags(record), record.volumeId);
    const [first] = found.sort(
      (a, b) => (a.startedAt?.getTime() ?? 0) - (b.startedAt?.getTime() ?? 0) || a.id.localeCompare(b.id),
    );
    if (first === undefined) return null;
    await snapshotTaken(this.#db, record.snapshotId, first.id);
    return first;
  }

  async #create(record: EbsSnapshot, generation: number): Promise<string> {
    const facts = await diskFacts(this.#db, record.diskId);
    let id: string;
    try {
      id = await this.#ec2.createSnapshot(record.volumeId, `gpu-dev disk ${record.diskId}: ${record.snapshotId}`, {
        ...this.#tags(record),
        [TAG.owner]: facts?.owner,
        [TAG.diskName]: facts?.name,
        [TAG.reservation]: facts?.reservationId,
        [TAG.generation]: String(generation),
        [TAG.name]: `gpu-dev-${facts?.owner}-${facts?.name}`,
      });
    } catch (error) {
      if (error instanceof AwsError && error.undone) await giveUpSnapshot(this.#db, record.snapshotId);
      throw error;
    }
    await snapshotTaken(this.#db, record.snapshotId, id);
    return id;
  }

  #tags({ diskId, snapshotId }: EbsSnapshot): Record<string, string> {
    return { [TAG.cluster]: this.#ec2.service.settings.cluster, [TAG.disk]: diskId, [TAG.snapshot]: snapshotId };
  }
}

function failed(reason: string): SnapshotProgress {
  return { state: 'failed', reason };
}

function progressOf({ state, percent, why, bytes, sizeGb }: SnapshotView): SnapshotProgress {
  if (state === 'completed') return { state: 'complete', sizeBytes: bytes ?? sizeGb * GIB };
  if (state === 'pending') return { state: 'pending', percent };
  return failed(`EBS could not take the snapshot: ${why || state}`);
}
