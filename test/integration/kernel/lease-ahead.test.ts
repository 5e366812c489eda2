import { afterAll, beforeAll, expect, it } from 'vitest';
import { Kernel } from '../../../actors/kernel/kernel.ts';
import { Database } from '../../../persistence/database.ts';
import { lampKind } from '../../support/lamp.ts';
import { createTestDatabase, type TestDatabase } from '../../support/postgres.ts';
import { make, press } from './support.ts';

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

/** Effects by actor: whether they are leased, and how often they were tried. */
async function effects() {
  const { rows } = await db.query<{ actor: string; leased: boolean; attempts: number }>(
    `select actor, lease_token is not null as leased, attempts from effects where status = 'pending' order by actor`,
  );
  return rows;
}

it('effects are leased ahead of their handlers, which run so many at a time; what has not begun when the process drains is given back', async () => {
  const begun: string[] = [];
  let end!: () => void;
  const ended = new Promise<void>((resolve) => {
    end = resolve;
  });
  const kind = lampKind(async (_effect, { actor }) => {
    begun.push(actor);
    await ended;
    return { type: 'lit', watts: 1 } as { type: string };
  });
  const kernel = new Kernel({ db, kinds: [kind], effectConcurrency: 2 });
  const ids = ['a', 'b', 'c', 'd', 'e', 'f'];
  await make(kernel, ids);
  await kernel.deliver(async (_tx, post) => post(ids.map((id) => press(id))));
  expect((await effects()).map(({ leased }) => leased)).toEqual([true, true, true, true, false, false]);
  expect(await kernel.startEffects()).toBe(0);
  expect(begun).toEqual(['lamp/a', 'lamp/b']);

  const stopping = kernel.stop();
  await expect
    .poll(effects)
    .toEqual([
      { actor: 'lamp/a', leased: true, attempts: 0 },
      { actor: 'lamp/b', leased: true, attempts: 0 },
      ...['c', 'd', 'e', 'f'].map((id) => ({ actor: `lamp/${id}`, leased: false, attempts: 0 })),
    ]);
  end();
  await stopping;
  expect(begun).toEqual(['lamp/a', 'lamp/b']);
  expect((await effects()).map(({ actor }) => actor)).toEqual(['lamp/c', 'lamp/d', 'lamp/e', 'lamp/f']);

  const other = new Kernel({ db, kinds: [kind] });
  while (await other.runOnce());
  expect(await effects()).toEqual([]);
  expect([...begun].sort()).toEqual(ids.map((id) => `lamp/${id}`));
});
