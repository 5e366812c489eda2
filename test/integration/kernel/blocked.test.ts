import type pg from 'pg';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Kernel, type KernelSettings } from '../../../actors/kernel/kernel.ts';
import type { ActorKind } from '../../../actors/kernel/kind.ts';
import { findActor } from '../../../persistence/actor-store.ts';
import { Database } from '../../../persistence/database.ts';
import { lampKind } from '../../support/lamp.ts';
import { createTestDatabase, type TestDatabase } from '../../support/postgres.ts';
import { lettersOf, MAIL_OF, make, passOn, press, statesOf, strangerWith } from './support.ts';

let test: TestDatabase;
let db: Database;
let stranger: pg.Client | null;
let kernel: Kernel | null;
let errors: unknown[];
beforeEach(async () => {
  test = await createTestDatabase();
  db = new Database({ ...test.config, maxConnections: 8 });
  stranger = null;
  kernel = null;
  errors = [];
});
afterEach(async () => {
  await stranger?.end();
  await kernel?.stop(0);
  await db.close();
  await test.drop();
});

function kernelOf(kind: ActorKind, settings: Partial<KernelSettings> = {}): Kernel {
  kernel = new Kernel({ db, kinds: [kind], onError: (_where, error) => void errors.push(error), ...settings });
  return kernel;
}

const dark = () => lampKind(async () => null);
const names = (prefix: string, count: number) => Array.from({ length: count }, (_, index) => `${prefix}${index}`);
const actorsOf = (ids: readonly string[]) => ids.map((id) => `lamp/${id}`);

async function timeOf(work: Promise<unknown>): Promise<number> {
  const from = performance.now();
  await work;
  return performance.now() - from;
}

describe('while a stranger holds a row of a read model', () => {
  it('the one actor that must write it waits, and the results of others reach them within seconds', async () => {
    await db.query('create table lamps_seen (id text primary key, n integer not null)');
    const kind: ActorKind = {
      ...lampKind(async () => ({ type: 'lit', watts: 5 }) as { type: string }),
      project: async (tx, changes) => {
        const ids = changes.map(({ id }) => id);
        await tx.query(
          'insert into lamps_seen select unnest($1::text[]), 1 on conflict (id) do update set n = lamps_seen.n + 1',
          [ids],
        );
      },
    };
    const running = kernelOf(kind);
    await make(running, ['a', 'b', 'c', 'd']);
    await running.post([press('a'), press('b')]);
    while ((await running.takeTurns()) > 0);
    // Their handlers have run, and their results wait to be taken.
    stranger = await strangerWith(test, `select 1 from lamps_seen where id = 'a' for update`);
    await running.start();
    await running.post([press('c'), press('d')]);
    running.wake();
    const watts = async (ids: string[]) =>
      Promise.all(
        ids.map(async (id) => ((await findActor(db, `lamp/${id}`))?.snapshot?.context as { watts: number } | undefined)?.watts),
      );
    await expect.poll(() => watts(['b', 'c', 'd']), { timeout: 8_000 }).toEqual([5, 5, 5]);
    expect(await watts(['a'])).toEqual([0]);
    await stranger.query('rollback');
    await expect.poll(() => watts(['a']), { timeout: 8_000 }).toEqual([5]);
    expect(await lettersOf(db)).toEqual([]);
    expect(errors).toEqual([]);
  }, 25_000);
});

describe('while a stranger holds the mail of eight actors', () => {
  it('each is met briefly, and the mail of all others is taken within seconds', async () => {
    const good = names('good', 12);
    const bad = names('bad', 8);
    const running = kernelOf(dark(), { turnLoops: 1 });
    await make(running, [...good, ...bad]);
    await running.post([press('good0'), ...bad.map((id) => press(id)), ...good.slice(1).map((id) => press(id))]);
    stranger = await strangerWith(test, MAIL_OF, [actorsOf(bad)]);
    await running.start();
    // One wait of two seconds for the batch, a tenth of a second for each that is blocked.
    await expect.poll(() => statesOf(db, good), { timeout: 7_000, interval: 50 }).toEqual(good.map(() => 'on'));
    expect(await statesOf(db, bad)).toEqual(bad.map(() => 'off'));
    expect(await lettersOf(db)).toEqual([]);
  }, 15_000);

  it('an effect that was leased on the way is started at once, and once, however long the others take', async () => {
    const starts: string[] = [];
    const ends: string[] = [];
    const gates = new Map<string, () => void>();
    const kind = lampKind(async (_effect, { actor }) => {
      starts.push(actor);
      await new Promise<void>((resolve) => gates.set(actor, resolve));
      ends.push(actor);
      return null;
    });
    const bad = names('bad', 12);
    const running = kernelOf(kind, { turnLoops: 1, leaseSeconds: 0.5 });
    await make(running, ['a', 'b', ...bad]);
    await running.post([press('a'), ...bad.map((id) => press(id)), press('b')]);
    stranger = await strangerWith(test, MAIL_OF, [actorsOf(bad)]);
    await running.start();
    // That of the first is at work while those behind it are still met one by one.
    await expect.poll(() => starts, { timeout: 8_000, interval: 10 }).toContain('lamp/a');
    expect(await statesOf(db, ['b'])).toEqual(['off']);
    await expect.poll(() => statesOf(db, ['b']), { timeout: 8_000 }).toEqual(['on']);
    await expect.poll(() => starts).toContain('lamp/b');
    // Both run for two leases more.
    const from = performance.now();
    await expect.poll(() => performance.now() - from, { timeout: 3_000 }).toBeGreaterThan(1_000);
    for (const open of gates.values()) open();
    await expect.poll(() => [...ends].sort()).toEqual(['lamp/a', 'lamp/b']);
    const effects = async () =>
      (
        await db.query<{ actor: string; status: string; attempts: number }>(
          'select actor, status, attempts from effects order by actor',
        )
      ).rows;
    await expect.poll(effects, { timeout: 5_000 }).toEqual([
      { actor: 'lamp/a', status: 'done', attempts: 1 },
      { actor: 'lamp/b', status: 'done', attempts: 1 },
    ]);
    expect([...starts].sort()).toEqual(['lamp/a', 'lamp/b']);
  }, 25_000);
});

