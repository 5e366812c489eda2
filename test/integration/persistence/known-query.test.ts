import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { WatchedClient } from '../../../persistence/watched-client.ts';
import { createTestDatabase, type TestDatabase } from '../../support/postgres.ts';

let test: TestDatabase;
let client: WatchedClient;
/** How many descriptions the client has asked for. */
let described = 0;

beforeAll(async () => {
  test = await createTestDatabase();
  client = new WatchedClient({ ...test.config, pipeline: true });
  await client.connect();
  const { connection } = client as unknown as { connection: { describe(what: object): void } };
  const describeTo = connection.describe.bind(connection);
  connection.describe = (what) => {
    described++;
    describeTo(what);
  };
  await client.query('create table things (id int primary key, at timestamptz, seen jsonb, names text[])');
});
afterAll(async () => {
  await client.end();
  await test.drop();
});

let names = 0;
/** A named statement of its own. @returns how to run it, and how many descriptions that takes */
function statement(text: string) {
  const name = `statement-${names++}`;
  return async (...values: unknown[]) => {
    const before = described;
    const result = await client.query({ name, text, values });
    return { rows: result.rows as unknown[], count: result.rowCount, command: result.command, described: described - before };
  };
}

describe('a named statement', () => {
  it('is described once, and answers with the same kinds of values each time', async () => {
    const add = statement('insert into things (id, at, seen, names) values ($1, $2, $3, $4)');
    const at = new Date('2026-03-02T08:00:00Z');
    expect(await add(1, at, { a: [1] }, ['x', 'y'])).toEqual({ rows: [], count: 1, command: 'INSERT', described: 1 });
    expect(await add(2, null, null, null)).toEqual({ rows: [], count: 1, command: 'INSERT', described: 0 });
    const read = statement('select id, at, seen, names from things where id >= $1 order by id');
    const rows = [
      { id: 1, at, seen: { a: [1] }, names: ['x', 'y'] },
      { id: 2, at: null, seen: null, names: null },
    ];
    expect(await read(1)).toEqual({ rows, count: 2, command: 'SELECT', described: 1 });
    expect(await read(1)).toEqual({ rows, count: 2, command: 'SELECT', described: 0 });
    expect(await read(3)).toMatchObject({ rows: [], count: 0 });
    expect(await read(2)).toMatchObject({ rows: rows.slice(1), described: 0 });
  });

  it('that finds nothing at first finds rows later', async () => {
    const read = statement('select id, names from things where id = $1');
    expect(await read(9)).toMatchObject({ rows: [], described: 1 });
    expect(await read(1)).toMatchObject({ rows: [{ id: 1, names: ['x', 'y'] }], described: 0 });
  });

  it('is asked for again and again in one moment, and each gets its own rows', async () => {
    const read = statement('select id from things where id = $1');
    expect((await Promise.all([read(1), read(2), read(9)])).map(({ rows }) => rows)).toEqual([[{ id: 1 }], [{ id: 2 }], []]);
    expect((await Promise.all([read(2), read(9), read(1)])).map(({ rows }) => rows)).toEqual([[{ id: 2 }], [], [{ id: 1 }]]);
  });

  it('that fails says so each time, and works when it can', async () => {
    const add = statement('insert into things (id) values ($1) returning id');
    await expect(add(1)).rejects.toMatchObject({ code: '23505' });
    expect(await add(5)).toMatchObject({ rows: [{ id: 5 }], described: 1 });
    await expect(add(5)).rejects.toMatchObject({ code: '23505' });
    expect(await add(6)).toMatchObject({ rows: [{ id: 6 }], described: 0 });
  });

  it('whose values cannot be sent fails alone', async () => {
    const read = statement('select $1::text as told');
    expect(await read('a')).toMatchObject({ rows: [{ told: 'a' }] });
    const bad = {
      toPostgres: () => {
        throw new Error('no such value');
      },
    };
    await expect(read(bad)).rejects.toThrow('no such value');
    expect(await statement('select 1 as one')()).toMatchObject({ rows: [{ one: 1 }] });
  });

  it('that gives what another one gives is described each time: that may be another by now', async () => {
    const run = statement('execute other');
    await client.query('prepare other as select 7 as id');
    expect(await run()).toMatchObject({ rows: [{ id: 7 }], described: 1 });
    await client.query('deallocate other');
    await client.query(`prepare other as select 'seven'::text as name`);
    expect(await run()).toMatchObject({ rows: [{ name: 'seven' }], described: 1 });
    await client.query('deallocate other');
  });

  it('is not run when its columns would be others', async () => {
    const read = statement('select * from things where id = $1');
    expect((await read(1)).rows).toHaveLength(1);
    await client.query('alter table things add column more text');
    await expect(read(1)).rejects.toMatchObject({ code: '0A000' });
  });
});
