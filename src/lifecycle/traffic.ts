/** How often each transition was taken in the last minute. What is new is read when somebody asks, and kept by the second. */
import type { AnyStateMachine } from 'xstate';
import { parseAddress } from '../../actors/kernel/kind.ts';
import { presentPosition, readChanges } from '../../persistence/changes.ts';
import type { Queryable } from '../../persistence/database.ts';
import { type Movement, recentOfOthers, recentOfReservations, whereBefore } from '../../persistence/lifecycle.ts';
import { type Leaves, Ways } from './ways.ts';

/** Numbers by machine and id of a transition. */
export type Numbers = Record<string, Record<string, number>>;

const SECONDS = 60;
/** Steps read at once. More than these between two readings leave a gap in the numbers. */
const MOST_STEPS = 20_000;
/** Actors whose finer state is remembered. */
const MOST_ACTORS = 20_000;
/** Steps may become visible a little after their time. */
const OVERLAP_MS = 5_000;

export class Traffic {
  readonly #ways: ReadonlyMap<string, Ways>;
  readonly #seconds = new Map<number, Map<string, number>>();
  readonly #actors = new Map<string, { seq: number; leaves: Leaves }>();
  #position: string | null = null;
  #readAt = 0;

  constructor(machines: Readonly<Record<string, AnyStateMachine>>) {
    this.#ways = new Map(Object.entries(machines).map(([name, machine]) => [name, new Ways(machine)]));
  }

  /** Read what happened since the last time, or within the last minute. */
  async refresh(db: Queryable, now = Date.now()): Promise<void> {
    const fresh = now - this.#readAt < SECONDS * 1_000;
    const since = new Date(now - (fresh ? now - this.#readAt + OVERLAP_MS : SECONDS * 1_000));
    const [position, movements] =
      fresh && this.#position !== null ? await this.#readOn(db, this.#position) : await this.#begin(db);
    const others = await recentOfOthers(db, since);
    this.#position = position;
    this.#readAt = now;
    const steps = [...movements, ...others];
    for (const { actor, seq, state, leaf } of await whereBefore(db, this.#unexplained(steps)))
      this.place(actor, seq - 1, state, leaf);
    for (const movement of steps) this.note(movement);
    for (const second of this.#seconds.keys()) if (second <= Math.floor(now / 1_000) - SECONDS) this.#seconds.delete(second);
  }

  /** How often each transition was taken in the last minute. */
  perMinute(now = Date.now()): Numbers {
    const oldest = Math.floor(now / 1_000) - SECONDS;
    const totals: Numbers = {};
    for (const [second, taken] of this.#seconds) {
      if (second <= oldest) continue;
      for (const [key, count] of taken) {
        const [machine = '', id = ''] = key.split('\n');
        totals[machine] ??= {};
        const own = totals[machine];
        own[id] = (own[id] ?? 0) + count;
      }
    }
    for (const own of Object.values(totals)) for (const id of Object.keys(own)) own[id] = Math.round(own[id]! * 100) / 100;
    return totals;
  }

  /** Count a step; one that was counted already is not counted again. */
  note({ actor, seq, at, type, outcome, from, to, leaf }: Movement): void {
    const { kind } = parseAddress(actor);
    const ways = this.#ways.get(kind);
    const known = this.#actors.get(actor);
    if (ways === undefined || (known !== undefined && known.seq >= seq)) return;
    this.#actors.delete(actor);
    let leaves = known?.seq === seq - 1 ? known.leaves : null;
    if (outcome === 'applied') {
      const followed = ways.follow(leaves, { type, from, to, leaf });
      leaves = followed.leaves;
      const second = Math.floor(at.getTime() / 1_000);
      const taken = this.#seconds.get(second) ?? new Map<string, number>();
      for (const [id, part] of followed.taken) taken.set(`${kind}\n${id}`, (taken.get(`${kind}\n${id}`) ?? 0) + part);
      this.#seconds.set(second, taken);
    }
    this.#actors.set(actor, { seq, leaves: leaves ?? ways.leavesOf(to) });
    const [oldest] = this.#actors.keys();
    if (this.#actors.size > MOST_ACTORS && oldest !== undefined) this.#actors.delete(oldest);
  }

  /** Remember where an actor was after a step, if nothing later is known of it. */
  place(actor: string, seq: number, state: string | null, leaf: string | null): void {
    const ways = this.#ways.get(parseAddress(actor).kind);
    if (ways === undefined || (this.#actors.get(actor)?.seq ?? -1) >= seq) return;
    this.#actors.set(actor, { seq, leaves: ways.leavesAt(state, leaf) });
  }

  /** The first step of each actor of whom it is not known where exactly it was before, and which could have been in several states. */
  #unexplained(steps: readonly Movement[]): Movement[] {
    const seen = new Set<string>();
    return steps.filter(({ actor, seq, from }) => {
      if (seen.has(actor)) return false;
      const known = this.#actors.get(actor);
      if (known !== undefined && known.seq >= seq) return false;
      seen.add(actor);
      if (known?.seq === seq - 1) return false;
      return (this.#ways.get(parseAddress(actor).kind)?.leavesOf(from).size ?? 0) > 1;
    });
  }

  async #begin(db: Queryable): Promise<[string, Movement[]]> {
    // The position comes first: what is in both is counted once.
    const position = await presentPosition(db);
    return [position, await recentOfReservations(db, MOST_STEPS)];
  }

  async #readOn(db: Queryable, position: string): Promise<[string, Movement[]]> {
    const { after, steps } = await readChanges(db, position, MOST_STEPS);
    return [after, (steps ?? []).map(({ id, ...step }) => ({ ...step, actor: `reservation/${id}` }))];
  }
}
