import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { allReach, book, cancel, someReach } from './support/guests.ts';
import type { Program } from './support/process.ts';
import { expectClean, timesApplied } from './support/promises.ts';
import { Scene } from './support/scene.ts';

let scene: Scene;
let replicas: Program[];
beforeAll(async () => {
  scene = await Scene.start();
  replicas = [scene.worker(), scene.worker()];
  await Promise.all(replicas.map((replica) => replica.ready()));
  await scene.until('the fleet is known', async () => (await scene.db.query('select 1 from nodes')).rowCount === 2);
});
afterAll(async () => {
  await scene?.stop();
});

/** One replica, just started, whatever became of those before it. */
async function onlyOne(): Promise<Program> {
  await Promise.all(replicas.map((replica) => replica.kill()));
  replicas = [scene.worker()];
  await replicas[0]!.ready();
  return replicas[0]!;
}

describe('two replicas over one database', () => {
  it('serve 20 reservations on 16 GPUs while either is killed at random', async () => {
    let goOn = true;
    let kills = 0;
    const killer = (async () => {
      while (goOn) {
        const victim = Math.random() < 0.5 ? 0 : 1;
        await replicas[victim]!.kill();
        kills++;
        replicas[victim] = scene.worker();
        await replicas[victim]!.ready();
        await pause(100 + Math.random() * 500);
      }
    })();

    const ids = await book(scene, 20);
    const first = await someReach(scene, ids, 16, 'running');
    expect(first).toHaveLength(16);
    for (const id of first.slice(0, 4)) await cancel(scene, id);
    await allReach(scene, first.slice(0, 4), 'cancelled');
    const rest = ids.filter((id) => !first.slice(0, 4).includes(id));
    await allReach(scene, rest, 'running');
    scene.advance(61);
    await scene.until('the time of all is over', async () => {
      const { rowCount } = await scene.db.query(`select 1 from reservations where status = 'running' and substate <> 'grace'`);
      return rowCount === 0;
    });
    scene.advance(3);
    await allReach(scene, rest, 'expired');
    goOn = false;
    await killer;
    expect(kills).toBeGreaterThan(1);

    await expectClean(scene);
    for (const id of ids) expect(scene.watch.most.get(id), `pods of ${id} at once`).toBe(1);
    for (const id of ids) expect(scene.watch.ever.get(id)?.size, `pods of ${id} ever`).toBe(1);
    const { rows } = await scene.db.query<{ n: number }>('select count(*)::int as n from disks where snapshot_count = 1');
    expect(rows).toEqual([{ n: 20 }]);
    expect(await scene.snapshots()).toHaveLength(20);
  });

  it('fence off one that slept through its lease in the middle of a call, and remove the pod that its call makes too late', async () => {
    const sleeper = await onlyOne();
    // The first call that creates a pod is on its way for a whole life of the reservation.
    await scene.simulate('/faults', { kind: 'hold', verb: 'POST', path: '/pods$', count: 1 });
    const [id] = await book(scene, 1, { disk_name: null, user_id: 'sleeper' });
    await scene.until('the call is on its way', () => scene.isHolding());
    sleeper.signal('SIGSTOP');
    replicas[1] = scene.worker();
    await scene.reaches(id!, 'running');
    await cancel(scene, id!);
    await scene.reaches(id!, 'cancelled');
    await scene.until('its pod is gone', async () => scene.watch.now.get(id!)?.size === 0);
    sleeper.signal('SIGCONT');
    await scene.clearFaults();
    await scene.until('the late call has made a pod', async () => scene.watch.ever.get(id!)?.size === 2);
    await scene.until('that pod is removed', async () => scene.watch.now.get(id!)?.size === 0);
    await expectClean(scene);
    expect(scene.watch.most.get(id!)).toBe(1);
    expect(await timesApplied(scene, id!, 'pod.created')).toBe(1);
    expect(sleeper.running && replicas[1]!.running).toBe(true);
  });

  it('let one that slept after its handler had run post nothing a second time', async () => {
    const sleeper = await onlyOne();
    await scene.simulate('/faults', { kind: 'hold', verb: 'POST', path: '/pods$', count: 1 });
    const [id] = await book(scene, 1, { disk_name: null, user_id: 'sleeper' });
    await scene.until('the call is on its way', () => scene.isHolding());
    await sleeper.tell('SIGSTOP effect.done#1');
    await scene.clearFaults();
    await scene.until('the pod is made', async () => scene.watch.ever.get(id!)?.size === 1);
    replicas[1] = scene.worker();
    await scene.reaches(id!, 'running');
    sleeper.signal('SIGCONT');
    await cancel(scene, id!);
    await scene.reaches(id!, 'cancelled');
    await expectClean(scene);
    expect(scene.watch.ever.get(id!)?.size).toBe(1);
  });
});
