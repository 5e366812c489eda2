/**
 * Compares database and cluster: when this process takes over the lease (so at its start), on a schedule, and when somebody asks. One process at
 * a time does it. Whoever asks may be another one, without rights on the cluster: what is asked for stands in the database.
 */
import { randomUUID } from 'node:crypto';
import type { Store } from '../../persistence/database.ts';
import { dropLease, holdLease, LeaseLostError } from '../../persistence/leases.ts';
import { endRun, type Report, requestRun, type RunRow, takeRun } from '../../persistence/reality.ts';
import type { Kernel } from '../kernel/kernel.ts';
import { type Clock, databaseClock } from '../kernel/kind.ts';
import { Loop } from '../kernel/loop.ts';
import { type CloudReport, sweepCloud } from './cloud-disks.ts';
import type { CloudDisks } from './cloud-ports.ts';
import { CloudRest } from './cloud-rest.ts';
import { releaseEndedHolders } from './ended-holders.ts';
import type { Volumes } from '../disk/ports.ts';
import type { Reality } from './ports.ts';
import { sweep, type SweepSettings } from './sweep.ts';
import { tellPlaces } from './volume-places.ts';

const LEASE = 'reality';
/** Where a request for a comparison is announced. */
export const REALITY_CHANNEL = 'reality';
/** Lines of a report, at most. */
const LINES = 1_000;
/** How often requests are looked for that nobody announced, in milliseconds. */
const LOOK_MS = 5_000;
const SCHEDULE = 'the schedule';
/** How often it is looked for disks whose holders have ended. */
const HOLDERS_MS = 15_000;

export interface ReconcilerSettings {
  db: Store;
  kernel: Pick<Kernel, 'post' | 'wake'>;
  reality: Reality;
  /** Disks in a cloud, compared beside the cluster; null: disks are on the cluster. */
  cloud?: CloudDisks | null;
  /** Where a disk's volume is; left out: everywhere. */
  placeOf?: Volumes['placeOf'];
  /** Between two comparisons, in milliseconds. */
  everyMs: number;
  /** Between the first sight of something that has ended and its removal, in milliseconds. */
  graceMs: number;
  clock?: Clock;
  onReport?: (report: Report, dryRun: boolean) => void;
  onError: (error: unknown) => void;
  leaseSeconds?: number;
  random?: () => number;
}

export class Reconciler {
  readonly #settings: ReconcilerSettings;
  readonly #holder = randomUUID();
  readonly #lease: Loop;
  readonly #work: Loop;
  readonly #holders: Loop;
  readonly #rest: CloudRest;
  readonly #random: () => number;
  #token: number | null = null;
  #next = 0;
  #stopping = false;

  constructor(settings: ReconcilerSettings) {
    this.#settings = settings;
    const { leaseSeconds: seconds = 10, random = Math.random } = settings;
    this.#random = random;
    this.#rest = new CloudRest(settings.everyMs, random);
    this.#lease = new Loop({ name: 'reality lease', work: () => this.#keepLease(seconds), onError: settings.onError });
    this.#work = new Loop({ name: 'reality', work: () => this.#serve(), onError: settings.onError });
    this.#holders = new Loop({ name: 'ended holders', work: () => this.#freeDisks(), onError: settings.onError });
  }

  start(): void {
    this.#lease.start();
    this.#work.start();
    this.#holders.start();
  }

  /** Somebody may have asked for a comparison. */
  wake(): void {
    this.#work.wake();
    this.#holders.wake();
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    await Promise.all([this.#lease.stop(), this.#work.stop(), this.#holders.stop()]);
    if (this.#token !== null) await dropLease(this.#settings.db, LEASE, this.#holder).catch(() => {});
    this.#token = null;
  }

  async #keepLease(seconds: number): Promise<number> {
    const token = await holdLease(this.#settings.db, LEASE, this.#holder, seconds);
    if (token !== this.#token) {
      this.#token = token;
      this.#next = 0;
      this.#work.wake();
    }
    return (seconds * 1000) / 3;
  }

  /** A lock whose owner has ended is gone within a minute: no comparison is waited for. */
  async #freeDisks(): Promise<number> {
    const { db, kernel } = this.#settings;
    if (this.#token === null) return LOOK_MS;
    const freed = await releaseEndedHolders(db, (messages) => kernel.post(messages));
    if (freed.length > 0) kernel.wake();
    return HOLDERS_MS;
  }

  /** What is asked for first, then what is due. */
  async #serve(): Promise<number> {
    const { db, everyMs } = this.#settings;
    const token = this.#token;
    if (token === null) return LOOK_MS;
    const asked = await takeRun(db);
    if (asked !== null) {
      await this.#run(asked, token);
      return 0;
    }
    const wait = this.#next - performance.now();
    if (wait > 0) return Math.min(wait, LOOK_MS);
    // Those who share an account do not come together.
    this.#next = performance.now() + everyMs * (0.9 + this.#random() / 5);
    await requestRun(db, { id: randomUUID(), dryRun: false, by: SCHEDULE });
    return 0;
  }

  /** A run that fails says why, and the next one tries anew. One that is cut off by a lost lease is taken up by the next holder. */
  async #run({ id, dry_run: dryRun, asked_by: by }: RunRow, token: number): Promise<void> {
    const { db, kernel, reality, cloud = null, placeOf, graceMs, clock = databaseClock, onError, onReport } = this.#settings;
    const isOver = () => this.#stopping || this.#token !== token;
    let report: Report | null = null;
    let error: string | null = null;
    try {
      const settings: Omit<SweepSettings, 'reality'> = {
        db,
        clock,
        graceMs,
        lease: { name: LEASE, token },
        isOver,
        onError,
        post: async (messages) => {
          await kernel.post(messages);
          kernel.wake();
        },
      };
      report = await sweep({ ...settings, reality }, { dryRun });
      if (cloud !== null) {
        const left = by === SCHEDULE ? this.#rest.left(performance.now()) : 0;
        if (left > 0) report = joined(report, resting(left));
        else {
          const found = await sweepCloud({ ...settings, cloud }, { dryRun });
          this.#rest.note(found.unanswered.length === 0, performance.now());
          report = joined(report, found);
        }
      }
      if (placeOf !== undefined && !dryRun && !isOver()) await tellPlaces({ ...settings, placeOf });
      onReport?.(report, dryRun);
    } catch (cause) {
      if (cause instanceof LeaseLostError) {
        // Another has it: without this the same comparison would begin again at once.
        this.#token = null;
        return;
      }
      onError(cause);
      error = cause instanceof Error ? cause.message : String(cause);
    }
    if (!isOver()) await endRun(db, id, { report, error });
  }
}

function resting(milliseconds: number): CloudReport {
  const seconds = Math.ceil(milliseconds / 1000);
  return { lines: [], unanswered: [`EBS did not answer the last time: the schedule leaves it alone for ${seconds} s more`] };
}

/** Both in one; what does not fit is counted, and on record all the same. */
function joined(report: Report, { lines, unanswered }: CloudReport): Report {
  const all = [...report.findings, ...lines];
  return {
    findings: all.slice(0, LINES),
    left_out: report.left_out + Math.max(0, all.length - LINES),
    unanswered: [...report.unanswered, ...unanswered],
  };
}
