/** Which process does what next: one of the steps that have something to do, drawn from the seed. */
import { isRetryableDatabaseError } from '../../../persistence/database.ts';
import { LeaseLostError } from '../../../persistence/leases.ts';
import { type Process, type Step, STEPS } from './process.ts';
import type { Simulation } from './simulation.ts';
import { LEASE } from './sim-tracker.ts';
import type { Work } from './work.ts';

export class Steps {
  readonly #simulation: Simulation;
  readonly #work: Work;

  constructor(simulation: Simulation, work: Work) {
    this.#simulation = simulation;
    this.#work = work;
  }

  /** Start one of the steps that have something to do. */
  startOne(): boolean {
    const { scheduler } = this.#simulation;
    const wanted = this.#work.look(this.#simulation.commits, scheduler.now);
    const choices: { process: Process; step: Step }[] = [];
    const leader = this.leader();
    for (const process of this.#simulation.processes) {
      if (!process.session.alive || process.session.frozenUntil > scheduler.now) continue;
      for (const step of STEPS) {
        if (!process.isFree(step, this.#simulation.commits, scheduler.now)) continue;
        const due =
          step === 'results'
            ? process.finished > 0
            : step === 'tracker'
              ? this.#isTrackerDue(process, leader)
              : step === 'looks'
                ? process === leader && process.nextLook <= scheduler.now && wanted.looks
                : step !== 'leases' && wanted[step];
        if (due) choices.push({ process, step });
      }
    }
    if (choices.length === 0) return false;
    const { process, step } = choices[scheduler.random.int(choices.length)]!;
    this.#start(process, step);
    return true;
  }

  #start(process: Process, step: Step): void {
    const progress = process.progress[step];
    progress.busy++;
    const commits = this.#simulation.commits;
    if (step === 'looks') process.nextLook = this.#simulation.scheduler.now + 30_000;
    process.run(step).then(
      (done) => {
        progress.busy--;
        progress.failures = 0;
        if (done === 0) progress.idleAt = commits;
        if (process.kernel.stats().effectsRunning > 0) this.#keepLeases(process);
      },
      (error: unknown) => {
        progress.busy--;
        this.#simulation.wakeAll();
        if (!isRetryableDatabaseError(error) && !(error instanceof LeaseLostError)) this.#simulation.onFailure(step, error);
        progress.notBefore = this.#simulation.scheduler.now + Math.min(800, 50 * 2 ** progress.failures++);
        this.#simulation.scheduler.at(progress.notBefore, process.session, () => {});
      },
    );
  }

  /** Leases are kept as long as handlers run. */
  #keepLeases(process: Process): void {
    if (process.renewing) return;
    process.renewing = true;
    this.#simulation.scheduler.at(this.#simulation.scheduler.now + 1_000, process.session, () => {
      process.renewing = false;
      if (process.kernel.stats().effectsRunning === 0) return;
      this.#start(process, 'leases');
      this.#keepLeases(process);
    });
  }

  /** The process that tracks, unless it cannot. */
  leader(): Process | null {
    const token = this.#simulation.tables.leases.get(LEASE, null)?.token ?? null;
    if (token === null) return null;
    const { now } = this.#simulation.scheduler;
    return (
      this.#simulation.processes.find(
        ({ session, tracker }) => session.alive && session.frozenUntil <= now && tracker.token === token,
      ) ?? null
    );
  }

  #isTrackerDue(process: Process, leader: Process | null): boolean {
    if (process === leader || process.tracker.token !== null) {
      const { tracker } = process;
      return tracker.inbox.length > 0 || (tracker.synced && tracker.hasWork);
    }
    const until = this.#simulation.tables.leases.get(LEASE, null)?.until ?? 0;
    return leader === null && until < this.#simulation.scheduler.now;
  }
}
