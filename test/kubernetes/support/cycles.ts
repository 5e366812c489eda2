/** Many reservations with disks through the service as a process over a real API server: cancelled, struck by its death, and nothing left. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createRandom, seedState } from '../../../src/simulated-cluster/random.ts';
import { expectClean } from '../../crash/support/promises.ts';
import type { Program } from '../../crash/support/process.ts';
import type { RealCluster } from '../../support/kubernetes/real-cluster.ts';
import { expectNothingLeft } from './left-behind.ts';
import { ServiceScene } from './service-scene.ts';

/** The shortest reservation, five minutes, takes twenty seconds; so long may a pod take to become ready, killed services included. */
const TIME_SCALE = process.env['GPU_DEV_CYCLES_SCALE'] ?? '15';
const HOURS = 0.0834;
/** At a lower scale everything takes so much longer. */
const SLOWER = Math.max(1, 15 / Number(TIME_SCALE));

export interface Cycles {
  cycles: number;
  seed: number;
  /** What is special about them, for the title. */
  what: string;
  /** Further variables of the service, as they are when it starts. */
  environment?: () => NodeJS.ProcessEnv;
  /** Further fields of every request. */
  asks?: () => Record<string, unknown>;
  /** That nothing is left; left out: on the cluster. */
  expectNothing?: (scene: ServiceScene) => Promise<void>;
}

/** @param cluster one of the file's own, with 16 GPUs */
export function reservationsEndClean(
  cluster: RealCluster,
  { cycles, seed, what, environment = () => ({}), asks = () => ({}), expectNothing = expectNothingLeft }: Cycles,
): void {
  describe.skipIf(cluster.missing)(`${cycles} reservations through the service itself${what}, seed ${seed}`, () => {
    let scene: ServiceScene;
    let service: Program;
    beforeAll(async () => {
      scene = await ServiceScene.start(cluster);
      // With 16 GPUs most of a hundred wait for others first.
      scene.patienceMs = (30_000 + cycles * 6_000) * SLOWER;
      service = await scene.service({ TIME_SCALE, ...environment() });
      await scene.knows(3);
    });
    afterAll(() => scene?.stop());

    it(
      'leave nothing behind, a third cancelled and a third with the service killed -9 on the way',
      async () => {
        const random = createRandom(seedState(seed), true);
        const pick = <T>(values: readonly T[]): T => values[random.integer(values.length)]!;
        const ids = await Promise.all(Array.from({ length: cycles }, () => scene.submit({ duration_hours: HOURS, ...asks() })));
        const third = Math.floor(cycles / 3);
        const [cancelled, struck] = [ids.slice(0, third), ids.slice(third, 2 * third)];
        /** Wait until it has come so far, or further. */
        const comes = async (id: string, state: string) => {
          const order = ['queued', 'provisioning', 'running', 'snapshotting', 'expired', 'failed', 'cancelled'];
          await scene.reaches(id, ...order.slice(order.indexOf(state)));
        };
        const cancels = cancelled.map(async (id) => {
          await comes(id, pick(['queued', 'provisioning', 'running', 'snapshotting']));
          await new Promise((resolve) => setTimeout(resolve, random.integer(300)));
          await scene.cancel(id);
        });
        let kills = 0;
        const kill = async () => {
          for (const id of struck) {
            await comes(id, pick(['provisioning', 'running', 'snapshotting']));
            await service.kill();
            service = await scene.service({ TIME_SCALE, ...environment() });
            kills += 1;
          }
        };
        await Promise.all([...cancels, kill()]);
        expect(kills).toBe(third);
        for (const id of ids) await scene.reaches(id, 'expired', 'cancelled', 'failed');
        const rows = await Promise.all(ids.map((id) => scene.reservation(id)));
        const failed = rows.filter(({ status }) => status === 'failed');
        const histories = await Promise.all(
          failed.map(async ({ reservation_id, disk_id }) => [
            ...(await scene.history(reservation_id)),
            ...(await scene.efforts(`disk/${disk_id}`)),
          ]),
        );
        expect(failed.map(({ failure_reason }, index) => [failure_reason, histories[index]])).toEqual([]);
        const unexpected = rows.filter(
          ({ reservation_id, status }) => status !== 'expired' && !cancelled.includes(reservation_id),
        );
        expect(unexpected).toEqual([]);

        await expectClean(scene);
        await expectNothing(scene);
        for (const id of ids) expect(scene.watch.most.get(id) ?? 0, `pods of ${id} at once`).toBeLessThanOrEqual(1);
      },
      (60_000 + cycles * 10_000) * SLOWER,
    );
  });
}
