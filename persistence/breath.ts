/**
 * Statements of one moment, sent to the server as one and answered by it as one: one packet each way. The driver alone ends each statement with
 * a synchronisation of its own, for which the server writes, and wakes the reader of, a packet of its own.
 *
 * After a statement that fails the server passes over all that follow it, a commit among them; then it is ready again.
 */
import pg from 'pg';

/** A statement, and who waits for its answer. */
export interface Statement {
  /** Under which the server keeps it; empty: it does not. */
  name: string;
  text: string;
  /** As the server takes them: nothing of them can fail on its way. */
  values: unknown[];
  resolve: (result: pg.QueryResult) => void;
  reject: (error: Error) => void;
}

/** What the driver's own class does with the messages of the server; its types do not tell. */
interface Driver {
  readonly name: string;
  readonly text: string;
  hasBeenParsed(connection: Connection): boolean;
  submit(connection: Connection): Error | null;
  handleRowDescription(message: unknown): void;
  handleDataRow(message: unknown): void;
  handleCommandComplete(message: unknown, connection: Connection): void;
  handleEmptyQuery(connection: Connection): void;
  handleReadyForQuery(connection: Connection): void;
  handleError(error: Error, connection: Connection): void;
}

interface Connection {
  stream: { cork(): void; uncork(): void; destroy(error: Error): void };
  parsedStatements: Record<string, string>;
  submittedNamedStatements: Record<string, string>;
  sync?: () => void;
}

const Query = pg.Query as unknown as new (text?: string, values?: unknown[]) => Driver;

/** To the driver it is one query. */
export class Breath extends Query {
  readonly #queries: Driver[] = [];
  /** Those whose text is sent with this breath and that the server has not confirmed yet. */
  readonly #unparsed: Driver[] = [];
  #answered = 0;
  #settled = 0;
  /** The last of all, when the server has done it: outside a transaction it is committed only when the server is ready again. */
  #last: Driver | null = null;

  constructor() {
    super('');
  }

  add({ name, text, values, resolve, reject }: Statement): void {
    const query = Object.assign(new Query(text, values), {
      name,
      // Without a name, too, it is not a statement of the other protocol, which knows no breath.
      queryMode: 'extended',
      callback: (error: Error | null | undefined, result: pg.QueryResult) => {
        this.#settled++;
        if (error === null || error === undefined) return resolve(result);
        // It comes from the socket: who asked is more to the point.
        Error.captureStackTrace(error);
        reject(error);
      },
    });
    this.#queries.push(query);
  }

  override submit(connection: Connection): null {
    connection.stream.cork();
    // Each statement would be followed by one.
    connection.sync = () => {};
    try {
      for (const query of this.#queries) {
        if (!query.hasBeenParsed(connection)) this.#unparsed.push(query);
        const error = query.submit(connection);
        if (error !== null) query.handleError(error, connection);
      }
    } finally {
      delete connection.sync;
      connection.sync!();
      // Without one of them the others must not go on, least of all to a commit: the server never sees the end of what it was sent.
      if (this.#settled > 0) connection.stream.destroy(new Error('A statement could not be sent'));
      connection.stream.uncork();
    }
    return null;
  }

  /** The server has understood the next of those whose text it was sent. */
  parsed(connection: Connection): void {
    const query = this.#unparsed.shift();
    if (query === undefined || query.name === '') return;
    connection.parsedStatements[query.name] = query.text;
    delete connection.submittedNamedStatements[query.name];
  }

  override handleRowDescription(message: unknown): void {
    this.#queries[this.#answered]!.handleRowDescription(message);
  }

  override handleDataRow(message: unknown): void {
    this.#queries[this.#answered]!.handleDataRow(message);
  }

  override handleCommandComplete(message: unknown, connection: Connection): void {
    const query = this.#queries[this.#answered]!;
    query.handleCommandComplete(message, connection);
    this.#done(query, connection);
  }

  override handleEmptyQuery(connection: Connection): void {
    this.#done(this.#queries[this.#answered]!, connection);
  }

  #done(query: Driver, connection: Connection): void {
    this.#answered++;
    if (this.#answered < this.#queries.length) query.handleReadyForQuery(connection);
    else this.#last = query;
  }

  /** The next statement failed, or all did that have no answer: nobody answers them any more. */
  override handleError(error: Error, connection: Connection): void {
    for (const { name } of this.#unparsed) delete connection.submittedNamedStatements[name];
    const [failed, ...rest] = [...this.#takeLast(), ...this.#queries.slice(this.#answered)];
    this.#answered = this.#queries.length;
    failed?.handleError(error, connection);
    for (const query of rest) query.handleError(error instanceof pg.DatabaseError ? passedOver() : error, connection);
  }

  override handleReadyForQuery(connection: Connection): void {
    for (const query of this.#takeLast()) query.handleReadyForQuery(connection);
    if (this.#answered < this.#queries.length) this.handleError(new Error('The server has not answered'), connection);
  }

  #takeLast(): Driver[] {
    const last = this.#last === null ? [] : [this.#last];
    this.#last = null;
    return last;
  }
}

/** As the server answers in a transaction that has failed, to what comes in a later packet. */
function passedOver(): Error {
  const error = new pg.DatabaseError('A statement before this one failed', 0, 'error');
  return Object.assign(error, { code: '25P02', severity: 'ERROR' });
}
