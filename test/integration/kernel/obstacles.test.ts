import pg from 'pg';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Kernel } from '../../../actors/kernel/kernel.ts';
import type { ActorKind } from '../../../actors/kernel/kind.ts';
import { findActor } from '../../../persistence/actor-store.ts';
import { Database } from '../../../persistence/database.ts';
import { lampKind } from '../../support/lamp.ts';
import { createTestDatabase, type TestDatabase } from '../../support/postgres.ts';

let test: TestDatabase;
let db: Database;
let now: Date;

beforeEach(async () => {
  test = await createTestDatabase();
  db = new Database({ ...test.config, maxConnections: 4 });
  now = new Date('2026-11-21T08:00:00Z');
});
afterEach(async () => {
  await db.close();
  await test.drop();
});

function kernelOf(kind: ActorKind): Kernel {
  return new Kernel({ db, kinds: [kind], clock: { now: () => now }, random: () => 1 });
}

const dark = () => lampKind(async () => null);

async function settle(kernel: Kernel) {
  while (await kernel.runOnce());
}

async function make(kernel: Kernel, ...ids: string[]) {
  for (const id of ids) {
    const event = { type: 'lamp.made', name: id } as { type: string };
    await kernel.post([{ actor: `lamp/${id}`, key: 'birth', event, sender: 'test' }]);
  }
  await settle(kernel);
}

const press = (id: string, key = 'p') => ({ actor: `lamp/${id}`, key, event: { type: 'press' }, sender: 'test' });

describe('mail that this process cannot take', () => {
  it('does not hide the mail of others, however much of it stands in front', async () => {
    const kernel = kernelOf(dark());
    const newer = Array.from({ length: 450 }, (_, index) => `newer-${index}`);
    await kernel.post(
      newer.map((id) => ({
        actor: `lamp/${id}`,
        key: 'birth',
        event: { type: 'lamp.made', name: id } as { type: string },
        sender: 'test',
      })),
    );
    await settle(kernel);
    await db.query('update actors set machine_version = 2');
    await kernel.post(newer.map((id) => press(id)));
    await make(kernel, 'mine');
    expect((await findActor(db, 'lamp/mine'))?.state).toBe('off');
    expect((await db.query(`select count(*)::int as n from mailbox`)).rows).toEqual([{ n: 450 }]);
  });

  it('is not taken by a door that asks for that actor either: an older process never steps a newer actor', async () => {
    const kernel = kernelOf(dark());
    await make(kernel, 'a');
    await db.query('update actors set machine_version = 2');
    await kernel.post([press('a')]);
    expect(await kernel.pump('lamp/a')).toBe(0);
    expect(await findActor(db, 'lamp/a')).toMatchObject({ state: 'off', machineVersion: 2 });
  });

  it('of a quarantined actor at the head does not keep a spoiled batch from going on one by one', async () => {
    let spoiled = true;
    const kind: ActorKind = {
      ...dark(),
      project: async () => {
        if (spoiled) throw new Error('not today');
      },
    };
    const kernel = kernelOf(kind);
    spoiled = false;
    await make(kernel, 'sick', 'well');
    await kernel.post([press('sick'), press('well')]);
    await db.query(`update actors set quarantined_at = now(), quarantine_reason = 'test' where actor = 'lamp/sick'`);
    spoiled = true;
    await settle(kernel);
    expect((await db.query('select actor, reason from dead_letters')).rows).toEqual([
      { actor: 'lamp/well', reason: 'not today' },
    ]);
  });
});

describe('a message that fails for a passing reason', () => {
  it('is tried again alone before it counts as dead', async () => {
    let failures = 2;
    const kind: ActorKind = {
      ...dark(),
      prepare: async (_tx, event) => {
        if (event.type === 'press' && failures-- > 0) throw new Error('another writer was faster');
        return event;
      },
    };
    const kernel = kernelOf(kind);
    await make(kernel, 'a', 'b');
    await kernel.post([press('a'), press('b')]);
    await settle(kernel);
    expect((await findActor(db, 'lamp/a'))?.state).toBe('on');
    expect((await findActor(db, 'lamp/b'))?.state).toBe('on');
    expect((await db.query('select 1 from dead_letters')).rowCount).toBe(0);
  });

  it('and was a deadline comes again later, even if it became a dead letter', async () => {
    let broken = true;
    const kind: ActorKind = {
      ...lampKind(async () => null, { offAfterMs: 1_000 }),
      prepare: async (_tx, event) => {
        if (event.type === 'deadline.off' && broken) throw new Error('for good, it seems');
        return event;
      },
    };
    const kernel = kernelOf(kind);
    await make(kernel, 'a');
    await kernel.post([press('a')]);
    await settle(kernel);
    now = new Date(now.getTime() + 1_000);
    await settle(kernel);
    expect((await db.query('select key, reason from dead_letters')).rows).toMatchObject([{ reason: 'for good, it seems' }]);
    broken = false;
    now = new Date(now.getTime() + 301_000);
    await settle(kernel);
    expect((await findActor(db, 'lamp/a'))?.state).toBe('off');
  });
});

