import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Kernel } from '../../../actors/kernel/kernel.ts';
import { Database } from '../../../persistence/database.ts';
import { addEffects, endEffects, leaseEffects, renewLeases, retryEffect } from '../../../persistence/outbox.ts';
import { lampKind } from '../../support/lamp.ts';
import { createTestDatabase, type TestDatabase } from '../../support/postgres.ts';

const NOW = new Date('2026-11-21T12:00:00Z');
const later = (seconds: number) => new Date(NOW.getTime() + seconds * 1_000);

let test: TestDatabase;
let db: Database;
beforeAll(async () => {
  test = await createTestDatabase();
  db = new Database({ ...test.config, maxConnections: 10 });
});
beforeEach(async () => {
  await db.query('truncate effects, mailbox, actors, history, deadlines');
});
afterAll(async () => {
  await db.close();
  await test.drop();
});

function add(...effects: { actor?: string; seq: number; lane?: string; replaces?: boolean }[]) {
  return db.withTransaction((tx) =>
    addEffects(
      tx,
      effects.map(({ actor = 'lamp/a', seq, lane = 'main', replaces = false }) => ({
        effectId: `${actor}:${seq}:0`,
        actor,
        seq,
        index: 0,
        type: 'light',
        lane,
        replaces,
        params: { type: 'light' },
      })),
      NOW,
    ),
  );
}
async function lease(token: string, now = NOW, busy: string[] = [], limit = 100): Promise<string[]> {
  const effects = await leaseEffects(db, { limit, token, seconds: 5, types: ['light'], busy, now });
  return effects.map((effect) => effect.effectId).sort();
}
async function end(effectId: string, token: string, now = NOW): Promise<boolean> {
  const { ours } = await db.withTransaction((tx) => endEffects(tx, { ended: [{ effectId }], token, now }));
  return ours.length === 1;
}
async function status(effectId: string): Promise<string> {
  return (await db.query<{ status: string }>('select status from effects where effect_id = $1', [effectId])).rows[0]!.status;
}

describe('a lane', () => {
  it('gives its effects out one after the other; other lanes and other actors go on beside it', async () => {
    await add({ seq: 1 }, { seq: 2 }, { seq: 3, lane: 'inside' }, { actor: 'lamp/b', seq: 1 });
    const token = randomUUID();
    expect(await lease(token)).toEqual(['lamp/a:1:0', 'lamp/a:3:0', 'lamp/b:1:0']);
    expect(await lease(token)).toEqual([]);
    await end('lamp/a:1:0', token);
    expect(await lease(token)).toEqual(['lamp/a:2:0']);
  });

  it('never has two effects under way, however many dispatchers lease at once', async () => {
    const actors = Array.from({ length: 30 }, (_, n) => `lamp/${n}`);
    for (const seq of [1, 2, 3]) await add(...actors.map((actor) => ({ actor, seq })));
    const underWay = new Set<string>();
    const order = new Map<string, number[]>();
    let left = actors.length * 3;
    await Promise.all(
      Array.from({ length: 6 }, async () => {
        const token = randomUUID();
        while (left > 0) {
          for (const effectId of await lease(token, NOW, [], 7)) {
            const actor = effectId.slice(0, effectId.indexOf(':'));
            expect(underWay.has(actor), `${actor} has two effects under way`).toBe(false);
            underWay.add(actor);
            await new Promise((resolve) => setImmediate(resolve));
            order.set(actor, [...(order.get(actor) ?? []), Number(effectId.split(':')[1])]);
            underWay.delete(actor);
            expect(await end(effectId, token)).toBe(true);
            left--;
          }
        }
      }),
    );
    for (const actor of actors) expect(order.get(actor)).toEqual([1, 2, 3]);
  });

  it('waits behind an effect that is tried again later', async () => {
    await add({ seq: 1 }, { seq: 2 });
    const token = randomUUID();
    await lease(token);
    await retryEffect(db, { effectId: 'lamp/a:1:0', token, countAttempt: true, error: 'not now', seconds: 30, now: NOW });
    expect(await lease(token, later(29))).toEqual([]);
    expect(await lease(token, later(30))).toEqual(['lamp/a:1:0']);
  });
});

describe('an effect that replaces', () => {
  it('makes those of its lane that have not started superseded', async () => {
    await add({ seq: 1 }, { seq: 2 }, { seq: 2, actor: 'lamp/b' }, { seq: 3, lane: 'inside' });
    await add({ seq: 4, replaces: true });
    expect(await Promise.all(['lamp/a:1:0', 'lamp/a:2:0', 'lamp/a:3:0', 'lamp/b:2:0'].map(status))).toEqual([
      'superseded',
      'superseded',
      'pending',
      'pending',
    ]);
  });

  it('lets one that has started end first; if that one fails, it is not tried again', async () => {
    await add({ seq: 1 });
    const token = randomUUID();
    await lease(token);
    await add({ seq: 2, replaces: true });
    expect(await status('lamp/a:1:0')).toBe('pending');
    expect(await lease(token)).toEqual([]);
    await retryEffect(db, { effectId: 'lamp/a:1:0', token, countAttempt: true, error: 'no', seconds: 1, now: NOW });
    expect(await status('lamp/a:1:0')).toBe('superseded');
    expect(await lease(token)).toEqual(['lamp/a:2:0']);
  });
});

