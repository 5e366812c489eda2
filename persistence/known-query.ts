/**
 * A named statement whose result is described once in a connection's life. The driver has each execution described anew: the server looks up
 * the types of all columns, and the driver prepares to read them, a dozen times in a transaction. But what a prepared statement gives never
 * changes: the server refuses to run one whose columns would be others (0A000). Only of `fetch` and `execute` it may, so they are described anew.
 */
import pg from 'pg';

/** What the driver keeps of a result's columns. */
interface Columns {
  fields: unknown[];
  _parsers: unknown[] | undefined;
  _prebuiltEmptyResultObject: object | null;
}

/** The driver's end of a connection. */
interface Connection {
  describe(what: object): void;
}

/** The driver's own parts of a query, which its types leave out. */
interface DriverQuery {
  name: string;
  text: string;
  _result: Columns;
  _accumulateRows: boolean;
  prepare(connection: Connection): void;
  handleRowDescription(message: unknown): void;
  handleCommandComplete(message: unknown, connection: Connection): void;
}

/** Commands that give what another statement gives. */
const MAY_CHANGE = /^\s*(fetch|execute)\b/i;

const Query = pg.Query as unknown as new (text: string, values: unknown[]) => DriverQuery;

/** What is known of a connection's statements, by name; and the connection for those that need no description. */
interface Known {
  columns: Map<string, Columns>;
  quiet: Connection;
}

const connections = new WeakMap<Connection, Known>();

function knownOf(connection: Connection): Known {
  let known = connections.get(connection);
  if (known === undefined) {
    known = { columns: new Map(), quiet: Object.create(connection, { describe: { value: () => {} } }) as Connection };
    connections.set(connection, known);
  }
  return known;
}

export class KnownQuery extends Query {
  #isDescribed = false;
  #columns: Columns = { fields: [], _parsers: undefined, _prebuiltEmptyResultObject: null };

  /** @param callback called once: with an error, or with null and the result */
  constructor(name: string, text: string, values: unknown[], callback: (error: Error | null, result: unknown) => void) {
    super(text, values);
    Object.assign(this, { name, callback });
  }

  override prepare(connection: Connection): void {
    const { columns, quiet } = knownOf(connection);
    const mine = columns.get(this.name);
    if (mine === undefined) {
      super.prepare(connection);
      return;
    }
    this.#isDescribed = true;
    Object.assign(this._result, mine);
    this._accumulateRows = true;
    super.prepare(quiet);
  }

  override handleRowDescription(message: unknown): void {
    super.handleRowDescription(message);
    const { fields, _parsers, _prebuiltEmptyResultObject } = this._result;
    this.#columns = { fields, _parsers, _prebuiltEmptyResultObject };
  }

  override handleCommandComplete(message: unknown, connection: Connection): void {
    super.handleCommandComplete(message, connection);
    if (this.#isDescribed || MAY_CHANGE.test(this.text)) return;
    knownOf(connection).columns.set(this.name, this.#columns);
  }
}
