import { randomUUID } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { lockSlots, releaseSlots } from '../../../actors/gpu-pool/ledger.ts';
import { poolKind } from '../../../actors/gpu-pool/kind.ts';
import { Kernel } from '../../../actors/kernel/kernel.ts';
import { Database } from '../../../persistence/database.ts';
import { removeNodes, writeNodes } from '../../../persistence/gpu-nodes.ts';
import { createTestDatabase, type TestDatabase } from '../../support/postgres.ts';

const POOL = 'gpu-pool/h100';
const GANG = randomUUID();
const SUBMITTED = Date.parse('2026-11-21T08:00:00Z');

let test: TestDatabase;
let db: Database;
let kernel: Kernel;
beforeEach(async () => {
  test = await createTestDatabase();
  db = new Database({ ...test.config, maxConnections: 6 });
  kernel = new Kernel({ db, kinds: [poolKind()] });
  await tell('birth', { type: 'pool.opened', gpuType: 'h100' });
});
afterEach(async () => {
  await db.close();
  await test.drop();
});

async function tell(key: string, event: { type: string; [field: string]: unknown }): Promise<void> {
  await kernel.post([{ actor: POOL, key, event, sender: 'test' }]);
  await kernel.pump(POOL);
}

interface Wish {
  id: string;
  gang?: { id: string; size: number };
  owner?: string;
}

/** Stand in line, in this order, for a whole node each. */
async function standInLine(wishes: readonly Wish[]): Promise<void> {
  await kernel.post(
    wishes.map(({ id, gang, owner = 'ann' }, place) => ({
      actor: POOL,
      key: `ask ${id}`,
      event: {
        type: 'capacity.requested',
        reservationId: id,
        owner,
        generation: 1,
        slots: 8,
        cpuMillis: 1_000,
        memoryBytes: 1_000,
        durationHours: 1,
        nodeLabels: {},
        gang: gang === undefined ? null : { ...gang, index: 0 },
        submittedAt: new Date(SUBMITTED + place * 1_000).toISOString(),
      } as { type: string },
      sender: 'test',
    })),
  );
  await kernel.pump(POOL);
  expect((await db.query(`select 1 from capacity_requests where status = 'waiting'`)).rowCount).toBe(wishes.length);
}

async function addNodes(...nodes: string[]): Promise<void> {
  await db.withTransaction(async (tx) => {
    await lockSlots(tx);
    await writeNodes(
      tx,
      nodes.map((node) => ({
        node,
        uid: `uid-${node}`,
        gpuType: 'h100',
        ready: true,
        schedulable: true,
        reason: null,
        slots: 8,
        foreignSlots: 0,
        cpuMillis: 100_000,
        memoryBytes: 1_000_000,
        foreignCpu: 0,
        foreignMemory: 0,
        address: null,
        zone: null,
        labels: {},
      })),
    );
  });
  await tell(`nodes ${nodes.join()}`, { type: 'nodes.changed', nodes });
}

async function granted(): Promise<string[]> {
  const { rows } = await db.query<{ id: string }>(
    `select distinct reservation_id as id from gpu_slots where reservation_id is not null order by 1`,
  );
  return rows.map(({ id }) => id);
}

const singles = (count: number): Wish[] => Array.from({ length: count }, (_, index) => ({ id: `single${index}` }));
/** A member has been submitted. @returns what the pool decided of it */
async function join(id: string, fields: Record<string, unknown> = {}): Promise<{ complete: string[]; broken: unknown[] }> {
  const event = { type: 'gang.joined', reservationId: id, owner: 'ann', gangId: GANG, index: 0, size: 2, ...fields };
  await tell(`join ${id}`, event);
  const { rows } = await db.query<{ complete: string[]; broken: unknown[] }>(
    `select event #> '{decision,gangComplete}' as complete, event #> '{decision,gangBroken}' as broken from history where key = $1`,
    [`join ${id}`],
  );
  return rows[0]!;
}

const refused = (id: string, reason: string) => ({
  complete: [],
  broken: [{ reservationId: id, reason, outcome: 'failed', own: true }],
});

const gangOf = (size: number): Wish[] =>
  Array.from({ length: size }, (_, index) => ({ id: `member${index}`, gang: { id: GANG, size } }));

