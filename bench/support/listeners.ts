/** Many who listen to what they have, in a process of their own. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

/** What the process is asked: to open a stream for each of these keys, or for `owed` first times that streams told of these ids. */
export interface Ask {
  open?: { url: string; keys: readonly string[] };
  hear?: { ids: readonly string[]; owed: number };
}

/** Its answer: ids, and when a stream first told of each, in milliseconds since 1970. */
export interface Heard {
  times: [id: string, at: number][];
}

const PROGRAM = fileURLToPath(new URL('./listen.ts', import.meta.url));

export class Listeners {
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess) {
    this.#child = child;
  }

  /** Open a stream for each key. @throws if the process ends, or if they are not all open within `patienceMs` */
  static async open(url: string, keys: readonly string[], patienceMs: number): Promise<Listeners> {
    const listeners = new Listeners(fork(PROGRAM, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] }));
    await listeners.#ask({ open: { url, keys } }, patienceMs);
    return listeners;
  }

  /** When streams first told of these ids, as soon as that has happened `owed` times. @throws if it has not within `patienceMs` */
  async timesOf(ids: readonly string[], owed: number, patienceMs: number): Promise<Heard['times']> {
    return (await this.#ask({ hear: { ids, owed } }, patienceMs)).times;
  }

  close(): void {
    this.#child.kill('SIGKILL');
  }

  async #ask(what: Ask, patienceMs: number): Promise<Heard> {
    const answer = once(this.#child, 'message', { signal: AbortSignal.timeout(patienceMs) }) as Promise<[Heard]>;
    const end = once(this.#child, 'exit').then(([code]) => Promise.reject(new Error(`the listeners ended with ${code}`)));
    end.catch(() => {}); // when they are closed
    this.#child.send(what);
    return (await Promise.race([answer, end]))[0];
  }
}
