/** A very long line, made of one real reservation that waits: every row of it is copied, under another id. */
import pg from 'pg';
import { create, type Stage } from './stage.ts';

/** Tables with rows of a reservation that waits for capacity, and the column that names it. Triggers count the line as always. */
const TABLES = [
  ['actors', 'actor'],
  ['history', 'actor'],
  ['checkpoints', 'actor'],
  ['effects', 'actor'],
  ['deadlines', 'actor'],
  ['reservations', 'reservation_id'],
  ['secrets', 'secret_ref'],
  ['capacity_requests', 'reservation_id'],
] as const;

const COPIES = 'create table bench_copies (id text)';
const IDS = 'insert into bench_copies select gen_random_uuid()::text from generate_series(1, $1::int)';
const WAITS = `select count(*)::int as n from capacity_requests where reservation_id = $1 and status = 'waiting'`;

/**
 * Let so many more reservations wait, behind one that waits already: no GPU of its type may be free. A service must be running.
 * Everything of a copy is as if it had been sent at the moment of its template, so the order among the copies is that of their ids.
 */
export async function fillWaiting(stage: Stage, count: number): Promise<void> {
  const wish = create();
  await stage.send(wish);
  await stage.until('it waits', async () => (await stage.count(WAITS, [wish.reservation_id])) === 1);
  await stage.connected(async (client) => {
    await client.query('begin');
    await client.query(COPIES);
    await client.query(IDS, [count - 1]);
    for (const [table, column] of TABLES) {
      const TABLE = pg.escapeIdentifier(table);
      const COLUMN = pg.escapeIdentifier(column);
      await client.query(
        `insert into ${TABLE} select made.*
           from (select to_jsonb(t)::text as text from ${TABLE} t where ${COLUMN} in ($1, 'reservation/' || $1)) template,
                (select id from bench_copies order by id) copy,
                lateral jsonb_populate_record(null::${TABLE}, replace(template.text, $1, copy.id)::jsonb) made`,
        [wish.reservation_id],
      );
    }
    await client.query('drop table bench_copies');
    await client.query('commit');
    await client.query('vacuum analyze');
    await client.query('checkpoint');
  });
}
