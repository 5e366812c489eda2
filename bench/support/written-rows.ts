/** How much was written to a database, counted by the database. */
import type { Queryable } from '../../persistence/database.ts';
import { round } from './statistics.ts';

/** Rows inserted, updated and deleted, by `table change`. */
export type RowCounts = Record<string, number>;

const COUNTS = `
  select relname as "table", n_tup_ins as inserted, n_tup_upd as updated, n_tup_del as deleted
    from pg_stat_user_tables where schemaname = 'public'`;

/** Counts since the database was made. Connections that wrote must be closed: each tells its counts at its end. */
export async function countRows(db: Queryable): Promise<RowCounts> {
  const { rows } = await db.query<{ table: string; inserted: string; updated: string; deleted: string }>(COUNTS);
  const counts: RowCounts = {};
  for (const { table, ...each } of rows)
    for (const [change, count] of Object.entries(each)) if (Number(count) > 0) counts[`${table} ${change}`] = Number(count);
  return counts;
}

/** Differences as parts of the first (0.01: one in a hundred): of all rows written, and of the table and change where it is greatest. */
export interface Difference {
  all: number;
  greatest: number;
  where: string;
}

export function differenceOf(ours: RowCounts, theirs: RowCounts): Difference {
  const sum = (counts: RowCounts) => Object.values(counts).reduce((total, count) => total + count, 0);
  const found: Difference = { all: round(Math.abs(sum(ours) - sum(theirs)) / sum(ours), 4), greatest: 0, where: '' };
  for (const where of new Set([...Object.keys(ours), ...Object.keys(theirs)])) {
    const [one, other] = [ours[where] ?? 0, theirs[where] ?? 0];
    // A handful of rows in a table that hardly matters is not a difference.
    const part = round(Math.abs(one - other) / Math.max(one, sum(ours) / 1_000), 4);
    if (part > found.greatest) Object.assign(found, { greatest: part, where });
  }
  return found;
}

/** Where the log of the server stands, in bytes, and how many transactions have written. */
export async function logPosition(db: Queryable): Promise<{ bytes: number; transactions: number }> {
  const { rows } = await db.query<{ bytes: string; transactions: string }>(
    `select (pg_current_wal_insert_lsn() - '0/0') as bytes, pg_snapshot_xmax(pg_current_snapshot())::text as transactions`,
  );
  return { bytes: Number(rows[0]!.bytes), transactions: Number(rows[0]!.transactions) };
}
