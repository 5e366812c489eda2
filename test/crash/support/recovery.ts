/** How fast a program is, from what it tells of itself, and how soon it is as fast again as it was. */
import { setTimeout as pause } from 'node:timers/promises';
import type { Program } from './process.ts';

export class Speedometer {
  readonly #samples: { at: number; turns: number }[] = [];

  /** @param program tells `{"turns": N}` many times a second. */
  constructor(program: Program) {
    program.onLine((line) => {
      if (typeof line['turns'] === 'number') this.#samples.push({ at: performance.now(), turns: line['turns'] });
    });
  }

  /** Turns a second in this window. */
  rate(from: number, to: number): number {
    const inside = this.#samples.filter(({ at }) => at >= from && at <= to);
    const [first, last] = [inside[0], inside.at(-1)];
    if (first === undefined || last === undefined || first === last) return 0;
    return ((last.turns - first.turns) / (last.at - first.at)) * 1_000;
  }

  async measure(milliseconds: number): Promise<number> {
    const from = performance.now();
    await pause(milliseconds);
    return this.rate(from, performance.now());
  }

  /**
   * Wait until a window of `windowMs` reaches `goal` turns a second.
   * @returns how long after `since` that window began, in milliseconds; null if none did within `limitMs`.
   */
  async reaches(goal: number, since: number, windowMs: number, limitMs: number): Promise<number | null> {
    for (let from = since; from < since + limitMs; from += 50) {
      while (performance.now() < from + windowMs) await pause(20);
      if (this.rate(from, from + windowMs) >= goal) return from - since;
    }
    return null;
  }
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted.length === 0 ? Number.NaN : (sorted[(sorted.length - 1) >> 1]! + sorted[sorted.length >> 1]!) / 2;
}
