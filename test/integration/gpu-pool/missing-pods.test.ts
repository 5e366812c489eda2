import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Tracker } from '../../../actors/gpu-pool/tracker.ts';
import { KubernetesEvents } from '../../../src/providers/kubernetes/cluster-events.ts';
import { startWorld, type World } from '../../support/world.ts';
import { running } from './support.ts';

let world: World;
beforeAll(async () => {
  world = await startWorld({ fleet: { t4: 2 } });
});
afterAll(async () => {
  await world?.stop();
});

describe('pods that vanish while nobody tracks', () => {
  it('are asked for until each is answered, four at a time, and news of others come in meanwhile', async () => {
    const ids = await Promise.all(Array.from({ length: 6 }, () => running(world)));
    const witness = await running(world);
    await world.tracker.stop();
    const { core } = world.client;
    const remove = (id: string) =>
      core.deleteNamespacedPod({ namespace: 'gpu-dev', name: `gpu-dev-${id}-1`, gracePeriodSeconds: 0 });
    for (const id of ids) await remove(id);
    const asked = new Map<string, number>();
    let open: (() => void) | null = null;
    const gate = new Promise<void>((resolve) => {
      open = resolve;
    });
    let atOnce = 0;
    let most = 0;
    const errors: unknown[] = [];
    const tracker = new Tracker({
      db: world.db,
      kernel: world.kernel,
      connect: () => new KubernetesEvents({ client: world.client }),
      onServers: () => Promise.resolve(),
      confirmNodeGone: () => Promise.resolve(false),
      confirmGone: async ({ reservationId }) => {
        const times = (asked.get(reservationId) ?? 0) + 1;
        asked.set(reservationId, times);
        most = Math.max(most, ++atOnce);
        try {
          await gate;
          if (times < 3) throw new Error('503');
          return true;
        } finally {
          atOnce--;
        }
      },
      onError: (error) => errors.push(error),
      sweepMs: 50,
    });
    tracker.start();
    try {
      await world.until('four are asked for', async () => asked.size === 4);
      await remove(witness);
      await world.reaches(witness, 'failed');
      expect([asked.size, atOnce]).toEqual([4, 4]);
      open!();
      for (const id of ids) await world.reaches(id, 'failed');
      expect(most).toBe(4);
      // One that was answered may be asked for once more until its reservation has heard of it.
      expect([...asked.values()].every((times) => times >= 3)).toBe(true);
      expect(errors.map(String)).toEqual(Array(12).fill('Error: 503'));
    } finally {
      open!();
      await tracker.stop();
    }
  });
});
