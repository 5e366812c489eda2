/**
 * The paths of the models through the real kernel on Postgres: many actors in the same batches, compared with their pure twins step by step.
 * Handlers do nothing: every result is part of the path.
 */
import { isDeepStrictEqual } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type AnyMachineSnapshot, createActor } from 'xstate';
import { verifyActor } from '../../actors/kernel/fold.ts';
import { Kernel } from '../../actors/kernel/kernel.ts';
import type { ActorKind } from '../../actors/kernel/kind.ts';
import { dehydrate, revive } from '../../actors/kernel/revive.ts';
import { type LiveActor, takeTurn } from '../../actors/kernel/turn.ts';
import type { PoolDecision } from '../../machines/gpu-pool.events.ts';
import type { StoredSnapshot } from '../../persistence/actor-store.ts';
import { Database } from '../../persistence/database.ts';
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts';
import type { Model } from './explore.ts';
import { BIRTH, type Case, transitionNames, transitionsTaken } from './graph.ts';
import { idOf, MODELS, openPools, ownedBy, saveDisks } from './owned.ts';
import { choosePaths, type Path } from './paths.ts';

let database: TestDatabase;
let db: Database;
beforeAll(async () => {
  database = await createTestDatabase();
  db = new Database({ ...database.config, maxConnections: 4 });
});
afterAll(async () => {
  await db?.close();
  await database?.drop();
});

/** An actor in the database, its path, and its twin in memory. */
interface Pair {
  actor: string;
  id: string;
  path: Path;
  twin: LiveActor;
  /** Keys of the effects that the twin asked for. */
  effects: string[];
}

const at = (index: number) => new Date(Date.parse(BIRTH) + index * 100);
const key = (index: number) => `step-${index}`;

/** The kind without hands: what it asks for stays in the outbox, and what would come of it is part of the path. */
const handless = (kind: ActorKind): ActorKind => ({ ...kind, handlers: {} });

describe.each(MODELS.map((model): [string, Model] => [model.kind.kind, model]))(
  'through the kernel on Postgres, %s',
  (_name, model) => {
    it('is at every step what the pure machine is, stored, folded and revived', async () => {
      const kind = handless(model.kind);
      const paths = choosePaths(model);
      let index = 0;
      let granted = 0;
      const kernel = new Kernel({ db, kinds: [kind], clock: { now: () => at(index) }, actorsPerBatch: 500 });
      const pairs = paths.map((path, number): Pair => {
        const id = idOf(model, number);
        const actor = `${kind.kind}/${id}`;
        return {
          actor,
          id,
          path: ownedBy(path, number, id),
          twin: { actor, kind, seq: 0, stored: null, live: null },
          effects: [],
        };
      });
      const driven = new Set<string>();
      if (kind.kind === 'gpu-pool')
        await openPools(
          db,
          pairs.map(({ id }) => id),
        );
      if (kind.kind === 'disk')
        await saveDisks(
          db,
          pairs.map(({ id }) => id),
        );
      const longest = Math.max(...pairs.map(({ path }) => path.events.length));
      for (index = 0; index < longest; index++) {
        const now = pairs.filter(({ path }) => path.events[index] !== undefined);
        await kernel.post(
          now.map((pair) => ({ actor: pair.actor, key: key(index), event: pair.path.events[index]!, sender: 'model' })),
        );
        await kernel.runOnce();
        const stored = await read(now.map(({ actor }) => actor));
        for (const pair of now) {
          const row = stored.get(pair.actor)!;
          const before = pair.twin;
          const event = { ...row.event, at: at(index).toISOString() };
          const mail = { id: 0, actor: pair.actor, key: key(index), event, sender: 'model', sentAt: null };
          if (before.stored !== null)
            for (const name of transitionsTaken(kind.machine, revive(kind, before.stored), event)) driven.add(name);
          const place = () =>
            `${pair.path.name} at ${pair.path.events
              .slice(0, index + 1)
              .map(({ type }) => type)
              .join(' → ')}`;
          const decided = (row.event as { decision?: PoolDecision }).decision;
          granted += decided?.grants.length ?? 0;
          if (before.stored?.value === 'paused' && event.type !== 'pool.resumed')
            expect(decided?.grants ?? [], place()).toEqual([]);
          const { actor: twin, intents } = takeTurn(before, mail as never, event);
          pair.twin = twin;
          for (const [place, intent] of intents.entries())
            if (intent.do === 'effect') pair.effects.push(`${pair.actor}:${twin.seq}:${place} ${intent.effect.type}`);
          same(row.snapshot, pair.twin.stored, place);
          if (before.stored?.status === 'active') same(liveActorAfter(kind, before.stored, event), row.snapshot, place);
        }
      }
      for (const { actor } of pairs) expect(await verifyActor(db, kernel.kinds, actor)).toMatchObject({ ok: true });
      const { rows } = await db.query('select body, reason from dead_letters');
      expect(rows).toEqual([]);
      expect(granted > 0).toBe(kind.kind === 'gpu-pool');
      expect(await disagreements()).toEqual([]);
      const outbox = await db.query<{ effect: string }>(
        `select effect_id || ' ' || type as effect from effects where actor like $1 || '/%'`,
        [kind.kind],
      );
      expect(outbox.rows.map(({ effect }) => effect).sort()).toEqual(pairs.flatMap(({ effects }) => effects).sort());
      const left = await db.query(`select actor from deadlines join actors using (actor) where status = 'done'`);
      expect(left.rows).toEqual([]);
      // A birth has no event that takes its first transient steps.
      const atBirth = transitionNames(kind.machine).filter((name) => name.includes('--always'));
      expect(transitionNames(kind.machine).filter((name) => !driven.has(name) && !atBirth.includes(name))).toEqual([]);
    });
  },
);

/** Deep equality, fast while it holds. */
function same(one: unknown, other: unknown, place: () => string): void {
  if (!isDeepStrictEqual(one, other)) expect(one, place()).toEqual(other);
}

/** Read models that tell another state than their actors, and slots that the pool's queue knows nothing of. */
async function disagreements(): Promise<unknown[]> {
  const { rows } = await db.query(
    `select a.actor, a.state, r.status::text as shown from actors a join reservations r on a.actor = 'reservation/' || r.reservation_id
      where r.status::text <> a.state
     union all select a.actor, a.state, d.state from actors a join disks d on a.actor = 'disk/' || d.disk_id where d.state <> a.state
     union all select reservation_id, r.node, count(s.slot)::text from gpu_slots s full join capacity_requests r using (reservation_id)
      where s.reservation_id is not null or r.status = 'granted'
      group by 1, 2, r.slots, r.status, s.node having r.status is distinct from 'granted' or r.node is distinct from s.node or count(s.slot) <> r.slots`,
  );
  return rows;
}

interface Row {
  snapshot: StoredSnapshot;
  event: Case;
}

async function read(actors: readonly string[]): Promise<Map<string, Row>> {
  const { rows } = await db.query<Row & { actor: string }>(
    `select a.actor, a.snapshot, h.event from actors a join history h on h.actor = a.actor and h.seq = a.seq where a.actor = any($1::text[])`,
    [actors],
  );
  return new Map(rows.map((row) => [row.actor, row]));
}

/** The same step by a plain actor of the library, started from the stored snapshot. */
function liveActorAfter(kind: ActorKind, stored: StoredSnapshot, event: Case): StoredSnapshot {
  const actor = createActor(kind.machine, { snapshot: { ...stored, children: {} } as never }).start();
  actor.send(event as never);
  return dehydrate(kind, actor.getSnapshot() as AnyMachineSnapshot);
}
