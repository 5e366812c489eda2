/**
 * Who goes on, and what time it is. A task gives way at every statement and every call; which of those that wait goes on is drawn from the
 * seed. Time stands still while anybody can work, and then jumps to what comes next.
 */
import type { Random } from './random.ts';

/** A process of the simulated world, or a part of the world that no crash reaches. */
export class Session {
  readonly name: string;
  /** False once it has crashed: what it waits for never comes. */
  alive = true;
  /** Until when it is frozen (stopped, swapped out, paused for garbage). */
  frozenUntil = 0;

  constructor(name: string) {
    this.name = name;
  }
}

interface Timer {
  at: number;
  order: number;
  session: Session;
  run: () => void;
}

interface Parked {
  session: Session;
  resume: () => void;
}

export class Scheduler {
  /** Milliseconds since the epoch. */
  now: number;
  readonly random: Random;
  /** Scheduling points passed before another task may go on. */
  readonly #longestRun: number;
  #run = 0;
  #order = 0;
  readonly #parked: Parked[] = [];
  readonly #timers: Timer[] = [];

  constructor(start: number, random: Random, longestRun: number) {
    this.now = start;
    this.random = random;
    this.#longestRun = longestRun;
  }

  /** A scheduling point. undefined: go on at once. */
  point(session: Session): Promise<void> | undefined {
    if (!session.alive) return new Promise(() => {});
    if (session.frozenUntil <= this.now && this.#run > 0) {
      this.#run--;
      return undefined;
    }
    return this.park(session);
  }

  /** Wait until the scheduler lets this one go on. */
  park(session: Session): Promise<void> {
    return new Promise((resume) => void this.#parked.push({ session, resume }));
  }

  /** Let one of the parked go on. @returns false if none can. */
  resumeOne(): boolean {
    const count = this.#parked.length;
    if (count === 0) return false;
    const first = count === 1 ? 0 : this.random.int(count);
    for (let i = 0; i < count; i++) {
      const index = (first + i) % count;
      const { session, resume } = this.#parked[index]!;
      if (session.alive && session.frozenUntil > this.now) continue;
      this.#parked[index] = this.#parked[count - 1]!;
      this.#parked.pop();
      if (!session.alive) return true;
      this.#run = this.random.int(this.#longestRun + 1);
      resume();
      return true;
    }
    return false;
  }

  /** Run `work` at a time. It does not run if its session has crashed by then, and waits while it is frozen. */
  at(time: number, session: Session, run: () => void): void {
    const timer = { at: Math.max(time, this.now), order: this.#order++, session, run };
    let index = this.#timers.length;
    this.#timers.push(timer);
    while (index > 0) {
      const parent = (index - 1) >> 1;
      if (!isBefore(timer, this.#timers[parent]!)) break;
      this.#timers[index] = this.#timers[parent]!;
      index = parent;
    }
    this.#timers[index] = timer;
  }

  sleep(milliseconds: number, session: Session): Promise<void> {
    return new Promise((resolve) => this.at(this.now + milliseconds, session, resolve));
  }

  /** Run one timer that is due. @returns false if none is. */
  runDue(): boolean {
    const first = this.#timers[0];
    if (first === undefined || first.at > this.now) return false;
    this.#popTimer();
    if (!first.session.alive) return true;
    if (first.session.frozenUntil > this.now) {
      this.at(first.session.frozenUntil, first.session, first.run);
      return true;
    }
    first.run();
    return true;
  }

  /** When the next timer is due; null if there is none. */
  get next(): number | null {
    return this.#timers[0]?.at ?? null;
  }

  get waiting(): number {
    return this.#parked.filter(({ session }) => session.alive).length;
  }

  #popTimer(): void {
    const last = this.#timers.pop()!;
    const size = this.#timers.length;
    if (size === 0) return;
    let index = 0;
    for (;;) {
      let child = 2 * index + 1;
      if (child >= size) break;
      if (child + 1 < size && isBefore(this.#timers[child + 1]!, this.#timers[child]!)) child++;
      if (!isBefore(this.#timers[child]!, last)) break;
      this.#timers[index] = this.#timers[child]!;
      index = child;
    }
    this.#timers[index] = last;
  }
}

function isBefore(a: Timer, b: Timer): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order);
}
