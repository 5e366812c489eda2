/**
 * Statements of one moment, sent to the server as one and answered by it as one: one packet each way. The driver alone ends each statement with
 * a synchronisation of its own, for which the server writes, and wakes the reader of, a packet of its own.
 *
 * After a statement that fails the server passes over all that follow it, a commit among them; then it is ready again.
 */
import pg from 'pg';

/** A prepared statement, and who waits for its answer. */
export interface Statement {
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

  constructor() {
    super('');
  }

  add({ name, text, values, resolve, reject }: Statement): void {
    const query = Object.assign(new Query(text, values), {
      name,
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
    if (query === undefined) return;
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
    const query = this.#queries[this.#answered++]!;
    query.handleCommandComplete(message, connection);
    query.handleReadyForQuery(connection);
  }

  /** The next statement failed, or all did that have no answer: nobody answers them any more. */
  override handleError(error: Error, connection: Connection): void {
    for (const { name } of this.#unparsed) delete connection.submittedNamedStatements[name];
    const [failed, ...rest] = this.#queries.slice(this.#answered);
    this.#answered = this.#queries.length;
    failed?.handleError(error, connection);
    const behind = error instanceof pg.DatabaseError && error.severity === 'ERROR' ? passedOver : () => error;
    for (const query of rest) query.handleError(behind(), connection);
  }

  override handleReadyForQuery(connection: Connection): void {
    if (this.#answered < this.#queries.length) this.handleError(new Error('The server has not answered'), connection);
  }
}

/** As the server answers in a transaction that has failed, to what comes in a later packet. */
function passedOver(): Error {
  const error = new pg.DatabaseError('A statement before this one failed', 0, 'error');
  return Object.assign(error, { code: '25P02', severity: 'ERROR' });
}
