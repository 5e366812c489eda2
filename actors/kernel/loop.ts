/** A loop that works while there is work, sleeps until it is woken or a poll is due, and backs off while its work fails. */

export interface LoopSettings {
  name: string;
  /** Do a portion of work. Resolve with how long to sleep if nobody wakes us, in milliseconds; 0 means: again at once. */
  work: () => Promise<number>;
  /** Told of each failure. */
  onError: (error: unknown) => void;
}

/** Pauses after failures in a row: from 50 ms, doubling, to 0.8 s: a deadline is late by a second at most after an outage. */
const FIRST_PAUSE = 50;
const LONGEST_PAUSE = 800;

export class Loop {
  readonly #settings: LoopSettings;
  #wake: (() => void) | null = null;
  #woken = false;
  #stopped = false;
  #busy = false;
  #done: Promise<void> | null = null;

  constructor(settings: LoopSettings) {
    this.#settings = settings;
  }

  /** True while a portion of work is being done. */
  get isBusy(): boolean {
    return this.#busy;
  }

  start(): void {
    this.#done ??= this.#run();
  }

  /** There is work: run now, or once more when the present portion is done. */
  wake(): void {
    this.#woken = true;
    this.#wake?.();
  }

  /** Finish the present portion and stop. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#wake?.();
    await this.#done;
  }

  async #run(): Promise<void> {
    let failures = 0;
    while (!this.#stopped) {
      this.#woken = false;
      let sleepMs: number;
      this.#busy = true;
      try {
        sleepMs = await this.#settings.work();
        failures = 0;
      } catch (error) {
        this.#settings.onError(error);
        sleepMs = Math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** failures);
        failures = Math.min(failures + 1, 10);
        // A wake-up must not turn a failing database into a busy loop.
        this.#woken = false;
      }
      this.#busy = false;
      if (sleepMs > 0 && !this.#woken && !this.#stopped) await this.#sleep(sleepMs);
    }
  }

  #sleep(milliseconds: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(end, milliseconds);
      const settle = () => end();
      this.#wake = settle;
      const self = this;
      function end() {
        clearTimeout(timer);
        self.#clear(settle);
        resolve();
      }
    });
  }

  #clear(settle: () => void): void {
    if (this.#wake === settle) this.#wake = null;
  }
}