describe('a lease', () => {
  it('is kept by its heartbeat, and another may have the effect only when it ran out', async () => {
    await add({ seq: 1 });
    const [first, second] = [randomUUID(), randomUUID()];
    await lease(first);
    expect(await lease(second, later(4))).toEqual([]);
    const effectIds = ['lamp/a:1:0'];
    expect(await renewLeases(db, { effectIds, token: first, seconds: 5, now: later(4) })).toEqual(new Set(effectIds));
    expect(await lease(second, later(8))).toEqual([]);
    expect(await lease(second, later(10))).toEqual(effectIds);
    expect(await renewLeases(db, { effectIds, token: first, seconds: 5, now: later(10) })).toEqual(new Set());
  });

  it('that was lost lets its former holder neither end the effect nor give it back', async () => {
    await add({ seq: 1 });
    const [zombie, heir] = [randomUUID(), randomUUID()];
    await lease(zombie);
    await lease(heir, later(6));
    expect(await end('lamp/a:1:0', zombie, later(6))).toBe(false);
    await retryEffect(db, { effectId: 'lamp/a:1:0', token: zombie, countAttempt: true, error: 'x', seconds: 0, now: later(6) });
    const { rows } = await db.query('select status, attempts, lease_token from effects');
    expect(rows).toEqual([{ status: 'pending', attempts: 0, lease_token: heir }]);
    expect(await end('lamp/a:1:0', heir, later(6))).toBe(true);
    expect(await end('lamp/a:1:0', heir, later(6))).toBe(false);
  });
});

describe('a dispatcher', () => {
  /** Two kernels over one database whose handlers wait to be told how to end. */
  function pair(leaseSeconds: number) {
    const clock = { now: () => time };
    let time = NOW;
    const calls: { by: number; finish: (watts: number) => void; signal: AbortSignal }[] = [];
    const kernels = [0, 1].map(
      (by) =>
        new Kernel({
          db,
          clock,
          leaseSeconds,
          kinds: [
            lampKind(
              (_effect, { signal }) =>
                new Promise((resolve) => {
                  calls.push({ by, signal, finish: (watts) => resolve({ type: 'lit', watts } as { type: string }) });
                }),
            ),
          ],
        }),
    );
    const pass = (seconds: number) => {
      time = new Date(time.getTime() + seconds * 1_000);
    };
    return { kernels, calls, pass };
  }
  async function lightOne(kernel: Kernel) {
    const event = { type: 'lamp.made', name: 'z' } as { type: string };
    await kernel.post([{ actor: 'lamp/z', key: 'birth', event, sender: 'test' }]);
    await kernel.post([{ actor: 'lamp/z', key: '1', event: { type: 'press' }, sender: 'test' }]);
    await kernel.pump('lamp/z');
  }
  async function called(calls: readonly unknown[], count: number) {
    while (calls.length < count) await new Promise((resolve) => setTimeout(resolve, 5));
  }

  it('that lost its lease posts nothing: the outcome of the one that took over stands alone', async () => {
    const { kernels, calls, pass } = pair(600);
    await lightOne(kernels[0]!);
    const runs = kernels.map((kernel) => () => kernel.runOnce());
    const zombie = runs[0]!();
    await called(calls, 1);
    pass(601);
    const heir = runs[1]!();
    await called(calls, 2);
    expect(calls.map((call) => call.by)).toEqual([0, 1]);
    calls[0]!.finish(1);
    await zombie;
    calls[1]!.finish(2);
    await heir;
    await kernels[1]!.pump('lamp/z');
    const { rows } = await db.query(`select event->'watts' as watts, outcome from history where event->>'type' = 'lit'`);
    expect(rows).toEqual([{ watts: 2, outcome: 'applied' }]);
  });

  it('tells a handler whose lease was taken by another to stop', async () => {
    const { kernels, calls, pass } = pair(5);
    await lightOne(kernels[0]!);
    await called(calls, 1);
    pass(4);
    await kernels[0]!.renewLeases();
    pass(4);
    expect(await kernels[1]!.startEffects()).toBe(0);
    pass(2);
    expect(await kernels[1]!.startEffects()).toBe(1);
    expect(calls.map(({ signal }) => signal.aborted)).toEqual([false, false]);
    await kernels[0]!.renewLeases();
    expect(calls.map(({ signal }) => signal.aborted)).toEqual([true, false]);
    for (const call of calls) call.finish(1);
    await Promise.all(kernels.map((kernel) => kernel.runOnce()));
  });

  it('does not start an effect a second time beside itself when its own lease ran out', async () => {
    const { kernels, calls, pass } = pair(600);
    await lightOne(kernels[0]!);
    const first = kernels[0]!.runOnce();
    await called(calls, 1);
    pass(601);
    let second = false;
    const again = kernels[0]!.runOnce().then(() => {
      second = true;
    });
    // The second pass waits for the handler that runs; it must not have started another.
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect({ calls: calls.length, second }).toEqual({ calls: 1, second: false });
    calls[0]!.finish(7);
    await Promise.all([first, again]);
    await kernels[0]!.pump('lamp/z');
    const { rows } = await db.query(`select event->'watts' as watts from history where event->>'type' = 'lit'`);
    expect(rows).toEqual([{ watts: 7 }]);
  });
});
