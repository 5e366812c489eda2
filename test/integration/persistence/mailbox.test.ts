import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { verifyActor } from '../../../actors/kernel/fold.ts';
import { Kernel } from '../../../actors/kernel/kernel.ts';
import { findActor } from '../../../persistence/actor-store.ts';
import { Database } from '../../../persistence/database.ts';
import { readHistory } from '../../../persistence/history.ts';
import { enqueue, type Message, takeOrphanedMail } from '../../../persistence/mailbox.ts';
import { lampKind } from '../../support/lamp.ts';
import { createTestDatabase, type TestDatabase } from '../../support/postgres.ts';

let test: TestDatabase;
let db: Database;
let kernel: Kernel;
beforeAll(async () => {
  test = await createTestDatabase();
  db = new Database({ ...test.config, maxConnections: 12 });
  kernel = new Kernel({ db, kinds: [lampKind(async () => null)] });
});
afterAll(async () => {
  await db.close();
  await test.drop();
});

const press = (id: string, key: string): Message => ({ actor: `lamp/${id}`, key, event: { type: 'press' }, sender: 'test' });
const birth = (id: string): Message => {
  return { actor: `lamp/${id}`, key: 'birth', event: { type: 'lamp.made', name: id } as { type: string }, sender: 'test' };
};
async function settle() {
  while (await kernel.runOnce());
}
const keys = async (id: string) => (await readHistory(db, `lamp/${id}`)).map((entry) => entry.key);

describe('a message', () => {
  it('sent by many at once under one key waits once, and says to one sender only that it was new', async () => {
    await kernel.post([birth('a')]);
    const added = await Promise.all(Array.from({ length: 24 }, () => enqueue(db, [press('a', 'same')])));
    expect(added.reduce((sum, count) => sum + count, 0)).toBe(1);
    await settle();
    await enqueue(db, [press('a', 'same')]);
    await settle();
    expect(await keys('a')).toEqual(['birth', 'same']);
    expect((await db.query('select 1 from mailbox')).rowCount).toBe(0);
  });

  it('keeps its place behind what its sender sent before, in one call and in several', async () => {
    await kernel.post([birth('b')]);
    await enqueue(
      db,
      [1, 2, 3].map((n) => press('b', `first-${n}`)),
    );
    for (const n of [4, 5, 6]) await enqueue(db, [press('b', `then-${n}`)]);
    await settle();
    expect(await keys('b')).toEqual(['birth', 'first-1', 'first-2', 'first-3', 'then-4', 'then-5', 'then-6']);
  });

  it('of a transaction that rolls back was never sent', async () => {
    await kernel.post([birth('c')]);
    const failed = db.withTransaction(async (tx) => {
      await enqueue(tx, [press('c', 'gone')]);
      throw new Error('no');
    });
    await expect(failed).rejects.toThrow('no');
    await settle();
    expect(await keys('c')).toEqual(['birth']);
  });

  it('waits while a duplicate of it is being taken, and is then known as one', async () => {
    await kernel.post([birth('d'), press('d', 'twice')]);
    await Promise.all([settle(), ...Array.from({ length: 10 }, () => enqueue(db, [press('d', 'twice')]))]);
    await settle();
    expect(await keys('d')).toEqual(['birth', 'twice']);
    expect((await findActor(db, 'lamp/d'))?.snapshot?.context).toMatchObject({ presses: 1 });
  });
});

describe('a message to an actor that is not there yet', () => {
  it('comes after the birth, in the order of sending', async () => {
    await enqueue(db, [press('e', '1'), press('e', '2')]);
    await settle();
    expect((await db.query(`select key from mailbox where held and actor = 'lamp/e'`)).rowCount).toBe(2);
    await kernel.post([birth('e'), press('e', '3')]);
    await settle();
    expect((await keys('e')).slice(0, 1)).toEqual(['birth']);
    expect((await keys('e')).filter((key) => key === '1' || key === '2')).toEqual(['1', '2']);
  });

  it('comes after the birth also when both are sent at once, the births in their order', async () => {
    const second = { ...birth('i'), key: 'second birth' };
    await kernel.post([press('h', '1'), press('i', '1'), birth('i'), press('h', '2'), second, birth('h'), press('i', '2')]);
    await settle();
    expect(await keys('h')).toEqual(['birth', '1', '2']);
    expect(await keys('i')).toEqual(['birth', '1', 'second birth', '2']);
    expect((await db.query('select 1 from dead_letters')).rowCount).toBe(0);
  });

  it('is not lost when its transaction commits only after the birth, and stays before what its sender sends next', async () => {
    let sent: () => void = () => {};
    const posted = new Promise<void>((resolve) => {
      sent = resolve;
    });
    let commit: () => void = () => {};
    const released = new Promise<void>((resolve) => {
      commit = resolve;
    });
    const early = db.withTransaction(async (tx) => {
      await enqueue(tx, [press('f', 'early')]);
      sent();
      await released;
    });
    await posted;
    await kernel.post([birth('f')]);
    commit();
    await early;
    await enqueue(db, [press('f', 'later')]);
    await settle();
    expect(await keys('f')).toEqual(['birth', 'early', 'later']);
    expect((await db.query('select 1 from dead_letters')).rowCount).toBe(0);
    expect(await verifyActor(db, kernel.kinds, 'lamp/f')).toMatchObject({ ok: true });
  });

  it('is buried when its actor was opened and its birth was set aside', async () => {
    const spoiled = { ...birth('g'), event: { type: 'lamp.made', name: 7 } as { type: string } };
    await enqueue(db, [press('g', '1')], new Date(Date.now() - 120_000));
    await kernel.post([spoiled]);
    await settle();
    await enqueue(db, [press('g', '2')]);
    await settle();
    const { rows } = await db.query(`select key, code from dead_letters where actor = 'lamp/g' order by key`);
    expect(rows).toEqual([
      { key: '1', code: 'GPU_ACTOR_UNBORN' },
      { key: '2', code: 'GPU_ACTOR_UNBORN' },
      { key: 'birth', code: 'GPU_EVENT_INVALID' },
    ]);
  });

  it('is handed out once to those who bury it, however many look', async () => {
    const many = Array.from({ length: 60 }, (_, n) => press(`nobody-${n}`, '1'));
    await enqueue(db, many, new Date(Date.now() - 120_000));
    const taken = await Promise.all(Array.from({ length: 6 }, () => db.withTransaction((tx) => takeOrphanedMail(tx, 60, null))));
    expect(
      taken
        .flat()
        .map((mail) => mail.actor)
        .sort(),
    ).toEqual(many.map((mail) => mail.actor).sort());
  });
});
