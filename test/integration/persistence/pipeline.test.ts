import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Database } from '../../../persistence/database.ts';
import { createTestDatabase, type TestDatabase } from '../../support/postgres.ts';

let test: TestDatabase;
let db: Database;

beforeAll(async () => {
  test = await createTestDatabase();
  // One connection: what was left on it is met by whoever comes next.
  db = new Database({ ...test.config, maxConnections: 1 });
  await db.query('create table notes (id int primary key, body text)');
});
beforeEach(() => db.query('truncate notes'));
afterAll(async () => {
  await db.close();
  await test.drop();
});

const ADD = 'insert into notes (id, body) values ($1, $2) returning id';
const ids = async () => (await db.query<{ id: number }>('select id from notes order by id')).rows.map(({ id }) => id);
/** Fresh texts are sent with the statement; known ones are not sent again. */
let fresh = 0;
const select = (value: string) => ['select', value, 'as value,', ++fresh, 'as fresh where $1::int is not null'].join(' ');

describe('statements of one moment', () => {
  it('are answered each with its own rows', async () => {
    const answers = await db.withTransaction((tx) =>
      Promise.all([
        tx.query(ADD, [1, 'a']),
        tx.query(select('2'), [1]),
        tx.query(ADD, [3, null]),
        tx.query(select(`array[1, 2]`), [1]),
      ]),
    );
    expect(answers.map(({ rows }) => rows[0]!['id'] ?? rows[0]!['value'])).toEqual([1, 2, 3, [1, 2]]);
    expect(answers.map(({ command, rowCount }) => [command, rowCount])).toEqual([
      ['INSERT', 1],
      ['SELECT', 1],
      ['INSERT', 1],
      ['SELECT', 1],
    ]);
    expect(await ids()).toEqual([1, 3]);
  });

  it('are all undone if one fails, those before it and a commit behind it too, and what failed is told', async () => {
    await db.query(ADD, [7, 'there']);
    const told: string[] = [];
    const work = db.withTransaction(async (tx) => {
      tx.send(ADD, [1, 'before']);
      tx.query(ADD, [7, 'again']).catch(() => told.push('again'));
      tx.send(ADD, [2, 'behind']);
      // The commit goes out with them.
    });
    await expect(work).rejects.toMatchObject({ code: '23505' });
    expect(told).toEqual(['again']);
    expect(await ids()).toEqual([7]);
  });

  it('are all undone if one of them cannot even be sent, whoever hears of that', async () => {
    const cycle: Record<string, unknown> = {};
    cycle['self'] = cycle;
    const sent = db.withTransaction(async (tx) => {
      tx.send(ADD, [1, 'before']);
      tx.send(ADD, [2, cycle]);
    });
    await expect(sent).rejects.toThrow(/circular/i);
    const unheard = db.withTransaction(async (tx) => {
      tx.send(ADD, [1, 'before']);
      await tx.query(ADD, [2, cycle]).catch(() => {});
      tx.send(ADD, [3, 'behind']);
    });
    await expect(unheard).rejects.toThrow(/circular/i);
    expect(await ids()).toEqual([]);
    const attempted = db.withTransaction(async (tx) => {
      tx.send(ADD, [1, 'before']);
      await tx.attempt(async () => tx.send(ADD, [2, cycle])).catch(() => {});
      tx.send(ADD, [3, 'behind']);
    });
    await attempted;
    expect(await ids()).toEqual([1, 3]);
    expect((await db.query(ADD, [4, 'next'])).rows).toEqual([{ id: 4 }]);
  });

  it('without parameters are told in their order with those that have them: the first error is the cause', async () => {
    for (let round = 0; round < 20; round++) {
      const work = db.withTransaction(async (tx) => {
        tx.query('select 1 / 0').catch(() => {});
        tx.send(ADD, [2, 'behind']);
      });
      await expect(work).rejects.toMatchObject({ code: '22012' });
    }
  });

  it('behind one that failed are told so, and why when they are awaited first', async () => {
    const work = db.withTransaction(async (tx) => {
      const failing = tx.query(select('1 / $1::int'), [0]);
      failing.catch(() => {});
      await tx.query(select('1'), [1]);
    });
    await expect(work).rejects.toMatchObject({ code: '22012' });
  });

  it('leave the connection as it should be: texts that the server has and has not understood are known', async () => {
    const failing = select('1 / $1::int');
    const never = select('4');
    const before = select('5');
    for (let round = 0; round < 3; round++) {
      const work = db.withTransaction((tx) =>
        Promise.all([tx.query(before, [1]), tx.query(failing, [0]), tx.query(never, [1]), tx.query(never, [2])]),
      );
      await expect(work).rejects.toMatchObject({ code: '22012' });
      if (round === 0) expect((await db.query(never, [1])).rows[0]!['value']).toBe(4);
      expect((await db.query(failing, [1])).rows[0]!['value']).toBe(1);
      expect((await db.query(before, [1])).rows[0]!['value']).toBe(5);
    }
    // One whose text is wrong is never understood, however often it is sent.
    for (let round = 0; round < 2; round++)
      await expect(db.query('select no_such_column where $1', [true])).rejects.toMatchObject({ code: '42703' });
  });

  it('that are sent while others fail, fail with the cause of those', async () => {
    const late = select('6');
    const work = db.withTransaction(async (tx) => {
      const first = [tx.query(select('1 / $1::int'), [0]), tx.query(late, [1])];
      for (const each of first) each.catch(() => {});
      await new Promise((resolve) => setImmediate(resolve));
      await tx.query(late, [2]);
    });
    await expect(work).rejects.toMatchObject({ code: '22012' });
    expect((await db.query(late, [1])).rows[0]!['value']).toBe(6);
  });

  it('that are nested in a savepoint are undone alone', async () => {
    await db.withTransaction(async (tx) => {
      tx.send(ADD, [1, 'kept']);
      await tx
        .attempt(async () => {
          tx.send(ADD, [2, 'undone']);
          await tx.query(ADD, [1, 'twice']);
        })
        .catch(() => {});
      tx.send(ADD, [3, 'kept']);
    });
    expect(await ids()).toEqual([1, 3]);
  });

  it('are all given up when the connection is lost', async () => {
    const outcomes = await db
      .withTransaction(async (tx) => {
        const { rows } = await tx.query<{ pid: number }>('select pg_backend_pid() as pid', []);
        const those = [
          tx.query(ADD, [1, 'a']),
          tx.query('select pg_terminate_backend($1)', [rows[0]!.pid]),
          tx.query(ADD, [2, 'b']),
        ];
        throw (await Promise.allSettled(those)).map(({ status }) => status);
      })
      .catch((caught: unknown) => caught);
    expect((outcomes as string[]).slice(1)).toEqual(['rejected', 'rejected']);
    expect(await ids()).toEqual([]);
  });

  it('a reading behind a commit sees what was committed, and its failure undoes nothing', async () => {
    let seen: number[] = [];
    await db.withTransaction(async (tx) => tx.send(ADD, [1, 'a']), {
      behind: async (after) => {
        seen = (await after.query<{ id: number }>('select id from notes where $1::int > 0', [1])).rows.map(({ id }) => id);
      },
    });
    expect(seen).toEqual([1]);
    await db.withTransaction(async (tx) => tx.send(ADD, [2, 'b']), {
      behind: async (after) => void (await after.query(select('1 / $1::int'), [0])),
    });
    expect(await ids()).toEqual([1, 2]);
  });

  it('and one alone are answered when they are committed, not when they are done: what fails with the commit is told', async () => {
    await db.query('create table if not exists uniq (id int unique deferrable initially deferred)');
    await db.query('insert into uniq values ($1)', [1]);
    await expect(db.query('insert into uniq values ($1)', [1])).rejects.toMatchObject({ code: '23505' });
    expect((await db.query('select * from uniq')).rowCount).toBe(1);
  });

  it('that the server has been made to forget undo their transaction whole, and the connection is replaced', async () => {
    await db.query(ADD, [1, 'taught']);
    await db.query('deallocate all');
    const work = db.withTransaction(async (tx) => {
      tx.send(ADD, [2, 'forgotten']);
      await new Promise((resolve) => setImmediate(resolve));
      await tx.query(select('1'), [1]).catch(() => {});
      tx.send('insert into notes (id) values ($1)', [3]);
    });
    await expect(work).rejects.toMatchObject({ code: '26000' });
    expect(await ids()).toEqual([1]);
    await db.query(ADD, [4, 'again']);
    expect(await ids()).toEqual([1, 4]);
  });

  it('in an attempt within an attempt are undone with the outer one', async () => {
    await db.withTransaction(async (tx) => {
      const outer = tx.attempt(async () => {
        await tx.query(ADD, [1, 'of the outer']);
        await tx.attempt(() => Promise.reject(new Error('the inner')));
      });
      await expect(outer).rejects.toThrow('the inner');
      tx.send(ADD, [2, 'kept']);
    });
    expect(await ids()).toEqual([2]);
  });

  it('that failed between two attempts fail the transaction, whatever the second does', async () => {
    const work = db.withTransaction(async (tx) => {
      await tx.attempt(() => tx.query(select('1 / $1::int'), [0])).catch(() => {});
      tx.send(ADD, [1, 'a']);
      tx.send(ADD, [1, 'twice']);
      await tx.attempt(() => tx.query(select('1 / $1::int'), [0])).catch(() => {});
    });
    await expect(work).rejects.toMatchObject({ code: '23505' });
    expect(await ids()).toEqual([]);
  });

  it('read behind a transaction that failed are over before the connection is lent again', async () => {
    let isOver = false;
    const work = db.withTransaction(
      async (tx) => {
        const failing = tx.query(select('1 / $1::int'), [0]);
        failing.catch(() => {});
        await new Promise((resolve) => setImmediate(resolve));
      },
      {
        behind: async (after) => {
          await after.query(select('1'), [1]).catch(() => {});
          await after.query(select('2'), [1]).catch(() => {});
          isOver = true;
        },
      },
    );
    await expect(work).rejects.toMatchObject({ code: '22012' });
    expect(isOver).toBe(true);
  });

  it('what is read behind a transaction that failed finds nothing of it', async () => {
    let seen: number | null = null;
    const work = db.withTransaction(
      async (tx) => {
        tx.send(ADD, [1, 'a']);
        tx.send(ADD, [1, 'again']);
      },
      {
        behind: async (after) => {
          seen = (await after.query('select id from notes where $1::int > 0', [1])).rowCount;
        },
      },
    );
    await expect(work).rejects.toMatchObject({ code: '23505' });
    expect(seen).toBe(0);
    expect(await ids()).toEqual([]);
  });
});
