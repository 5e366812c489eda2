/** A pool that remembers how far its last plan has looked plans less often, and must give what one would give that plans at every turn. */
import { afterEach, describe, expect, it } from 'vitest';
import { poolKind } from '../../../actors/gpu-pool/kind.ts';
import type { ActorKind } from '../../../actors/kernel/kind.ts';
import { Kernel } from '../../../actors/kernel/kernel.ts';
import { Database } from '../../../persistence/database.ts';
import { createTestDatabase, type TestDatabase } from '../../support/postgres.ts';
import { addNodes } from '../../old-failures/support.ts';
import { Random } from '../../simulation/world/random.ts';

const POOL = 'gpu-pool/h100';
const START = Date.parse('2026-11-21T08:00:00Z');
const NODES = ['a', 'b', 'c'];
const OWNERS = ['ann', 'bob'];

interface Told {
  type: string;
  [field: string]: unknown;
}

/** One pool over a database of its own. */
class Pool {
  readonly db: Database;
  readonly kernel: Kernel;
  readonly #database: TestDatabase;
  #sent = 0;
  /** The time that the kernel is told. */
  now = START + 86_400_000;

  constructor(database: TestDatabase, kind: ActorKind) {
    this.#database = database;
    this.db = new Database({ ...database.config, maxConnections: 3 });
    this.kernel = new Kernel({ db: this.db, kinds: [kind], clock: { now: () => new Date(this.now) } });
  }

  static async open(kind: ActorKind): Promise<Pool> {
    const pool = new Pool(await createTestDatabase(), kind);
    await addNodes(pool.db, 'h100', NODES, 4);
    await pool.tell([{ type: 'pool.opened', gpuType: 'h100' }]);
    return pool;
  }

  /** In one transaction, as far as the kernel takes them together. */
  async tell(events: readonly Told[]): Promise<void> {
    await this.kernel.post(events.map((event) => ({ actor: POOL, key: `${this.#sent++}`, event, sender: 'test' })));
    await this.kernel.pump(POOL);
    expect((await this.db.query('select body, reason from dead_letters')).rows).toEqual([]);
  }

  /** What the pool has decided, and what it tells people. */
  async rows(): Promise<object> {
    const [requests, slots, availability] = await Promise.all([
      this.db.query('select reservation_id, status, node, waits_because from capacity_requests order by reservation_id'),
      this.db.query('select node, slot, reservation_id from gpu_slots order by node, slot'),
      this.db.query('select total, free, in_use, queued, whole_nodes_free, largest_fit from gpu_availability'),
    ]);
    return { requests: requests.rows, slots: slots.rows, availability: availability.rows };
  }

  async holders(): Promise<string[]> {
    const { rows } = await this.db.query<{ id: string }>(
      `select reservation_id as id from capacity_requests where status = 'granted' order by 1`,
    );
    return rows.map(({ id }) => id);
  }

  async plannedTo(): Promise<string | null> {
    const { rows } = await this.db.query<{ to: string | null }>(
      `select snapshot->'context'->'planned'->>'to' as to from actors where actor = $1`,
      [POOL],
    );
    return rows[0]!.to;
  }

  async close(): Promise<void> {
    await this.db.close();
    await this.#database.drop();
  }
}

/** The same kind, without its memory. */
function forgetful(): ActorKind {
  const kind = poolKind();
  return {
    ...kind,
    prepare: async (tx, event, turn) => {
      const { snapshot } = turn;
      const forgotten = snapshot === null ? null : { ...snapshot, context: { ...(snapshot.context as object), planned: null } };
      return kind.prepare!(tx, event, { ...turn, snapshot: forgotten });
    },
  };
}

const gangId = (n: number) => `00000000-0000-4000-8000-00000000000${n}`;

const asked = (id: string, second: number, fields: Record<string, unknown> = {}): Told => ({
  type: 'capacity.requested',
  reservationId: id,
  owner: 'ann',
  generation: 1,
  slots: 1,
  cpuMillis: 1_000,
  memoryBytes: 1_000,
  durationHours: 1,
  nodeLabels: {},
  gang: null,
  submittedAt: new Date(START + second * 1_000).toISOString(),
  ...fields,
});

