import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { readPlaces } from '../../actors/gpu-pool/line-view.ts';
import { type PlanNode, type PlanRequest, plan } from '../../actors/gpu-pool/planner.ts';
import { Kernel } from '../../actors/kernel/kernel.ts';
import { gpuDevKinds, type Ports } from '../../actors/kinds.ts';
import { Database } from '../../persistence/database.ts';
import { type Body, type Door, startDoor } from '../messages/support.ts';
import { createTestDatabase } from '../support/postgres.ts';
import { actorOf, addNodes, create, openPool, post, settle } from './support.ts';

let door: Door;
let now: Date;
beforeEach(async () => {
  now = new Date('2026-11-20T10:00:00Z');
  door = await startDoor({ kernel: { clock: { now: () => now } } });
});
afterEach(async () => {
  await door?.stop();
});

function node(name: string, free: number): PlanNode {
  return {
    node: name,
    zone: null,
    free: Array.from({ length: free }, (_, slot) => slot),
    cpuMillis: 1e9,
    memoryBytes: 1e15,
    labels: {},
  };
}

function wants(reservationId: string, slots: number): PlanRequest {
  return { reservationId, generation: 1, slots, cpuMillis: 1, memoryBytes: 1, nodeLabels: {}, gang: null, durationHours: 1 };
}

/** Give back what a reservation holds, as the proof that its pod is gone does. */
async function end(id: string): Promise<void> {
  await post(door, id, { type: 'cancel', by: null });
  await post(door, id, { type: 'pod.gone', generation: 1, proof: '404' });
  await post(door, id, { type: 'access.removed', generation: 1 });
  await settle(door);
}

async function held(): Promise<Body[]> {
  return (
    await door.db.query<Body>(
      'select node, slot, reservation_id as id from gpu_slots where reservation_id is not null order by 1, 2',
    )
  ).rows;
}

async function availability(type: string): Promise<Body> {
  const { rows } = await door.db.query<Body>(
    'select total, free, in_use, queued, whole_nodes_free, largest_fit from gpu_availability where gpu_type = $1',
    [type],
  );
  return rows[0];
}

