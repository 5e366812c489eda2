import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CRASH_POINTS, type CrashPoint } from '../../actors/kernel/crash-points.ts';
import type { Program } from './support/process.ts';
import { expectClean, timesApplied } from './support/promises.ts';
import { Scene } from './support/scene.ts';

/** At which passages of each point, counted from the submit and again from each restart, the process dies. */
const DEATHS: Record<CrashPoint, readonly number[]> = {
  'turn.locked': [1, 5],
  'turn.stepped': [2, 6],
  'turn.beforeCommit': [1, 4],
  'turn.afterCommit': [4],
  'effect.leased': [1, 3],
  'effect.done': [1, 3],
  'effect.afterResult': [2],
  'sweep.fired': [1],
  'intake.beforeCommit': [2],
};

let scene: Scene;
let worker: Program;

beforeAll(async () => {
  scene = await Scene.start();
  worker = scene.worker();
  await worker.ready();
  await scene.until('the fleet is known', async () => (await scene.db.query('select 1 from nodes')).rowCount === 2);
});
afterAll(async () => {
  await scene?.stop();
});

/** Bring a new process up each time the worker has killed itself, with the next death armed; the last one lives on. */
async function dieAndRise(point: CrashPoint): Promise<void> {
  const deaths = DEATHS[point];
  await worker.tell(`SIGKILL ${point}#${deaths[0]}`);
  for (let death = 0; death < deaths.length; death++) {
    expect((await worker.exited()).signal, worker.log).toBe('SIGKILL');
    const next = deaths[death + 1];
    worker = scene.worker(next === undefined ? {} : { GPU_DEV_CRASH_AT: `${point}#${next}` });
  }
}

describe('a process that is killed', () => {
  it.each(CRASH_POINTS)('at %s loses nothing and does nothing twice', async (point) => {
    const id = randomUUID();
    const deaths = dieAndRise(point);
    const diskName = point.replace('.', '-');

    await scene.send({
      action: 'create_reservation',
      reservation_id: id,
      user_id: 'mkowalski',
      gpu_type: 'h100',
      gpu_count: 2,
      duration_hours: 1,
      disk_name: diskName,
    });
    const running = await scene.reaches(id, 'running');
    await scene.send({ action: 'extend', reservation_id: id, extension_hours: 1, user_id: 'mkowalski' });
    const extended = await scene.until('it is extended', async () => {
      const row = await scene.reservation(id);
      return row?.['status'] === 'running' && row['last_extension'] !== null ? row : null;
    });
    expect(extended['last_extension']).toMatchObject({ granted: true, hours: 1 });
    expect(extended['expires_at'] - running['expires_at']).toBe(3_600_000);
    scene.advance(93);
    await scene.until('it has warned', async () => (await scene.reservation(id))!['warnings_sent'].length > 0);
    scene.advance(28);
    await scene.until('the time is over', async () => {
      const row = await scene.reservation(id);
      return row?.['substate'] === 'grace' || row?.['status'] !== 'running';
    });
    scene.advance(3);
    const ended = await scene.reaches(id, 'expired', 'failed');
    expect(ended).toMatchObject({ status: 'expired', failure_reason: 'The reserved time is over' });
    await expectClean(scene);

    expect(scene.watch.ever.get(id)?.size).toBe(1);
    expect(scene.watch.most.get(id)).toBe(1);
    expect(await timesApplied(scene, id, 'extend')).toBe(1);
    const { rows: disks } = await scene.db.query('select snapshot_count, latest_snapshot_id from disks where disk_name = $1', [
      diskName,
    ]);
    expect(disks).toEqual([{ snapshot_count: 1, latest_snapshot_id: ended['snapshot_id'] }]);
    const { rows: known } = await scene.db.query<{ snapshot_id: string }>('select snapshot_id from disk_snapshots');
    expect(await scene.snapshots()).toHaveLength(known.length);
    // If a death is still to come, the point was not on the way, and the test proves nothing.
    await deaths;
  });
});
