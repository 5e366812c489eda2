import pg from 'pg';
import { v7 as uuidv7 } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  isBehind,
  isPosition,
  presentPosition,
  readChanges,
  readSpan,
  settleForeignSteps,
  shortened,
  spansBetween,
} from '../../../persistence/changes.ts';
import { Database } from '../../../persistence/database.ts';
import { createTestDatabase, type TestDatabase } from '../../support/postgres.ts';

let test: TestDatabase;
let db: Database;
const open: pg.Client[] = [];
beforeAll(async () => {
  test = await createTestDatabase();
  db = new Database({ ...test.config, maxConnections: 4 });
});
afterAll(async () => {
  await Promise.all(open.map((client) => client.end()));
  await db.close();
  await test.drop();
});

const INSERT = `insert into history (actor, seq, key, event, outcome, from_state, to_state, machine_version, sender, at)
  values ('reservation/' || $1::text, $2::bigint, $2::bigint::text, '{"type": "cancel"}', 'applied', 'queued', 'queued', 1, 'test', now())`;

/** Somebody in the middle of a transaction, which has its number. */
async function writer(): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: test.url });
  await client.connect();
  open.push(client);
  await client.query('begin');
  await client.query('select pg_current_xact_id()');
  return client;
}
const step = (client: { query(text: string, values: unknown[]): Promise<unknown> }, id: string, seq: number) =>
  client.query(INSERT, [id, seq]);
const names = (steps: readonly { id: string; seq: number }[] | null) => steps?.map(({ id, seq }) => `${id}:${seq}`);

describe('steps in the order in which they became visible', () => {
  it('of two transactions the one that began first and commits last is not missed, and nothing comes twice', async () => {
    const [a, b] = [uuidv7(), uuidv7()];
    const start = await presentPosition(db);
    const early = await writer();
    const late = await writer();
    await step(early, a, 1);
    await step(late, b, 1);
    await late.query('commit');
    const first = await readChanges(db, start, 10);
    expect(names(first.steps)).toEqual([`${b}:1`]);
    expect(names((await readChanges(db, first.after, 10)).steps)).toEqual([]);
    await early.query('commit');
    const second = await readChanges(db, first.after, 10);
    expect(names(second.steps)).toEqual([`${a}:1`]);
    expect(names((await readChanges(db, second.after, 10)).steps)).toEqual([]);
    // From the very start both are there.
    expect(names((await readChanges(db, start, 10)).steps)?.sort()).toEqual([`${a}:1`, `${b}:1`].sort());
    expect(names((await readChanges(db, start, 1)).steps)).toBeUndefined();
  });

  it('what was rolled back never comes, what a savepoint wrote does, and one who writes for long delays nobody', async () => {
    const [a, b, c] = [uuidv7(), uuidv7(), uuidv7()];
    const start = await presentPosition(db);
    const endless = await writer();
    await step(endless, a, 1);
    const gone = await writer();
    await step(gone, b, 1);
    await gone.query('rollback');
    const careful = await writer();
    await careful.query('savepoint one');
    await step(careful, c, 1);
    await careful.query('release savepoint one');
    await careful.query('savepoint two');
    await step(careful, c, 2);
    await careful.query('rollback to savepoint two');
    await careful.query('commit');
    const { steps, after } = await readChanges(db, start, 10);
    expect(names(steps)).toEqual([`${c}:1`]);
    await endless.query('commit');
    expect(names((await readChanges(db, after, 10)).steps)).toEqual([`${a}:1`]);
  });

  it('steps of one reservation come by number, also when a later one was written by an earlier transaction', async () => {
    const id = uuidv7();
    const start = await presentPosition(db);
    const early = await writer();
    const late = await writer();
    await step(late, id, 1);
    await late.query('commit');
    await step(early, id, 2);
    await early.query('commit');
    const { steps, after } = await readChanges(db, start, 10);
    expect(names(steps)).toEqual([`${id}:1`, `${id}:2`]);
    expect(await spansBetween(db, start, after, null)).toEqual([]); // nobody has such a reservation
    await db.query(
      `insert into reservations (reservation_id, user_id, status, gpu_type, gpu_count, duration_hours, total_hours, created_at, state_entered_at, name)
       values ($1, 'ada', 'queued', 't4', 1, 1, 1, now(), now(), 'x')`,
      [id],
    );
    const spans = await spansBetween(db, start, after, 'ada');
    expect(spans).toEqual([{ id, first: 1, last: 2 }]);
    expect(await spansBetween(db, start, after, 'eve')).toEqual([]);
    expect(await spansBetween(db, start, after, 'eve', [id])).toEqual(spans);
    expect(names(await readSpan(db, spans[0]!, 1))).toEqual([`${id}:1`]);
  });

  it('steps that a dump brought from another server are not news, whatever numbers they bear', async () => {
    const id = uuidv7();
    const start = await presentPosition(db);
    await step(db, id, 1);
    await db.query(`update history set xact = '9000000000' where actor = 'reservation/' || $1::text`, [id]);
    expect(await settleForeignSteps(db)).toBe(1);
    expect(await settleForeignSteps(db)).toBe(0);
    expect(names((await readChanges(db, start, 10)).steps)).toEqual([]);
    expect(await isBehind(db, start)).toBe(true);
    expect(await isBehind(db, '9000000000:9000000000:')).toBe(false);
  });

  it('knows a position from a text that Postgres would refuse, and keeps it short', async () => {
    const ask = (text: string) =>
      db.query('select $1::pg_snapshot', [text]).then(
        () => true,
        () => false,
      );
    const texts = [
      '10:20:10,15',
      '10:20:',
      '10:10:',
      '20:10:',
      '10:20:9',
      '10:20:15,12',
      '10:20:20',
      '0:5:',
      '1:2',
      '',
      '1:2:3:4',
      '1:5:1,1',
    ];
    texts.push('99999999999999999999:99999999999999999999:', "1:2:'", '10:20:10,15,');
    for (const text of texts) if (isPosition(text)) expect(`${text} ${await ask(text)}`).toBe(`${text} true`);
    expect(texts.filter(isPosition)).toEqual(['10:20:10,15', '10:20:', '10:10:', '1:5:1,1']);
    expect(shortened('10:20:10,15')).toBe('10:20:10,15');
    const crowd = Array.from({ length: 60 }, (_, index) => 10 + index);
    expect(shortened(`10:99:${crowd.join(',')}`)).toBe('10:10:');
  });

  it('finds what is new by an index, however long the history is and whatever is known of it', async () => {
    await db.query(
      `insert into history (actor, seq, key, event, outcome, machine_version, sender, at)
       select 'reservation/' || gen_random_uuid(), 1, 'k', '{"type": "x"}', 'applied', 1, 'test', now() from generate_series(1, 20000)`,
    );
    const start = await presentPosition(db);
    const plan = async () => {
      const text = `explain (format json) select h.seq from history h
        where left(h.actor, 12) = 'reservation/' and h.xact >= pg_snapshot_xmin('${start}'::pg_snapshot)
          and not pg_visible_in_snapshot(h.xact, '${start}'::pg_snapshot) order by h.xact, h.actor, h.seq limit 10`;
      return JSON.stringify((await db.query(text)).rows);
    };
    expect(await plan()).toContain('history_changes');
    await db.query('analyze history');
    expect(await plan()).toContain('history_changes');
  });
});
