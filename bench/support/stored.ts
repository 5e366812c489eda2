/** Very many reservations that have ended, made of real ones: every row of each is copied, under another id. */
import pg from 'pg';
import { create, type Stage } from './stage.ts';

/** Tables with rows of a reservation, and the column that names it. */
const TABLES = [
  ['actors', 'actor'],
  ['history', 'actor'],
  ['effects', 'actor'],
  ['reservations', 'reservation_id'],
] as const;
/** Of so many, one had a server; the others were cancelled while they waited. */
const ONE_RAN_OF = 10;

const COPIES = 'create table bench_copies (id text, ran boolean)';
const IDS = `
  insert into bench_copies select id::text, (row_number() over (order by id)) % $2::int = 0
    from (select gen_random_uuid() as id from generate_series(1, $1::int)) ids`;

/** Fill up to `count` stored reservations. A service must be running, and have a free GPU of type h100; type t4 must have none. */
export async function fillStored(stage: Stage, count: number): Promise<void> {
  const ran = create();
  const waited = create({ gpu_type: 't4' });
  for (const wish of [ran, waited]) {
    await stage.send(wish);
    await stage.until('it runs or waits', async () => (await stage.count(HAS_COME, [wish.reservation_id])) === 1);
    await stage.send({ action: 'cancel', reservation_id: wish.reservation_id, user_id: 'bench' });
  }
  await stage.until(
    'both have ended',
    async () => (await stage.count(ENDED, [[ran.reservation_id, waited.reservation_id]])) === 2,
  );
  await stage.connected(async (client) => {
    await client.query(COPIES);
    await client.query(IDS, [count, ONE_RAN_OF]);
    for (const [template, wanted] of [
      [ran.reservation_id, true],
      [waited.reservation_id, false],
    ] as const) {
      for (const [table, column] of TABLES) {
        const TABLE = pg.escapeIdentifier(table);
        const COLUMN = pg.escapeIdentifier(column);
        // Ids ascend, so that the indexes are filled from one end.
        await client.query(
          `insert into ${TABLE} select made.*
             from (select to_jsonb(t)::text as text from ${TABLE} t where ${COLUMN} in ($1, 'reservation/' || $1)) template,
                  (select id from bench_copies where ran = $2 order by id) copy,
                  lateral jsonb_populate_record(null::${TABLE}, replace(template.text, $1, copy.id)::jsonb) made`,
          [template, wanted],
        );
      }
    }
    await client.query('drop table bench_copies');
    await client.query('vacuum analyze');
    await client.query('checkpoint');
  });
}

const HAS_COME = `
  select count(*)::int as n from reservations r where reservation_id = $1
     and (status = 'running' or exists (select 1 from capacity_requests c where c.reservation_id = r.reservation_id and c.status = 'waiting'))`;
const ENDED = `select count(*)::int as n from reservations where reservation_id = any($1::text[]) and reservation_ended is not null`;
