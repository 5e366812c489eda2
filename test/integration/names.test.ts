import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { claimNames } from '../../actors/reservation/names.ts';
import { Database } from '../../persistence/database.ts';
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts';

let database: TestDatabase;
let db: Database;
beforeAll(async () => {
  database = await createTestDatabase();
  db = new Database(database.config);
});
beforeEach(() => db.query('delete from domain_mappings'));
afterAll(async () => {
  await db?.close();
  await database?.drop();
});

let ids = 0;
const wishing = (wish: string, count = 1) => Array.from({ length: count }, () => ({ id: `r${ids++}`, wish }));

/** Claims them in a transaction of their own. @returns the names in the order of the wishes, and how many statements that took */
async function claim(wishes: readonly { id: string; wish: string }[]): Promise<{ names: string[]; statements: number }> {
  let statements = 0;
  const names = await db.withTransaction((tx) => {
    const counting = new Proxy(tx, {
      get: (target, key) => {
        if (key === 'query') statements++;
        const value = Reflect.get(target, key) as unknown;
        return typeof value === 'function' ? value.bind(target) : value;
      },
    });
    return claimNames(counting, wishes, Math.random);
  });
  return { names: wishes.map(({ id }) => names.get(id)!.name), statements };
}

describe('names of servers', () => {
  it('are as wished, or with the next free number behind it', async () => {
    expect((await claim(wishing('My box'))).names).toEqual(['my-box']);
    await db.query(`insert into domain_mappings (domain_name, reservation_id) values ('my-box-3', 'other')`);
    expect((await claim(wishing('my_box'))).names).toEqual(['my-box-2']);
    expect(await claim(wishing('my-box'))).toEqual({ names: ['my-box-4'], statements: 1 });
  });

  it('are each another for fifty who wish for the same one together', async () => {
    const { names, statements } = await claim(wishing('box', 50));
    expect(new Set(names).size).toBe(50);
    const plain = ['box', ...Array.from({ length: 18 }, (_, index) => `box-${index + 2}`)];
    expect(names.filter((name) => plain.includes(name)).sort()).toEqual(plain.sort());
    expect(statements).toBeLessThan(4);
  });

  it('are found at once, by statements that do not grow, when all plain ones are taken', async () => {
    for (let taken = 0; taken < 20_000; taken += 4_000) await claim(wishing('', 4_000));
    const { rows } = await db.query<{ plain: number }>(
      `select count(*)::int as plain from domain_mappings where domain_name !~ '[0-9]'`,
    );
    expect(rows[0]!.plain).toBeGreaterThan(8_000);
    const { names, statements } = await claim(wishing('', 50));
    expect(new Set(names).size).toBe(50);
    expect(statements).toBeLessThan(3);
  });

  it('stay with whom they belong to', async () => {
    const [mine] = wishing('mine');
    expect((await claim([mine!])).names).toEqual(['mine']);
    expect((await claim([mine!])).names).toEqual(['mine']);
    expect((await db.query('select 1 from domain_mappings')).rowCount).toBe(1);
  });

  it('are found by eight transactions that all wish for the same few, and none waits for one that waits for it', async () => {
    const few = ['box', 'lab', 'job', 'x', 'www', ''];
    const given: string[] = [];
    const work = async () => {
      for (let batch = 0; batch < 15; batch++) {
        const wishes = Array.from({ length: 6 }, () => wishing(few[Math.floor(Math.random() * few.length)]!)[0]!);
        given.push(...(await claim(wishes)).names);
      }
    };
    await Promise.all(Array.from({ length: 8 }, work));
    expect(given).toHaveLength(8 * 15 * 6);
    expect(new Set(given).size).toBe(given.length);
  });

  it('go to one of two who want the same at the same time, and the other gets the next', async () => {
    const [first, second] = wishing('both', 2);
    let other: Promise<{ names: string[] }> | undefined;
    await db.withTransaction(async (tx) => {
      await claimNames(tx, [first!], Math.random);
      other = claim([second!]);
      await expect
        .poll(async () => (await db.query(`select 1 from pg_locks where not granted and locktype = 'transactionid'`)).rowCount)
        .toBe(1);
    });
    expect((await other!).names).toEqual(['both-2']);
  });
});