describe('while a stranger holds the mail of one actor', () => {
  it('what others send it goes to its mailbox, and costs them nothing once it is known', async () => {
    const senders = names('s', 6);
    const still = kernelOf(dark());
    await make(still, ['pool', ...senders]);
    await still.post([press('pool')]);
    stranger = await strangerWith(test, MAIL_OF, [['lamp/pool']]);
    await still.post([passOn('s0', 'pool')]);
    await still.takeTurns();
    const times: number[] = [];
    for (const id of senders.slice(1)) {
      await still.post([passOn(id, 'pool')]);
      times.push(await timeOf(still.takeTurns()));
    }
    // It is met again when its pause is over; a slow machine may see that once.
    expect(times.filter((milliseconds) => milliseconds > 1_000).length).toBeLessThanOrEqual(1);
    const { rows } = await db.query<{ sender: string }>(
      `select sender from mailbox where actor = 'lamp/pool' and sender <> 'test' order by id`,
    );
    expect(rows.map(({ sender }) => sender)).toEqual(actorsOf(senders));
    expect(await statesOf(db, ['pool'])).toEqual(['off']);
    await stranger.query('rollback');
    // Seven presses: it is on at the end, and all were taken in order.
    const later = async () => {
      await still.takeTurns();
      return statesOf(db, ['pool']);
    };
    await expect.poll(later, { timeout: 8_000 }).toEqual(['on']);
    const { rows: history } = await db.query<{ sender: string }>(
      `select sender from history where actor = 'lamp/pool' and key <> 'birth' order by seq`,
    );
    expect(history.map(({ sender }) => sender)).toEqual(['test', ...actorsOf(senders)]);
  });

  it('whoever asks for the turns of that actor is answered all the same', async () => {
    const still = kernelOf(dark());
    await make(still, ['a', 'b']);
    await still.post([press('a'), press('b')]);
    stranger = await strangerWith(test, MAIL_OF, [['lamp/a']]);
    let turns = -1;
    const took = await timeOf(
      still.pump('lamp/a').then((count) => {
        turns = count;
      }),
    );
    expect(turns).toBe(0);
    expect(took).toBeLessThan(5_000);
    expect(await statesOf(db, ['a', 'b'])).toEqual(['off', 'off']);
    await stranger.query('rollback');
    expect(await still.pump('lamp/a')).toBe(1);
    expect(await statesOf(db, ['a', 'b'])).toEqual(['on', 'off']);
  }, 15_000);

  it('and that mail is poison, it is set aside when it can be, and the others of its batch go on meanwhile', async () => {
    const still = kernelOf(dark());
    await make(still, ['a', 'b', 'c']);
    await still.post([{ actor: 'lamp/a', key: 'x', event: { type: 'explode' }, sender: 'test' }, press('b'), press('c')]);
    stranger = await strangerWith(test, MAIL_OF, [['lamp/a']]);
    await still.takeTurns();
    expect(await statesOf(db, ['a', 'b', 'c'])).toEqual(['off', 'on', 'on']);
    expect(await lettersOf(db)).toEqual([]);
    await stranger.query('rollback');
    const later = async () => {
      await still.takeTurns();
      return lettersOf(db);
    };
    await expect.poll(later, { timeout: 8_000 }).toEqual(['lamp/a']);
  }, 15_000);

  it('and that actor cannot be revived, it is quarantined when it can be, and the others of its batch go on meanwhile', async () => {
    const still = kernelOf(dark());
    await make(still, ['a', 'b']);
    await db.query(`update actors set snapshot = jsonb_set(snapshot, '{value}', '"nowhere"') where actor = 'lamp/a'`);
    await still.post([press('a'), press('b')]);
    stranger = await strangerWith(test, MAIL_OF, [['lamp/a']]);
    await still.takeTurns();
    expect(await statesOf(db, ['b'])).toEqual(['on']);
    await stranger.query('rollback');
    const later = async () => {
      await still.takeTurns();
      return (await findActor(db, 'lamp/a'))?.quarantineReason;
    };
    await expect.poll(later, { timeout: 8_000 }).toContain('nowhere');
    expect(await lettersOf(db)).toEqual([]);
  }, 15_000);
});
