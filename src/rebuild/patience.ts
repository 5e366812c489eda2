/** What could not be kept is tried again after pauses that double; and when all of one side is refused, nothing more is tried of it meanwhile. */
import { AwsError } from '../providers/aws/errors.ts';
import { KubernetesError } from '../providers/kubernetes/errors.ts';

/** Pauses double up to this, in milliseconds. */
const LONGEST_MS = 120_000;
/** After so many failures in a row it is not their objects that are at fault. */
const MANY = 8;

/** Whether it would be the same with any other object of the same kind: a right is missing, or too much was asked of late. */
export function isForAll(error: unknown): boolean {
  if (error instanceof AwsError) return error.failure === 'denied' || error.failure === 'throttled';
  return error instanceof KubernetesError && [401, 403, 429].includes(error.status ?? 0);
}

interface Waiting<T> {
  wish: T;
  tries: number;
  /** When it is tried again, by performance.now. */
  at: number;
}

export class Patience<T> {
  readonly #firstMs: number;
  readonly #waiting = new Map<string, Waiting<T>>();
  #refused: { tries: number; until: number } | null = null;
  #inARow = 0;

  /** @param firstMs the shortest pause, in milliseconds */
  constructor(firstMs: number) {
    this.#firstMs = firstMs;
  }

  /** Whether nothing is to be tried for now. */
  get isHeld(): boolean {
    return this.#refused !== null && performance.now() < this.#refused.until;
  }

  /** Whether all was refused, and nothing has shown yet that it is over: one is tried before the others are. */
  get isRefused(): boolean {
    return this.#refused !== null;
  }

  /** What is to be done now, of these that are new and of those that wait; a new one takes the place of one that waits, and waits as long. */
  due(wishes: ReadonlyMap<string, T>): Map<string, T> {
    const due = new Map(wishes);
    const now = performance.now();
    for (const [name, waiting] of this.#waiting) {
      waiting.wish = wishes.get(name) ?? waiting.wish;
      if (waiting.at <= now) due.set(name, waiting.wish);
      else due.delete(name);
    }
    return due;
  }

  /** It needs nothing more; `isAccepted`: by what was just done. */
  done(name: string, isAccepted: boolean): void {
    this.#waiting.delete(name);
    if (isAccepted) this.#inARow = 0;
  }

  /** All went through that was due: who is throttled in the middle does not begin with short pauses again. */
  recovered(): void {
    this.#refused = null;
  }

  /** @returns 'one' if it alone waits now, 'all' if nothing more is to be tried; and whether that is news */
  failed(name: string, wish: T, error: unknown): { who: 'one' | 'all'; isNews: boolean } {
    this.#inARow += 1;
    if (isForAll(error) || this.#inARow >= MANY) return { who: 'all', isNews: this.#refuse() };
    const tries = (this.#waiting.get(name)?.tries ?? 0) + 1;
    this.#waiting.set(name, { wish, tries, at: performance.now() + this.#pause(tries) });
    return { who: 'one', isNews: tries === 1 };
  }

  #refuse(): boolean {
    const before = this.#refused;
    // Those that were under way together are refused together.
    if (before !== null && performance.now() < before.until) return false;
    const tries = (before?.tries ?? 0) + 1;
    this.#refused = { tries, until: performance.now() + this.#pause(tries) };
    return before === null;
  }

  #pause(tries: number): number {
    return Math.min(LONGEST_MS, this.#firstMs * 2 ** (tries - 1));
  }
}
