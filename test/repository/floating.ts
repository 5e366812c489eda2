/**
 * Promises that float, each of which the linter must report: where it does not, its directive is unused, and that is an error too. Nothing runs
 * this; `npm run lint` proves with it that the rule sees the database's driver.
 */
import type pg from 'pg';

export async function float(client: pg.Client, pool: pg.Pool): Promise<void> {
  // eslint-disable-next-line @typescript-eslint/no-floating-promises
  client.query('select 1');
  // eslint-disable-next-line @typescript-eslint/no-floating-promises
  pool.query('select $1', [1]);
  // eslint-disable-next-line @typescript-eslint/no-floating-promises
  pool.connect();
  // eslint-disable-next-line @typescript-eslint/no-floating-promises
  [1, 2].map((n) => client.query('select $1', [n]));
  // And these are not reported.
  await client.query('select 1');
  await pool.query('select $1', [1]);
}
