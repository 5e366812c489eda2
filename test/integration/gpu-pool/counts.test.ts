import { afterAll, beforeAll, expect, it } from 'vitest';
import { Database } from '../../../persistence/database.ts';
import { createTestDatabase, type TestDatabase } from '../../support/postgres.ts';

let database: TestDatabase;
let db: Database;
beforeAll(async () => {
  database = await createTestDatabase();
  db = new Database({ ...database.config, maxConnections: 3 });
});
afterAll(async () => {
  await db?.close();
  await database?.drop();
});

const COUNTED = `
  select node, coalesce(free, '{}') as free, coalesce(held, 0)::int as held, coalesce(cpu, 0)::int as cpu, coalesce(memory, 0)::int as memory
    from (select node, array_agg(slot order by slot) filter (where reservation_id is null) as free, count(reservation_id) as held
            from gpu_slots group by node) s
    full join (select node, sum(cpu_millis) as cpu, sum(memory_bytes) as memory
                 from capacity_requests where status = 'granted' group by node) r using (node) order by node`;
const KEPT = 'select node, free, held, cpu_millis::int as cpu, memory_bytes::int as memory from node_usage order by node';

/** What the triggers keep is what a count of the rows gives. */
async function expectKept(): Promise<void> {
  expect((await db.query(KEPT)).rows).toEqual((await db.query(COUNTED)).rows);
  const { rows: lines } = await db.query('select gpu_type, waiting from line_lengths where waiting <> 0 order by gpu_type');
  const { rows: waiting } = await db.query(
    `select gpu_type, count(*)::int as waiting from capacity_requests where status = 'waiting' group by gpu_type order by gpu_type`,
  );
  expect(lines).toEqual(waiting);
}

async function request(id: string): Promise<void> {
  await db.query(
    `insert into capacity_requests (reservation_id, gpu_type, owner, generation, slots, cpu_millis, memory_bytes, duration_hours, submitted_at, status)
     values ($1, 't4', 'ann', 1, 1, 700, 900, 1, now(), 'waiting')`,
    [id],
  );
}

it('what slots and requests add up to is kept through every kind of change, by hand as well', async () => {
  await db.query(
    `insert into gpu_slots (gpu_type, node, slot) select 't4', n, s from unnest('{a,b}'::text[]) n, generate_series(0, 3) s`,
  );
  await expectKept();
  for (const id of ['one', 'two', 'three']) await request(id);
  await expectKept();
  await db.query(`update capacity_requests set status = 'granted', node = 'a' where reservation_id in ('one', 'two')`);
  await db.query(`update gpu_slots set reservation_id = 'one', generation = 1, held_since = now() where node = 'a' and slot = 1`);
  await expectKept();
  await db.query(`update capacity_requests set waits_because = 'All are in use' where reservation_id = 'three'`);
  await db.query(`update capacity_requests set node = 'b', cpu_millis = 500 where reservation_id = 'two'`);
  await expectKept();
  await db.query(`update capacity_requests set status = 'waiting', node = null where reservation_id = 'two'`);
  await db.query(`delete from gpu_slots where node = 'a' and slot = 3`);
  await expectKept();
  await db.query(`delete from capacity_requests`);
  await db.query(
    `update gpu_slots set reservation_id = null, generation = null, held_since = null where reservation_id is not null`,
  );
  await expectKept();
  await db.query('delete from gpu_slots');
  await expectKept();
  expect((await db.query('select 1 from node_usage')).rowCount).toBe(0);
});

it('two who change slots of one node at the same time are both counted', async () => {
  await db.query(`insert into gpu_slots (gpu_type, node, slot) select 't4', 'c', s from generate_series(0, 3) s`);
  const hold = `update gpu_slots set reservation_id = $1, generation = 1, held_since = now() where node = 'c' and slot = $2`;
  let second: Promise<unknown> = Promise.resolve();
  await db.withTransaction(async (tx) => {
    await tx.query(hold, ['first', 0]);
    second = db.query(hold, ['second', 1]);
    for (;;) {
      const { rowCount } = await db.query(
        `select 1 from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()`,
      );
      if ((rowCount ?? 0) > 0) break;
    }
  });
  await second;
  await expectKept();
});
