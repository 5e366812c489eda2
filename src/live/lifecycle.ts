/** The charts' numbers: who is in which state, and how often each transition was taken in the last minute. */
import type { AnyStateMachine } from 'xstate';
import type { Queryable } from '../../persistence/database.ts';
import { countEnded, countLive, type StateCount } from '../../persistence/lifecycle.ts';
import { type Numbers, Traffic } from '../lifecycle/traffic.ts';

/** By machine: by path of a state, by id of a transition. */
export interface LifecycleFrame {
  counts: Numbers;
  traffic: Numbers;
}

/** How long the dearer count of those that have ended holds, in milliseconds. */
const ENDED_MS = 10_000;

export class Lifecycle {
  readonly #db: Queryable;
  readonly #traffic: Traffic;
  #ended: { at: number; counts: StateCount[] } | null = null;

  constructor(db: Queryable, machines: Readonly<Record<string, AnyStateMachine>>) {
    this.#db = db;
    this.#traffic = new Traffic(machines);
  }

  async read(): Promise<LifecycleFrame> {
    if (this.#ended === null || Date.now() - this.#ended.at > ENDED_MS) {
      this.#ended = { at: Date.now(), counts: await countEnded(this.#db) };
    }
    const live = await countLive(this.#db);
    await this.#traffic.refresh(this.#db);
    const counts: Numbers = {};
    for (const { kind, path, count } of [...live, ...this.#ended.counts]) {
      counts[kind] ??= {};
      counts[kind][path] = count;
    }
    return { counts, traffic: this.#traffic.perMinute() };
  }
}
