/**
 * A connection that notices when nobody answers any more. The network may lose a connection without telling either side; TCP itself gives up
 * after a quarter of an hour. A statement may as well be slow, or wait for a lock. So silence is no proof: another connection asks the
 * server what became of the statement, and only one that the server is not at work on is given up.
 */
import { Socket } from 'node:net';
import pg from 'pg';
import { KnownQuery } from './known-query.ts';

/** Silence after which the server is asked, and how long the asking may take, in milliseconds. */
const SILENCE_MS = 2_000;
const ASKING_MS = 2_000;

/** How long a new connection may take: in a network that swallows everything, the next try may find it healed. */
const CONNECT_MS = 3_000;

/** The connection was found dead while an answer was awaited. Whether the statement ran is unknown. */
export class SilentConnectionError extends Error {
  override readonly name = 'SilentConnectionError';
  readonly code = 'ETIMEDOUT';
  constructor() {
    super('The database connection went dead while an answer was awaited');
  }
}

// Waiting for the client, in a statement or between two, means that the server has done what it was asked for, or was never asked.
const AT_WORK = `select 1 from pg_stat_activity where pid = $1 and state not like 'idle%' and wait_event_type is distinct from 'Client'`;
const END = 'select pg_terminate_backend($1)';

/** A prepared statement. */
interface Named {
  name: string;
  text: string;
  values: unknown[];
}

function isNamed(statement: unknown): statement is Named {
  return (
    typeof statement === 'object' &&
    statement !== null &&
    'name' in statement &&
    'values' in statement &&
    !('submit' in statement)
  );
}

/** A command without parameters. */
interface Plain {
  text: string;
}

function isPlain(statement: unknown): statement is Plain {
  return typeof statement === 'object' && statement !== null && Object.keys(statement).join() === 'text';
}

export class WatchedClient extends pg.Client {
  readonly openedAt = performance.now();
  /** Told when a connection was found dead: others of the same age may be as well. */
  onDead: () => void = () => {};
  readonly #config: pg.ClientConfig;
  readonly #socket: Socket;
  #gathering = false;
  #unanswered = 0;
  #bytesRead = 0;
  /** When the last answer came, or the first statement went out that has none. */
  #since = 0;
  #timer: NodeJS.Timeout | null = null;
  readonly #heard = () => {
    this.#unanswered--;
    this.#since = performance.now();
  };

  constructor(config: pg.ClientConfig = {}) {
    const socket = new Socket();
    // A pool hides the password from whoever lists its settings.
    const whole = { ...config, password: config.password };
    super({ ...whole, connectionTimeoutMillis: CONNECT_MS, stream: () => socket });
    this.#config = whole;
    this.#socket = socket;
  }

  /** Statements of one moment leave in one packet: each packet wakes the server, and costs both sides more than most statements do. */
  #gather(): void {
    if (this.#gathering) return;
    this.#gathering = true;
    const { stream } = (this as unknown as { connection: { stream: Socket } }).connection;
    stream.cork();
    process.nextTick(() => {
      this.#gathering = false;
      stream.uncork();
    });
  }

  // biome-ignore lint/suspicious/noExplicitAny: the driver's method has many forms. All that are used here give a promise.
  override query(...statement: any[]): any {
    this.#gather();
    const [first] = statement as [unknown];
    const only = typeof first === 'string' && statement.length === 1 ? { text: first } : first;
    const answer =
      isNamed(only) || isPlain(only)
        ? this.#ask(only)
        : (super.query as (...statement: unknown[]) => Promise<unknown>).apply(this, statement);
    if (this.#unanswered++ === 0) this.#since = performance.now();
    this.#timer ??= this.#look(SILENCE_MS);
    answer.then(this.#heard, this.#heard);
    return answer;
  }

  /**
   * A statement sent without the copy that the driver makes of each configuration: there are a dozen in a transaction. All go this way, so that
   * answers are told in the order in which they come: of several errors the first is the cause.
   */
  #ask(statement: Named | Plain): Promise<unknown> {
    return new Promise((resolve, reject) => {
      // The driver loses its place if this throws.
      const callback = (error: Error | null | undefined, result: unknown) => {
        if (error === null || error === undefined) return resolve(result);
        // It comes from the socket: who asked is more to the point.
        if (error instanceof Error && Object.isExtensible(error)) Error.captureStackTrace(error);
        reject(error);
      };
      const { text } = statement;
      const query =
        'name' in statement ? new KnownQuery(statement.name, text, statement.values, callback) : new pg.Query(text, callback);
      super.query(query as pg.Query);
    });
  }

  /** Close it without a farewell, for which a dead one would wait for ever. */
  discard(): void {
    this.#socket.destroy();
  }

  /** One timer serves all statements: it is not set anew for each. */
  #look(milliseconds: number): NodeJS.Timeout {
    return setTimeout(() => {
      this.#timer = null;
      if (this.#unanswered === 0) return;
      // A long answer is an answer while it comes in.
      if (this.#socket.bytesRead !== this.#bytesRead) {
        this.#bytesRead = this.#socket.bytesRead;
        this.#since = performance.now();
      }
      const left = this.#since + SILENCE_MS - performance.now();
      if (left > 0) this.#timer = this.#look(left);
      else void this.#inquire();
    }, milliseconds).unref();
  }

  /** Ask the server on a connection of our own. If it cannot be reached, nothing is known, and it is asked again. */
  async #inquire(): Promise<void> {
    const since = this.#since;
    const { bytesRead } = this.#socket;
    const pid = (this as unknown as { processID: number }).processID;
    const asking = new pg.Client({
      ...this.#config,
      application_name: 'gpu-dev watch',
      pipeline: false,
      connectionTimeoutMillis: ASKING_MS,
      query_timeout: ASKING_MS,
    });
    asking.on('error', () => {});
    try {
      await asking.connect();
      const { rowCount } = await asking.query(AT_WORK, [pid]);
      // An answer that came meanwhile, or a part of one, or one that lay unread while this process was frozen, is one.
      if (rowCount === 0 && this.#unanswered > 0 && this.#since === since && this.#socket.bytesRead === bytesRead) {
        this.onDead();
        this.#socket.destroy(new SilentConnectionError());
        // What it began must not keep its locks until somebody misses it.
        await asking.query(END, [pid]);
      }
    } catch {
      // Nothing is known.
    } finally {
      await asking.end().catch(() => {});
      if (this.#unanswered > 0) this.#timer ??= this.#look(SILENCE_MS);
    }
  }
}
