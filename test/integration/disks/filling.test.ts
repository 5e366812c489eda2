import { afterAll, beforeAll, expect, it } from 'vitest';
import { NotYet } from '../../../actors/errors.ts';
import { Filling } from '../../../actors/disk/ports.ts';
import { startWorld, type World } from '../../support/world.ts';
import { ask, close } from './session.ts';

/** Thirty minutes on scaled time are five seconds, the least of a limit. */
const LIMIT_MS = 5_000;
const FILL_MS = 2.2 * LIMIT_MS;
/** What is asked for with this size is filled, and what with the other comes no further. */
const FILLED_GB = 11;
const STUCK_GB = 12;

let world: World;
const begun = new Map<string, number>();
beforeAll(async () => {
  world = await startWorld({
    fleet: { t4: 1 },
    timeScale: 360,
    ports: (ports) => {
      const volumes = new Proxy(ports.volumes, {
        get: (target, name) => {
          const own = Reflect.get(target, name, target) as unknown;
          if (name !== 'ensure') return typeof own === 'function' ? own.bind(target) : own;
          return async (request: Parameters<typeof ports.volumes.ensure>[0]) => {
            const since = begun.get(request.diskId) ?? performance.now();
            begun.set(request.diskId, since);
            const percent = ((performance.now() - since) / FILL_MS) * 100;
            if (request.sizeGb === STUCK_GB) throw new Filling(200, 41, 'It is being filled');
            if (request.sizeGb === FILLED_GB && percent < 100) throw new Filling(200, percent, 'It is being filled');
            return target.ensure(request);
          };
        },
      });
      return { ...ports, volumes };
    },
  });
});
afterAll(() => world?.stop());

const told = async (id: string): Promise<number[]> =>
  (
    await world.db.query<{ percent: number }>(
      `select (event->>'percent')::int as percent from history
        where actor = $1 and event->>'type' = 'disk.filling' and outcome = 'applied' order by seq`,
      [`reservation/${id}`],
    )
  ).rows.map(({ percent }) => percent);

it('a disk that is filled for longer than a disk may take fails nobody as long as it goes on; one that comes no further does', async () => {
  expect(new Filling(1, 2, 'x')).toBeInstanceOf(NotYet);
  const began = performance.now();
  const stuck = await ask(world, { disk_name: 'stuck', disk_size_gb: STUCK_GB });
  const large = await ask(world, { disk_name: 'large', disk_size_gb: FILLED_GB });
  await world.until('its user can read how far it is', async () => {
    return /^Filling the disk from its snapshot: \d+ %$/.test(
      String((await world.reservation(large))?.['current_detailed_status']),
    );
  });
  const failed = await world.reaches(stuck, 'failed', 'running');
  expect(failed).toMatchObject({ status: 'failed' });
  expect(failed['failure_reason']).toMatch(/came no further for 30 minutes|could not be attached/);
  expect(await told(stuck)).toEqual([40]);
  const running = await world.reaches(large, 'running', 'failed');
  expect(running).toMatchObject({ status: 'running', failure_reason: null });
  expect(performance.now() - began).toBeGreaterThan(2 * LIMIT_MS);
  const steps = await told(large);
  expect(steps.length).toBeGreaterThan(10);
  expect(steps).toEqual([...steps].sort((one, other) => one - other));
  await close(world, running);
});
