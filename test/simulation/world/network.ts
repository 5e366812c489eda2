/** Calls from a process to the cluster: late, lost on the way there or back, or made twice. */
import type { Random } from './random.ts';
import type { Scheduler, Session } from './scheduler.ts';

/** Probabilities of what may happen to a call. */
export interface NetworkFaults {
  /** It takes seconds instead of milliseconds. */
  slow: number;
  /** It takes longer than any lease. */
  hang: number;
  /** It fails, and nothing was done. */
  refuse: number;
  /** It was done, and the answer is lost. */
  unanswered: number;
  /** It arrives a second time, later. */
  repeat: number;
}

export const NO_NETWORK_FAULTS: NetworkFaults = { slow: 0, hang: 0, refuse: 0, unanswered: 0, repeat: 0 };

export class Network {
  faults: NetworkFaults;
  readonly #scheduler: Scheduler;
  readonly #random: Random;
  readonly #world: Session;
  readonly #note: (what: string) => void;

  constructor(given: {
    scheduler: Scheduler;
    random: Random;
    world: Session;
    faults: NetworkFaults;
    note: (what: string) => void;
  }) {
    this.#scheduler = given.scheduler;
    this.#random = given.random;
    this.#world = given.world;
    this.faults = given.faults;
    this.#note = given.note;
  }

  /**
   * Do `work` at the other end. It is done there even if the caller is gone by then.
   * @param repeatable false if a second arrival would not be the same request
   */
  call<T>(session: Session, name: string, work: () => T, repeatable = true): Promise<T> {
    const { faults } = this;
    const random = this.#random;
    const there = this.#delay(name);
    const refused = random.chance(faults.refuse);
    const unanswered = !refused && random.chance(faults.unanswered);
    if (refused) this.#note(`refused ${name}`);
    if (unanswered) this.#note(`unanswered ${name}`);
    return new Promise<T>((resolve, reject) => {
      const arrive = () => {
        if (refused) return this.#answer(session, name, () => reject(new Error(`${name}: connection refused`)));
        let settle: () => void;
        try {
          const result = work();
          settle = () => resolve(result);
        } catch (error) {
          settle = () => reject(error);
        }
        if (repeatable && random.chance(faults.repeat)) this.#repeat(name, work);
        this.#answer(session, name, unanswered ? () => reject(new Error(`${name}: the answer was lost`)) : settle);
      };
      if (there === 0) arrive();
      else this.#scheduler.at(this.#scheduler.now + there, this.#world, arrive);
    });
  }

  #answer(session: Session, name: string, settle: () => void): void {
    this.#scheduler.at(this.#scheduler.now + this.#delay(name), session, settle);
  }

  #repeat(name: string, work: () => unknown): void {
    this.#note(`repeated ${name}`);
    this.#scheduler.at(this.#scheduler.now + this.#random.between(1, 1_000), this.#world, () => {
      try {
        work();
      } catch {
        // nobody waits for this answer
      }
    });
  }

  #delay(name: string): number {
    const random = this.#random;
    if (random.chance(this.faults.hang)) {
      this.#note(`hanging ${name}`);
      return random.between(3_000, 20_000);
    }
    if (random.chance(this.faults.slow)) {
      this.#note(`slow ${name}`);
      return random.between(50, 3_000);
    }
    return random.chance(0.5) ? 0 : random.between(1, 20);
  }
}
