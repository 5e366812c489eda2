import type { SideTables } from './side-tables.ts';

interface Entry {
  due: number;
  key: string;
}

const TABLE = 'timers';

const before = (a: Entry, b: Entry): boolean => a.due < b.due || (a.due === b.due && a.key < b.key);

/** Named timers in virtual time: one due time (milliseconds) per key, earliest first, ties broken by key. */
export class Timers {
  private readonly heap: Entry[] = [];
  private readonly side: SideTables;

  constructor(side: SideTables) {
    this.side = side;
  }

  /** Sets or moves the timer of `key`. */
  set(key: string, due: number): void {
    if (this.side.get(TABLE, key) === due) return;
    this.side.set(TABLE, key, due);
    this.push({ due, key });
  }

  /** As set, but never later than what is set already. */
  atLatest(key: string, due: number): void {
    const current: number | undefined = this.side.get(TABLE, key);
    if (current === undefined || current > due) this.set(key, due);
  }

  clear(key: string): void {
    this.side.delete(TABLE, key);
  }

  /** When the earliest timer is due, or undefined when none is set. */
  next(): number | undefined {
    this.discardStale();
    return this.heap[0]?.due;
  }

  /** Takes the earliest timer that is due at `now`. */
  take(now: number): Entry | undefined {
    this.discardStale();
    const first = this.heap[0];
    if (first === undefined || first.due > now) return undefined;
    this.pop();
    this.side.delete(TABLE, first.key);
    return first;
  }

  /** Rebuilds the heap after the side tables were read from disk. */
  rebuild(): void {
    this.heap.length = 0;
    for (const [key, due] of this.side.entries(TABLE)) this.push({ key, due });
  }

  private discardStale(): void {
    for (let first = this.heap[0]; first !== undefined; first = this.heap[0]) {
      if (this.side.get(TABLE, first.key) === first.due) return;
      this.pop();
    }
  }

  private push(entry: Entry): void {
    const { heap } = this;
    let index = heap.push(entry) - 1;
    while (index > 0) {
      const parent = (index - 1) >> 1;
      const above = heap[parent] as Entry;
      if (!before(entry, above)) break;
      heap[index] = above;
      index = parent;
    }
    heap[index] = entry;
  }

  private pop(): void {
    const { heap } = this;
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return;
    let index = 0;
    for (;;) {
      let child = 2 * index + 1;
      if (child >= heap.length) break;
      const right = heap[child + 1];
      if (right !== undefined && before(right, heap[child] as Entry)) child++;
      const candidate = heap[child] as Entry;
      if (!before(candidate, last)) break;
      heap[index] = candidate;
      index = child;
    }
    heap[index] = last;
  }
}