/** Something that may happen to a pool in whose line many wait. Some join behind all others, some were submitted long ago. */
function happening(random: Random, step: number, known: string[], holders: readonly string[]): Told {
  const one = () => known[random.int(known.length)] ?? 'nobody';
  const kind = random.int(20);
  if (kind < 12) {
    const id = `r${step}-${random.int(1_000_000)}`;
    known.push(id);
    const second = random.int(4) === 0 ? -1 - random.int(5) : step;
    const gang = random.int(4) === 0 ? { id: gangId(random.int(6)), size: 2, index: 0 } : null;
    return asked(id, second, { gang, owner: OWNERS[random.int(2)], slots: gang === null ? 1 + random.int(4) : 1 });
  }
  if (kind < 15)
    return { type: 'capacity.returned', reservationId: holders[random.int(holders.length)] ?? 'nobody', generation: 1 };
  if (kind < 17) return { type: 'capacity.withdrawn', reservationId: one(), reason: 'cancelled' };
  if (kind < 18) return { type: 'nodes.changed', nodes: NODES };
  if (kind < 19) return { type: 'pool.paused', reason: 'new drivers', by: 'ops', allowed: OWNERS.slice(random.int(3)) };
  return { type: 'pool.resumed', by: 'ops' };
}

describe('a pool that remembers how far it has looked', () => {
  const pools: Pool[] = [];
  const open = async (kind: ActorKind) => {
    const pool = await Pool.open(kind);
    pools.push(pool);
    return pool;
  };
  afterEach(async () => {
    await Promise.all(pools.splice(0).map((pool) => pool.close()));
  });

  it('gives what one gives that plans at every turn, and tells the same, whatever happens', async () => {
    const [pool, other] = await Promise.all([open(poolKind()), open(forgetful())]);
    const random = new Random(17);
    const known: string[] = [];
    // So many want so much that a part of the line is never read.
    const crowd = Array.from({ length: 60 }, (_, n) => asked(`c${n}`, 0, { slots: 1 + (n % 3), owner: OWNERS[n % 2] }));
    for (const each of crowd) known.push(String(each['reservationId']));
    await Promise.all([pool.tell(crowd), other.tell(crowd)]);
    let remembered = 0;
    for (let step = 1; step <= 200; step++) {
      const holders = await pool.holders();
      const events = Array.from({ length: random.between(1, 4) }, () => happening(random, step, known, holders));
      if ((await pool.plannedTo()) !== null) remembered++;
      await Promise.all([pool.tell(events), other.tell(events)]);
      const [ours, theirs] = await Promise.all([pool.rows(), other.rows()]);
      expect(ours, `step ${step}: ${JSON.stringify(events)}`).toEqual(theirs);
    }
    expect(remembered).toBeGreaterThan(30);
  });

  it('does not look at nodes or line for who joins behind that place, and does for whoever else comes', async () => {
    const pool = await open(poolKind());
    const crowd = Array.from({ length: 40 }, (_, n) => asked(`d${n}`, 1_000 + n, { slots: 4 }));
    await pool.tell(crowd);
    const place = await pool.plannedTo();
    expect(place).not.toBeNull();
    // Freed by hand, and nobody was told.
    await pool.db.query('update gpu_slots set reservation_id = null, generation = null, held_since = null');
    const granted = async () => (await pool.db.query('select 1 from gpu_slots where reservation_id is not null')).rowCount;
    await pool.tell([asked('behind', 2_000)]);
    expect(await granted()).toBe(0);
    expect(await pool.plannedTo()).toBe(place);
    await pool.tell([asked('in front', -1)]);
    expect(await granted()).toBeGreaterThan(0);
  });

  it('plans again after a second: something may have changed of which it was not told', async () => {
    const pool = await open(poolKind());
    await pool.tell(Array.from({ length: 40 }, (_, n) => asked(`d${n}`, 1_000 + n, { slots: 4 })));
    await pool.db.query('update gpu_slots set reservation_id = null, generation = null, held_since = null');
    const granted = async () => (await pool.db.query('select 1 from gpu_slots where reservation_id is not null')).rowCount;
    pool.now += 999;
    await pool.tell([asked('soon', 2_000)]);
    expect(await granted()).toBe(0);
    pool.now += 1;
    await pool.tell([asked('later', 2_001)]);
    expect(await granted()).toBeGreaterThan(0);
  });

  it('plans when a gang is complete whose first member stands in front, however far back its last one joins', async () => {
    const pool = await open(poolKind());
    const gang = { id: gangId(0), size: 2, index: 0 };
    const crowd = Array.from({ length: 40 }, (_, n) => asked(`d${n}`, 1_000 + n, { slots: 3 }));
    await pool.tell([asked('first', 0, { gang }), ...crowd]);
    expect(await pool.plannedTo()).not.toBeNull();
    await pool.tell([asked('last', 2_000, { gang: { ...gang, index: 1 } })]);
    expect(await pool.holders()).toEqual(['d0', 'd1', 'd2', 'first', 'last']);
  });
});
