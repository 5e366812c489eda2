import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { TerminalError } from '../../../actors/errors.ts';
import { verifyActor } from '../../../actors/kernel/fold.ts';
import { Kernel } from '../../../actors/kernel/kernel.ts';
import { findActor } from '../../../persistence/actor-store.ts';
import { Database } from '../../../persistence/database.ts';
import { readHistory } from '../../../persistence/history.ts';
import { createTestDatabase, type TestDatabase } from '../../support/postgres.ts';
import { lampKind } from '../../support/lamp.ts';
import { PATIENCE_MS } from '../../support/patience.ts';

let test: TestDatabase;
let db: Database;
let lit: string[];
let kernel: Kernel;
let now: Date;

beforeAll(async () => {
  test = await createTestDatabase();
  db = new Database({ ...test.config, maxConnections: 8 });
  lit = [];
  now = new Date('2026-11-21T08:00:00Z');
  const kind = lampKind(async (_effect, context) => {
    lit.push(context.effectId);
    return { type: 'lit', watts: 60 } as { type: string };
  });
  kernel = new Kernel({ db, kinds: [kind], clock: { now: () => now } });
});
afterAll(async () => {
  await db.close();
  await test.drop();
});

async function settle() {
  while (await kernel.runOnce());
}
async function lamp(id: string) {
  await kernel.post([
    { actor: `lamp/${id}`, key: 'birth', event: { type: 'lamp.made', name: id } as { type: string }, sender: 'test' },
  ]);
}
function post(id: string, key: string, event: { type: string; [field: string]: unknown }) {
  return kernel.post([{ actor: `lamp/${id}`, key, event, sender: 'test' }]);
}

describe('the kernel', () => {
  it('takes a message through turn, outbox and handler, and the result comes back by the mailbox', async () => {
    await lamp('a');
    await post('a', 'p1', { type: 'press' });
    await settle();
    const actor = await findActor(db, 'lamp/a');
    expect(actor?.state).toBe('on');
    expect(actor?.snapshot?.context).toEqual({ name: 'a', presses: 1, watts: 60, problem: null });
    expect(lit).toEqual(['lamp/a:2:0']);
    expect((await verifyActor(db, kernel.kinds, 'lamp/a')).ok).toBe(true);
  });

  it('drops a message whose key was processed before', async () => {
    await post('a', 'p1', { type: 'press' });
    await settle();
    expect((await findActor(db, 'lamp/a'))?.state).toBe('on');
    expect((await readHistory(db, 'lamp/a')).filter((entry) => entry.key === 'p1')).toHaveLength(1);
  });

  it('fires a deadline once, at its time, and ignores one that was moved after it fired', async () => {
    now = new Date(now.getTime() + 3_599_000);
    await settle();
    expect((await findActor(db, 'lamp/a'))?.state).toBe('on');
    now = new Date(now.getTime() + 1_000);
    await settle();
    expect((await findActor(db, 'lamp/a'))?.state).toBe('off');
    // on again; the press that turns it off and on stands in the mailbox before the fired deadline
    await post('a', 'p2', { type: 'press' });
    await settle();
    now = new Date(now.getTime() + 3_600_000);
    await post('a', 'p3', { type: 'press' });
    await post('a', 'p4', { type: 'press' });
    await settle();
    expect((await findActor(db, 'lamp/a'))?.state).toBe('on');
    const entries = await readHistory(db, 'lamp/a');
    expect(entries.filter((entry) => entry.event.type === 'deadline.off').map((entry) => entry.outcome)).toEqual([
      'applied',
      'ignored',
    ]);
    expect((await verifyActor(db, kernel.kinds, 'lamp/a')).ok).toBe(true);
  });

  it('records an event that no state accepts as ignored, with the state it met', async () => {
    await lamp('b');
    await post('b', 'x', { type: 'lit', watts: 1 });
    await settle();
    const outcome = await kernel.outcome('lamp/b', 'x');
    expect(outcome).toMatchObject({ outcome: 'ignored', from: 'off', reason: 'Not expected in off' });
  });

  it('sets a poisoned message aside and delays nobody else', async () => {
    await lamp('c');
    await lamp('d');
    await post('c', 'e1', { type: 'explode' });
    await post('c', 'e2', { type: 'press' });
    await post('d', 'e1', { type: 'press' });
    await post('d', 'e3', { type: 'nonsense' });
    await settle();
    expect((await findActor(db, 'lamp/c'))?.state).toBe('on');
    expect((await findActor(db, 'lamp/d'))?.state).toBe('on');
    const { rows } = await db.query('select actor, key, code from dead_letters order by actor');
    expect(rows).toEqual([
      { actor: 'lamp/c', key: 'e1', code: 'GPU_MACHINE_FAILED' },
      { actor: 'lamp/d', key: 'e3', code: 'GPU_EVENT_INVALID' },
    ]);
  });

  it('quarantines an actor whose snapshot cannot be revived, keeps its mail, and goes on with the others', async () => {
    await lamp('e');
    await lamp('f');
    await settle();
    await db.query(`update actors set snapshot = jsonb_set(snapshot, '{value}', '"nowhere"') where actor = 'lamp/e'`);
    await post('e', 'q1', { type: 'press' });
    await post('f', 'q1', { type: 'press' });
    await settle();
    expect((await findActor(db, 'lamp/e'))?.quarantineReason).toMatch(/nowhere/);
    expect((await findActor(db, 'lamp/f'))?.state).toBe('on');
    expect((await db.query(`select held from mailbox where actor = 'lamp/e'`)).rows).toEqual([{ held: true }]);
  });

  it('never changes an ended actor again, and the database refuses it too', async () => {
    await lamp('g');
    await post('g', '1', { type: 'break' });
    await post('g', '2', { type: 'press' });
    await settle();
    expect(await kernel.outcome('lamp/g', '2')).toMatchObject({ outcome: 'ignored', reason: 'It has ended: broken' });
    await expect(db.query(`update actors set state = 'on' where actor = 'lamp/g'`)).rejects.toThrow(/has ended/);
  });

  it('holds a message to an unknown actor for a minute, then dead-letters it', async () => {
    await post('later', '1', { type: 'press' });
    await settle();
    await lamp('later');
    await settle();
    expect((await findActor(db, 'lamp/later'))?.state).toBe('on');
    await post('never', '1', { type: 'press' });
    now = new Date(now.getTime() + 61_000);
    await settle();
    expect((await db.query(`select code from dead_letters where actor = 'lamp/never'`)).rows).toEqual([
      { code: 'GPU_RESERVATION_UNKNOWN' },
    ]);
  });

  it('passes messages between actors in the order in which they were sent', async () => {
    await lamp('h');
    await lamp('i');
    await post('h', '1', { type: 'passOn', to: 'lamp/i' });
    await post('h', '2', { type: 'passOn', to: 'lamp/i' });
    await settle();
    expect((await findActor(db, 'lamp/i'))?.snapshot?.context).toMatchObject({ presses: 2 });
  });
});

