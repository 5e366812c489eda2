/** So many at the same time; the others wait in the order in which they came, until one ends or they are told to stop. */
import type { Abortion } from './abortion.ts';

export class Semaphore {
  readonly #limit: number;
  #taken = 0;
  /** What lets each of those in who wait. */
  readonly #waiting = new Map<() => void, Abortion>();

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Those who are in, and those who wait. */
  get size(): number {
    return this.#taken + this.#waiting.size;
  }

  /** Run `work` as soon as there is room. @throws what it throws, or the reason if it is told to stop before it began */
  async run<T>(abort: Abortion, work: () => Promise<T>): Promise<T> {
    if (this.#taken < this.#limit) this.#taken++;
    else await this.#turn(abort);
    try {
      return await work();
    } finally {
      this.#leave();
    }
  }

  /** Tell those who wait to stop. */
  abortWaiting(reason: unknown): void {
    for (const abort of this.#waiting.values()) abort.abort(reason);
  }

  async #turn(abort: Abortion): Promise<void> {
    let enter!: () => void;
    const entered = new Promise<void>((resolve) => {
      enter = resolve;
    });
    this.#waiting.set(enter, abort);
    try {
      await Promise.race([entered, abort.told]);
    } catch (reason) {
      // It may have been let in at the same moment.
      if (!this.#waiting.delete(enter)) this.#leave();
      throw reason;
    }
  }

  #leave(): void {
    const [next] = this.#waiting.keys();
    if (next === undefined) {
      this.#taken--;
      return;
    }
    this.#waiting.delete(next);
    next();
  }
}
