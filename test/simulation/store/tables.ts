/**
 * Tables in memory with what the kernel leans on in Postgres: rows that an open transaction has written are invisible to others and locked,
 * a savepoint or a rollback undoes writes, and unique keys hold.
 */

/** A statement must wait for this transaction to end; it is run again then, as READ COMMITTED does. */
export class Blocked extends Error {
  readonly by: Tx;
  constructor(by: Tx) {
    super('waits for another transaction');
    this.by = by;
  }
}

/** An error with the SQLSTATE that Postgres gives. */
export class SqlError extends Error {
  readonly code: string;
  constructor(code: string, message: string) {
    super(message);
    this.code = code;
  }
}

/** A row's place: what is committed, and what the transaction that holds it has made of it. */
export interface Slot<T> {
  readonly table: Table<T>;
  readonly key: string;
  /** As the holder sees it; null: deleted, or not inserted yet. */
  value: T | null;
  /** As all others see it while somebody holds it. */
  committed: T | null;
  holder: Tx | null;
  sharers: Set<Tx> | null;
  /** The group it was put into. */
  group: string | null;
}

interface Undo {
  // biome-ignore lint/suspicious/noExplicitAny: a log of rows of all tables.
  slot: Slot<any>;
  value: unknown;
}

let lastTx = 0;

/** Number of the transaction that was begun last. */
export function newestTx(): number {
  return lastTx;
}

/** An open transaction over the tables. */
export class Tx {
  readonly id = ++lastTx;
  /** Transaction time, in milliseconds since the epoch. */
  readonly now: number;
  readonly log: Undo[] = [];
  // biome-ignore lint/suspicious/noExplicitAny: rows of all tables.
  readonly held: Slot<any>[] = [];
  // biome-ignore lint/suspicious/noExplicitAny: rows of all tables.
  readonly shared: Slot<any>[] = [];
  readonly advisory: AdvisoryLock[] = [];
  /** The transaction whose end this one waits for. */
  waitsFor: Tx | null = null;
  ended = false;
  readonly #onEnd: (() => void)[] = [];

  constructor(now: number) {
    this.now = now;
  }

  /** Undo what was written after the log had this length. Locks stay. */
  undoTo(length: number): void {
    while (this.log.length > length) {
      const { slot, value } = this.log.pop()!;
      slot.table.restore(slot, value);
    }
  }

  /** Release everything; writes stand, or are undone. */
  end(commit: boolean): void {
    if (this.ended) return;
    this.ended = true;
    if (!commit) this.undoTo(0);
    for (const slot of this.held) slot.table.release(slot);
    for (const slot of this.shared) slot.sharers?.delete(this);
    for (const lock of this.advisory) lock.release(this);
    for (const wake of this.#onEnd) wake();
  }

  onEnd(wake: () => void): void {
    this.#onEnd.push(wake);
  }
}

/** An advisory lock, shared or alone, held until the transaction ends. */
export class AdvisoryLock {
  readonly #holders = new Map<Tx, boolean>();

