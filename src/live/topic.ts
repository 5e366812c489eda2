/**
 * Something that many watch: read once for all of them while anybody watches, and sent to each when it has changed. Who comes anew, or was
 * too slow for a while, gets the whole; nothing has to be remembered between connections, so nothing can be missed.
 */
import { bodyOf, type EventStream } from '../http/event-stream.ts';

export interface TopicSettings<T> {
  /** Name of the event that brings the whole; `<name>.patch` brings what has changed. */
  name: string;
  read: () => Promise<T>;
  /** What changed; undefined if nothing did, null if the whole must be sent. Left out: the whole, if it reads differently. */
  patch?: (before: T, after: T) => object | null | undefined;
  /** Pause between two readings, in milliseconds. */
  everyMs: number;
  onError: (error: unknown) => void;
  /** Nobody watches any more. */
  onIdle?: () => void;
}

/** Readings take no more of the time than one part in this many. */
const SHARE = 5;
/** Who has more than this to take is spared until it has, in bytes. */
const BEHIND = 64 * 1024;
const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 5_000;

export class Topic<T> {
  readonly #settings: TopicSettings<T>;
  /** Who watches, and whether they have the whole. */
  readonly #watchers = new Map<EventStream, boolean>();
  #latest: { value: T; whole: () => string } | null = null;
  #running = false;
  #wake: (() => void) | null = null;
  #stopped = false;

  constructor(settings: TopicSettings<T>) {
    this.#settings = settings;
  }

  get watched(): number {
    return this.#watchers.size;
  }

  /** From now on the stream is told, first the whole. It leaves when it closes. */
  join(stream: EventStream): void {
    this.#watchers.set(stream, false);
    stream.once('close', () => {
      this.#watchers.delete(stream);
      if (this.#watchers.size === 0) this.#wake?.();
    });
    // What is known is at most one reading old, and only while others watch.
    if (this.#latest !== null) this.#sendWhole(stream, this.#latest.whole());
    if (!this.#running) void this.#run();
  }

  stop(): void {
    this.#stopped = true;
    this.#wake?.();
  }

  async #run(): Promise<void> {
    this.#running = true;
    let pause = FIRST_PAUSE_MS;
    while (this.#watchers.size > 0 && !this.#stopped) {
      const begun = performance.now();
      let wait: number;
      try {
        this.#tell(await this.#settings.read());
        pause = FIRST_PAUSE_MS;
        wait = Math.max(this.#settings.everyMs, SHARE * (performance.now() - begun));
      } catch (error) {
        this.#settings.onError(error);
        wait = pause;
        pause = Math.min(pause * 2, LONGEST_PAUSE_MS);
      }
      if (this.#watchers.size > 0 && !this.#stopped) await this.#sleep(wait);
    }
    this.#latest = null;
    this.#running = false;
    // Somebody may have come after the last look.
    if (this.#watchers.size > 0 && !this.#stopped) void this.#run();
    else this.#settings.onIdle?.();
  }

  #tell(value: T): void {
    const { name } = this.#settings;
    const before = this.#latest;
    // A large whole is written only for those who need it.
    let written: string | null = null;
    const whole = () => (written ??= bodyOf(name, value));
    const part = before === null ? null : this.#partOf(before, value, whole);
    this.#latest = part === null && before !== null ? before : { value, whole };
    for (const [stream, hasWhole] of this.#watchers) {
      if (!hasWhole) this.#sendWhole(stream, this.#latest.whole());
      else if (part === null) continue;
      else if (stream.readableLength > BEHIND) this.#watchers.set(stream, false);
      else stream.send(null, part);
    }
  }

  /** What is sent to those who have the whole; null: nothing has changed. */
  #partOf(before: { value: T; whole: () => string }, value: T, whole: () => string): string | null {
    const { name, patch } = this.#settings;
    if (patch === undefined) return before.whole() === whole() ? null : whole();
    const change = patch(before.value, value);
    if (change === undefined) return null;
    return change === null ? whole() : bodyOf(`${name}.patch`, change);
  }

  #sendWhole(stream: EventStream, whole: string): void {
    if (stream.readableLength > BEHIND) return;
    this.#watchers.set(stream, true);
    stream.send(null, whole);
  }

  #sleep(milliseconds: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(done, milliseconds);
      timer.unref();
      this.#wake = () => {
        clearTimeout(timer);
        done();
      };
      const self = this;
      function done(): void {
        self.#wake = null;
        resolve();
      }
    });
  }
}
