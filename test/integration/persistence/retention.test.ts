import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { verifyActor } from '../../../actors/kernel/fold.ts';
import { Kernel } from '../../../actors/kernel/kernel.ts';
import { findActor } from '../../../persistence/actor-store.ts';
import { Database } from '../../../persistence/database.ts';
import { openDeadLetters } from '../../../persistence/dead-letters.ts';
import { readHistory } from '../../../persistence/history.ts';
import { pruneArchive, pruneDeadLetters, pruneEffects, pruneHistory, pruneReservations } from '../../../persistence/retention.ts';
import { lampKind } from '../../support/lamp.ts';
import { createTestDatabase, type TestDatabase } from '../../support/postgres.ts';

const DAY = 86_400_000;

let test: TestDatabase;
let db: Database;
let kernel: Kernel;
let daysAgo: number;
beforeAll(async () => {
  test = await createTestDatabase();
  db = new Database({ ...test.config, maxConnections: 6 });
  const kind = lampKind(async () => ({ type: 'lit', watts: 60 }) as { type: string });
  kernel = new Kernel({ db, kinds: [kind], clock: { now: () => new Date(Date.now() - daysAgo * DAY) } });
});
afterAll(async () => {
  await db.close();
  await test.drop();
});

async function press(id: string, key: string, days: number): Promise<void> {
  daysAgo = days;
  await kernel.post([{ actor: `lamp/${id}`, key, event: { type: 'press' }, sender: 'test' }]);
  await kernel.pump(`lamp/${id}`);
}
async function make(id: string, days: number): Promise<void> {
  daysAgo = days;
  const event = { type: 'lamp.made', name: id } as { type: string };
  await kernel.post([{ actor: `lamp/${id}`, key: 'birth', event, sender: 'test' }]);
  await kernel.pump(`lamp/${id}`);
}
const keys = async (id: string) => (await readHistory(db, `lamp/${id}`)).map((entry) => entry.key);

describe('pruning the history of an actor that lives on', () => {
  it('removes what is old behind a checkpoint, and its history folds before, after, and with what comes next', async () => {
    await make('a', 100);
    for (let n = 1; n <= 5; n++) await press('a', `old-${n}`, 100 - n);
    await press('a', 'new', 3);
    expect(await verifyActor(db, kernel.kinds, 'lamp/a')).toMatchObject({ ok: true, events: 7 });
    const before = await findActor(db, 'lamp/a');

    expect(await pruneHistory(db, ['lamp'], 30, 100)).toBe(1);
    expect(await keys('a')).toEqual(['new']);
    expect(await findActor(db, 'lamp/a')).toEqual(before);
    expect((await db.query('select actor, seq, reason from checkpoints')).rows).toEqual([
      { actor: 'lamp/a', seq: 7, reason: 'prune' },
    ]);
    expect(await verifyActor(db, kernel.kinds, 'lamp/a')).toMatchObject({ ok: true, events: 0 });

    await press('a', 'after', 0);
    expect(await verifyActor(db, kernel.kinds, 'lamp/a')).toMatchObject({ ok: true, events: 1 });
    expect((await findActor(db, 'lamp/a'))?.snapshot?.context).toMatchObject({ presses: 7 });
    await db.query(`update actors set snapshot = jsonb_set(snapshot, '{context,presses}', '99') where actor = 'lamp/a'`);
    expect(await verifyActor(db, kernel.kinds, 'lamp/a')).toMatchObject({ ok: false });
    await db.query(`update actors set snapshot = jsonb_set(snapshot, '{context,presses}', '7') where actor = 'lamp/a'`);
  });

  it('does so again when a further day is old, with one checkpoint at a time', async () => {
    expect(await pruneHistory(db, ['lamp'], 1, 100)).toBe(1);
    expect(await keys('a')).toEqual(['after']);
    expect((await db.query('select seq from checkpoints')).rows).toEqual([{ seq: 8 }]);
    expect(await verifyActor(db, kernel.kinds, 'lamp/a')).toMatchObject({ ok: true });
    expect(await pruneHistory(db, ['lamp'], 1, 100)).toBe(0);
  });

  it('keeps keys for a day at least, whatever is asked for: a message that comes again is still known', async () => {
    await make('b', 5);
    await press('b', 'recent', 0.5);
    await pruneHistory(db, ['lamp'], 0, 100);
    expect(await keys('b')).toEqual(['recent']);
    await press('b', 'recent', 0);
    expect((await findActor(db, 'lamp/b'))?.snapshot?.context).toMatchObject({ presses: 1 });
  });

  it('leaves other kinds, quarantined actors and an actor in its turn alone', async () => {
    await make('c', 100);
    await make('d', 100);
    await db.query(`update actors set quarantined_at = now(), quarantine_reason = 'test' where actor = 'lamp/c'`);
    expect(await pruneHistory(db, ['gpu-pool'], 30, 100)).toBe(0);
    await db.withTransaction(async (tx) => {
      await tx.query(`select 1 from actors where actor = 'lamp/d' for update`);
      expect(await pruneHistory(db, ['lamp'], 30, 100)).toBe(0);
    });
    expect(await keys('c')).toEqual(['birth']);
    expect(await pruneHistory(db, ['lamp'], 30, 100)).toBe(1);
    expect(await keys('d')).toEqual([]);
    expect(await verifyActor(db, kernel.kinds, 'lamp/d')).toMatchObject({ ok: true });
  });

  it('may go on beside turns: nothing is lost and every history folds', async () => {
    for (let n = 0; n < 6; n++) await make(`busy-${n}`, 50);
    daysAgo = 0;
    let left = 6;
    await Promise.all([
      (async () => {
        for (; left > 0; left--) {
          for (let n = 0; n < 6; n++) await press(`busy-${n}`, `press-${left}`, 0);
        }
      })(),
      (async () => {
        while (left > 0) await pruneHistory(db, ['lamp'], 30, 3);
      })(),
    ]);
    for (let n = 0; n < 6; n++) {
      expect(await verifyActor(db, kernel.kinds, `lamp/busy-${n}`)).toMatchObject({ ok: true });
      expect((await findActor(db, `lamp/busy-${n}`))?.snapshot?.context).toMatchObject({ presses: 6 });
    }
  });
});

