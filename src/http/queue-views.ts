/**
 * Places in the lines, read once for many requests: an estimate looks at much of the line of a type, and many people look at it at once. Dear
 * readings come further apart, so that telling people their place never takes the time of giving them one.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { ESTIMATED, type QueuePlace, queueView, readPlaces } from '../../actors/gpu-pool/line-view.ts';
import type { Queryable } from '../../persistence/database.ts';

type Places = ReadonlyMap<string, QueuePlace>;

/** How old an answer may be, and how long somebody who has just joined the line waits for an estimate, in milliseconds. */
const FRESH_MS = 250;
const PATIENCE_MS = 250;
/** Readings of one type begin no closer together than this many times what the last one took. */
const SPACING = 5;
/** Places that are counted at a time for those who are told them again and again. */
const COUNTED = 500;

interface Reading {
  begunAt: number;
  tookMs: number;
  places: Places;
}

export class QueueViews {
  readonly #db: Queryable;
  readonly #timeScale: number;
  readonly #latest = new Map<string, Reading>();
  /** The reading of each type that has not begun: all who need a newer one than the latest share it. */
  readonly #next = new Map<string, Promise<Places>>();
  readonly #running = new Map<string, Promise<unknown>>();
  /** When the last reading of each type began, whether it has ended or not. */
  readonly #readingSince = new Map<string, number>();
  /** Those of each type whose places are asked for next, together; and the asking under way. */
  readonly #asked = new Map<string, { ids: Set<string>; places: Promise<Places> }>();
  readonly #asking = new Map<string, Promise<unknown>>();

  constructor(db: Queryable, timeScale: number) {
    this.#db = db;
    this.#timeScale = timeScale;
  }

  /**
   * The place of a reservation that waits for capacity; null if it does not. One that has just joined is counted anew; its estimate is null
   * if there is none in time, and one that will not be there in time is not waited for.
   * @param patienceMs how long an estimate may be waited for
   */
  async placeOf(gpuType: string, reservationId: string, patienceMs = PATIENCE_MS): Promise<QueuePlace | null> {
    const latest = this.#latest.get(gpuType);
    if (latest !== undefined && performance.now() - latest.begunAt < Math.max(FRESH_MS, SPACING * latest.tookMs)) {
      const place = latest.places.get(reservationId);
      if (place !== undefined) return place;
    }
    const place = (await this.#ask(gpuType, reservationId)).get(reservationId);
    return place === undefined ? null : this.estimated(gpuType, reservationId, place, patienceMs);
  }

  /** The place with an estimate, if there is one in time. */
  async estimated(gpuType: string, reservationId: string, place: QueuePlace, patienceMs = PATIENCE_MS): Promise<QueuePlace> {
    if (place.position > ESTIMATED) return place;
    const isLate = this.#readIn(gpuType) > patienceMs;
    const reading = this.#read(gpuType);
    reading.catch(() => {}); // told to those who wait for it
    if (isLate) return place;
    const places = await Promise.race([reading, pause(patienceMs, null, { ref: false })]);
    return places?.get(reservationId) ?? place;
  }

  /**
   * Places of these as of now or later, for whoever tells many people again and again: those who stand where starts are estimated, with their
   * estimate, and of the others {@link COUNTED} from `from` on. Who does not wait for capacity is not in the answer.
   * @returns also where to go on with the others the next time
   */
  async placesOf(gpuType: string, ids: readonly string[], from = 0): Promise<{ places: Places; next: number }> {
    const front = await this.#read(gpuType);
    const places = new Map<string, QueuePlace>();
    const others: string[] = [];
    for (const id of ids) {
      const place = front.get(id);
      if (place === undefined) others.push(id);
      else places.set(id, place);
    }
    const begin = from < others.length ? from : 0;
    const counted = others.slice(begin, begin + COUNTED);
    if (counted.length > 0) for (const [id, place] of await readPlaces(this.#db, gpuType, counted)) places.set(id, place);
    return { places, next: begin + COUNTED };
  }

  /** The place of one, asked for after this call: with all who ask while the asking before is under way. */
  #ask(gpuType: string, reservationId: string): Promise<Places> {
    const open = this.#asked.get(gpuType);
    if (open !== undefined) {
      open.ids.add(reservationId);
      return open.places;
    }
    const ids = new Set([reservationId]);
    const before = this.#asking.get(gpuType) ?? Promise.resolve();
    const places = before.then(() => {
      this.#asked.delete(gpuType);
      return readPlaces(this.#db, gpuType, [...ids]);
    });
    this.#asked.set(gpuType, { ids, places });
    this.#asking.set(
      gpuType,
      places.catch(() => {}),
    );
    return places;
  }

  /** In how many milliseconds a reading that begins after this call will be there, as far as the last one tells. */
  #readIn(gpuType: string): number {
    const { begunAt, tookMs } = this.#latest.get(gpuType) ?? { begunAt: Number.NEGATIVE_INFINITY, tookMs: 0 };
    const running = this.#readingSince.get(gpuType) ?? begunAt;
    return Math.max(0, running + SPACING * tookMs - performance.now()) + tookMs;
  }

  /** A reading that begins after this call. */
  #read(gpuType: string): Promise<Places> {
    const waiting = this.#next.get(gpuType);
    if (waiting !== undefined) return waiting;
    const next = this.#turn(gpuType).then(() => {
      this.#next.delete(gpuType);
      const begunAt = performance.now();
      this.#readingSince.set(gpuType, begunAt);
      const reading = queueView(this.#db, gpuType, this.#timeScale).then((places) => {
        this.#latest.set(gpuType, { begunAt, tookMs: performance.now() - begunAt, places });
        return places;
      });
      this.#running.set(
        gpuType,
        reading.catch(() => {}),
      );
      return reading;
    });
    this.#next.set(gpuType, next);
    return next;
  }

  /** Resolves when the next reading of this type may begin. */
  async #turn(gpuType: string): Promise<void> {
    await this.#running.get(gpuType);
    const latest = this.#latest.get(gpuType);
    if (latest === undefined) return;
    const wait = latest.begunAt + SPACING * latest.tookMs - performance.now();
    if (wait > 0) await pause(wait, undefined, { ref: false });
  }
}
