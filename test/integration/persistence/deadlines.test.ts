import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import { Database } from '../../../persistence/database.ts';
import { applyDeadlines, clearDeadlinesOf, fireDueDeadlines, untilNextDeadline } from '../../../persistence/deadlines.ts';
import { openActors } from '../../../persistence/actor-store.ts';
import { createTestDatabase, type TestDatabase } from '../../support/postgres.ts';

const NOW = new Date('2026-11-21T12:00:00Z');
const at = (seconds: number) => new Date(NOW.getTime() + seconds * 1_000).toISOString();

let test: TestDatabase;
let db: Database;
beforeAll(async () => {
  test = await createTestDatabase();
  db = new Database({ ...test.config, maxConnections: 8 });
});
beforeEach(async () => {
  await db.query('truncate deadlines, mailbox, actors');
});
afterAll(async () => {
  await db.close();
  await test.drop();
});

async function set(entries: readonly { n: number; name?: string; dueAt: string | null; setSeq?: number }[]) {
  const actors = [...new Set(entries.map(({ n }) => `lamp/${n}`))].map((actor) => ({ actor, kind: 'lamp', version: 1 }));
  await openActors(db, actors);
  await db.withTransaction(async (tx) =>
    applyDeadlines(
      tx,
      entries.map(({ n, name = 'off', dueAt, setSeq = 1 }) => ({ actor: `lamp/${n}`, name, dueAt, setSeq })),
    ),
  );
}
async function mail() {
  const { rows } = await db.query<{ actor: string; key: string; held: boolean }>(
    'select actor, key, held from mailbox order by id',
  );
  return rows;
}

it('sweepers in parallel fire each due deadline once and leave those to come alone', async () => {
  await set(Array.from({ length: 1_500 }, (_, n) => ({ n, dueAt: at(n < 1_000 ? -1 : 60) })));
  const sweep = async () => {
    let fired = 0;
    for (;;) {
      const count = await fireDueDeadlines(db, 100, NOW);
      fired += count;
      if (count === 0) return fired;
    }
  };
  const counts = await Promise.all(Array.from({ length: 6 }, sweep));
  expect(counts.reduce((sum, count) => sum + count, 0)).toBe(1_000);
  const fired = await mail();
  expect(new Set(fired.map((message) => message.actor)).size).toBe(1_000);
  expect(fired).toHaveLength(1_000);
  expect((await db.query('select 1 from deadlines where fired_at is null')).rowCount).toBe(500);
});

it('one actor gets what is due in the order of the times, not of the names', async () => {
  await set([
    { n: 1, name: 'b', dueAt: at(-3) },
    { n: 1, name: 'c', dueAt: at(-1) },
    { n: 1, name: 'a', dueAt: at(-2) },
  ]);
  await fireDueDeadlines(db, 10, NOW);
  expect((await mail()).map((message) => message.key)).toEqual(['deadline:b:1', 'deadline:a:1', 'deadline:c:1']);
});

it('a deadline that was moved fires at its new time, as another message', async () => {
  await set([{ n: 1, dueAt: at(-1), setSeq: 4 }]);
  expect(await fireDueDeadlines(db, 10, NOW)).toBe(1);
  expect(await fireDueDeadlines(db, 10, NOW)).toBe(0);
  await set([{ n: 1, dueAt: at(10), setSeq: 7 }]);
  expect(await fireDueDeadlines(db, 10, NOW)).toBe(0);
  expect(await untilNextDeadline(db, NOW)).toBe(10_000);
  expect(await fireDueDeadlines(db, 10, new Date(at(10)))).toBe(1);
  expect((await mail()).map((message) => message.key)).toEqual(['deadline:off:4', 'deadline:off:7']);
});

it('a cleared deadline never fires, and an ended actor has none', async () => {
  await set([
    { n: 1, dueAt: at(-1) },
    { n: 2, dueAt: at(-1) },
    { n: 2, name: 'other', dueAt: at(5) },
  ]);
  await set([{ n: 1, dueAt: null, setSeq: 2 }]);
  await db.withTransaction(async (tx) => clearDeadlinesOf(tx, ['lamp/2']));
  expect(await fireDueDeadlines(db, 10, NOW)).toBe(0);
  expect(await untilNextDeadline(db, NOW)).toBeNull();
});

it('of a quarantined actor the message is kept back with its other mail', async () => {
  await set([{ n: 1, dueAt: at(-1) }]);
  await db.query(`update actors set quarantined_at = now(), quarantine_reason = 'test'`);
  await fireDueDeadlines(db, 10, NOW);
  expect(await mail()).toEqual([{ actor: 'lamp/1', key: 'deadline:off:1', held: true }]);
});