describe('placement', () => {
  it('Q1: a request goes to the fullest node that fits, ties by name, whatever the order of the nodes; whole nodes stay whole', () => {
    const nodes = fc.uniqueArray(fc.record({ name: fc.stringMatching(/^n[0-9]{1,3}$/), free: fc.integer({ min: 0, max: 8 }) }), {
      selector: (each) => each.name,
      minLength: 1,
      maxLength: 12,
    });
    fc.assert(
      fc.property(nodes, fc.constantFrom(1, 2, 4, 8), fc.infiniteStream(fc.nat()), (given, slots, shuffle) => {
        const order = [...given].sort(() => (shuffle.next().value! % 2 === 0 ? 1 : -1));
        const fitting = given.filter((each) => each.free >= slots).sort((a, b) => a.free - b.free || (a.name < b.name ? -1 : 1));
        const { grants } = plan(
          order.map((each) => node(each.name, each.free)),
          [wants('r', slots)],
        );
        expect(grants.map((grant) => grant.node)).toEqual(fitting.slice(0, 1).map((each) => each.name));
      }),
    );
    const eight = plan(
      [node('a', 8), node('b', 8), node('c', 8)],
      Array.from({ length: 8 }, (_, index) => wants(`r${index}`, 1)),
    );
    expect(new Set(eight.grants.map((grant) => grant.node))).toEqual(new Set(['a']));
  });

  it('Q12: the position in the queue is counted among those of the same type', async () => {
    for (const type of ['h100', 't4']) await openPool(door, type);
    const ids: Record<string, string[]> = { h100: [], t4: [] };
    for (const type of ['h100', 't4', 'h100', 'h100', 't4']) {
      now = new Date(now.getTime() + 1_000);
      ids[type]!.push(await create(door, { gpu_type: type }));
    }
    for (const type of ['h100', 't4']) {
      const places = await readPlaces(door.db, type, ids[type]!);
      expect(ids[type]!.map((id) => places.get(id)?.position)).toEqual(ids[type]!.map((_, index) => index + 1));
      expect(await availability(type)).toMatchObject({ queued: ids[type]!.length });
    }
    await post(door, ids['h100']![0]!, { type: 'cancel', by: null });
    await settle(door);
    const position = async (type: string, id: string) => (await readPlaces(door.db, type, [id])).get(id)?.position;
    expect(await position('h100', ids['h100']![1]!)).toBe(1);
    expect(await position('t4', ids['t4']![1]!)).toBe(2);
  });

  it('Q13: under concurrent turns of several processes the ledger never promises more than there is', async () => {
    await door.stop();
    const database = await createTestDatabase();
    door = await startDoor({ database });
    await addNodes(door.db, 'h100', ['n1', 'n2']);
    const replicas = Array.from({ length: 3 }, () => {
      const db = new Database({ ...database.config, maxConnections: 4 });
      return { db, kernel: new Kernel({ db, kinds: gpuDevKinds({ db } as unknown as Ports), pollMs: 20, actorsPerBatch: 3 }) };
    });
    for (const { kernel } of replicas) await kernel.start();
    const wanted = Array.from({ length: 50 }, (_, index) => ({ reservationId: `r${index}`, slots: [1, 2, 4][index % 3]! }));
    await Promise.all([
      openPool(door, 'h100'),
      ...wanted.map(({ reservationId, slots }, index) =>
        replicas[index % 3]!.kernel.post([
          {
            actor: 'gpu-pool/h100',
            key: reservationId,
            event: {
              type: 'capacity.requested',
              reservationId,
              owner: 'u',
              generation: 1,
              slots,
              cpuMillis: 1,
              memoryBytes: 1,
              durationHours: 1,
              nodeLabels: {},
              gang: null,
              submittedAt: new Date(index).toISOString(),
            } as { type: string },
            sender: 'test',
          },
        ]),
      ),
    ]);
    await expect.poll(async () => (await availability('h100')).queued + (await grants()).length, { timeout: 10_000 }).toBe(50);
    const granted = await grants();
    expect(granted.reduce((sum, { slots }) => sum + slots, 0)).toBe((await held()).length);
    expect((await held()).length).toBeLessThanOrEqual(16);
    expect((await held()).length).toBeGreaterThan(12);
    for (const { id, slots } of granted) expect((await held()).filter((slot) => slot.id === id)).toHaveLength(slots);
    // What no planner and no bug can do, the database refuses as well.
    await expect(
      door.db.query(`update gpu_slots set reservation_id = 'thief' where reservation_id is not null`),
    ).rejects.toMatchObject({ code: 'GD002' });
    await expect(door.db.query('delete from gpu_slots where reservation_id is not null')).rejects.toMatchObject({
      code: 'GD003',
    });
    for (const { kernel, db } of replicas) {
      await kernel.stop(0);
      await db.close();
    }

    async function grants(): Promise<{ id: string; slots: number }[]> {
      const { rows } = await door.db.query<{ id: string; slots: number }>(
        `select reservation_id as id, slots from capacity_requests where status = 'granted'`,
      );
      return rows;
    }
  });

  it('S4: capacity that comes free is given on in the same turn, even if that turn ends with a message that changes nothing', async () => {
    await addNodes(door.db, 'h100', ['n1']);
    await openPool(door, 'h100');
    const first = await create(door, { gpu_count: 8 });
    const next = await create(door, { gpu_count: 8 });
    expect((await actorOf(door.db, next)).value).toEqual({ queued: 'capacity' });
    const pool = 'gpu-pool/h100';
    await door.kernel.post([
      {
        actor: pool,
        key: 'back',
        event: { type: 'capacity.returned', reservationId: first, generation: 1 } as { type: string },
        sender: 'test',
      },
      { actor: pool, key: 'opened', event: { type: 'pool.opened', gpuType: 'h100' } as { type: string }, sender: 'service' },
    ]);
    await door.kernel.pump(pool);
    expect((await held()).map((slot) => slot.id)).toEqual(Array.from({ length: 8 }, () => next));
  });
});

