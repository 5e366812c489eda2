/**
 * What reservations do, read once a process for all who listen. While nobody listens nothing is read. Turns of this process are heard of at
 * once, those of others by a slow look at the database.
 */
import { setTimeout as pause } from 'node:timers/promises';
import type { Kernel } from '../../actors/kernel/kernel.ts';
import { Loop } from '../../actors/kernel/loop.ts';
import { presentPosition, readChanges, type Step } from '../../persistence/changes.ts';
import type { Queryable } from '../../persistence/database.ts';

/** How often other processes' work is looked for, and how close together two readings may begin, in milliseconds. */
const LOOK_MS = 250;
const SPACING_MS = 25;
/** Readings take no more of the time than one part in this many. */
const SPACING = 4;
/** A loop that only works when woken. */
const NEVER_MS = 2 ** 31 - 1;
/** More steps than this between two readings are not read for all: each listener reads its own. */
const AT_ONCE = 10_000;

/** Steps between two positions; null if they were too many. */
export interface Reading {
  before: string;
  after: string;
  steps: readonly Step[] | null;
}

export interface StepFeedSettings {
  db: Queryable;
  kernel: Pick<Kernel, 'watch'>;
  /** Given every reading, in order. What it returns gives the steps out, to those who listen by then. */
  onReading: (reading: Reading) => Promise<() => void>;
  /** The database was replaced by an older one: nothing that was said of positions holds. */
  onLost: () => void;
  onError: (error: unknown) => void;
  /** Steps at most in one reading; {@link AT_ONCE} by default. */
  atOnce?: number;
}

export class StepFeed {
  readonly #settings: StepFeedSettings;
  readonly #loop: Loop;
  #listeners = 0;
  #position: string | null = null;
  #opening: Promise<void> | null = null;
  #unwatch: (() => void) | null = null;
  #begunAt = 0;
  #tookMs = 0;

  constructor(settings: StepFeedSettings) {
    this.#settings = settings;
    this.#loop = new Loop({ name: 'steps', work: () => this.#read(), onError: settings.onError });
  }

  /** All steps up to here have been given out; null while nobody listens. */
  get position(): string | null {
    return this.#position;
  }

  /** Listen from now on: `register` is called with the position from which on every step will be in a reading. */
  async join(register: (position: string) => void): Promise<void> {
    this.#listeners++;
    try {
      if (this.#position === null) {
        this.#opening ??= this.#open();
        await this.#opening;
      }
      // Nothing may come between the position and the registration.
      register(this.#position!);
    } catch (error) {
      this.leave();
      throw error;
    }
  }

  /** Listen no longer. */
  leave(): void {
    if (--this.#listeners > 0) return;
    this.#position = null;
    this.#unwatch?.();
    this.#unwatch = null;
  }

  async stop(): Promise<void> {
    this.#unwatch?.();
    await this.#loop.stop();
  }

  async #open(): Promise<void> {
    try {
      const position = await presentPosition(this.#settings.db);
      this.#position = position;
      this.#unwatch ??= this.#settings.kernel.watch(() => this.#loop.wake());
      this.#loop.start();
      this.#loop.wake();
    } finally {
      this.#opening = null;
    }
  }

  async #read(): Promise<number> {
    const before = this.#position;
    if (before === null) return NEVER_MS;
    const wait = this.#begunAt + Math.max(SPACING_MS, SPACING * this.#tookMs) - performance.now();
    if (wait > 0) await pause(wait, undefined, { ref: false });
    this.#begunAt = performance.now();
    const { after, steps } = await readChanges(this.#settings.db, before, this.#settings.atOnce ?? AT_ONCE);
    if (isOlder(after, before)) this.#settings.onLost();
    const isNews = steps === null || steps.length > 0;
    const giveOut = isNews ? await this.#settings.onReading({ before, after, steps }) : null;
    // Everybody may have left meanwhile, and others have come since.
    if (this.#position !== before) return 0;
    this.#position = after;
    giveOut?.();
    this.#tookMs = performance.now() - this.#begunAt;
    return LOOK_MS;
  }
}

function isOlder(position: string, than: string): boolean {
  const [, xmax = '0'] = position.split(':');
  const [, other = '0'] = than.split(':');
  return BigInt(xmax) < BigInt(other);
}
