/** Retention: what has ended and is old enough goes, in small portions, so that tables stay bounded. Nothing that holds user data is touched. */
import { Loop } from '../actors/kernel/loop.ts';
import type { Database } from '../persistence/database.ts';
import { pruneClaims } from '../persistence/quotas.ts';
import {
  pruneAnsweredRequests,
  pruneArchive,
  pruneBuildContexts,
  pruneBuildLines,
  pruneDeadLetters,
  pruneDisks,
  pruneEffects,
  pruneFindings,
  pruneHistory,
  pruneOperations,
  pruneReservations,
  pruneSecrets,
} from '../persistence/retention.ts';
import type { Config } from './config.ts';

const EVERY_MS = 10 * 60_000;
const PORTION = 500;
/** Kinds whose actors outlive any reservation. A reservation keeps its history as long as its row. */
const LIVE_ON = ['gpu-pool', 'disk', 'image'];

export interface HousekeeperSettings {
  db: Database;
  /** Queues whose archives are kept as long as dead letters. */
  queues: readonly string[];
  retention: Config['retention'];
  onError: (error: unknown) => void;
}

export class Housekeeper {
  readonly #settings: HousekeeperSettings;
  readonly #loop: Loop;

  constructor(settings: HousekeeperSettings) {
    this.#settings = settings;
    this.#loop = new Loop({ name: 'housekeeping', work: () => this.sweep(), onError: settings.onError });
  }

  start(): void {
    this.#loop.start();
  }

  async stop(): Promise<void> {
    await this.#loop.stop();
  }

  /** One portion of each. @returns how long to sleep. */
  async sweep(): Promise<number> {
    const { db, queues, retention } = this.#settings;
    const counts = await Promise.all([
      pruneReservations(db, retention.reservationsDays, PORTION),
      pruneHistory(db, LIVE_ON, retention.historyDays, PORTION),
      pruneEffects(db, retention.effectsDays, PORTION),
      pruneOperations(db, retention.reservationsDays, PORTION),
      pruneAnsweredRequests(db, retention.effectsDays, PORTION),
      pruneFindings(db, retention.effectsDays, PORTION),
      pruneBuildContexts(db, retention.reservationsDays, PORTION),
      pruneBuildLines(db, retention.effectsDays, PORTION),
      pruneDisks(db, retention.reservationsDays, PORTION),
      // The letter of a birth that failed may be replayed, and needs them.
      pruneSecrets(db, retention.deadLettersDays, PORTION),
      pruneDeadLetters(db, retention.deadLettersDays, PORTION),
      pruneClaims(db, PORTION),
      ...queues.map((queue) => pruneArchive(db, queue, retention.deadLettersDays, PORTION)),
    ]);
    return counts.some((count) => count === PORTION) ? 100 : EVERY_MS;
  }
}
