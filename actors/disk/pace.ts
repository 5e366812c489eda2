/** How often something is looked at that takes its time: soon at first, and then less and less often. */

/**
 * Pauses of one kind of look: `firstMs` after the first, twice as long after each further one, `longestMs` at most. What is remembered of a
 * subject only saves looks: a process that knows nothing of it begins anew.
 */
export class Pace {
  readonly #firstMs: number;
  readonly #longestMs: number;
  readonly #looks = new Map<string, { of: string; count: number }>();

  constructor({ firstMs, longestMs }: { firstMs: number; longestMs: number }) {
    this.#firstMs = firstMs;
    this.#longestMs = longestMs;
  }

  /**
   * Milliseconds until the next look.
   * @param subject what is looked at
   * @param of what the look is for: another one begins anew, and takes its place
   */
  next(subject: string, of: string): number {
    const known = this.#looks.get(subject);
    const count = known?.of === of ? known.count + 1 : 0;
    this.#looks.set(subject, { of, count });
    return Math.min(this.#longestMs, this.#firstMs * 2 ** Math.min(count, 30));
  }

  /** Nothing more is to be seen of it. */
  end(subject: string): void {
    this.#looks.delete(subject);
  }
}
