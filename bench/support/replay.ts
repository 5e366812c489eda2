/**
 * The same writes once more, as bare SQL: the transactions that somebody committed, each as a few set-based statements whose values are known
 * beforehand. Nothing is read, nothing is decided, nothing is checked. This is the floor that the price of all the rest is measured against.
 */
import pg from 'pg';
import type { Database, Queryable, Transaction } from '../../persistence/database.ts';
import type { Row, RowChange, Written, WrittenTransaction } from './changes.ts';

interface Statement {
  text: string;
  values: readonly unknown[];
}

/** A transaction ready to run, and those before it that wrote the same rows. */
interface Step {
  statements: Statement[];
  after: number[];
}

export interface Replay {
  steps: Step[];
  /** Rows written, by table and kind of change. */
  rows: number;
}

/** Columns of each table: what its key is, and which have no default. */
export interface Shapes {
  keys: Map<string, string[]>;
  defaults: Map<string, Set<string>>;
}

const KEYS = `
  select c.relname as "table", array_agg(a.attname::text order by a.attnum) as columns
    from pg_index i join pg_class c on c.oid = i.indrelid
    join pg_attribute a on a.attrelid = c.oid and a.attnum = any(i.indkey)
   where i.indisprimary and c.relnamespace = 'public'::regnamespace
   group by c.relname`;

const DEFAULTS = `
  select table_name::text as "table", array_agg(column_name::text) as columns
    from information_schema.columns
   where table_schema = 'public' and (column_default is not null or is_identity = 'YES')
   group by table_name`;

export async function readShapes(db: Queryable): Promise<Shapes> {
  type Columns = { table: string; columns: string[] };
  const { rows: keys } = await db.query<Columns>(KEYS);
  const { rows: defaults } = await db.query<Columns>(DEFAULTS);
  return {
    keys: new Map(keys.map(({ table, columns }) => [table, columns])),
    defaults: new Map(defaults.map(({ table, columns }) => [table, new Set(columns)])),
  };
}

/** Turn what was written into statements: of each transaction one for each table and kind of change, in their order. */
export function compileReplay(written: Written, shapes: Shapes): Replay {
  const columns = columnsOf(written, shapes);
  const texts = new Map<string, string>();
  const lastWriter = new Map<string, number>();
  let rows = 0;
  const steps = written.transactions.map((transaction, index) => {
    const after = new Set<number>();
    for (const change of transaction) {
      const key = keyOf(change, shapes);
      const before = lastWriter.get(key);
      if (before !== undefined && before !== index) after.add(before);
      lastWriter.set(key, index);
      rows++;
    }
    const statements = groupsOf(transaction, shapes).map((changes) => {
      const { table, op } = changes[0]!;
      const name = `${op} ${table}`;
      const chosen = columns.get(name)!;
      const types = written.types.get(table)!;
      const text = texts.get(name) ?? textOf(op, table, chosen, shapes.keys.get(table)!, types);
      texts.set(name, text);
      return { text, values: chosen.map((column) => changes.map(({ row }) => row[column] ?? null)) };
    });
    return { statements, after: [...after] };
  });
  return { steps, rows };
}

/** Which columns each kind of change names: those that it ever changed, and no others. Rows are completed with what they had before. */
function columnsOf(written: Written, shapes: Shapes): Map<string, string[]> {
  const now = new Map<string, Row>();
  const used = new Map<string, Set<string>>();
  for (const change of written.transactions.flat()) {
    const { table, op, row } = change;
    const name = `${op} ${table}`;
    const set = used.get(name) ?? new Set(op === 'INSERT' ? [] : shapes.keys.get(table)!);
    used.set(name, set);
    if (op === 'DELETE') continue;
    const key = keyOf(change, shapes);
    const before = now.get(key);
    for (const [column, value] of Object.entries(row)) {
      if (value === undefined) row[column] = before?.[column];
      if (op === 'UPDATE' && before !== undefined && row[column] !== before[column]) set.add(column);
      if (op === 'INSERT' && (value !== null || shapes.defaults.get(table)?.has(column))) set.add(column);
    }
    now.set(key, row);
  }
  return new Map([...used].map(([name, set]) => [name, [...set]]));
}

