import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Kernel } from '../../actors/kernel/kernel.ts';
import type { ActorKind, EffectHandler } from '../../actors/kernel/kind.ts';
import { findActor } from '../../persistence/actor-store.ts';
import { Database } from '../../persistence/database.ts';
import type { Body } from '../messages/support.ts';
import { lampKind } from '../support/lamp.ts';
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts';

let test: TestDatabase;
let db: Database;
let kernel: Kernel;
beforeEach(async () => {
  test = await createTestDatabase();
  db = new Database({ ...test.config, maxConnections: 6 });
});
afterEach(async () => {
  await kernel.stop(0);
  await db.close();
  await test.drop();
});

const LAMPS = Array.from({ length: 20 }, (_, n) => `lamp/${n}`);
const SICK = 'lamp/7';

/** Twenty lamps of one batch. The handler fails as it likes for one of them. */
async function start(
  poison: EffectHandler = async () => null,
  changes: Partial<ActorKind> = {},
  born = LAMPS.length,
): Promise<void> {
  const retry = { light: { attempts: 2, firstMs: 10, longestMs: 10 } };
  const kind = lampKind(
    (effect, context) =>
      context.actor === SICK ? poison(effect, context) : Promise.resolve({ type: 'lit', watts: 60 } as { type: string }),
    { retry },
  );
  kernel = new Kernel({ db, kinds: [{ ...kind, ...changes }], pollMs: 20, leaseSeconds: 1 });
  await kernel.post(
    LAMPS.map((actor) => ({
      actor,
      key: 'birth',
      event: { type: 'lamp.made', name: actor } as { type: string },
      sender: 'test',
    })),
  );
  await kernel.start();
  await expect.poll(async () => (await db.query(`select 1 from actors where state = 'off'`)).rowCount).toBe(born);
}
const send = async (actor: string, type: string, key: string = type) => {
  await kernel.post([{ actor, key, event: { type }, sender: 'test' }]);
};
/** Lamps that are on and had the answer of their handler. */
const lit = async () =>
  (await db.query<Body>(`select actor from actors where state = 'on' and (snapshot #>> '{context,watts}')::int = 60`)).rows.map(
    (row: Body) => row.actor as string,
  );
const others = LAMPS.filter((actor) => actor !== SICK).sort();
const letters = async () => (await db.query<Body>('select source, actor, code from dead_letters')).rows;

describe('poison stops nobody else', () => {
  it('S24: a row that cannot be revived is set aside with its mail, and all others of its batch go on', async () => {
    await start();
    await db.query(`update actors set snapshot = jsonb_set(snapshot, '{value}', '"nowhere"') where actor = $1`, [SICK]);
    for (const actor of LAMPS) await send(actor, 'press');
    kernel.wake();
    await expect.poll(async () => (await lit()).sort()).toEqual(others);
    const row = (await db.query<Body>('select quarantined_at, quarantine_reason from actors where actor = $1', [SICK])).rows[0];
    expect(row.quarantine_reason).toMatch(/nowhere/);
    expect((await db.query<Body>('select actor, held from mailbox')).rows).toEqual([{ actor: SICK, held: true }]);
    expect(await letters()).toEqual([]);
  });

  it.for([
    ['that makes its machine throw', 'explode', 'GPU_MACHINE_FAILED'],
    ['that no shape allows', 'nonsense', 'GPU_EVENT_INVALID'],
  ] as const)('S24: a message %s becomes a dead letter alone, and its own actor goes on too', async ([, type, code]) => {
    await start();
    await send(SICK, type);
    for (const actor of LAMPS) await send(actor, 'press');
    kernel.wake();
    await expect.poll(async () => (await lit()).sort()).toEqual(others);
    await expect.poll(async () => (await findActor(db, SICK))?.state).toBe('on');
    expect(await letters()).toEqual([{ source: 'mailbox', actor: SICK, code }]);
  });

  it('S24: a message whose read model cannot be written becomes a dead letter alone', async () => {
    const project: ActorKind['project'] = async (tx, changes) => {
      for (const { id } of changes) await tx.query('select 1 / ($1::int)', [id === '7' ? 0 : 1]);
    };
    await start(undefined, { project }, others.length);
    await expect
      .poll(() => letters(), { timeout: 5_000 })
      .toEqual([{ source: 'mailbox', actor: SICK, code: 'GPU_MESSAGE_FAILED' }]);
    for (const actor of others) await send(actor, 'press');
    kernel.wake();
    await expect.poll(async () => (await lit()).sort()).toEqual(others);
  });

  it.for<[string, EffectHandler]>([
    ['that always fails', async () => Promise.reject(new Error('no'))],
    ['that throws what is no error', async () => Promise.reject(null)],
    [
      'that throws before it has begun',
      () => {
        throw new Error('at once');
      },
    ],
    ['whose answer no event has', async () => ({ type: 'unheard of' })],
    ['whose answer is no JSON', async () => ({ type: 'lit', watts: 10n }) as unknown as { type: string }],
    ['whose answer is missing', async () => undefined as unknown as { type: string }],
    ['that never ends', (_effect, { signal }) => new Promise((_, reject) => signal.addEventListener('abort', reject))],
  ])('S24: a handler %s keeps nobody else from light', async ([what, poison]) => {
    await start(poison);
    for (const actor of LAMPS) await send(actor, 'press');
    kernel.wake();
    await expect.poll(async () => (await lit()).sort(), { timeout: 5_000 }).toEqual(others);
    // Its actor hears of it, or its lane alone waits.
    if (!what.includes('never')) await expect.poll(async () => (await letters()).length, { timeout: 5_000 }).toBe(1);
    // And its actor is not stuck: it can be switched off.
    await send(SICK, 'press', 'again');
    kernel.wake();
    await expect.poll(async () => (await findActor(db, SICK))?.state).toBe('off');
  });
});
