import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { verifyActor } from '../../../actors/kernel/fold.ts';
import { Kernel } from '../../../actors/kernel/kernel.ts';
import type { ActorKind } from '../../../actors/kernel/kind.ts';
import { Database, type Transaction } from '../../../persistence/database.ts';
import { readHistory } from '../../../persistence/history.ts';
import { lampKind } from '../../support/lamp.ts';
import { createTestDatabase, type TestDatabase } from '../../support/postgres.ts';
import { lettersOf, made, make, passOn, press, statesOf } from './support.ts';

let test: TestDatabase;
let db: Database;
/** What the kind gathers, by its births; the first failures are told by what they throw. */
let gathered: string[][];
let failures: ((tx: Transaction) => Promise<unknown>)[];
let kernel: Kernel;

beforeAll(async () => {
  test = await createTestDatabase();
  db = new Database({ ...test.config, maxConnections: 8 });
  const kind: ActorKind = {
    ...lampKind(async () => null),
    gather: async (tx, messages) => {
      gathered.push(messages.map(({ id }) => id));
      await failures.shift()?.(tx);
    },
  };
  kernel = new Kernel({ db, kinds: [kind], effectConcurrency: 0 });
});
afterAll(async () => {
  await db.close();
  await test.drop();
});
beforeEach(() => {
  gathered = [];
  failures = [];
});

const keysOf = async (id: string) => (await readHistory(db, `lamp/${id}`)).map(({ key }) => key);
const mailOf = async (id: string) => {
  const { rows } = await db.query<{ key: string }>('select key from mailbox where actor = $1 order by id', [`lamp/${id}`]);
  return rows.map(({ key }) => key);
};

