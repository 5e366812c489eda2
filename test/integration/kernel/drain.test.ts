import { afterAll, beforeAll, expect, it } from 'vitest';
import { Kernel } from '../../../actors/kernel/kernel.ts';
import { Database } from '../../../persistence/database.ts';
import { lampKind } from '../../support/lamp.ts';
import { createTestDatabase, type TestDatabase } from '../../support/postgres.ts';
import { make, press, statesOf } from './support.ts';

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

it('an effect that a turn has leased while the process began to drain is given back unrun, for whoever comes next', async () => {
  const run: string[] = [];
  const kind = lampKind(async (_effect, { effectId }) => {
    run.push(effectId);
    return { type: 'lit', watts: 1 } as { type: string };
  });
  // The turn stands still between its lease and its commit.
  let goOn!: () => void;
  const gate = new Promise<void>((resolve) => {
    goOn = resolve;
  });
  let isWritten = false;
  const kernel = new Kernel({
    db,
    kinds: [
      {
        ...kind,
        project: async (_tx, changes) => {
          if (!changes.some(({ after }) => after.value === 'on')) return;
          isWritten = true;
          await gate;
        },
      },
    ],
  });
  await make(kernel, ['a']);
  const delivery = kernel.deliver(async (_tx, post) => post([press('a')]));
  await expect.poll(() => isWritten).toBe(true);
  await kernel.stop();
  goOn();
  await delivery;
  expect(await statesOf(db, ['a'])).toEqual(['on']);
  const pending = `select lease_token is not null as leased, attempts from effects where status = 'pending'`;
  await expect.poll(async () => (await db.query(pending)).rows).toEqual([{ leased: false, attempts: 0 }]);
  expect(run).toEqual([]);

  const next = new Kernel({ db, kinds: [kind] });
  while (await next.runOnce());
  expect(run).toEqual(['lamp/a:2:0']);
});
