/**
 * What was written, as the database's own log tells it: every transaction in the order of the commits, row by row. Read from a logical slot
 * that was made before the writes.
 */
import type { Queryable } from '../../persistence/database.ts';

/** A value as text; null for SQL's null; undefined for a large one that the change left as it was. */
export type Row = Record<string, string | null | undefined>;

export interface RowChange {
  table: string;
  op: 'INSERT' | 'UPDATE' | 'DELETE';
  row: Row;
}

export type WrittenTransaction = RowChange[];

/** What was read: transactions in the order of their commits, and the type of each column by table. */
export interface Written {
  transactions: WrittenTransaction[];
  types: Map<string, Map<string, string>>;
}

const SLOT = 'bench';

/** From here on changes can be read. The server must write a logical log. */
export async function startReading(db: Queryable): Promise<void> {
  await db.query(`select pg_create_logical_replication_slot($1, 'test_decoding')`, [SLOT]);
}

/** All transactions that have been committed since {@link startReading}. */
export async function readWritten(db: Queryable): Promise<Written> {
  const written: Written = { transactions: [], types: new Map() };
  for (;;) {
    const { rows } = await db.query<{ data: string }>(
      `select data from pg_logical_slot_get_changes($1, null, 20000, 'include-xids', '0', 'skip-empty-xacts', '1')`,
      [SLOT],
    );
    for (const { data } of rows) take(written, data);
    if (rows.length === 0) return written;
  }
}

export async function stopReading(db: Queryable): Promise<void> {
  await db.query('select pg_drop_replication_slot($1)', [SLOT]);
}

function take(written: Written, line: string): void {
  if (line === 'BEGIN') {
    written.transactions.push([]);
    return;
  }
  const head = /^table public\.("?)(\w+)\1: (INSERT|UPDATE|DELETE): /.exec(line);
  if (head === null) return; // the end of a transaction, or a table of an extension
  const table = head[2]!;
  const op = head[3] as RowChange['op'];
  const moved = line.indexOf('new-tuple: ');
  if (line.startsWith('old-key: ', head[0].length) && moved !== -1) throw new Error(`${table}: a key was changed`);
  const types = written.types.get(table) ?? new Map<string, string>();
  written.types.set(table, types);
  written.transactions.at(-1)!.push({ table, op, row: parseRow(line.slice(head[0].length), types) });
}

const FIELD = /"?(\w+)"?\[((?:[^[\]]|\[\])+)\]:('(?:[^']|'')*'|\S+)(?: |$)/y;

function parseRow(text: string, types: Map<string, string>): Row {
  const row: Row = {};
  FIELD.lastIndex = 0;
  while (FIELD.lastIndex < text.length) {
    const field = FIELD.exec(text);
    if (field === null) throw new Error(`A change that cannot be read: ${text}`);
    const [, column = '', type = '', value = ''] = field;
    types.set(column, type);
    row[column] = value.startsWith("'")
      ? value.slice(1, -1).replaceAll("''", "'")
      : value === 'null'
        ? null
        : value === 'unchanged-toast-datum'
          ? undefined
          : value;
  }
  return row;
}
