/** Jobs that a kernel does again and again: each is started anew as soon as it is done. */
import { Kernel, type KernelSettings } from '../../actors/kernel/kernel.ts';
import { type Database, isRetryableDatabaseError } from '../../persistence/database.ts';
import { INPUT, jobKind } from './job.ts';

/** Starts in one delivery, at most; and doors that deliver at the same time. */
const STARTS_AT_ONCE = 500;
const DOORS = 2;

export class Crew {
  readonly #kernel: Kernel;
  readonly #jobs: number;
  /** Finished runs of each, and those that may be started. */
  readonly #runs = new Map<string, number>();
  #ready: { id: string; run: number }[] = [];
  /** Those whose run has ended in a transaction that is not committed yet. */
  readonly #done = new Map<string, { id: string; run: number }>();
  #goal = 0;
  #finished = 0;
  #posting = 0;
  readonly #problems: unknown[] = [];

  constructor(db: Database, jobs: number, settings: Partial<KernelSettings> = {}) {
    this.#jobs = jobs;
    const kind = jobKind();
    const { project } = kind;
    kind.project = async (tx, changes) => {
      await project!(tx, changes);
      for (const { id, after } of changes) this.#note(id, after as { value: unknown; context: { runs: number } });
    };
    // A deadlock is the database's business, and the kernel tries again.
    const onError = (_where: string, error: unknown) => void (isRetryableDatabaseError(error) || this.#problems.push(error));
    this.#kernel = new Kernel({ db, kinds: [kind], onError, ...settings });
  }

  /** Start the kernel and have all jobs made. */
  async begin(): Promise<void> {
    const births = Array.from({ length: this.#jobs }, (_, index) => ({
      actor: `job/${index}`,
      key: 'made',
      event: { type: 'job.made', name: `job number ${index}` } as { type: string },
      sender: 'bench',
    }));
    await this.#kernel.post(births);
    this.#kernel.watch((actors) => this.#goOn(actors));
    await this.#kernel.start();
    this.#kernel.wake();
    await this.#until(() => this.#runs.size === this.#jobs);
  }

  /** Have every job done until each has been done `goal` times since the beginning. */
  async work(goal: number): Promise<void> {
    this.#goal = goal;
    this.#ready = [...this.#runs].map(([id, run]) => ({ id, run }));
    this.#post();
    await this.#until(() => this.#finished === this.#jobs * goal && this.#kernel.stats().turns >= this.#jobs * (1 + 2 * goal));
  }

  async end(): Promise<void> {
    await this.#kernel.stop();
  }

  /** A job has changed. What is sent to it now it takes after the turn that tells of it. */
  #note(id: string, { value, context: { runs } }: { value: unknown; context: { runs: number } }): void {
    if (value !== 'waiting' || (this.#runs.get(id) ?? -1) >= runs) return;
    this.#runs.set(id, runs);
    if (runs > 0) this.#finished++;
    if (runs >= this.#goal) return;
    this.#done.set(`job/${id}`, { id, run: runs });
  }

  /** Turns were committed: those who took them may be started again. */
  #goOn(actors: readonly string[]): void {
    for (const actor of actors) {
      const done = this.#done.get(actor);
      if (done === undefined) continue;
      this.#done.delete(actor);
      this.#ready.push(done);
    }
    this.#post();
  }

  /** Start what is ready, as far as a door is free. */
  #post(): void {
    while (this.#posting < DOORS && this.#ready.length > 0) {
      const starts = this.#ready.splice(0, STARTS_AT_ONCE).map(({ id, run }) => ({
        actor: `job/${id}`,
        key: `start:${run + 1}`,
        event: { type: 'job.start', input: INPUT } as { type: string },
        sender: 'bench',
      }));
      this.#posting++;
      this.#kernel
        .deliver(async (_tx, post) => post(starts))
        .then(
          () => {
            this.#posting--;
            this.#post();
          },
          (error: unknown) => void this.#problems.push(error),
        );
    }
  }

  async #until(isDone: () => boolean): Promise<void> {
    while (!isDone()) {
      if (this.#problems.length > 0) throw this.#problems[0];
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  }
}
