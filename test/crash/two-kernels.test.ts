import { afterAll, beforeAll, expect, it } from 'vitest';
import { verifyAll } from '../../actors/kernel/fold.ts';
import { Kernel } from '../../actors/kernel/kernel.ts';
import { Database } from '../../persistence/database.ts';
import { readHistory } from '../../persistence/history.ts';
import type { Message } from '../../persistence/mailbox.ts';
import { lampKind } from '../support/lamp.ts';
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts';

const ACTORS = 200;
const SENDERS = 3;
const PRESSES = 3;

let test: TestDatabase;
let dbs: Database[];
let kernels: Kernel[];
let lit: string[];
beforeAll(async () => {
  test = await createTestDatabase();
  lit = [];
  dbs = [0, 1].map(() => new Database({ ...test.config, maxConnections: 6 }));
  kernels = dbs.map(
    (db) =>
      new Kernel({
        db,
        kinds: [
          lampKind(async (_effect, { effectId }) => {
            lit.push(effectId);
            return { type: 'lit', watts: 60 } as { type: string };
          }),
        ],
        actorsPerBatch: 16,
        mailPerActor: 2,
        pollMs: 20,
      }),
  );
  for (const kernel of kernels) await kernel.start();
});
afterAll(async () => {
  for (const kernel of kernels ?? []) await kernel.stop();
  for (const db of dbs ?? []) await db.close();
  await test?.drop();
});

it('two kernels over one database apply every message once, in the order of its sender, duplicates dropped', async () => {
  const births = Array.from({ length: ACTORS }, (_, n): Message => {
    return {
      actor: `lamp/${n}`,
      key: 'birth',
      event: { type: 'lamp.made', name: String(n) } as { type: string },
      sender: 'test',
    };
  });
  await kernels[0]!.post(births);

  // Each sender posts its own messages one after the other; the senders race each other and both kernels.
  let sent = 0;
  await Promise.all(
    Array.from({ length: SENDERS }, async (_, sender) => {
      const db = dbs[sender % 2]!;
      for (let press = 0; press < PRESSES; press++) {
        const batch = Array.from({ length: ACTORS }, (_unused, n): Message => {
          return { actor: `lamp/${n}`, key: `${sender}:${press}`, event: { type: 'press' }, sender: `sender-${sender}` };
        });
        const kernel = kernels[(sender + press) % 2]!;
        await kernel.post(batch, db);
        sent += batch.length;
        // Every tenth is sent again at once, some by the other kernel: then it waits still, or has been processed already.
        await kernels[sender % 2]!.post(batch.filter((_message, n) => (n + press) % 10 === 0));
        kernel.wake();
      }
    }),
  );
  const settled = async () =>
    (await dbs[0]!.query(`select 1 from mailbox union all select 1 from effects where status = 'pending' limit 1`)).rowCount ===
    0;
  while (!(await settled())) await new Promise((resolve) => setTimeout(resolve, 20));

  const { rows: applied } = await dbs[0]!.query<{ n: number; keys: number }>(
    `select count(*)::int as n, count(distinct (actor, key))::int as keys from history where event->>'type' = 'press' and outcome = 'applied'`,
  );
  expect(applied).toEqual([{ n: sent, keys: sent }]);
  const { rows: counted } = await dbs[0]!.query(
    `select (snapshot #>> '{context,presses}')::int as presses, count(*)::int as lamps from actors group by 1`,
  );
  expect(counted).toEqual([{ presses: SENDERS * PRESSES, lamps: ACTORS }]);
  for (let n = 0; n < ACTORS; n += 7) {
    const history = await readHistory(dbs[0]!, `lamp/${n}`);
    expect(history.map((entry) => entry.seq)).toEqual(history.map((_entry, index) => index + 1));
    for (let sender = 0; sender < SENDERS; sender++) {
      const own = history.filter((entry) => entry.sender === `sender-${sender}`).map((entry) => entry.key);
      expect(own).toEqual(Array.from({ length: PRESSES }, (_, press) => `${sender}:${press}`));
    }
  }
  expect(new Set(lit).size).toBe(lit.length);
  for await (const result of verifyAll(dbs[0]!, kernels[0]!.kinds)) expect(result).toMatchObject({ ok: true });
  expect(kernels.map((kernel) => kernel.stats().turns > 0)).toEqual([true, true]);
});
