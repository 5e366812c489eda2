import { execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { existsSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { afterAll, beforeAll, expect, inject, it } from 'vitest';
import { verifyAll } from '../../../actors/kernel/fold.ts';
import { Kernel } from '../../../actors/kernel/kernel.ts';
import { findActor } from '../../../persistence/actor-store.ts';
import { Database } from '../../../persistence/database.ts';
import { migrate } from '../../../persistence/migrate.ts';
import { queueLength } from '../../../persistence/pgmq.ts';
import { lampKind } from '../../support/lamp.ts';
import { createTestDatabase, type TestDatabase } from '../../support/postgres.ts';

const PROGRAMS = process.env.POSTGRES15_BIN ?? '/usr/lib/postgresql/15/bin';
const restored = `restored_${randomUUID().replaceAll('-', '')}`;
const dump = join(tmpdir(), `${restored}.dump`);
let test: TestDatabase;
let admin: pg.Client;
beforeAll(async () => {
  test = await createTestDatabase();
  admin = new pg.Client(inject('postgres').adminUrl);
  await admin.connect();
});
afterAll(async () => {
  rmSync(dump, { force: true });
  await admin.query(`drop database if exists ${pg.escapeIdentifier(restored)} with (force)`);
  await admin.end();
  await test.drop();
});

/** pg_dump reads servers of its own version and older; the embedded server comes without one. */
async function canDump(): Promise<boolean> {
  if (!existsSync(join(PROGRAMS, 'pg_dump'))) return false;
  const own = /(\d+)\./.exec(execFileSync(join(PROGRAMS, 'pg_dump'), ['--version'], { encoding: 'utf8' }))?.[1];
  const { rows } = await admin.query<{ server_version_num: string }>('show server_version_num');
  return Math.floor(Number(rows[0]!.server_version_num) / 10_000) <= Number(own);
}

it('a restored backup folds, keeps queues and deadlines, and goes on', async (context) => {
  if (!(await canDump())) return context.skip('there is no pg_dump for this server');
  let time = new Date();
  const kernelOver = (over: Database) =>
    new Kernel({
      db: over,
      kinds: [lampKind(async () => ({ type: 'lit', watts: 60 }) as { type: string })],
      clock: { now: () => time },
    });
  const db = new Database(test.config);
  const before = kernelOver(db);
  const event = { type: 'lamp.made', name: 'a' } as { type: string };
  await before.post([{ actor: 'lamp/a', key: 'birth', event, sender: 'test' }]);
  await before.post([{ actor: 'lamp/a', key: '1', event: { type: 'press' }, sender: 'test' }]);
  while (await before.runOnce());
  await db.query(`select pgmq.send('gpu_reservations', '{}')`);
  await db.close();

  execFileSync(join(PROGRAMS, 'pg_dump'), ['--format=custom', `--file=${dump}`, test.url]);
  await admin.query(`create database ${pg.escapeIdentifier(restored)}`);
  const url = new URL(test.url);
  url.pathname = `/${restored}`;
  execFileSync(join(PROGRAMS, 'pg_restore'), ['--no-owner', '--exit-on-error', `--dbname=${url.href}`, dump]);

  expect(await migrate(url.href)).toEqual([]);
  const copy = new Database({ ...test.config, database: restored });
  const after = kernelOver(copy);
  const results = [];
  for await (const result of verifyAll(copy, after.kinds)) results.push(result);
  expect(results).toEqual([{ actor: 'lamp/a', ok: true, problem: null, events: 3 }]);
  expect(await queueLength(copy, 'gpu_reservations')).toBe(1);
  time = new Date(time.getTime() + 3_600_000);
  while (await after.runOnce());
  expect((await findActor(copy, 'lamp/a'))?.state).toBe('off');
  await copy.close();
});
