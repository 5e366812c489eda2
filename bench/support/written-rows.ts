/** How much was written to a database, counted by the database. */
import type { Queryable } from '../../persistence/database.ts';

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

/** The greatest difference between two counts, as part of the first (0.01: one in a hundred), and where it is. */
export function greatestDifference(ours: RowCounts, theirs: RowCounts): { part: number; where: string } {
  let greatest = { part: 0, where: '' };
  const total = Math.max(...Object.values(ours));
  for (const where of new Set([...Object.keys(ours), ...Object.keys(theirs)])) {
    const [one, other] = [ours[where] ?? 0, theirs[where] ?? 0];
    // A handful of rows in a table that hardly matters is not a difference.
    const part = Math.abs(one - other) / Math.max(one, total / 100);
    if (part > greatest.part) greatest = { part, where };
  }
  return greatest;
}

/** Where the log of the server stands, in bytes, and how many transactions have written. */
export async function logPosition(db: Queryable): Promise<{ bytes: number; transactions: number }> {
  const { rows } = await db.query<{ bytes: string; transactions: string }>(
    `select (pg_current_wal_insert_lsn() - '0/0') as bytes, pg_snapshot_xmax(pg_current_snapshot())::text as transactions`,
  );
  return { bytes: Number(rows[0]!.bytes), transactions: Number(rows[0]!.transactions) };
}
