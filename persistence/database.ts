/**
 * The one door to Postgres: a pool, transactions, and what its errors mean.
 *
 * Values go in as parameters only. A function that takes a {@link Queryable} joins the transaction it is given; one that is called on the
 * {@link Database} itself is a transaction of its own.
 */
import pg from 'pg';
import { PostgresListener } from './listener.ts';
import { prepared } from './prepared.ts';
import { WatchedClient } from './watched-client.ts';

/** Anything that runs a statement: the pool's database, or an open transaction. */
export interface Queryable {
  query<Row extends pg.QueryResultRow = pg.QueryResultRow>(
    text: string,
    values?: readonly unknown[],
  ): Promise<pg.QueryResult<Row>>;
}

/** An open transaction. It must not be used after the work that got it has ended. */
export interface Transaction extends Queryable {
  readonly inTransaction: true;
  /**
   * Send a statement whose result nobody needs, without waiting for it: those that follow go out in the same breath. Should it fail, the
   * transaction fails with its error.
   */
  send(text: string, values: readonly unknown[]): void;
  /** Wait for all that was sent. @throws the first error among it. */
  flush(): Promise<void>;
  /** Run `work` so that, if it fails, what it wrote is undone and the transaction may go on. @throws what `work` throws. */
  attempt<T>(work: () => Promise<T>): Promise<T>;
}

/** What the kernel and the handlers need of a database. {@link Database} is one; a simulation may bring its own. */
export interface Store extends Queryable {
  /** See {@link Database.withTransaction}. */
  withTransaction<T>(work: (transaction: Transaction) => Promise<T>, options?: TransactionOptions): Promise<T>;
  /** Notifications on these channels from {@link Listener.start} on; null means that some may have been missed. */
  listen(channels: readonly string[], onWake: (channel: string | null) => void): Listener;
}

export interface TransactionOptions {
  /** One unchanging view of the database, and no writes. */
  readonly?: boolean;
  /** Join this transaction, and neither commit nor roll back. */
  within?: Transaction;
  /**
   * Read what was committed. It goes out with the commit, on the same connection, and costs no round trip; what becomes of it says nothing of
   * the transaction. Not for one that joins another.
   */
  behind?: (db: Queryable) => Promise<void>;
}

/** Hears notifications for good. */
export interface Listener {
  start(): Promise<void>;
  stop(): Promise<void>;
  /** True while notifications arrive. */
  readonly connected: boolean;
}

export interface DatabaseSettings {
  host: string;
  port: number;
  user: string;
  password: string;
  database: string;
  /** Connections at most (1-20; default 10). */
  maxConnections?: number;
  /** How long a caller waits for a free connection, in milliseconds (default 10,000). */
  acquireTimeoutMs?: number;
  applicationName?: string;
}

/** The pool had no free connection within the acquire timeout. */
export class PoolExhaustedError extends Error {
  override readonly name = 'PoolExhaustedError';
  readonly code = 'GPU_DATABASE_BUSY';
  constructor(milliseconds: number, cause: unknown) {
    super(`No database connection became free within ${milliseconds} ms`, { cause });
  }
}

// SQLSTATEs after which the same transaction may succeed when run again, by class or code.
// 08 connection, 40 rollback (serialisation, deadlock), 53 resources, 25006 read-only (a server that fails over), 55P03 lock not available,
// 57014 cancelled, 57P0x server going down or starting, 58 system.
const RETRYABLE_CLASSES = new Set(['08', '40', '53', '58']);
const RETRYABLE_CODES = new Set(['25006', '55P03', '57014', '57P01', '57P02', '57P03', '57P05', '25P03']);
const RETRYABLE_SOCKET = new Set(
  'ECONNREFUSED ECONNRESET ECONNABORTED EPIPE ETIMEDOUT ENOTFOUND EAI_AGAIN EHOSTUNREACH EHOSTDOWN ENETUNREACH ENETDOWN EADDRNOTAVAIL ENOTCONN ERR_STREAM_DESTROYED'.split(
    ' ',
  ),
);

/** True if the database, not the statement, was at fault: the same work may be tried again. */
export function isRetryableDatabaseError(error: unknown): boolean {
  if (error instanceof PoolExhaustedError) return true;
  if (!(error instanceof Error)) return false;
  const code = (error as { code?: unknown }).code;
  if (typeof code === 'string')
    return RETRYABLE_CODES.has(code) || RETRYABLE_CLASSES.has(code.slice(0, 2)) || RETRYABLE_SOCKET.has(code);
  return /Connection terminated|Client has encountered a connection error|timeout expired/.test(error.message);
}

/** The server itself said that it did not do it: the transaction is rolled back. Of anything else its commit may have come through. */
function isRolledBack(error: unknown): error is pg.DatabaseError {
  return error instanceof pg.DatabaseError && error.code !== undefined && !/^(08|57)/.test(error.code);
}

/**
 * True if nothing has happened and another way may succeed: the statement was at fault, or others who were at it at the same moment (a
 * deadlock, a lock that was held for too long). Not so if the database is gone, or may have done it.
 */
