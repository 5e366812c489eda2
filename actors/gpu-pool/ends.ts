/** Known ends of those who hold slots, soonest first; a binary heap, for a forecast adds ends while it takes them. */

/** What an end gives back. */
export interface Freed {
  node: string;
  slots: number[];
  cpuMillis: number;
  memoryBytes: number;
}

export interface End {
  /** Milliseconds since the epoch. */
  at: number;
  freed: Freed;
}

export class Ends {
  readonly #heap: (End & { place: number })[] = [];
  #added = 0;

  add(at: number, freed: Freed): void {
    const heap = this.#heap;
    let index = heap.push({ at, freed, place: this.#added++ }) - 1;
    while (index > 0) {
      const parent = (index - 1) >> 1;
      if (!this.#before(index, parent)) return;
      this.#swap(index, parent);
      index = parent;
    }
  }

  /** Take the soonest; of those at one moment, the one that was added first. Null if there is none. */
  take(): End | null {
    const heap = this.#heap;
    const first = heap[0];
    if (first === undefined) return null;
    const last = heap.pop()!;
    if (heap.length === 0) return first;
    heap[0] = last;
    for (let index = 0; ; ) {
      const left = 2 * index + 1;
      const sooner = left + 1 < heap.length && this.#before(left + 1, left) ? left + 1 : left;
      if (sooner >= heap.length || !this.#before(sooner, index)) return first;
      this.#swap(index, sooner);
      index = sooner;
    }
  }

  #before(a: number, b: number): boolean {
    const left = this.#heap[a]!;
    const right = this.#heap[b]!;
    return left.at < right.at || (left.at === right.at && left.place < right.place);
  }

  #swap(a: number, b: number): void {
    const heap = this.#heap;
    const kept = heap[a]!;
    heap[a] = heap[b]!;
    heap[b] = kept;
  }
}
