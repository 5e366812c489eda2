/** The store of one simulated process: the kernel's interface over tables in memory, with a scheduling point at every statement. */
import type { QueryResult, QueryResultRow } from 'pg';
import type { Listener, Store, Transaction, TransactionOptions } from '../../../persistence/database.ts';
import type { Scheduler, Session } from '../world/scheduler.ts';
import type { Tables } from './schema.ts';
import { type Result, type Values, twinOf } from './statement.ts';
import { Blocked, SqlError, Tx } from './tables.ts';

/** What the store does wrong, drawn from the seed. */
export interface StoreFaults {
  /** The connection is lost at this statement. */
  loses(): boolean;
  /** What becomes of a commit: as it should, lost before it took effect, or done and never answered. */
  commit(): 'done' | 'lost' | 'unanswered';
}

export interface StoreSettings {
  tables: Tables;
  scheduler: Scheduler;
  session: Session;
  faults: StoreFaults;
  /** Told of each transaction just before its locks are released. @throws what is wrong with it */
  onCommit: (tx: Tx, session: Session) => void;
  /** Told when the server has ended a transaction that stood idle. */
  onTimeout: () => void;
}

/** How long Postgres lets a transaction stand idle, in milliseconds. */
const IDLE_LIMIT = 5_000;

/** The one setting that a transaction may change. */
const LOCK_TIMEOUT = /^set local lock_timeout = '(\d+)ms'$/;

function connectionLost(): SqlError {
  return new SqlError('08006', 'the connection was lost');
}

function answer<Row extends QueryResultRow>({ rows, rowCount }: Result): QueryResult<Row> {
  return { rows: rows as Row[], rowCount, command: '', oid: 0, fields: [] };
}

export class MemoryStore implements Store {
  readonly #settings: StoreSettings;
  readonly #open = new Set<OpenTransaction>();

  constructor(settings: StoreSettings) {
    this.#settings = settings;
  }

  async query<Row extends QueryResultRow = QueryResultRow>(
    text: string,
    values: readonly unknown[] = [],
  ): Promise<QueryResult<Row>> {
    return this.withTransaction((tx) => tx.query<Row>(text, values));
  }

