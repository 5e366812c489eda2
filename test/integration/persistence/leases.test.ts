import { afterAll, beforeAll, expect, it } from 'vitest';
import { Database } from '../../../persistence/database.ts';
import { assertLease, dropLease, holdLease, LeaseLostError } from '../../../persistence/leases.ts';
import { createTestDatabase, type TestDatabase } from '../../support/postgres.ts';

let test: TestDatabase;
let db: Database;
beforeAll(async () => {
  test = await createTestDatabase();
  db = new Database({ ...test.config, maxConnections: 8 });
});
afterAll(async () => {
  await db.close();
  await test.drop();
});

const end = (name: string) => db.query(`update leases set until = now() - interval '1 ms' where name = $1`, [name]);

it('a lease has one holder, however many ask at once', async () => {
  const tokens = await Promise.all(Array.from({ length: 20 }, (_, n) => holdLease(db, 'one', `holder-${n}`, 60)));
  expect(tokens.filter((token) => token !== null)).toEqual([1]);
});

it('its holder keeps it with the same token, and another gets it when it ran out, with a higher one', async () => {
  expect(await holdLease(db, 'role', 'a', 60)).toBe(1);
  expect(await holdLease(db, 'role', 'b', 60)).toBeNull();
  expect(await holdLease(db, 'role', 'a', 60)).toBe(1);
  await end('role');
  expect(await holdLease(db, 'role', 'b', 60)).toBe(2);
  expect(await holdLease(db, 'role', 'a', 60)).toBeNull();
});

it('a holder that gives it up lets the next one in at once; nobody else can give it up', async () => {
  await holdLease(db, 'given', 'a', 60);
  await dropLease(db, 'given', 'b');
  expect(await holdLease(db, 'given', 'b', 60)).toBeNull();
  await dropLease(db, 'given', 'a');
  expect(await holdLease(db, 'given', 'b', 60)).toBe(2);
});

it('a former holder is fenced: what it writes under its old token is refused as a whole', async () => {
  const token = (await holdLease(db, 'fence', 'a', 60))!;
  await db.query('create table facts (fact text)');
  const write = (fact: string, under: number) =>
    db.withTransaction(async (tx) => {
      await tx.query('insert into facts values ($1)', [fact]);
      await assertLease(tx, 'fence', under);
    });
  await write('by a', token);
  await end('fence');
  // Nobody else has taken it: what the last holder says is still the latest.
  await write('by a, late', token);
  const next = (await holdLease(db, 'fence', 'b', 60))!;
  await expect(write('by a, too late', token)).rejects.toBeInstanceOf(LeaseLostError);
  await write('by b', next);
  expect((await db.query('select fact from facts')).rows.map((row) => row['fact'])).toEqual(['by a', 'by a, late', 'by b']);
});

it('it cannot change hands while a write under it is being committed', async () => {
  const token = (await holdLease(db, 'held', 'a', 60))!;
  await end('held');
  const order: string[] = [];
  let taking: Promise<void> | null = null;
  await db.withTransaction(async (tx) => {
    await assertLease(tx, 'held', token);
    taking = holdLease(db, 'held', 'b', 60).then(() => void order.push('taken'));
    await new Promise((resolve) => setTimeout(resolve, 100));
    order.push('written');
  });
  await taking;
  expect(order).toEqual(['written', 'taken']);
});
