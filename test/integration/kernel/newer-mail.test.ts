import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Kernel } from '../../../actors/kernel/kernel.ts';
import type { ActorKind } from '../../../actors/kernel/kind.ts';
import { Database } from '../../../persistence/database.ts';
import { lampKind } from '../../support/lamp.ts';
import { createTestDatabase, type TestDatabase } from '../../support/postgres.ts';
import { lettersOf, make, press, statesOf } from './support.ts';

let test: TestDatabase;
let db: Database;
beforeEach(async () => {
  test = await createTestDatabase();
  db = new Database({ ...test.config, maxConnections: 4 });
});
afterEach(async () => {
  await db.close();
  await test.drop();
});

const dark = () => lampKind(async () => null);

/** A lamp called bad has a bug: it cannot be pressed. */
function fragile(): ActorKind {
  return {
    ...dark(),
    prepare: async (_tx, event, { id }) => {
      if (id === 'bad' && event.type === 'press') throw new Error('a bug');
      return event;
    },
  };
}

/** Take turns until nothing happens any more. */
async function settle(kernel: Kernel): Promise<void> {
  while ((await kernel.takeTurns()) > 0);
}

/** All that waits now was sent by newer code. */
async function becomeNewer(): Promise<void> {
  await db.query('update mailbox set version = 2');
}

describe('mail that only newer code understands', () => {
  for (const { actors, each } of [
    { actors: 1, each: 201 },
    { actors: 101, each: 1 },
    { actors: 450, each: 1 },
  ]) {
    it(`does not hide the mail of others behind it: ${each} to each of ${actors}`, async () => {
      const kernel = new Kernel({ db, kinds: [dark()] });
      const ids = Array.from({ length: actors }, (_, index) => `newer${index}`);
      await make(kernel, [...ids, 'mine']);
      const mail = ids.flatMap((id) => Array.from({ length: each }, (_, index) => press(id, `k${index}`)));
      await kernel.post(mail);
      await becomeNewer();
      await kernel.post([press('mine')]);
      await settle(kernel);
      expect(await statesOf(db, ['mine'])).toEqual(['on']);
      expect((await db.query('select 1 from mailbox')).rowCount).toBe(actors * each);
      expect(await lettersOf(db)).toEqual([]);
    });
  }

  it('at the head does not keep a spoiled batch from going on, message by message, to its culprit', async () => {
    const kernel = new Kernel({ db, kinds: [fragile()] });
    await make(kernel, ['newer', 'bad', 'good']);
    await kernel.post([press('newer')]);
    await becomeNewer();
    await kernel.post([press('bad'), press('good')]);
    await settle(kernel);
    expect(await statesOf(db, ['newer', 'bad', 'good'])).toEqual(['off', 'off', 'on']);
    expect(await lettersOf(db)).toEqual(['lamp/bad']);
  });

  it('keeps back what follows it at the same actor, and nobody else, in a spoiled batch too', async () => {
    const kernel = new Kernel({ db, kinds: [fragile()] });
    await make(kernel, ['newer', 'bad', 'good']);
    await kernel.post([press('newer', '1')]);
    await becomeNewer();
    await kernel.post([press('newer', '2'), press('bad'), press('good')]);
    await settle(kernel);
    expect(await statesOf(db, ['newer', 'good'])).toEqual(['off', 'on']);
    expect(await lettersOf(db)).toEqual(['lamp/bad']);
    expect((await db.query('select actor, key from mailbox order by id')).rows).toEqual([
      { actor: 'lamp/newer', key: '1' },
      { actor: 'lamp/newer', key: '2' },
    ]);
  });

  it('behind older mail of the same actor lets that be taken, and then nothing more of it', async () => {
    const kernel = new Kernel({ db, kinds: [dark()] });
    await make(kernel, ['a', 'b']);
    await kernel.post([press('a', '1'), press('a', '2')]);
    await db.query(`update mailbox set version = 2 where key = '2'`);
    await kernel.post([press('a', '3'), press('b')]);
    await settle(kernel);
    expect(await statesOf(db, ['a', 'b'])).toEqual(['on', 'on']);
    expect((await db.query('select key from mailbox order by id')).rows).toEqual([{ key: '2' }, { key: '3' }]);
  });
});