describe('what a door posts', () => {
  it('is taken in its transaction, by those who are born of it and by those whom these write to', async () => {
    await make(kernel, ['to']);
    const value = await kernel.deliver(async (_tx, post) => {
      post([made('new'), passOn('new', 'to')], { expected: ['lamp/to'] });
      return 'written';
    });
    expect(value).toBe('written');
    expect(await statesOf(db, ['new', 'to'])).toEqual(['off', 'on']);
    expect(await keysOf('new')).toEqual(['birth', 'x']);
    expect(await mailOf('to')).toEqual([]);
    expect((await verifyActor(db, kernel.kinds, 'lamp/new')).ok).toBe(true);
  });

  it.each([
    ['that is expected', { expected: ['lamp/late1'] }, 'late1'],
    ['that joins later', undefined, 'late2'],
  ])('comes behind what waits for a receiver %s, which is taken once', async (_which, all, to) => {
    const from = `from-${to}`;
    await make(kernel, [from, to]);
    await kernel.post([press(to, 'early'), press(to, 'earlier than all that follows')]);
    await kernel.deliver(async (_tx, post) => post([passOn(from, to, 'x'), passOn(from, to, 'y')], all));
    expect(await keysOf(to)).toEqual(['birth', 'early', 'earlier than all that follows', `lamp/${from}:2:0`, `lamp/${from}:3:0`]);
    expect(await mailOf(to)).toEqual([]);
    while ((await kernel.takeTurns()) > 0);
    expect(await keysOf(to)).toHaveLength(5);
  });

  it('comes behind what one that joins has sent meanwhile to one that was here first', async () => {
    await make(kernel, ['joins', 'here']);
    await kernel.post([passOn('joins', 'here', 'first'), passOn('joins', 'here', 'second')]);
    const elsewhere = new Kernel({ db, kinds: [...kernel.kinds.values()], effectConcurrency: 0, rounds: 0, mailPerActor: 1 });
    await kernel.deliver(async (tx, post) => {
      post([passOn('here', 'joins', 'call')], { expected: [] });
      // What waits for it has been read when this is answered.
      await tx.query('select 1');
      await elsewhere.takeTurns('lamp/joins');
      expect(await mailOf('here')).toEqual(['lamp/joins:2:0']);
    });
    expect(await keysOf('joins')).toEqual(['birth', 'first', 'second', 'lamp/here:2:0']);
    expect(await keysOf('here')).toEqual(['birth', 'call', 'lamp/joins:2:0', 'lamp/joins:3:0']);
    for (const id of ['here', 'joins']) expect((await verifyActor(db, kernel.kinds, `lamp/${id}`)).ok).toBe(true);
  });

  it('may be posted in several parts, of which a later one is for those who are born of an earlier one', async () => {
    await kernel.deliver(async (tx, post) => {
      post([made('part')]);
      await tx.query('select 1');
      post([press('part', 'one')]);
      post([made('other'), press('part', 'two')], { expected: [] });
    });
    expect(await statesOf(db, ['part', 'other'])).toEqual(['off', 'off']);
    expect(await keysOf('part')).toEqual(['birth', 'one', 'two']);
    expect(gathered.at(0)).toEqual(['part', 'other']);
  });

  it('is all that the door said it was', async () => {
    const more = kernel.deliver(async (_tx, post) => {
      post([made('all')], { expected: [] });
      post([made('more')]);
    });
    await expect(more).rejects.toThrow('more than it said was all');
    expect(await statesOf(db, ['all', 'more'])).toEqual([undefined, undefined]);
  });

  it('is taken once if the door sends it twice, or one of it was taken before', async () => {
    await kernel.deliver(async (_tx, post) => post([made('twice'), press('twice'), press('twice'), made('twice')]));
    await kernel.deliver(async (_tx, post) => post([press('twice')]));
    while ((await kernel.takeTurns()) > 0);
    expect(await keysOf('twice')).toEqual(['birth', 'p']);
    expect(await statesOf(db, ['twice'])).toEqual(['on']);
  });

  it('is nothing if the door fails behind it, whose error is told', async () => {
    const failing = kernel.deliver(async (tx, post) => {
      const wrong = tx.query('select 1 / 0');
      post([made('never'), press('never')], { expected: [] });
      await wrong;
    });
    await expect(failing).rejects.toThrow('division by zero');
    const refused = kernel.deliver(async (_tx, post) => {
      post([made('never')], { expected: [] });
      throw new Error('The door has thought better of it');
    });
    await expect(refused).rejects.toThrow('thought better');
    expect(await statesOf(db, ['never'])).toEqual([undefined]);
    expect(await mailOf('never')).toEqual([]);
  });

  it.each([
    ['asked for at once', { expected: [] }, 'careful'],
    ['asked for in the end', undefined, 'careful too'],
  ])('goes by mailbox if those who are to take it cannot be made ready, %s', async (_when, all, id) => {
    failures = [(tx) => tx.query('select 1 / 0')];
    let runs = 0;
    await kernel.deliver(async (tx, post) => {
      runs++;
      const asked = tx.query('select 1');
      post([made(id)], all);
      await asked;
    });
    expect(runs).toBe(2);
    expect(await mailOf(id)).toEqual(['birth']);
    while ((await kernel.takeTurns()) > 0);
    expect(await statesOf(db, [id])).toEqual(['off']);
    expect(await lettersOf(db)).toEqual([]);
  });

  it('is not tried again if the door has failed, whatever becomes of those who were asked for', async () => {
    failures = [(tx) => tx.query('select 1').then(() => tx.query('select 2'))];
    let runs = 0;
    const refused = kernel.deliver(async (_tx, post) => {
      runs++;
      post([made('refused')], { expected: [] });
      throw new Error('The quota is used up');
    });
    await expect(refused).rejects.toThrow('quota');
    expect(runs).toBe(1);
    expect(await mailOf('refused')).toEqual([]);
  });

  it('leaves what newer code has sent, and what follows it, to newer code', async () => {
    await make(kernel, ['sender', 'newer']);
    const version = 'insert into mailbox (actor, key, event, sender, version) values ($1, $2, $3, $4, 99)';
    await db.query(version, ['lamp/newer', 'from newer code', { type: 'press' }, 'test']);
    await kernel.deliver(async (_tx, post) => post([passOn('sender', 'newer')], { expected: ['lamp/newer'] }));
    expect(await keysOf('newer')).toEqual(['birth']);
    expect(await mailOf('newer')).toEqual(['from newer code', 'lamp/sender:2:0']);
    expect(await statesOf(db, ['newer'])).toEqual(['off']);
  });
});
