import { randomUUID } from 'node:crypto';
import { afterEach, describe, expect, it } from 'vitest';
import { QueueDoor } from '../../actors/intake/queue-door.ts';
import { type Body, type Door, fresh, startDoor, watchPosts } from './support.ts';

let door: Door;
afterEach(async () => {
  await door?.stop();
});

/** A door whose kernel fails on messages that a test marks, as a bug of ours would. */
async function startFragile(options: { batchSize?: number; poisonReads?: number; code?: string } = {}): Promise<Door> {
  door = await startDoor({ door: options });
  watchPosts(door.kernel, (messages) => {
    if (messages.some((message) => JSON.stringify(message.event).includes('poison')))
      throw Object.assign(new Error('a bug of ours'), options.code === undefined ? {} : { code: options.code });
  });
  return door;
}

/** Make what failed visible again, as time would. */
async function unhide(): Promise<void> {
  await door.db.query('update pgmq.q_gpu_reservations set vt = now()');
}

async function lostOf(id: string): Promise<string[]> {
  await door.kernel.pump(`reservation/${id}`);
  const { rows } = await door.db.query<Body>(`select snapshot #> '{context,lost}' as lost from actors where actor = $1`, [
    `reservation/${id}`,
  ]);
  return rows[0]?.lost;
}

describe('a message that makes the door fail', () => {
  it('is tried again, then archived with its reason, and its reservation says so', async () => {
    await startFragile({ poisonReads: 3 });
    const id = randomUUID() as string;
    await door.send({ action: 'create_reservation', reservation_id: id, user_id: 'ann', gpu_type: 't4' });
    await door.drain();
    await door.kernel.pump(`reservation/${id}`);
    const bad = await door.send({ action: 'add_user', reservation_id: id, github_username: 'poison' });
    for (let attempt = 1; attempt <= 2; attempt++) {
      await door.consume();
      expect(await door.waiting()).toBe(1);
      expect(await door.letters()).toEqual([]);
      await unhide();
    }
    await door.consume();
    expect(await door.waiting()).toBe(0);
    expect(await door.archived(bad)).toBe(true);
    expect(await door.letters()).toMatchObject([{ code: 'GPU_MESSAGE_POISONED', msg_id: bad, reason: 'a bug of ours' }]);
    expect(await lostOf(id)).toEqual(['A message from gpu_reservations could not be processed: a bug of ours']);
    expect(door.door.stats).toMatchObject({ poisoned: 1, accepted: 1 });
  });

  it('that names its reservation by a prefix is told to it as well', async () => {
    await startFragile({ poisonReads: 1 });
    const id = randomUUID() as string;
    await door.send({ action: 'create_reservation', reservation_id: id, user_id: 'ann', gpu_type: 't4' });
    await door.drain();
    await door.kernel.pump(`reservation/${id}`);
    await door.send({
      action: 'add_user',
      reservation_id: id.slice(0, 8).toUpperCase(),
      user_id: 'ann',
      github_username: 'poison',
    });
    await door.consume();
    expect(await lostOf(id)).toHaveLength(1);
  });

  it('does not keep the others of its batch from being served', async () => {
    await startFragile({ batchSize: 5, poisonReads: 2 });
    const good = [fresh('create-cli'), fresh('create-cli'), fresh('create-cli')];
    await door.send(good[0]);
    await door.send(fresh('create-cli', { name: 'poison' }));
    await door.send(good[1]);
    await door.send({ action: 'nonsense' });
    await door.send(good[2]);
    await door.consume();
    await door.drain();
    for (const { reservation_id } of good) expect(await door.mail(reservation_id)).toHaveLength(1);
    expect(await door.waiting()).toBe(1);
    await unhide();
    await door.drain();
    expect(await door.waiting()).toBe(0);
    expect((await door.letters()).map((each) => each.code).sort()).toEqual(['GPU_ACTION_UNKNOWN', 'GPU_MESSAGE_POISONED']);
  });

  it('for the fault of the database is never poison: it stays in the queue as it was', async () => {
    await startFragile({ poisonReads: 1, code: '57P01' });
    await door.send(fresh('create-cli', { name: 'poison' }));
    await expect(door.consume()).rejects.toThrow('a bug of ours');
    await expect(door.consume()).rejects.toThrow('a bug of ours');
    expect(await door.waiting()).toBe(1);
    expect(await door.letters()).toEqual([]);
  });

  it('leaves a message that two doors raced for to one of them', async () => {
    door = await startDoor();
    const other = new QueueDoor({
      db: door.db,
      kernel: door.kernel,
      queue: 'gpu_reservations',
      visibilitySeconds: 300,
      pollMs: 500,
      batchSize: 3,
      onError: (error) => void door.errors.push(error),
    });
    const bodies = Array.from({ length: 20 }, () => fresh('create-cli'));
    for (const body of bodies) await door.send(body);
    await Promise.all([
      door.drain(),
      (async () => {
        while ((await other.consume()) === 0);
      })(),
    ]);
    for (const { reservation_id } of bodies) expect(await door.mail(reservation_id)).toHaveLength(1);
    expect(door.door.stats.accepted + other.stats.accepted).toBe(20);
    expect(door.errors).toEqual([]);
  });
});
