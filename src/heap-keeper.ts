/**
 * Gives memory back in quiet times. Loading the program, a list of the cluster or a burst of work makes V8's heap grow, mostly its young
 * generation (64 MB), and without pressure it stays so: a service at rest would hold twice what it uses. A full collection gives it back, pages a few
 * seconds later. It stops the process for 100 ms and more, so it is made only in quiet times, and only when memory has grown.
 */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { Loop } from '../actors/kernel/loop.ts';

export interface HeapKeeperSettings {
  /** How often it looks, in milliseconds: the process must have been quiet for this long. */
  everyMs?: number;
  /** Share of a core below which the process is quiet. */
  quietBelow?: number;
  /** How much more memory than after the last collection makes another worth its pause, in bytes. */
  worth?: number;
  collect?: () => void;
  onError: (error: unknown) => void;
}

export class HeapKeeper {
  readonly #loop: Loop;
  readonly #everyMs: number;
  readonly #quietBelow: number;
  readonly #worth: number;
  readonly #collect: () => void;
  /** Processor time used until the last look, in microseconds, and when that was; null before the first. */
  #seen: { usage: NodeJS.CpuUsage; at: number } | null = null;
  /** Memory after the last collection: 0 before the first; null until a look after it, for pages go back a little later. */
  #least: number | null = 0;

  constructor({ everyMs = 10_000, quietBelow = 0.1, worth = 16e6, collect = fullCollection(), onError }: HeapKeeperSettings) {
    this.#everyMs = everyMs;
    this.#quietBelow = quietBelow;
    this.#worth = worth;
    this.#collect = collect;
    this.#loop = new Loop({ name: 'heap', work: async () => this.look(), onError });
  }

  start(): void {
    this.#loop.start();
  }

  async stop(): Promise<void> {
    await this.#loop.stop();
  }

  /** Collect if it is quiet and worth it. @returns when to look again, in milliseconds. */
  look(): number {
    const rss = process.memoryUsage.rss();
    this.#least = this.#least === null ? rss : Math.min(this.#least, rss);
    if (this.#isQuiet() && rss - this.#least >= this.#worth) {
      this.#collect();
      this.#least = null;
    }
    return this.#everyMs;
  }

  #isQuiet(): boolean {
    const before = this.#seen;
    const at = performance.now();
    this.#seen = { usage: process.cpuUsage(), at };
    if (before === null) return false;
    const { user, system } = process.cpuUsage(before.usage);
    return (user + system) / 1_000 < this.#quietBelow * (at - before.at);
  }
}

/** V8's full collection. Node offers it to those who ask for it by a flag, also while they run. */
function fullCollection(): () => void {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as (options: object) => void;
  return () => collect({ type: 'major', execution: 'sync', flavor: 'regular' });
}