describe('a handler that fails', () => {
  it('is tried again with growing pauses, and a terminal error is told to the actor at once', async () => {
    let attempts = 0;
    const kind = lampKind(
      async () => {
        attempts++;
        if (attempts < 3) throw new Error('not now');
        throw new TerminalError('never');
      },
      { retry: { light: { attempts: 10, firstMs: 1_000, longestMs: 60_000 } } },
    );
    const failing = new Kernel({ db, kinds: [kind], clock: { now: () => now }, random: () => 1 });
    await failing.post([
      { actor: 'lamp/z', key: 'birth', event: { type: 'lamp.made', name: 'z' } as { type: string }, sender: 'test' },
    ]);
    await failing.post([{ actor: 'lamp/z', key: '1', event: { type: 'press' }, sender: 'test' }]);
    while (await failing.runOnce());
    expect(attempts).toBe(1);
    now = new Date(now.getTime() + 1_000);
    while (await failing.runOnce());
    expect(attempts).toBe(2);
    now = new Date(now.getTime() + 2_000);
    while (await failing.runOnce());
    expect(attempts).toBe(3);
    expect((await findActor(db, 'lamp/z'))?.snapshot?.context).toMatchObject({ problem: 'never' });
  });
});

describe('after an outage', () => {
  it('no time limit fires before what happened meanwhile could be told', async () => {
    let catchingUp = true;
    const kind = lampKind(async () => null, { offAfterMs: 1 });
    const late = new Kernel({ db, kinds: [kind], holdDeadlines: () => catchingUp });
    await late.post([
      { actor: 'lamp/late', key: 'birth', event: { type: 'lamp.made', name: 'late' } as { type: string }, sender: 'test' },
    ]);
    await late.post([{ actor: 'lamp/late', key: '1', event: { type: 'press' }, sender: 'test' }]);
    await late.start();
    const state = async () => (await findActor(db, 'lamp/late'))?.state;
    await vi.waitFor(async () => expect(await state()).toBe('on'), { timeout: PATIENCE_MS });
    expect(late.stats().deadlinesFired).toBe(0);
    catchingUp = false;
    await vi.waitFor(async () => expect(await state()).toBe('off'), { timeout: PATIENCE_MS });
    await late.stop();
  });
});

describe('a process that drains', () => {
  it('gives back unrun what a turn has leased meanwhile, for whoever comes next', async () => {
    const run: string[] = [];
    const kind = lampKind(async (_effect, { actor }) => {
      run.push(actor);
      return { type: 'lit', watts: 1 } as { type: string };
    });
    // The turn stands still between its lease and its commit.
    let goOn!: () => void;
    const gate = new Promise<void>((resolve) => {
      goOn = resolve;
    });
    let isWritten = false;
    const project: typeof kind.project = async (_tx, changes) => {
      if (!changes.some(({ id, after }) => id === 'drained' && after.value === 'on')) return;
      isWritten = true;
      await gate;
    };
    const drained = new Kernel({ db, kinds: [{ ...kind, project }] });
    await lamp('drained');
    await settle();
    const press = { actor: 'lamp/drained', key: 'p', event: { type: 'press' }, sender: 'test' };
    const delivery = drained.deliver(async (_tx, send) => send([press]));
    await expect.poll(() => isWritten).toBe(true);
    await drained.stop();
    goOn();
    await delivery;
    expect((await findActor(db, 'lamp/drained'))?.state).toBe('on');
    const pending = `select lease_token is not null as leased, attempts from effects where actor = 'lamp/drained' and status = 'pending'`;
    await expect.poll(async () => (await db.query(pending)).rows).toEqual([{ leased: false, attempts: 0 }]);
    expect(run).toEqual([]);

    const next = new Kernel({ db, kinds: [kind] });
    while (await next.runOnce());
    expect(run).toEqual(['lamp/drained']);
  });
});
