import { randomUUID } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Body, type Door, fresh, startDoor } from './support.ts';

let door: Door;
beforeEach(async () => {
  door = await startDoor({ door: { batchSize: 5, poisonReads: 2 } });
});
afterEach(() => door.stop());

/** Take what is on the queue and in the mailboxes, until nothing is left. */
async function takeAll(): Promise<void> {
  await door.drain();
  while ((await door.kernel.takeTurns()) > 0);
}

const member = (changes: Body) => ({
  ...{ action: 'create_reservation', reservation_id: randomUUID(), gpu_type: 'h100', gpu_count: 8, duration_hours: 1 },
  ...{ is_multinode: true, node_index: 0, total_nodes: 2, ...changes },
});

describe('messages of one batch', () => {
  it('that use one key for two wishes: one is done, and the other is refused', async () => {
    const id = randomUUID();
    await door.send({ action: 'create_reservation', reservation_id: id, user_id: 'ann', gpu_type: 't4' });
    await takeAll();
    const asked = { action: 'add_user', reservation_id: id, user_id: 'ann', operation_id: randomUUID() };
    for (const github_username of ['one', 'two']) await door.send({ ...asked, github_username });
    await takeAll();
    expect(await door.letters()).toMatchObject([{ code: 'GPU_IDEMPOTENCY_CONFLICT' }]);
    const added = (await door.mail(id)).filter(({ event }) => event.type === 'add_user');
    expect(added).toHaveLength(1);
  });

  it('that are members of one gang know of each other: its owner is one, and each index is taken once', async () => {
    const [theirs, own] = [randomUUID(), randomUUID()];
    await door.send(member({ user_id: 'ann', master_reservation_id: theirs }));
    await door.send(member({ user_id: 'eve', master_reservation_id: theirs, node_index: 1 }));
    await door.send(member({ user_id: 'bob', master_reservation_id: own }));
    await door.send(member({ user_id: 'bob', master_reservation_id: own }));
    await takeAll();
    expect((await door.letters()).map(({ code }) => code)).toEqual(['GPU_ID_TAKEN', 'GPU_FIELD_INVALID']);
    const { rows } = await door.db.query<Body>('select user_id from reservations order by user_id');
    expect(rows.map(({ user_id }) => user_id)).toEqual(['ann', 'bob']);
  });

  it('one of which cannot take its turn: it becomes a dead letter, and the others are served', async () => {
    const kind = door.kernel.kinds.get('reservation')!;
    const { project } = kind;
    kind.project = async (tx, changes) => {
      if (changes.some(({ after }) => JSON.stringify(after.context).includes('poison'))) throw new Error('a bug of ours');
      return project!(tx, changes);
    };
    const [bad, good] = [fresh('create-cli', { name: 'poison', disk_name: null }), fresh('create-cli', { disk_name: null })];
    await door.send(bad);
    await door.send(good);
    await takeAll();
    expect(await door.waiting()).toBe(0);
    const letter = { actor: `reservation/${bad.reservation_id}`, reason: 'a bug of ours' };
    expect(await door.letters()).toContainEqual(expect.objectContaining(letter));
    const { rows } = await door.db.query<Body>('select reservation_id from reservations');
    expect(rows).toEqual([{ reservation_id: good.reservation_id }]);
  });
});
