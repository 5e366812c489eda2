import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Database } from '../../../persistence/database.ts';
import { addEffects, endEffects, failEffect, leaseEffects, renewLeases, retryEffect } from '../../../persistence/outbox.ts';
import { createTestDatabase, type TestDatabase } from '../../support/postgres.ts';

const NOW = new Date('2026-11-21T12:00:00Z');
/** How long a lease lasts here, in seconds. */
const LEASE = 5;

let test: TestDatabase;
let db: Database;
let time: Date;
beforeAll(async () => {
  test = await createTestDatabase();
  db = new Database({ ...test.config, maxConnections: 10 });
});
beforeEach(async () => {
  await db.query('truncate effects');
  time = NOW;
});
afterAll(async () => {
  await db.close();
  await test.drop();
});

const pass = (seconds: number) => {
  time = new Date(time.getTime() + seconds * 1_000);
};
function add(actor: string, seq: number, replaces = false) {
  const effectId = `${actor}:${seq}`;
  const effect = { effectId, actor, seq, index: 0, type: 'light', lane: 'main', replaces, params: { type: 'light' } };
  return db.withTransaction((tx) => addEffects(tx, [effect], time));
}
async function lease(token: string, suspects = 1) {
  const wish = { limit: suspects, firstPause: 1, longestPause: 64 };
  return leaseEffects(db, { limit: 100, suspects: wish, token, seconds: LEASE, types: ['light'], busy: [], now: time });
}
/** Lease what is due, as a process that then dies. @returns what it took, with the count of each. */
async function leaseAndDie(suspects = 1): Promise<Record<string, number>> {
  const taken = await lease(randomUUID(), suspects);
  pass(LEASE + 0.001);
  return Object.fromEntries(taken.map(({ effectId, takeovers }) => [effectId, takeovers]));
}
async function row(effectId: string) {
  const { rows } = await db.query<{ status: string; takeovers: number; lease_token: string | null }>(
    'select status, coalesce(takeovers, 0) as takeovers, lease_token from effects where effect_id = $1',
    [effectId],
  );
  return rows[0]!;
}

describe('takeovers', () => {
  it('are counted when a lease ran out without an end, and by nothing else', async () => {
    await add('lamp/a', 1);
    const [first, second] = [randomUUID(), randomUUID()];
    expect(await lease(first)).toMatchObject([{ takeovers: 0 }]);
    pass(LEASE - 1);
    await renewLeases(db, { effectIds: ['lamp/a:1'], token: first, seconds: LEASE, now: time });
    await retryEffect(db, { effectId: 'lamp/a:1', token: first, countAttempt: false, error: null, seconds: 0, now: time });
    pass(LEASE + 1);
    expect(await lease(first)).toMatchObject([{ takeovers: 0 }]);
    pass(LEASE + 1);
    expect(await lease(second)).toMatchObject([{ takeovers: 1, attempts: 0 }]);
    await db.withTransaction((tx) => endEffects(tx, { ended: [{ effectId: 'lamp/a:1' }], token: second, now: time }));
    pass(LEASE + 1);
    expect(await lease(first)).toEqual([]);
    expect(await row('lamp/a:1')).toEqual({ status: 'done', takeovers: 1, lease_token: null });
  });

  it('begin anew when the effect is given back: whoever gave it back was alive', async () => {
    await add('lamp/a', 1);
    for (const expected of [0, 1, 2]) expect(await leaseAndDie()).toEqual({ 'lamp/a:1': expected });
    const token = randomUUID();
    expect(await lease(token)).toMatchObject([{ takeovers: 3 }]);
    await retryEffect(db, { effectId: 'lamp/a:1', token, countAttempt: true, error: 'no', seconds: 1, now: time });
    pass(1);
    expect(await lease(token)).toMatchObject([{ takeovers: 0, attempts: 1 }]);
  });

  it('come at once three times, and then after pauses that double up to the longest', async () => {
    await add('lamp/a', 1);
    const waited: number[] = [];
    for (let takeover = 0; takeover <= 12; takeover++) {
      let seconds = 0;
      // A second at a time: the moment at which it may be leased lies between two looks.
      while (Object.keys(await leaseAndDieNow()).length === 0) {
        pass(1);
        seconds++;
      }
      waited.push(seconds);
      pass(LEASE + 0.001);
    }
    expect(waited).toEqual([0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 64, 64, 64]);

    async function leaseAndDieNow() {
      return Object.fromEntries((await lease(randomUUID())).map(({ effectId }) => [effectId, true]));
    }
  });
});

describe('suspects', () => {
  it('are leased one at a time, the least suspicious first, while all others are leased beside them', async () => {
    for (const name of ['a', 'b', 'c']) await add(`lamp/${name}`, 1);
    for (let death = 0; death < 4; death++) expect(Object.keys(await leaseAndDie())).toHaveLength(3);
    // All three are suspects now, after one pause.
    await add('lamp/new', 1);
    pass(1);
    expect(await leaseAndDie()).toEqual({ 'lamp/new:1': 0, 'lamp/a:1': 4 });
    expect(await leaseAndDie()).toEqual({ 'lamp/new:1': 1, 'lamp/b:1': 4 });
    expect(await leaseAndDie(0)).toEqual({ 'lamp/new:1': 2 });
    expect(await leaseAndDie()).toEqual({ 'lamp/new:1': 3, 'lamp/c:1': 4 });
    expect(await leaseAndDie(0)).toEqual({});
  });
});

