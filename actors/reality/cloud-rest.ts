/**
 * When the cloud is left alone: one that throttles, fails or does not answer is asked less and less often by the schedule, at times that differ
 * from process to process and from account to account. Whoever asks for a comparison gets one.
 */

/** Pauses double that often, at most. */
const MOST_DOUBLINGS = 4;

export class CloudRest {
  readonly #everyMs: number;
  readonly #random: () => number;
  #failures = 0;
  #until = 0;

  /** @param everyMs between two comparisons by the schedule */
  constructor(everyMs: number, random: () => number) {
    this.#everyMs = everyMs;
    this.#random = random;
  }

  /** Milliseconds for which the schedule leaves it alone; 0: it may ask. */
  left(now: number): number {
    return Math.max(0, this.#until - now);
  }

  /** Note how a comparison went: whether everything that was asked of the cloud was answered. */
  note(answered: boolean, now: number): void {
    this.#failures = answered ? 0 : Math.min(this.#failures + 1, MOST_DOUBLINGS);
    this.#until = answered ? 0 : now + this.#everyMs * 2 ** this.#failures * (0.5 + this.#random() / 2);
  }
}