describe('a gang', () => {
  const gang = (id: string, index: number) => ({
    gpu_count: 8,
    is_multinode: true,
    master_reservation_id: id,
    node_index: index,
    total_nodes: 2,
  });

  it('S22: is placed whole or not at all: half of what it needs stays free for nobody to waste, and all of it comes at once', async () => {
    await addNodes(door.db, 'h100', ['n1', 'n2']);
    await openPool(door, 'h100');
    const small = await create(door, { gpu_count: 1 });
    const id = crypto.randomUUID() as string;
    const members = [await create(door, { ...gang(id, 0), reservation_id: id }), await create(door, gang(id, 1))];
    for (const member of members) expect((await actorOf(door.db, member)).value).toEqual({ queued: 'capacity' });
    expect((await held()).map((slot) => slot.id)).toEqual([small]);
    await end(small);
    for (const member of members) expect((await actorOf(door.db, member)).state).toBe('provisioning');
    const slots = await held();
    expect(slots).toHaveLength(16);
    const nodes = members.map((member) => new Set(slots.filter((slot) => slot.id === member).map((slot) => slot.node)));
    expect(nodes.map((set) => set.size)).toEqual([1, 1]);
    expect(await availability('h100')).toEqual({
      total: 16,
      free: 0,
      in_use: 16,
      queued: 0,
      whole_nodes_free: 0,
      largest_fit: 0,
    });
  });

  it('S22: whose sibling does not come fails after five minutes, and one whose sibling is cancelled ends with it', async () => {
    await addNodes(door.db, 'h100', ['n1', 'n2']);
    await openPool(door, 'h100');
    const lonely = await create(door, gang(crypto.randomUUID(), 0));
    now = new Date('2026-11-20T10:04:59Z');
    await door.kernel.runOnce();
    expect((await actorOf(door.db, lonely)).value).toEqual({ queued: 'gang' });
    now = new Date('2026-11-20T10:05:01Z');
    await door.kernel.runOnce();
    await settle(door);
    expect(await actorOf(door.db, lonely)).toMatchObject({
      state: 'failed',
      context: { outcome: { reason: 'A sibling of this gang did not arrive within five minutes' } },
    });
    await create(door, { gpu_count: 1 });
    const id = crypto.randomUUID();
    const [one, other] = [await create(door, gang(id, 0)), await create(door, gang(id, 1))];
    await post(door, one, { type: 'cancel', by: null });
    await settle(door);
    expect((await actorOf(door.db, other)).state).toBe('cancelled');
    expect(await availability('h100')).toMatchObject({ queued: 0, in_use: 1 });
  });

  it('S21: counts its members in one place that works from any process, and a stranger is no member', async () => {
    await addNodes(door.db, 'h100', ['n1', 'n2']);
    await openPool(door, 'h100');
    const id = crypto.randomUUID();
    const mine = await create(door, gang(id, 0));
    await door.send({ action: 'create_reservation', user_id: 'mallory', gpu_type: 'h100', disk_name: null, ...gang(id, 1) });
    await door.drain();
    await settle(door);
    expect(await door.letters()).toMatchObject([{ code: 'GPU_ID_TAKEN', field: 'master_reservation_id' }]);
    expect((await actorOf(door.db, mine)).value).toEqual({ queued: 'gang' });
    const sibling = await create(door, gang(id, 1));
    for (const member of [mine, sibling]) expect((await actorOf(door.db, member)).state).toBe('provisioning');
  });

  it('S21: has one node of each index, one size and one type: what does not fit is refused at the door, and named', async () => {
    await addNodes(door.db, 'h100', ['n1', 'n2']);
    await openPool(door, 'h100');
    const id = crypto.randomUUID();
    const mine = await create(door, gang(id, 0));
    for (const [fields, field, words] of [
      [gang(id, 0), 'node_index', /has a node 0 already/],
      [{ ...gang(id, 1), total_nodes: 3 }, 'total_nodes', /has 2 nodes, not 3/],
      [{ ...gang(id, 1), gpu_type: 'a100' }, 'gpu_type', /is of h100, not of a100/],
    ] as const) {
      await door.send({ action: 'create_reservation', user_id: 'ann', gpu_type: 'h100', disk_name: null, ...fields });
      await door.drain();
      await settle(door);
      expect((await door.letters()).at(-1)).toMatchObject({
        code: 'GPU_FIELD_INVALID',
        field,
        reason: expect.stringMatching(words),
      });
    }
    expect((await actorOf(door.db, mine)).value).toEqual({ queued: 'gang' });
    await create(door, gang(id, 1));
    expect((await actorOf(door.db, mine)).state).toBe('provisioning');
    // What passed the door at the same moment is refused by the pool, and says why itself.
    const late = await create(door, gang(crypto.randomUUID(), 0));
    await post(door, late, { type: 'gang.broken', reason: 'The gang has a node 0 already', outcome: 'failed', own: true });
    await settle(door);
    expect(await actorOf(door.db, late)).toMatchObject({
      state: 'failed',
      context: { outcome: { reason: 'The gang has a node 0 already' } },
    });
  });

  it('R14: waits without any row that is not a reservation, and locks live elsewhere', async () => {
    await openPool(door, 'h100');
    const id = crypto.randomUUID();
    const ids = [await create(door, { ...gang(id, 0), reservation_id: id })];
    const rows = async () =>
      (await door.db.query<Body>('select reservation_id as id, status::text from reservations order by created_at, 1')).rows;
    expect(await rows()).toEqual([{ id, status: 'queued' }]);
    now = new Date(now.getTime() + 1_000);
    ids.push(await create(door, gang(id, 1)));
    expect((await rows()).map((row) => row.id)).toEqual(ids);
    expect(await availability('h100')).toMatchObject({ queued: 2 });
    const { rows: statuses } = await door.db.query<Body>('select unnest(enum_range(null::reservation_status))::text as s');
    expect(statuses.map((row) => row.s)).toEqual([
      'queued',
      'building',
      'provisioning',
      'running',
      'extending',
      'snapshotting',
      'expired',
      'failed',
      'cancelled',
    ]);
    const { rows: leases } = await door.db.query<Body>('select name from leases');
    expect(leases).toEqual([]);
  });
});
