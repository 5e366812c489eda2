import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { findEmbeddedPostgres, startEmbeddedPostgres } from '../../persistence/embedded.ts';
import { migrate } from '../../persistence/migrate.ts';
import { makeScratch, removeScratch } from '../support/scratch.ts';
import { allReach, book, cancel, someReach } from './support/guests.ts';
import type { Program } from './support/process.ts';
import { expectClean } from './support/promises.ts';
import { Scene } from './support/scene.ts';

let folder: string;
let dataDir: string;
let scene: Scene;
let worker: Program;
beforeAll(async () => {
  folder = makeScratch('away');
  dataDir = join(folder, 'postgres');
  const server = await startEmbeddedPostgres({ dataDir });
  await migrate(server.url);
  const { host, port, user, password, database } = server;
  scene = await Scene.start({ database: { host, port, user, password, database } });
  worker = scene.worker();
  await worker.ready();
  await scene.until('the fleet is known', async () => (await scene.db.query('select 1 from nodes')).rowCount === 2);
});
afterAll(async () => {
  await scene?.stop();
  await removeScratch(folder);
});

/** Stop the server of the scene and start it again. SIGINT is its fast shutdown; after SIGKILL it recovers from its log. */
async function restartPostgres(signal: 'SIGINT' | 'SIGKILL'): Promise<void> {
  const running = findEmbeddedPostgres(dataDir)!;
  process.kill(running.pid, signal);
  await scene.until('Postgres has stopped', async () => findEmbeddedPostgres(dataDir) === undefined);
  const again = await startEmbeddedPostgres({ dataDir, port: running.port });
  expect(again.adopted).toBe(false);
}

/** End every connection but ours. @returns how many. */
async function endConnections(): Promise<number> {
  const { rowCount } = await scene.db.query(
    `select pg_terminate_backend(pid) from pg_stat_activity
      where pid <> pg_backend_pid() and datname = current_database() and application_name not in ('', 'gpu-dev test')`,
  );
  return rowCount ?? 0;
}

/** Six reservations go their whole way while `trouble` happens again and again; the process stays the same one. */
async function goThrough(trouble: () => Promise<unknown>, times: number, pauseMs: number): Promise<void> {
  const { pid } = worker.child;
  let left = times;
  const troubles = (async () => {
    while (left > 0) {
      await pause(pauseMs);
      await trouble();
      left--;
    }
  })();
  const ids = await book(scene, 6);
  const running = await someReach(scene, ids, 6, 'running');
  await cancel(scene, running[0]!);
  await allReach(scene, [running[0]!], 'cancelled');
  await troubles;
  for (const id of ids.slice(1)) await cancel(scene, id);
  await allReach(scene, ids, 'cancelled');
  await expectClean(scene);
  for (const id of ids) expect(scene.watch.ever.get(id)?.size, `pods of ${id}`).toBe(1);
  expect(worker.running && worker.child.pid === pid).toBe(true);
}

describe('a service whose database goes away', () => {
  it('goes on when all its connections are ended again and again', async () => {
    let ended = 0;
    await goThrough(
      async () => {
        ended += await endConnections();
      },
      8,
      100,
    );
    expect(ended).toBeGreaterThan(8);
  });

  it('goes on when Postgres is restarted in the middle', async () => {
    await goThrough(() => restartPostgres('SIGINT'), 2, 150);
  });

  it('goes on when Postgres is killed in the middle and recovers', async () => {
    await goThrough(() => restartPostgres('SIGKILL'), 1, 250);
  });
});