describe('pruning reservations', () => {
  /** A reservation as the read model has it, with what belongs to it elsewhere. */
  async function reservation(ended: number | null): Promise<string> {
    const id = randomUUID();
    const actor = `reservation/${id}`;
    const done = ended !== null;
    const at = new Date(Date.now() - (ended ?? 400) * DAY);
    await db.query(
      `insert into reservations (reservation_id, user_id, status, name, gpu_type, gpu_count, duration_hours, total_hours, created_at, state_entered_at, reservation_ended, failure_reason)
       values ($1, 'me', $2::text::reservation_status, $3, 'h100', 1, 1, 1, $4, $4, $5, $6)`,
      [id, done ? 'failed' : 'queued', `n-${id.slice(0, 8)}`, at, done ? at : null, done ? 'test' : null],
    );
    const snapshot = { status: done ? 'done' : 'active', value: 'x', context: {}, historyValue: {}, output: null, error: null };
    await db.query(
      `insert into actors (actor, kind, machine_version, seq, status, state, snapshot) values ($1, 'reservation', 1, 1, $2, 'x', $3)`,
      [actor, done ? 'done' : 'active', JSON.stringify(snapshot)],
    );
    await db.query(
      `insert into history (actor, seq, key, event, outcome, machine_version, sender, at) values ($1, 1, 'k', '{}', 'applied', 1, 'test', $2)`,
      [actor, at],
    );
    await db.query(
      `insert into effects (effect_id, actor, seq, index, type, lane, replaces, params, status, next_at, created_at, ended_at)
       values ($1 || ':1:0', $1, 1, 0, 't', 'main', false, '{}', $2, $3, $3, case when $2 = 'done' then $3::timestamptz end)`,
      [actor, done ? 'done' : 'pending', at],
    );
    await db.query(`insert into secrets (secret_ref, owner, value) values ($1, 'me', '{}')`, [id]);
    return id;
  }
  async function traces(id: string): Promise<number> {
    const { rows } = await db.query<{ n: number }>(
      `select (select count(*) from reservations where reservation_id = $1)::int + (select count(*) from actors where actor = $2)::int
            + (select count(*) from history where actor = $2)::int + (select count(*) from effects where actor = $2)::int
            + (select count(*) from secrets where secret_ref = $1)::int as n`,
      [id, `reservation/${id}`],
    );
    return rows[0]!.n;
  }

  it('takes those that ended long ago with all that belongs to them, and leaves the live and the recent whole', async () => {
    const [old, recent, live] = [await reservation(91), await reservation(89), await reservation(null)];
    expect(await pruneReservations(db, 90, 100)).toBe(1);
    expect(await Promise.all([old, recent, live].map(traces))).toEqual([0, 5, 5]);
  });

  it('takes the oldest first, in portions, each once however many look', async () => {
    const ids = [];
    for (const days of [300, 200, 100]) ids.push(await reservation(days));
    expect(await pruneReservations(db, 90, 1)).toBe(1);
    expect(await Promise.all(ids.map(traces))).toEqual([0, 5, 5]);
    const counts = await Promise.all([1, 2, 3].map(() => pruneReservations(db, 90, 100)));
    expect(counts.reduce((sum, count) => sum + count, 0)).toBe(2);
  });
});

