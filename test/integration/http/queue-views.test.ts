import { randomUUID } from 'node:crypto';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { KnownCatalogue } from '../../../actors/intake/catalogue.ts';
import { QueueViews } from '../../../src/http/queue-views.ts';
import { type Door, startDoor } from '../../messages/support.ts';

let door: Door;
beforeEach(async () => {
  door = await startDoor();
});
afterEach(() => door.stop());

it('an estimate that comes too late for one who asks is there for those who ask later', async () => {
  await door.kernel.post([
    { actor: 'gpu-pool/t4', key: 'opened', event: { type: 'pool.opened', gpuType: 't4' } as { type: string }, sender: 'test' },
  ]);
  const id = randomUUID();
  await door.send({ action: 'create_reservation', reservation_id: id, user_id: 'ann', gpu_type: 't4', disk_name: null });
  await door.drain();
  while ((await door.kernel.takeTurns()) > 0);
  const { promise: isFast, resolve: goOn } = Promise.withResolvers<void>();
  let readings = 0;
  const query: typeof door.db.query = async (text, values) => {
    if (/left join maintenance/.test(text)) {
      readings++;
      await isFast;
    }
    return door.db.query(text, values);
  };
  const views = new QueueViews({ query, inTransaction: false } as never, 1);
  expect(await views.placeOf('t4', id, 5)).toMatchObject({ position: 1 });
  // That reading has taken long, so the next one is expected to: nobody waits for it, and yet it is made.
  setTimeout(goOn, 50);
  await isFast;
  await expect
    .poll(
      async () => {
        await views.placeOf('t4', id, 5);
        return readings;
      },
      { timeout: 10_000 },
    )
    .toBeGreaterThan(1);
});

it('what was understood by an earlier catalogue is not current, though another has read it anew since', async () => {
  const known = new KnownCatalogue();
  const { version } = await known.last(door.db);
  await door.db.query(`update gpu_types set max_hours = max_hours + 1 where gpu_type = 't4'`);
  const other = await known.last(door.db);
  expect(await known.isCurrent(door.db, other.version)).toBe(false);
  expect((await known.last(door.db)).version).not.toBe(version);
  expect(await known.isCurrent(door.db, version)).toBe(false);
  expect(await known.isCurrent(door.db, (await known.last(door.db)).version)).toBe(true);
});