function keyOf({ table, row }: RowChange, shapes: Shapes): string {
  const columns = shapes.keys.get(table);
  if (columns === undefined) throw new Error(`${table} has no primary key`);
  return [table, ...columns.map((column) => row[column])].join('\n');
}

/** Changes of one kind to one table, together as far as no other change of the same row lies between. */
function groupsOf(transaction: WrittenTransaction, shapes: Shapes): RowChange[][] {
  const groups: { changes: RowChange[]; keys: Set<string> }[] = [];
  for (const change of transaction) {
    const key = keyOf(change, shapes);
    let home: (typeof groups)[number] | undefined;
    for (let index = groups.length - 1; index >= 0; index--) {
      const group = groups[index]!;
      if (group.keys.has(key)) break;
      if (group.changes[0]!.table !== change.table || group.changes[0]!.op !== change.op) continue;
      home = group;
      break;
    }
    if (home === undefined) {
      home = { changes: [], keys: new Set() };
      groups.push(home);
    }
    home.changes.push(change);
    home.keys.add(key);
  }
  return groups.map(({ changes }) => changes);
}

/** Types that travel as arrays of their own; all others travel as text. */
const PLAIN = new Set(['bigint', 'integer', 'boolean', 'double precision', 'timestamp with time zone', 'uuid', 'text']);

function textOf(op: RowChange['op'], table: string, columns: string[], key: string[], types: Map<string, string>): string {
  const identifier = pg.escapeIdentifier;
  const typed = (column: string) => types.get(column)!;
  const ARRAYS = columns.map((column, index) => `$${index + 1}::${PLAIN.has(typed(column)) ? typed(column) : 'text'}[]`);
  const NAMES = columns.map((column) => identifier(column));
  const cast = (column: string) => (PLAIN.has(typed(column)) ? '' : `::${typed(column)}`);
  const VALUES = columns.map((column) => `v.${identifier(column)}${cast(column)}`);
  const MATCH = key.map((column) => `t.${identifier(column)} = v.${identifier(column)}`);
  const FROM = `unnest(${ARRAYS.join(', ')}) as v(${NAMES.join(', ')})`;
  if (op === 'INSERT') {
    return `insert into ${identifier(table)} (${NAMES.join(', ')}) overriding system value select ${VALUES.join(', ')} from ${FROM}`;
  }
  if (op === 'DELETE') return `delete from ${identifier(table)} t using ${FROM} where ${MATCH.join(' and ')}`;
  const SETS = columns
    .filter((column) => !key.includes(column))
    .map((column) => `${identifier(column)} = v.${identifier(column)}${cast(column)}`);
  return `update ${identifier(table)} t set ${SETS.join(', ')} from ${FROM} where ${MATCH.join(' and ')}`;
}

/**
 * Run the steps `from` up to (not including) `to`, in their order as far as they write the same rows, at most `lanes` at a time.
 * @throws the first error.
 */
export async function runReplay(db: Database, replay: Replay, lanes: number, from: number, to: number): Promise<void> {
  const done: Promise<void>[] = [];
  let next = from;
  const run = async ({ statements, after }: Step) => {
    await Promise.all(after.map((index) => done[index]));
    if (statements.length === 0) return;
    // A statement alone is a transaction by itself.
    if (statements.length === 1) await db.query(statements[0]!.text, statements[0]!.values);
    else
      await db.withTransaction(async (tx: Transaction) => statements.forEach(({ text, values }) => void tx.send(text, values)));
  };
  const lane = async () => {
    while (next < to) {
      const index = next++;
      done[index] = run(replay.steps[index]!);
      await done[index];
    }
  };
  await Promise.all(Array.from({ length: lanes }, lane));
}