describe('an effect that is replaced', () => {
  it('is not run again when its lease has run out, and what replaces it comes next', async () => {
    await add('lamp/a', 1);
    const [dead, heir] = [randomUUID(), randomUUID()];
    await lease(dead);
    await add('lamp/a', 2, true);
    expect(await row('lamp/a:1')).toMatchObject({ status: 'pending', lease_token: dead });
    pass(LEASE + 1);
    expect(await lease(heir)).toMatchObject([{ effectId: 'lamp/a:1', superseded: true }]);
    expect(await row('lamp/a:1')).toEqual({ status: 'superseded', takeovers: 1, lease_token: null });
    expect(await lease(heir)).toMatchObject([{ effectId: 'lamp/a:2', superseded: false }]);
    expect(await db.withTransaction((tx) => failEffect(tx, { effectId: 'lamp/a:1', token: dead, error: 'x', now: time }))).toBe(
      false,
    );
  });

  it('does not hold up what replaces it by the pause of a suspect', async () => {
    await add('lamp/a', 1);
    for (let death = 0; death < 9; death++) {
      await leaseAndDie();
      pass(64);
    }
    const last = randomUUID();
    expect(await lease(last)).toMatchObject([{ takeovers: 9 }]);
    await add('lamp/a', 2, true);
    pass(LEASE + 0.001);
    const heir = randomUUID();
    expect(await lease(heir)).toMatchObject([{ effectId: 'lamp/a:1', superseded: true }]);
    expect(await lease(heir)).toMatchObject([{ effectId: 'lamp/a:2', takeovers: 0, superseded: false }]);
  });

  it('while it was given back in the same moment runs no more: its next lease ends it', async () => {
    await add('lamp/a', 1);
    const token = randomUUID();
    await lease(token);
    // The turn that replaces it has not committed when it is given back: neither sees the other.
    await db.withTransaction(async (tx) => {
      const second = { effectId: 'lamp/a:2', actor: 'lamp/a', seq: 2, index: 0, type: 'light', lane: 'main', replaces: true };
      await addEffects(tx, [{ ...second, params: { type: 'light' } }], time);
      await retryEffect(db, { effectId: 'lamp/a:1', token, countAttempt: true, error: 'no', seconds: 1, now: time });
    });
    expect([await row('lamp/a:1'), await row('lamp/a:2')]).toMatchObject([{ status: 'pending' }, { status: 'pending' }]);
    pass(1);
    expect(await lease(token)).toMatchObject([{ effectId: 'lamp/a:1', superseded: true }]);
    expect(await lease(token)).toMatchObject([{ effectId: 'lamp/a:2', superseded: false }]);
  });
});

describe('a renewal', () => {
  /** Renew while somebody else holds the row. */
  async function renewBesideLock(token: string, change: 'looks' | 'takes') {
    let kept = new Set<string>();
    await db.withTransaction(async (tx) => {
      if (change === 'looks') await tx.query(`select 1 from effects where effect_id = 'lamp/a:1' for update`);
      else await tx.query(`update effects set lease_token = $1 where effect_id = 'lamp/a:1'`, [randomUUID()]);
      kept = await renewLeases(db, { effectIds: ['lamp/a:1', 'lamp/b:1'], token, seconds: LEASE, now: time });
    });
    return kept;
  }

  it('keeps what another has locked and not changed, without waiting for it', async () => {
    await Promise.all([add('lamp/a', 1), add('lamp/b', 1)]);
    const token = randomUUID();
    await lease(token);
    pass(3);
    expect(await renewBesideLock(token, 'looks')).toEqual(new Set(['lamp/a:1', 'lamp/b:1']));
    const { rows } = await db.query<{ effect_id: string; lease_until: Date }>(
      'select effect_id, lease_until from effects order by 1',
    );
    // What was locked has its lease as it was: it can be renewed next time.
    expect(rows.map(({ lease_until }) => (lease_until.getTime() - NOW.getTime()) / 1_000)).toEqual([LEASE, 3 + LEASE]);
  });

  it('loses what another has taken, as soon as that is committed', async () => {
    await Promise.all([add('lamp/a', 1), add('lamp/b', 1)]);
    const token = randomUUID();
    await lease(token);
    expect(await renewBesideLock(token, 'takes')).toEqual(new Set(['lamp/a:1', 'lamp/b:1']));
    const effectIds = ['lamp/a:1', 'lamp/b:1'];
    expect(await renewLeases(db, { effectIds, token, seconds: LEASE, now: time })).toEqual(new Set(['lamp/b:1']));
  });
});