describe('a gang at the head of the line', () => {
  for (const between of [0, 14, 15, 40, 130]) {
    it(`whose last member stands behind ${between} others is granted first`, async () => {
      const [first, last] = gangOf(2);
      await standInLine([first!, ...singles(between), last!]);
      await addNodes('n1', 'n2');
      expect(await granted()).toEqual(['member0', 'member1']);
      await addNodes('n3');
      expect(await granted()).toEqual(['member0', 'member1', ...singles(Math.min(1, between)).map(({ id }) => id)]);
    });
  }

  it('that is too big for what is free holds back those between its members', async () => {
    const [first, ...others] = gangOf(3);
    await standInLine([first!, ...singles(20), ...others]);
    await addNodes('n1', 'n2');
    expect(await granted()).toEqual([]);
    await addNodes('n3');
    expect(await granted()).toEqual(['member0', 'member1', 'member2']);
  });

  it('of which a member is missing holds nobody back, however long the line is', async () => {
    const [first, second] = gangOf(3);
    await standInLine([first!, ...singles(20), second!]);
    await addNodes('n1', 'n2');
    expect(await granted()).toEqual(['single0', 'single1']);
  });
});

describe('slots that a reservation gives back while the tracker changes their node', () => {
  it('are given back after it: neither waits for the other in a circle', async () => {
    await standInLine(singles(1));
    await addNodes('n1');
    expect(await granted()).toEqual(['single0']);
    let released: Promise<void> | null = null;
    await db.withTransaction(async (tx) => {
      await lockSlots(tx);
      released = db.withTransaction((pool) => releaseSlots(pool, 'single0', 1));
      released.catch(() => {});
      await expect
        .poll(
          async () =>
            (
              await db.query(`select 1 from pg_locks where locktype = 'advisory' and not granted and database =
                             (select oid from pg_database where datname = current_database())`)
            ).rowCount,
        )
        .toBe(1);
      // The count of what is free on a node is a row, which both must write.
      await removeNodes(tx, ['n1']);
      await tx.query(`insert into gpu_slots (gpu_type, node, slot) values ('h100', 'n1', 8)`);
    });
    await released;
    expect(await granted()).toEqual([]);
    expect((await db.query('select 1 from capacity_requests')).rowCount).toBe(0);
  });
});

describe('a gang that comes together', () => {
  it('is of one owner: a stranger who knows its id completes nothing, and has a gang of their own', async () => {
    expect(await join('mine', { index: 0 })).toEqual({ complete: [], broken: [] });
    expect(await join('strange', { index: 1, owner: 'mallory' })).toEqual({ complete: [], broken: [] });
    expect(await join('mine-too', { index: 1 })).toEqual({ complete: ['mine', 'mine-too'], broken: [] });
    expect(await join('strange-too', { index: 0, owner: 'mallory' })).toEqual({
      complete: ['strange', 'strange-too'],
      broken: [],
    });
    await tell('leave', { type: 'gang.left', reservationId: 'strange', reason: 'x', outcome: 'failed' });
    const { rows } = await db.query(`select event #> '{decision,gangBroken}' as broken from history where key = 'leave'`);
    expect(rows).toEqual([{ broken: [{ reservationId: 'strange-too', reason: 'x', outcome: 'failed' }] }]);
  });

  it('has each place once, one size and one type: what passed the door and does not fit fails, and says why', async () => {
    await join('one', { index: 0, size: 3 });
    expect(await join('one', { index: 0, size: 3 })).toEqual({ complete: [], broken: [] });
    expect(await join('same', { index: 0, size: 3 })).toEqual(refused('same', 'The gang has a node 0 already'));
    expect(await join('other', { index: 1 })).toEqual(
      refused('other', 'The gang has 3 nodes, and this one was sent as one of 2'),
    );
    await db.query(`update gang_members set gpu_type = 'a100'`);
    expect(await join('typed', { index: 1, size: 3 })).toEqual(
      refused('typed', 'The gang is of a100, and this one was sent with h100'),
    );
    expect((await db.query('select reservation_id from gang_members')).rows).toEqual([{ reservation_id: 'one' }]);
  });

  it('is placed by itself in a line in which a stranger uses the same id', async () => {
    await standInLine([
      { id: 'a0', gang: { id: GANG, size: 2 } },
      { id: 'b0', gang: { id: GANG, size: 2 }, owner: 'mallory' },
      { id: 'b1', gang: { id: GANG, size: 2 }, owner: 'mallory' },
      { id: 'a1', gang: { id: GANG, size: 2 } },
    ]);
    await addNodes('n1', 'n2');
    expect(await granted()).toEqual(['a0', 'a1']);
    await addNodes('n3', 'n4');
    expect(await granted()).toEqual(['a0', 'a1', 'b0', 'b1']);
  });
});
