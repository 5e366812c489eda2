// One supervised process: it is started or taken over, watched, and started again when it dies.
import { isRunning } from '../../persistence/embedded/processes.ts';
import { lastLines } from './logs.ts';
import { type Running, StartError } from './program.ts';

/** How a part is started and ended. */
export type PartSpec = {
  readonly name: string;
  /** Resolves when it is ready. Called again after each death. */
  readonly launch: (abort: AbortSignal) => Promise<Running>;
  /** Ends it, gently or at once. Resolves when the process is gone. */
  readonly end: (running: Running, how: 'gently' | 'now') => Promise<void>;
  readonly logFile: string;
};

/** What a part tells while it runs. `lines` are the end of its log, worth showing below. */
export type PartReport = (name: string, message: string, lines?: readonly string[]) => void;

const FIRST_START_ATTEMPTS = 3;
const SHORTEST_WAIT_MS = 200;
const LONGEST_WAIT_MS = 10_000;
/** A part that ran this long starts its waits from the shortest again. */
const STEADY_MS = 30_000;
const LOOK_EVERY_MS = 100;

/** Keeps one process running until it is told to stop. */
export class Part {
  readonly spec: PartSpec;
  readonly #report: PartReport;
  readonly #onRestart: (running: Running, before: Running) => void;
  readonly #abort = new AbortController();
  #running: Running | undefined;
  #starting: Promise<void> | undefined;
  #watching: Promise<void> | undefined;
  #expected = false;

  constructor(spec: PartSpec, report: PartReport, onRestart: (running: Running, before: Running) => void = () => undefined) {
    this.spec = spec;
    this.#report = report;
    this.#onRestart = onRestart;
  }

  /** The process as it runs now, or undefined between a death and the next start. */
  get running(): Running | undefined {
    return this.#running !== undefined && isRunning(this.#running.identity) ? this.#running : undefined;
  }

  /** Starts it, with a few attempts, and watches it from then on. Throws the last reason. Called once. */
  start(): Promise<Running> {
    const first = this.#firstStart();
    this.#starting = first.then(
      () => undefined,
      () => undefined,
    );
    return first;
  }

  async #firstStart(): Promise<Running> {
    for (let attempt = 1; ; attempt++) {
      try {
        const running = await this.spec.launch(this.#abort.signal);
        this.#running = running;
        this.#watching = this.#watch();
        return running;
      } catch (error) {
        if (this.#abort.signal.aborted || attempt >= FIRST_START_ATTEMPTS || !(error instanceof StartError)) throw error;
        this.#report(this.spec.name, `${error.message}; trying again`);
        await this.#pause(SHORTEST_WAIT_MS * attempt);
      }
    }
  }

  /** Ends the process; it comes back by itself with whatever `launch` now says. */
  async restart(): Promise<void> {
    const running = this.running;
    if (running === undefined) return;
    this.#expected = true;
    await this.spec.end(running, 'gently');
  }

  /** Ends the process for good. Resolves when it is gone. */
  async stop(how: 'gently' | 'now'): Promise<void> {
    this.#abort.abort();
    // A start that is under way comes first: what it brings up must not be left behind.
    await this.#starting;
    await this.#watching;
    const running = this.running;
    if (running !== undefined) await this.spec.end(running, how);
  }

  async #watch(): Promise<void> {
    const { signal } = this.#abort;
    let wait = SHORTEST_WAIT_MS;
    let since = Date.now();
    let deaths = 0;
    while (!signal.aborted) {
      const before = this.#running;
      if (before !== undefined && isRunning(before.identity)) {
        await this.#pause(LOOK_EVERY_MS);
        continue;
      }
      // The process table is faster than the event that tells the exit code.
      await this.#pause(50);
      if (signal.aborted) return;
      if (Date.now() - since > STEADY_MS) {
        wait = SHORTEST_WAIT_MS;
        deaths = 0;
      }
      if (!this.#expected) {
        deaths += 1;
        const again = wait < 1000 ? '' : ` in ${Math.round(wait / 1000)} s`;
        const often = deaths > 2 ? `, time ${deaths} in a row` : '';
        const ending = before?.ending() ?? 'it ended';
        // A killed process has said nothing about it; one that gave up has, in its last lines.
        const lines = ending.startsWith('exit code') && isWorthTelling(deaths) ? lastLines(this.spec.logFile, 8) : [];
        this.#report(this.spec.name, `ended (${ending})${often}; starting it again${again}`, lines);
        await this.#pause(wait);
      }
      this.#expected = false;
      wait = Math.min(wait * 2, LONGEST_WAIT_MS);
      since = Date.now();
      if (signal.aborted) return;
      try {
        const running = await this.spec.launch(signal);
        this.#running = running;
        since = Date.now();
        this.#report(this.spec.name, `runs again (pid ${running.identity.pid}, port ${running.port})`);
        if (before !== undefined) this.#onRestart(running, before);
      } catch (error) {
        if (signal.aborted) return;
        this.#running = undefined;
        const lines = error instanceof StartError && isWorthTelling(deaths) ? error.lines : [];
        this.#report(this.spec.name, `${(error as Error).message} (log: ${this.spec.logFile})`, lines);
      }
    }
  }

  async #pause(ms: number): Promise<void> {
    const { signal } = this.#abort;
    if (signal.aborted) return;
    await new Promise<void>((resolve) => {
      const done = () => {
        clearTimeout(timer);
        signal.removeEventListener('abort', done);
        resolve();
      };
      const timer = setTimeout(done, ms);
      signal.addEventListener('abort', done);
    });
  }
}

/** The same dozen lines at every death of a crash loop would push everything else off the screen. */
function isWorthTelling(deaths: number): boolean {
  return deaths <= 2 || deaths % 10 === 0;
}
