/** Places in the lines, read once for many requests: an estimate looks at the whole line of a type, and many people look at it at once. */
import { type QueuePlace, queueView } from '../../actors/gpu-pool/capacity.ts';
import type { Queryable } from '../../persistence/database.ts';

/** How old an answer may be, in milliseconds. */
const FRESH_MS = 250;

interface Reading {
  begunAt: number;
  places: Promise<Map<string, QueuePlace>>;
}

export class QueueViews {
  readonly #db: Queryable;
  readonly #timeScale: number;
  /** The latest reading of each type, and the one that follows it if somebody needs a newer one. */
  readonly #latest = new Map<string, Reading>();
  readonly #next = new Map<string, Promise<Map<string, QueuePlace>>>();

  constructor(db: Queryable, timeScale: number) {
    this.#db = db;
    this.#timeScale = timeScale;
  }

  /** The place of a reservation that waits for capacity; null if it does not. Never older than the call for one that has just joined. */
  async placeOf(gpuType: string, reservationId: string): Promise<QueuePlace | null> {
    const known = (await this.#read(gpuType, performance.now() - FRESH_MS)).get(reservationId);
    return known ?? (await this.#read(gpuType, performance.now())).get(reservationId) ?? null;
  }

  /** A reading begun at `since` or later. One runs at a time for each type; all who need the next one share it. */
  #read(gpuType: string, since: number): Promise<Map<string, QueuePlace>> {
    const latest = this.#latest.get(gpuType);
    if (latest !== undefined && latest.begunAt >= since) return latest.places;
    const waiting = this.#next.get(gpuType);
    if (waiting !== undefined) return waiting;
    const next = (latest?.places.catch(() => {}) ?? Promise.resolve()).then(() => {
      this.#next.delete(gpuType);
      const places = queueView(this.#db, gpuType, this.#timeScale);
      this.#latest.set(gpuType, { begunAt: performance.now(), places });
      // A failed reading is nobody's answer but theirs who wait for it.
      places.catch(() => this.#latest.delete(gpuType));
      return places;
    });
    this.#next.set(gpuType, next);
    return next;
  }
}
