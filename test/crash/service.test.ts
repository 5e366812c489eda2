import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Program } from './support/process.ts';
import { expectClean } from './support/promises.ts';
import { TestKeys } from '../support/api-keys.ts';
import { Scene, SERVICE } from './support/scene.ts';

/** 30 minutes pass in three seconds. */
const TIME_SCALE = '600';

let scene: Scene;
let keys: TestKeys;
beforeAll(async () => {
  scene = await Scene.start();
  keys = new TestKeys(scene.db);
});
afterAll(async () => {
  await scene?.stop();
});

async function start(): Promise<{ service: Program; url: string }> {
  const service = scene.program(SERVICE, { TIME_SCALE });
  const ready = await service.ready();
  if (ready === null) throw new Error(`The service did not start: ${service.log}`);
  return { service, url: `http://127.0.0.1:${ready['port']}` };
}
async function state(url: string, id: string): Promise<unknown> {
  const response = await fetch(`${url}/v1/reservations/${id}`, { headers: await keys.as('mkowalski') });
  return ((await response.json()) as { state?: unknown }).state;
}

it('the service itself is killed with -9 while a server runs, started again, and goes on to the end as if nothing had been', async () => {
  const first = await start();
  const id = randomUUID();
  await scene.send({
    action: 'create_reservation',
    reservation_id: id,
    user_id: 'mkowalski',
    gpu_type: 'h100',
    gpu_count: 2,
    duration_hours: 0.5,
    disk_name: 'default',
  });
  await scene.reaches(id, 'running');
  await scene.send({ action: 'extend', reservation_id: id, extension_hours: 0.5, user_id: 'mkowalski' });
  await scene.until('it is extended', async () => {
    const row = await scene.reservation(id);
    return row !== null && row['status'] === 'running' && row['last_extension'] !== null;
  });
  expect(await state(first.url, id)).toBe('running');
  await first.service.kill();
  await expect(fetch(first.url)).rejects.toThrow();

  const second = await start();
  expect(['running', 'snapshotting', 'expired']).toContain(await state(second.url, id));
  const ended = await scene.reaches(id, 'expired', 'failed');
  expect(ended).toMatchObject({ status: 'expired', failure_reason: 'The reserved time is over' });
  expect(ended['last_extension']).toMatchObject({ granted: true, hours: 0.5 });
  expect(ended['warnings_sent'].length).toBeGreaterThan(0);
  expect(ended['snapshot_id']).not.toBeNull();
  expect(await state(second.url, id)).toBe('expired');
  await expectClean(scene);
  expect(scene.watch.ever.get(id)?.size).toBe(1);
  expect(await scene.snapshots()).toHaveLength(1);

  second.service.signal('SIGTERM');
  expect(await second.service.exited(), second.service.log).toEqual({ code: 0, signal: null });
});