describe('pruning what has ended', () => {
  it('takes effects that ended long ago, never one that is pending', async () => {
    await db.query('delete from effects');
    const insert = `insert into effects (effect_id, actor, seq, index, type, lane, replaces, params, status, next_at, created_at, ended_at)
       values ($1, 'lamp/x', 1, $2, 't', 'main', false, '{}', $3, $4, $4, case when $3 <> 'pending' then $4::timestamptz end)`;
    const old = new Date(Date.now() - 8 * DAY);
    for (const [index, status] of ['done', 'failed', 'superseded', 'pending'].entries())
      await db.query(insert, [`e${index}`, index, status, old]);
    await db.query(insert, ['e9', 9, 'done', new Date()]);
    expect(await pruneEffects(db, 7, 2)).toBe(2);
    expect(await pruneEffects(db, 7, 100)).toBe(1);
    expect((await db.query('select effect_id from effects order by 1')).rows.map((row) => row['effect_id'])).toEqual([
      'e3',
      'e9',
    ]);
  });

  it('takes the archive of a queue and its counted failures, never a message that waits', async () => {
    const queue = 'gpu_reservations';
    for (const n of [1, 2, 3]) await db.query('select pgmq.send($1, $2::jsonb)', [queue, JSON.stringify({ n })]);
    await db.query('select pgmq.archive($1, $2::bigint)', [queue, 1]);
    await db.query('select pgmq.archive($1, $2::bigint)', [queue, 2]);
    await db.query(`update pgmq.a_gpu_reservations set archived_at = now() - interval '91 days' where msg_id = 1`);
    await db.query(
      `insert into queue_failures (queue, msg_id, tries, reason, last_at) values ($1, 1, 5, 'x', now() - interval '91 days')`,
      [queue],
    );
    expect(await pruneArchive(db, queue, 90, 100)).toBe(1);
    expect((await db.query('select msg_id from pgmq.a_gpu_reservations')).rows).toEqual([{ msg_id: 2 }]);
    expect((await db.query('select msg_id from pgmq.q_gpu_reservations')).rows).toEqual([{ msg_id: 3 }]);
    expect((await db.query('select 1 from queue_failures')).rowCount).toBe(0);
  });

  it('takes dead letters that are old, and looking at them changes nothing', async () => {
    await db.query(`insert into dead_letters (source, actor, key, code, reason, created_at)
      select 'mailbox', 'lamp/x', n::text, 'GPU_EVENT_INVALID', 'test', now() - make_interval(days => n) from generate_series(1, 100) n`);
    expect(await pruneDeadLetters(db, 90, 100)).toBe(11);
    const look = () => db.withTransaction((tx) => openDeadLetters(tx, 5), { readonly: true });
    const letters = await look();
    expect(letters).toHaveLength(5);
    expect(letters.map((letter) => Number(letter.id))).toEqual(
      [...letters.map((letter) => Number(letter.id))].sort((a, b) => b - a),
    );
    expect(await look()).toEqual(letters);
  });
});