describe('text that Postgres cannot store', () => {
  it('is cleaned on its way in, in events and in the words of errors', async () => {
    let attempts = 0;
    const kind = lampKind(
      async () => {
        attempts++;
        throw new Error(`cut \ud83d in half and\0 more`);
      },
      { retry: { light: { attempts: 2, firstMs: 10, longestMs: 10 } } },
    );
    const kernel = kernelOf(kind);
    await kernel.post([
      { actor: 'lamp/a', key: 'birth', event: { type: 'lamp.made', name: 'a\0b\udc00' } as { type: string }, sender: 'test' },
    ]);
    await kernel.post([press('a')]);
    await settle(kernel);
    now = new Date(now.getTime() + 1_000);
    await settle(kernel);
    expect(attempts).toBe(2);
    expect((await findActor(db, 'lamp/a'))?.snapshot?.context).toMatchObject({
      name: 'ab\ufffd',
      problem: 'cut \ufffd in half and more',
    });
  });
});

describe('rows that a stranger has locked and holds', () => {
  it('keep back the one actor that must write them, and nobody else', async () => {
    const kernel = kernelOf(dark());
    await make(kernel, 'a', 'b', 'c');
    const stranger = new pg.Client(test.url);
    await stranger.connect();
    try {
      await kernel.post(['a', 'b', 'c'].map((id) => press(id)));
      await stranger.query('begin');
      await stranger.query(`select * from mailbox where actor = 'lamp/b' for update`);
      await settle(kernel);
      const states = async () => Promise.all(['a', 'b', 'c'].map(async (id) => (await findActor(db, `lamp/${id}`))?.state));
      expect(await states()).toEqual(['on', 'off', 'on']);
      expect((await db.query('select 1 from dead_letters')).rowCount).toBe(0);
      await stranger.query('rollback');
      const later = async () => {
        await kernel.takeTurns();
        return states();
      };
      await expect.poll(later, { timeout: 10_000 }).toEqual(['on', 'on', 'on']);
    } finally {
      await stranger.end();
    }
  });
});

describe('a handler that never ends', () => {
  const stuck = () => {
    const signals: AbortSignal[] = [];
    const kind = lampKind((_effect, { signal }) => {
      signals.push(signal);
      return new Promise(() => {});
    });
    return { signals, kernel: kernelOf(kind) };
  };

  it('is given up after two minutes: its place is free, and the effect is tried again', async () => {
    const { signals, kernel } = stuck();
    await kernel.post([
      { actor: 'lamp/a', key: 'birth', event: { type: 'lamp.made', name: 'a' } as { type: string }, sender: 'test' },
      press('a'),
    ]);
    while ((await kernel.takeTurns()) > 0);
    await expect.poll(() => signals.length).toBe(1);
    for (let seconds = 0; seconds < 122; seconds++) {
      now = new Date(now.getTime() + 1_000);
      await kernel.renewLeases();
    }
    expect(signals[0]!.aborted).toBe(true);
    await expect.poll(() => kernel.stats().effectsRunning).toBe(0);
    now = new Date(now.getTime() + 1_000);
    expect(await kernel.startEffects()).toBe(1);
    expect(signals).toHaveLength(2);
  });

  it('does not keep a process from draining, and its effect is free for others at once', async () => {
    const { kernel } = stuck();
    await kernel.post([
      { actor: 'lamp/a', key: 'birth', event: { type: 'lamp.made', name: 'a' } as { type: string }, sender: 'test' },
      press('a'),
    ]);
    while ((await kernel.takeTurns()) > 0);
    await kernel.stop(50);
    const other = stuck();
    expect(await other.kernel.startEffects()).toBe(1);
  });
});
