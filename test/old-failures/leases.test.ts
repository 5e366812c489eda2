import { setTimeout as pause } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { QueueDoor } from '../../actors/intake/queue-door.ts';
import { Kernel } from '../../actors/kernel/kernel.ts';
import { findActor } from '../../persistence/actor-store.ts';
import { Database } from '../../persistence/database.ts';
import { readHistory } from '../../persistence/history.ts';
import { type Body, startDoor, watchPosts } from '../messages/support.ts';
import { lampKind } from '../support/lamp.ts';
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts';

/** Short, so that handlers outlast it at once. */
const LEASE_MS = 300;

let test: TestDatabase;
let db: Database;
let kernels: Kernel[];
beforeEach(async () => {
  test = await createTestDatabase();
  db = new Database({ ...test.config, maxConnections: 12 });
  kernels = [];
});
afterEach(async () => {
  for (const kernel of kernels) await kernel.stop(1_000);
  await db.close();
  await test.drop();
});

describe('work that takes as long as the hold on it, or longer', () => {
  it('S9: is done once, by one of two replicas, whether it ends before, at or long after the end of its lease', async () => {
    const lengths = [0.5, 0.9, 1, 1.1, 2, 5].map((leases) => Math.round(leases * LEASE_MS));
    const begun: string[] = [];
    for (let replica = 0; replica < 2; replica++) {
      const kind = lampKind(async (_effect, { actor }) => {
        begun.push(actor);
        await pause(Number(actor.slice('lamp/'.length)));
        return { type: 'lit', watts: 60 } as { type: string };
      });
      const kernel = new Kernel({ db, kinds: [kind], leaseSeconds: LEASE_MS / 1_000, pollMs: 20 });
      await kernel.start();
      kernels.push(kernel);
    }
    const actors = lengths.map((length) => `lamp/${length}`);
    await kernels[0]!.post(
      actors.map((actor) => ({
        actor,
        key: 'birth',
        event: { type: 'lamp.made', name: 'x' } as { type: string },
        sender: 'test',
      })),
    );
    await kernels[0]!.post(actors.map((actor) => ({ actor, key: 'on', event: { type: 'press' }, sender: 'test' })));
    kernels[0]!.wake();
    for (const actor of actors) {
      await expect
        .poll(async () => (await readHistory(db, actor)).map((entry) => entry.event.type), { timeout: 10_000 })
        .toEqual(['lamp.made', 'press', 'lit']);
    }
    expect(begun.sort()).toEqual([...actors].sort());
    expect((await db.query(`select 1 from effects where status <> 'done' or attempts <> 1`)).rowCount).toBe(0);
  });

  it('S9: and its time limit may fall on the very moment of its result: one of the two counts, and both are told', async () => {
    const kind = lampKind(
      async () => {
        await pause(LEASE_MS);
        return { type: 'lit', watts: 60 } as { type: string };
      },
      { offAfterMs: LEASE_MS },
    );
    for (let replica = 0; replica < 2; replica++) {
      const kernel = new Kernel({ db, kinds: [kind], leaseSeconds: LEASE_MS / 1_000, pollMs: 20 });
      await kernel.start();
      kernels.push(kernel);
    }
    const actors = Array.from({ length: 30 }, (_, n) => `lamp/${n}`);
    await kernels[0]!.post(
      actors.map((actor) => ({
        actor,
        key: 'birth',
        event: { type: 'lamp.made', name: 'x' } as { type: string },
        sender: 'test',
      })),
    );
    await kernels[0]!.post(actors.map((actor) => ({ actor, key: 'on', event: { type: 'press' }, sender: 'test' })));
    kernels[0]!.wake();
    for (const actor of actors) {
      await expect.poll(async () => (await readHistory(db, actor)).length, { timeout: 10_000 }).toBe(4);
      const history = (await readHistory(db, actor)).slice(2).map((entry) => `${entry.event.type} ${entry.outcome}`);
      // The light goes off at its time. Its result is kept if it came before, and is too late after.
      expect([
        ['lit applied', 'deadline.off applied'],
        ['deadline.off applied', 'lit ignored'],
      ]).toContainEqual(history);
      expect((await findActor(db, actor))?.state).toBe('off');
    }
    expect((await db.query('select 1 from deadlines')).rowCount).toBe(0);
  });
});

describe('a queue', () => {
  it('S9: whose visibility timeout is over while a message is being processed does not give it to a second consumer', async () => {
    const database = await createTestDatabase();
    const door = await startDoor({ database });
    const settings = { db: door.db, queue: 'gpu_reservations', visibilitySeconds: 1, pollMs: 20, batchSize: 1 };
    let posted = 0;
    watchPosts(door.kernel, () => void posted++, 2_500);
    const doors = [0, 1].map(
      () => new QueueDoor({ ...settings, kernel: door.kernel, onError: (error) => void door.errors.push(error) }),
    );
    const id = crypto.randomUUID() as string;
    await door.send({ action: 'create_reservation', reservation_id: id, user_id: 'ann', gpu_type: 't4', disk_name: null });
    for (const each of doors) each.start();
    await expect.poll(() => doors.reduce((sum, each) => sum + each.stats.accepted, 0), { timeout: 10_000 }).toBe(1);
    await expect.poll(() => door.waiting()).toBe(0);
    for (const each of doors) await each.stop();
    expect(posted).toBe(1);
    expect((await door.mail(id)).map((mail: Body) => mail.key)).toEqual([`create:${id}`]);
    expect(door.errors).toEqual([]);
    await door.stop();
  });
});
