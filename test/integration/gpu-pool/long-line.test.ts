/** What costs the same however many wait: told by the database's own counters, not by the clock. */
import pg from 'pg';
import { QueueViews } from '../../../src/http/queue-views.ts';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { CLEAR_REASONS } from '../../../actors/gpu-pool/capacity.ts';
import { ESTIMATED, readPlaces, queueView } from '../../../actors/gpu-pool/line-view.ts';
import { addNodes, create, openPool, settle } from '../../old-failures/support.ts';
import { type Door, startDoor } from '../../messages/support.ts';
import { createTestDatabase, type TestDatabase } from '../../support/postgres.ts';

const MANY = 10_000;
/** Far more than any of this needs, far less than a walk over the line. */
const FEW = 1_500;

const STAND_IN_LINE = `
  insert into capacity_requests (reservation_id, gpu_type, owner, generation, slots, cpu_millis, memory_bytes, duration_hours, node_labels,
                                 submitted_at, status)
  select lpad(n::text, 8, '0') || '-0000-4000-8000-000000000000', 'h100', 'ann', 1, 1, 1, 1, 8, '{}', timestamptz '2026-01-01' + n * interval '1 s', 'waiting'
    from generate_series(1, $1::int) n`;
const ROWS_READ = `
  select relname as "table", (seq_tup_read + coalesce(idx_tup_fetch, 0))::int as rows
    from pg_stat_user_tables where relname in ('capacity_requests', 'line_lengths', 'gpu_slots', 'nodes', 'actors')`;

let database: TestDatabase;
let door: Door;
beforeEach(async () => {
  database = await createTestDatabase();
  door = await startDoor({ database });
  await openPool(door, 'h100');
  await addNodes(door.db, 'h100', ['a'], 1);
  await create(door, {});
  await door.db.query(STAND_IN_LINE, [MANY]);
  await door.db.query('analyze');
});
afterEach(async () => {
  await door.stop();
});

/** Rows of each table that `work` reads. Sessions tell what they did when they end, so it gets a kernel of its own. */
async function rowsRead(work: (door: Door) => Promise<unknown>): Promise<Record<string, number>> {
  const client = new pg.Client(database.url);
  await client.connect();
  try {
    const counted = async () => {
      await client.query('select pg_stat_clear_snapshot()');
      const { rows } = await client.query<{ table: string; rows: number }>(ROWS_READ);
      return new Map(rows.map(({ table, rows: read }) => [table, read]));
    };
    // What a connection has read is counted when it has been idle for long enough, or told to: all of the door's, which made the line.
    const flush = 'select pg_stat_force_next_flush(), pg_sleep(0.2)';
    await Promise.all(Array.from({ length: 6 }, () => door.db.query(flush)));
    const named = { ...database, config: { ...database.config, applicationName: 'counted' } };
    const own = await startDoor({ database: named });
    const before = await counted();
    await work(own);
    await own.kernel.stop(0);
    await own.db.close();
    // A session that has been closed ends a moment later.
    const sessions = `select 1 from pg_stat_activity where application_name = 'counted'`;
    await expect.poll(async () => (await client.query(sessions)).rowCount).toBe(0);
    const after = await counted();
    return Object.fromEntries([...after].map(([table, read]) => [table, read - (before.get(table) ?? 0)]));
  } finally {
    await client.end();
  }
}

describe(`with ${MANY} in the line`, () => {
  it('a submit reads a bounded number of rows', async () => {
    const read = await rowsRead(async (own) => {
      const id = await create(own, {});
      expect((await readPlaces(door.db, 'h100', [id])).get(id)?.position).toBe(MANY + 1);
    });
    for (const [table, rows] of Object.entries(read)) expect(rows, table).toBeLessThan(FEW);
    expect(read['actors']).toBeGreaterThan(0);
  });

  it('so does the end of a server, which starts the next', async () => {
    const granted = async () =>
      (await door.db.query<{ id: string }>(`select reservation_id as id from capacity_requests where status = 'granted'`)).rows;
    const [holder] = await granted();
    const read = await rowsRead(async (own) => {
      const event = { type: 'capacity.returned', reservationId: holder!.id, generation: 1 } as { type: string };
      await own.kernel.post([{ actor: 'gpu-pool/h100', key: 'back', event, sender: 'test' }]);
      await settle(own);
    });
    expect(await granted()).not.toEqual([holder]);
    for (const [table, rows] of Object.entries(read)) expect(rows, table).toBeLessThan(FEW);
  });

  it('who tells a reason is found without the index of the line, whatever the planner takes that to hold', async () => {
    const plan = await door.db.withTransaction(async (tx) => {
      await tx.query('drop index capacity_requests_explained');
      const { rows } = await tx.query<{ 'QUERY PLAN': string }>(`explain (generic_plan) ${CLEAR_REASONS}`);
      await tx.query('rollback and chain');
      return rows.map((row) => row['QUERY PLAN']).join('\n');
    });
    expect(plan).not.toContain('capacity_requests_line');
  });

  it('estimates are made for the first of them, and places are told to all', async () => {
    const read = await rowsRead(async ({ db }) => {
      const view = await queueView(db, 'h100');
      expect(view.size).toBe(ESTIMATED);
      expect([...view.values()].map(({ position }) => position)).toEqual(Array.from({ length: ESTIMATED }, (_, i) => i + 1));
    });
    expect(read['capacity_requests']).toBeLessThan(ESTIMATED + FEW);
    const id = (place: number) => `${String(place).padStart(8, '0')}-0000-4000-8000-000000000000`;
    const places = await readPlaces(door.db, 'h100', [id(1), id(7_000), id(MANY), 'not-there']);
    expect([...places].map(([key, { position }]) => [key, position]).sort()).toEqual([
      [id(1), 1],
      [id(7_000), 7_000],
      [id(MANY), MANY],
    ]);
    expect(places.get(id(7_000))!.reason).toBe('Behind 6999 others in the queue');
  });

  it('who listens is told again and again: the first each time, the others in turns', async () => {
    const id = (place: number) => `${String(place).padStart(8, '0')}-0000-4000-8000-000000000000`;
    const ids = [id(1), id(999), ...Array.from({ length: 1_200 }, (_, n) => id(5_000 + n)), 'not-there'];
    const views = new QueueViews(door.db, 1);
    const told = new Map<string, number>();
    let from = 0;
    for (const fresh of [502, 502, 202, 502]) {
      const { places, next } = await views.placesOf('h100', ids, from);
      expect(places.size).toBe(fresh);
      expect([id(1), id(999)].map((each) => places.get(each)?.position)).toEqual([1, 999]);
      for (const [each, { position }] of places) told.set(each, position);
      from = next;
    }
    expect(told.size).toBe(1_202);
    for (const [each, position] of told) expect(id(position)).toBe(each);
  });
});