  async withTransaction<T>(work: (transaction: Transaction) => Promise<T>, options: TransactionOptions = {}): Promise<T> {
    if (options.within) return work(options.within);
    const { scheduler, session, faults, onCommit } = this.#settings;
    const pause = scheduler.point(session);
    if (pause !== undefined) await pause;
    const transaction = new OpenTransaction(this.#settings, new Tx(scheduler.now));
    this.#open.add(transaction);
    try {
      const result = await work(transaction);
      await transaction.flush();
      const before = scheduler.point(session);
      if (before !== undefined) await before;
      transaction.assertOpen();
      const fate = faults.commit();
      if (fate === 'lost') throw connectionLost();
      onCommit(transaction.tx, session);
      transaction.end(true);
      if (fate === 'unanswered') throw connectionLost();
      await options.behind?.(this).catch(() => {});
      return result;
    } catch (error) {
      transaction.end(false);
      throw transaction.firstError ?? error;
    } finally {
      this.#open.delete(transaction);
    }
  }

  /** Nobody is notified: the scheduler looks for work itself. */
  listen(): Listener {
    return { start: async () => {}, stop: async () => {}, connected: true };
  }

  /** The process is gone: the server finds its connections closed. */
  crash(): void {
    for (const transaction of this.#open) transaction.end(false);
    this.#open.clear();
  }

  /** The process stands still: the server ends its transactions when they have been idle for too long. */
  freeze(): void {
    const { scheduler, onTimeout } = this.#settings;
    const open = [...this.#open];
    if (open.length === 0) return;
    scheduler.at(scheduler.now + IDLE_LIMIT, WORLD, () => {
      for (const transaction of open) transaction.terminate();
      onTimeout();
    });
  }
}

/** The database server itself: no crash reaches it. */
const WORLD: Session = { name: 'database', alive: true, frozenUntil: 0 };

class OpenTransaction implements Transaction {
  readonly inTransaction = true;
  readonly tx: Tx;
  firstError: unknown = null;
  readonly #settings: StoreSettings;
  /** Statements that have to wait; those behind them wait too. */
  #tail: Promise<unknown> | null = null;
  /** How long a statement waits for a lock, in milliseconds. */
  #lockTimeout = 2_000;
  /** Why every statement fails from now on. */
  #aborted: unknown = null;

  constructor(settings: StoreSettings, tx: Tx) {
    this.#settings = settings;
    this.tx = tx;
  }

  query<Row extends QueryResultRow = QueryResultRow>(text: string, values: Values = []): Promise<QueryResult<Row>> {
    try {
      const result = this.#enqueue(text, values);
      return result instanceof Promise ? result.then(answer<Row>) : Promise.resolve(answer<Row>(result));
    } catch (error) {
      return Promise.reject(error);
    }
  }

  send(text: string, values: Values): void {
    try {
      const result = this.#enqueue(text, values);
      if (result instanceof Promise) result.catch(() => {});
    } catch {
      // told by the next flush
    }
  }

  async flush(): Promise<void> {
    while (this.#tail !== null) await this.#tail.catch(() => {});
    if (this.firstError !== null) throw this.firstError;
  }

  async attempt<T>(work: () => Promise<T>): Promise<T> {
    const mark = this.tx.log.length;
    try {
      const result = await work();
      await this.flush();
      return result;
    } catch (error) {
      while (this.#tail !== null) await this.#tail.catch(() => {});
      const first = this.firstError ?? error;
      this.assertOpen();
      this.tx.undoTo(mark);
      this.firstError = null;
      this.#aborted = null;
      throw first;
    }
  }

  /** @throws if the server has ended the transaction */
  assertOpen(): void {
    if (this.tx.ended) throw this.#aborted ?? new Error('This transaction has ended');
  }

  end(commit: boolean): void {
    this.tx.end(commit);
  }

  /** The server ends the transaction and the connection. */
  terminate(): void {
    if (this.tx.ended) return;
    this.#aborted = new SqlError('25P03', 'idle-in-transaction timeout');
    this.firstError ??= this.#aborted;
    this.tx.end(false);
  }

  #enqueue(text: string, values: Values): Result | Promise<Result> {
    if (this.#tail !== null) return this.#chain(this.#tail.then(ignore, ignore).then(() => this.#execute(text, values)));
    const result = this.#execute(text, values);
    return result instanceof Promise ? this.#chain(result) : result;
  }

  #chain(result: Promise<Result>): Promise<Result> {
    const tail: Promise<unknown> = result.then(ignore, ignore).then(() => {
      if (this.#tail === tail) this.#tail = null;
    });
    this.#tail = tail;
    return result;
  }

  #execute(text: string, values: Values): Result | Promise<Result> {
    const pause = this.#settings.scheduler.point(this.#settings.session);
    return pause === undefined ? this.#step(text, values) : pause.then(() => this.#step(text, values));
  }

  #step(text: string, values: Values): Result | Promise<Result> {
    const { tables, faults } = this.#settings;
    if (this.#aborted !== null) throw this.#aborted;
    this.assertOpen();
    if (faults.loses()) {
      this.tx.end(false);
      return this.#fail(connectionLost(), connectionLost());
    }
    const timeout = LOCK_TIMEOUT.exec(text);
    if (timeout !== null) {
      this.#lockTimeout = Number(timeout[1]);
      return { rows: [], rowCount: 0 };
    }
    const mark = this.tx.log.length;
    try {
      return twinOf(text)(tables, this.tx, values);
    } catch (error) {
      this.tx.undoTo(mark);
      if (!(error instanceof Blocked)) return this.#fail(error, new SqlError('25P02', 'current transaction is aborted'));
      for (let by: Tx | null = error.by; by !== null; by = by.waitsFor) {
        if (by === this.tx) return this.#fail(new SqlError('40P01', 'deadlock detected'), new SqlError('25P02', 'aborted'));
      }
      return this.#waitFor(error.by).then(() => this.#step(text, values));
    }
  }

  #fail(error: unknown, afterwards: unknown): never {
    this.firstError ??= error;
    this.#aborted = afterwards;
    throw error;
  }

  async #waitFor(other: Tx): Promise<void> {
    const { scheduler, session } = this.#settings;
    this.tx.waitsFor = other;
    const inVain = await new Promise<boolean>((resolve) => {
      other.onEnd(() => resolve(false));
      scheduler.at(scheduler.now + this.#lockTimeout, session, () => resolve(true));
    });
    this.tx.waitsFor = null;
    await scheduler.park(session);
    if (inVain) this.#fail(new SqlError('55P03', 'canceling statement due to lock timeout'), new SqlError('25P02', 'aborted'));
  }
}

function ignore(): void {}
