/** Kills programs and starts them again, or freezes one for a while, at random, until it is told to stop. */
import { setTimeout as pause } from 'node:timers/promises';
import type { Program } from './process.ts';

export interface KillerOptions {
  /** Start one in this place, without waiting. */
  start: (place: number) => Program;
  /** Programs at once. */
  programs: number;
  /** Shortest and longest time between two deaths, in milliseconds. */
  everyMs: readonly [number, number];
  /** Which part of the blows freezes instead of killing (0-1), and for how long, in milliseconds. */
  freeze: { part: number; ms: readonly [number, number] };
  /** Do not strike the last that works: one that starts or is frozen does not count. */
  spareLast: boolean;
}

type Standing = { program: Program; state: 'starting' | 'working' | 'frozen' };

export class Killer {
  kills = 0;
  freezes = 0;
  /** How those ended that ended by themselves. */
  readonly unexpected: string[] = [];
  readonly #options: KillerOptions;
  readonly #standing: Standing[] = [];
  #goOn = true;
  #struck: Promise<void> | null = null;
  readonly #thawing = new Set<Promise<void>>();

  constructor(options: KillerOptions) {
    this.#options = options;
  }

  /** Start all programs, wait until they are ready, and begin to strike. */
  async start(): Promise<void> {
    for (let place = 0; place < this.#options.programs; place++) this.#fill(place);
    while (this.#standing.some((each) => each.state === 'starting')) await pause(5);
    this.#struck = this.#strike();
  }

  /** Stop striking; all stand and work when it resolves. */
  async stop(): Promise<Program[]> {
    this.#goOn = false;
    await this.#struck;
    await Promise.all(this.#thawing);
    while (this.#standing.some((each) => each.state !== 'working')) await pause(5);
    return this.#standing.map((each) => each.program);
  }

  #fill(place: number): void {
    const program = this.#options.start(place);
    const standing: Standing = { program, state: 'starting' };
    this.#standing[place] = standing;
    program.ready().then(
      (line) => {
        if (line !== null && standing.state === 'starting') standing.state = 'working';
      },
      async (error: unknown) => {
        this.unexpected.push(`It was not ready: ${String(error)}\n${program.log.slice(-2_000)}`);
        await program.kill();
        if (this.#standing[place] === standing) this.#fill(place);
      },
    );
  }

  async #strike(): Promise<void> {
    const { everyMs, freeze, spareLast } = this.#options;
    while (this.#goOn) {
      await pause(between(everyMs));
      for (const [place, each] of this.#standing.entries()) {
        if (each.program.running) continue;
        this.unexpected.push(each.program.log.slice(-2_000));
        this.#fill(place);
      }
      const working = this.#standing.filter((each) => each.state === 'working').length;
      const place = Math.floor(Math.random() * this.#standing.length);
      const victim = this.#standing[place]!;
      if (victim.state === 'frozen' || (spareLast && victim.state === 'working' && working === 1)) continue;
      // On a busy machine nobody would ever come up if each start could be struck.
      if (victim.state === 'starting' && Math.random() < 0.7) continue;
      if (victim.state === 'working' && Math.random() < freeze.part) {
        const thawing: Promise<void> = this.#freeze(victim, between(freeze.ms)).finally(() => this.#thawing.delete(thawing));
        this.#thawing.add(thawing);
        continue;
      }
      await victim.program.kill();
      this.kills++;
      this.#fill(place);
    }
  }

  async #freeze(victim: Standing, milliseconds: number): Promise<void> {
    victim.state = 'frozen';
    victim.program.signal('SIGSTOP');
    await pause(milliseconds);
    victim.program.signal('SIGCONT');
    // It must have time to try what it was about to do.
    await pause(500);
    victim.state = 'working';
    this.freezes++;
  }
}

export function between([from, to]: readonly [number, number]): number {
  return from + Math.random() * (to - from);
}

/** How long a fire burns: minutes from the environment, else the short time of the everyday tests. In milliseconds. */
export function fireMs(shortMs: number): number {
  const minutes = Number(process.env['GPU_DEV_FIRE_MINUTES'] ?? 0);
  return minutes > 0 ? minutes * 60_000 : shortMs;
}
