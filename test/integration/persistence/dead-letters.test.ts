import { afterAll, beforeAll, expect, it } from 'vitest';
import { Database } from '../../../persistence/database.ts';
import { addDeadLetter, type DeadLetter, openDeadLetters } from '../../../persistence/dead-letters.ts';
import { findDeadLetter, readTotals } from '../../../persistence/insight.ts';
import { createTestDatabase, type TestDatabase } from '../../support/postgres.ts';

let test: TestDatabase;
let db: Database;
beforeAll(async () => {
  test = await createTestDatabase();
  db = new Database({ ...test.config, maxConnections: 6 });
});
afterAll(async () => {
  await db.close();
  await test.drop();
});

const letter = (msgId: number, more: Partial<DeadLetter> = {}): DeadLetter => ({
  source: 'queue',
  queue: 'gpu_reservations',
  msgId,
  body: { action: 'dance' },
  code: 'GPU_MESSAGE_INVALID',
  field: 'action',
  reason: 'action: unknown',
  ...more,
});

it('a queue message becomes one dead letter, however often it is set aside, and keeps its first reason', async () => {
  await Promise.all(Array.from({ length: 8 }, () => addDeadLetter(db, letter(1))));
  await addDeadLetter(db, letter(1, { reason: 'another' }));
  await addDeadLetter(db, letter(1, { queue: 'disk_operations' }));
  const letters = await openDeadLetters(db);
  expect(letters.map(({ queue, msg_id, field, reason, body }) => ({ queue, msg_id, field, reason, body }))).toEqual([
    { queue: 'disk_operations', msg_id: 1, field: 'action', reason: 'action: unknown', body: { action: 'dance' } },
    { queue: 'gpu_reservations', msg_id: 1, field: 'action', reason: 'action: unknown', body: { action: 'dance' } },
  ]);
});

it('letters of actors and effects, which have no queue, are each kept', async () => {
  for (const source of ['mailbox', 'effect'] as const) {
    for (const key of ['1', '2'])
      await addDeadLetter(db, {
        source,
        actor: 'lamp/a',
        key,
        body: null,
        code: 'GPU_EVENT_INVALID',
        reason: `${source} ${key}`,
      });
  }
  expect((await openDeadLetters(db)).filter((row) => row.actor === 'lamp/a')).toHaveLength(4);
  expect(await findDeadLetter(db, 'lamp/a', '2')).toEqual({ code: 'GPU_EVENT_INVALID', field: null, reason: 'mailbox 2' });
  expect(await findDeadLetter(db, 'lamp/a', '3')).toBeNull();
});

it('those that were resolved are no longer open, and only the open are counted', async () => {
  const before = (await readTotals(db)).deadLettersOpen;
  await db.query(`update dead_letters set resolved = 'dropped', resolved_at = now() where actor = 'lamp/a'`);
  expect((await readTotals(db)).deadLettersOpen).toBe(before - 4);
  expect((await openDeadLetters(db)).some((row) => row.actor === 'lamp/a')).toBe(false);
  expect(await openDeadLetters(db, 1)).toHaveLength(1);
});