  take(tx: Tx, alone: boolean): void {
    for (const [other, otherAlone] of this.#holders) if (other !== tx && (alone || otherAlone)) throw new Blocked(other);
    if (!this.#holders.has(tx)) tx.advisory.push(this);
    this.#holders.set(tx, alone || this.#holders.get(tx) === true);
  }

  release(tx: Tx): void {
    this.#holders.delete(tx);
  }
}

export interface TableOptions<T> {
  key: (row: T) => string;
  /** Further unique keys; null: not in this index. */
  unique?: ((row: T) => string | null)[];
  /** Rows are found by this as well. It never changes. */
  group?: (row: T) => string;
  /** Rows that a statement may look for among all; others are found by key or group alone. */
  hot?: (row: T) => boolean;
}

export class Table<T> {
  readonly name: string;
  readonly slots = new Map<string, Slot<T>>();
  readonly #options: TableOptions<T>;
  readonly #unique: Map<string, Slot<T>>[];
  readonly #groups = new Map<string, Set<Slot<T>>>();
  readonly #hot = new Set<Slot<T>>();

  constructor(name: string, options: TableOptions<T>) {
    this.name = name;
    this.#options = options;
    this.#unique = (options.unique ?? []).map(() => new Map());
  }

  /** The row as `tx` sees it. */
  see(slot: Slot<T>, tx: Tx | null): T | null {
    return slot.holder === null || slot.holder === tx ? slot.value : slot.committed;
  }

  get(key: string, tx: Tx | null): T | null {
    const slot = this.slots.get(key);
    return slot === undefined ? null : this.see(slot, tx);
  }

  slot(key: string): Slot<T> | undefined {
    return this.slots.get(key);
  }

  /** Slots of a group, in the order in which they were made. */
  group(key: string): Iterable<Slot<T>> {
    return this.#groups.get(key) ?? [];
  }

  /** All hot slots, or all. */
  all(): Iterable<Slot<T>> {
    return this.#options.hot === undefined ? this.slots.values() : this.#hot;
  }

  /** Rows that `tx` sees, among the hot ones or all. */
  *rows(tx: Tx | null): Generator<T> {
    for (const slot of this.all()) {
      const row = this.see(slot, tx);
      if (row !== null) yield row;
    }
  }

  /** All rows that `tx` sees. */
  *everything(tx: Tx | null): Generator<T> {
    for (const slot of this.slots.values()) {
      const row = this.see(slot, tx);
      if (row !== null) yield row;
    }
  }

  isFree(slot: Slot<T>, tx: Tx): boolean {
    if (slot.holder !== null && slot.holder !== tx) return false;
    if (slot.sharers !== null) for (const other of slot.sharers) if (other !== tx) return false;
    return true;
  }

  /** Lock the row for writing. @throws Blocked if another transaction holds it */
  lock(slot: Slot<T>, tx: Tx): void {
    if (slot.holder === tx) return;
    if (slot.holder !== null) throw new Blocked(slot.holder);
    if (slot.sharers !== null) for (const other of slot.sharers) if (other !== tx) throw new Blocked(other);
    slot.holder = tx;
    slot.committed = slot.value;
    tx.held.push(slot);
  }

  /** Keep writers of other transactions away. */
  share(slot: Slot<T>, tx: Tx): void {
    if (slot.holder === tx) return;
    if (slot.holder !== null) throw new Blocked(slot.holder);
    slot.sharers ??= new Set();
    if (slot.sharers.has(tx)) return;
    slot.sharers.add(tx);
    tx.shared.push(slot);
  }

  update(slot: Slot<T>, value: T, tx: Tx): void {
    this.lock(slot, tx);
    this.#write(slot, value, tx);
  }

  delete(slot: Slot<T>, tx: Tx): void {
    this.lock(slot, tx);
    this.#write(slot, null, tx);
  }

  /**
   * Insert a row. @returns false if its key or one of its unique keys is taken.
   * @throws Blocked if an open transaction may take it
   */
  insert(row: T, tx: Tx): boolean {
    const key = this.#options.key(row);
    if (this.#options.unique !== undefined && this.#conflict(row, null, tx) !== null) return false;
    let slot = this.slots.get(key);
    if (slot === undefined) {
      const name = this.#options.group?.(row) ?? null;
      slot = { table: this, key, value: null, committed: null, holder: tx, sharers: null, group: name };
      tx.held.push(slot);
      this.slots.set(key, slot);
      this.#enter(slot);
    } else {
      if (slot.holder !== null && slot.holder !== tx) throw new Blocked(slot.holder);
      if (slot.value !== null) return false;
      this.lock(slot, tx);
      const name = this.#options.group?.(row) ?? null;
      // A row of this key was inserted before and undone.
      if (name !== slot.group && slot.committed === null) {
        this.#leave(slot);
        slot.group = name;
        this.#enter(slot);
      }
    }
    this.#write(slot, row, tx);
    return true;
  }

  #enter(slot: Slot<T>): void {
    if (slot.group === null) return;
    const group = this.#groups.get(slot.group);
    if (group === undefined) this.#groups.set(slot.group, new Set([slot]));
    else group.add(slot);
  }

  #leave(slot: Slot<T>): void {
    if (slot.group === null) return;
    const group = this.#groups.get(slot.group);
    group?.delete(slot);
    if (group?.size === 0) this.#groups.delete(slot.group);
  }

  /** The slot that has one of the row's unique keys, other than `own`. */
  #conflict(row: T, own: Slot<T> | null, tx: Tx): Slot<T> | null {
    for (const [index, keyOf] of (this.#options.unique ?? []).entries()) {
      const key = keyOf(row);
      if (key === null) continue;
      const other = this.#unique[index]!.get(key);
      if (other === undefined || other === own) continue;
      const has = (value: T | null) => value !== null && keyOf(value) === key;
      if (other.holder !== null && other.holder !== tx) {
        if (has(other.value) || has(other.committed)) throw new Blocked(other.holder);
      } else if (has(other.value)) return other;
    }
    return null;
  }

  #write(slot: Slot<T>, value: T | null, tx: Tx): void {
    if (value !== null && this.#options.unique !== undefined) {
      if (this.#conflict(value, slot, tx) !== null) throw new SqlError('23505', `duplicate key in ${this.name}`);
      for (const [index, keyOf] of this.#options.unique.entries()) {
        const key = keyOf(value);
        if (key !== null) this.#unique[index]!.set(key, slot);
      }
    }
    tx.log.push({ slot, value: slot.value });
    slot.value = value;
    if (value !== null && this.#options.hot?.(value) === true) this.#hot.add(slot);
  }

  restore(slot: Slot<T>, value: unknown): void {
    slot.value = value as T | null;
    if (slot.value === null) return;
    // A unique key that was given up and taken by another in the same transaction comes back.
    for (const [index, keyOf] of (this.#options.unique ?? []).entries()) {
      const key = keyOf(slot.value);
      if (key !== null) this.#unique[index]!.set(key, slot);
    }
  }

  release(slot: Slot<T>): void {
    slot.holder = null;
    slot.committed = null;
    if (slot.value === null) {
      this.slots.delete(slot.key);
      this.#hot.delete(slot);
      this.#leave(slot);
    } else if (this.#options.hot !== undefined && !this.#options.hot(slot.value)) this.#hot.delete(slot);
  }
}