export function isUndone(error: unknown): boolean {
  if (!isRolledBack(error)) return false;
  return !isRetryableDatabaseError(error) || /^(40|55P03)/.test(error.code ?? '');
}

/** Numbers of the pool for /metrics. */
export interface DatabaseStats {
  total: number;
  idle: number;
  waiting: number;
  max: number;
}

export class Database implements Store {
  readonly settings: Readonly<DatabaseSettings>;
  readonly #pool: pg.Pool;
  readonly #acquireTimeoutMs: number;
  readonly #max: number;
  /** Connections opened before this moment are not lent again: one of them was found dead. */
  #mistrustBefore = 0;

  constructor(settings: DatabaseSettings) {
    this.settings = settings;
    this.#max = Math.min(20, Math.max(1, settings.maxConnections ?? 10));
    this.#acquireTimeoutMs = settings.acquireTimeoutMs ?? 10_000;
    this.#pool = new pg.Pool({
      Client: WatchedClient,
      host: settings.host,
      port: settings.port,
      user: settings.user,
      password: settings.password,
      database: settings.database,
      max: this.#max,
      // Statements go out as they are asked for, not one by one: a transaction of ten statements costs three round trips.
      pipeline: true,
      connectionTimeoutMillis: this.#acquireTimeoutMs,
      idleTimeoutMillis: 60_000,
      application_name: settings.applicationName ?? 'gpu-dev',
      // A dead peer must be found, and a process that was frozen within a turn must not keep its actors from the others for long.
      keepAlive: true,
      keepAliveInitialDelayMillis: 5_000,
      idle_in_transaction_session_timeout: 5_000,
      // Plans are kept as long as a connection lives, and queue tables swing between empty and full: what was cheap to scan when the plan was
      // made is not an hour later. Every statement here has an index that fits; where one has none, it is scanned all the same. The price of an
      // operator also stands for planning: at 0.0025 the smallest statements were planned anew at each call, an eighth of all work.
      options:
        '-c TimeZone=UTC -c lock_timeout=2000 -c jit=off -c enable_seqscan=off -c enable_bitmapscan=off -c enable_hashjoin=off -c enable_mergejoin=off -c cpu_operator_cost=0.02',
    });
    // An idle connection that dies is replaced at the next checkout; without a listener the process would end.
    this.#pool.on('error', () => {});
    // The server may end a connection in the same packet that opens it, before its borrower can listen: the first statement then fails.
    this.#pool.on('connect', (client) => {
      client.on('error', () => {});
      if (client instanceof WatchedClient) {
        client.onDead = () => {
          this.#mistrustBefore = performance.now();
        };
      }
    });
  }

  /** Check that the database answers. @throws the driver's error if it does not. */
  async init(): Promise<void> {
    await this.query('select 1');
  }

  /** Run one statement as its own transaction. */
  async query<Row extends pg.QueryResultRow = pg.QueryResultRow>(
    text: string,
    values?: readonly unknown[],
  ): Promise<pg.QueryResult<Row>> {
    return this.withConnection((client) => client.query<Row>(prepared(text, values)));
  }

  /**
   * Lend a connection to `work`. It goes back to the pool in every case; one whose work failed in the driver is thrown away.
   * @throws PoolExhaustedError if none became free in time.
   */
  withConnection<T>(work: (client: pg.PoolClient) => Promise<T>): Promise<T> {
    return this.#lend(work);
  }

  /** `spoil` tells that the connection must not be lent again. */
  async #lend<T>(work: (client: pg.PoolClient, spoil: (error: Error) => void) => Promise<T>): Promise<T> {
    const client = await this.#acquire();
    let broken: Error | undefined;
    const onError = (error: Error) => {
      broken = error;
    };
    client.on('error', onError);
    try {
      return await work(client, onError);
    } catch (error) {
      // A statement's own failure (a constraint, a bad value) leaves the connection sound; a lost connection does not.
      // Nor is one sound whose server has forgotten what it was taught.
      if (error instanceof Error && (isRetryableDatabaseError(error) || (error as { code?: unknown }).code === '26000'))
        broken ??= error;
      throw error;
    } finally {
      client.off('error', onError);
      client.release(broken ?? false);
    }
  }

  /**
   * Run `work` in a transaction: committed if it resolves and all that it sent succeeded, rolled back otherwise.
   * Given `within`, it joins that transaction instead and neither commits nor rolls back.
   */
  async withTransaction<T>(work: (transaction: Transaction) => Promise<T>, options: TransactionOptions = {}): Promise<T> {
    if (options.within) return work(options.within);
    return this.#lend(async (client, spoil) => {
      const transaction = new OpenTransaction(client);
      transaction.command(
        options.readonly ? 'begin isolation level repeatable read read only' : 'begin isolation level read committed',
      );
      let read: Promise<void> | undefined;
      try {
        const result = await work(transaction);
        if (transaction.unsent !== null) throw transaction.unsent;
        // After a failed statement the server turns a commit into a rollback, so it may go out before the answers are in.
        transaction.command('commit');
        read = options.behind?.({ query: (text, values) => client.query(prepared(text, values)) }).catch(() => {});
        await transaction.flush();
        // Of a statement whose answer nobody has awaited yet.
        if (transaction.firstError !== null) throw transaction.firstError;
        await read;
        return result;
      } catch (error) {
        transaction.end();
        // Whoever is lent the connection next must not meet it.
        await read;
        await client.query('rollback').catch(spoil);
        throw transaction.causeOf(error);
      } finally {
        transaction.end();
      }
    });
  }

  listen(channels: readonly string[], onWake: (channel: string | null) => void): Listener {
    return new PostgresListener(this.settings, channels, onWake);
  }

  stats(): DatabaseStats {
    return { total: this.#pool.totalCount, idle: this.#pool.idleCount, waiting: this.#pool.waitingCount, max: this.#max };
  }

  /** Wait for lent connections to come back, then close them all. */
  async close(): Promise<void> {
    if (!this.#pool.ending) await this.#pool.end();
  }

  async #acquire(): Promise<pg.PoolClient> {
    try {
      for (;;) {
        const client = await this.#pool.connect();
        if (!(client instanceof WatchedClient) || client.openedAt >= this.#mistrustBefore) return client;
        client.discard();
        client.release(true);
      }
    } catch (error) {
      if (error instanceof Error && /timeout exceeded when trying to connect/.test(error.message)) {
        throw new PoolExhaustedError(this.#acquireTimeoutMs, error);
      }
      throw error;
    }
  }
}

/** A transaction on a lent connection. What is sent goes out at once; its answers are gathered by the next flush. */
class OpenTransaction implements Transaction {
  readonly inTransaction = true;
  /** Why the transaction failed. Statements behind it fail too, and say only that. */
  firstError: unknown = null;
  /** Why a statement was not sent: the server does not know that the transaction has failed. */
  unsent: unknown = null;
  readonly #client: pg.PoolClient;
  #sent: Promise<unknown>[] = [];
  #open = true;

  constructor(client: pg.PoolClient) {
    this.#client = client;
  }

  query<Row extends pg.QueryResultRow>(text: string, values?: readonly unknown[]): Promise<pg.QueryResult<Row>> {
    if (!this.#open) return Promise.reject(new Error('This transaction has ended'));
    try {
      return this.#watched(this.#client.query<Row>(this.#prepared(text, values)));
    } catch (error) {
      return Promise.reject(error);
    }
  }

  send(text: string, values: readonly unknown[]): void {
    if (!this.#open) throw new Error('This transaction has ended');
    this.#keep(this.#client.query(this.#prepared(text, values)));
  }

  #prepared(text: string, values: readonly unknown[] | undefined): pg.QueryConfig {
    try {
      return prepared(text, values);
    } catch (error) {
      this.firstError ??= error;
      this.unsent ??= error;
      throw error;
    }
  }

  /** Send `begin`, `commit`, or a command of savepoints. */
  command(text: string): void {
    this.#keep(this.#client.query(text));
  }

  async flush(): Promise<void> {
    const sent = this.#sent;
    this.#sent = [];
    for (const answer of await Promise.allSettled(sent)) if (answer.status === 'rejected') throw this.causeOf(answer.reason);
    if (this.unsent !== null) throw this.unsent;
  }

  async attempt<T>(work: () => Promise<T>): Promise<T> {
    // What failed before the savepoint is not undone with it.
    await this.flush();
    this.command('savepoint attempt');
    try {
      const result = await work();
      await this.flush();
      this.command('release savepoint attempt');
      return result;
    } catch (error) {
      const cause = this.causeOf(error);
      await Promise.allSettled(this.#sent);
      await this.#client.query('rollback to savepoint attempt');
      // An attempt around this one has a savepoint of the same name.
      await this.#client.query('release savepoint attempt');
      this.#sent = [];
      this.firstError = null;
      this.unsent = null;
      throw cause;
    }
  }

  end(): void {
    this.#open = false;
  }

  /** What is behind an error: statements after a failed one fail only because of it, also where their text was to be sent with it (26000). */
  causeOf(error: unknown): unknown {
    const { code } = (error ?? {}) as { code?: unknown };
    return code === '25P02' || code === '26000' ? (this.firstError ?? error) : error;
  }

  #keep(answer: Promise<unknown>): void {
    const watched = this.#watched(answer);
    watched.catch(() => {}); // told by the next flush
    this.#sent.push(watched);
  }

  async #watched<T>(answer: Promise<T>): Promise<T> {
    try {
      return await answer;
    } catch (error) {
      this.firstError ??= error;
      throw error;
    }
  }
}

// Timestamps without zone are read as UTC (the driver's default is the zone of the process).
pg.types.setTypeParser(pg.types.builtins.TIMESTAMP, (value) => new Date(`${value.replace(' ', 'T')}Z`));
// bigint columns here are sequence numbers and counts far below 2^53.
pg.types.setTypeParser(pg.types.builtins.INT8, (value) => Number(value));
