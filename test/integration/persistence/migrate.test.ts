import { randomUUID } from 'node:crypto';
import pg from 'pg';
import { afterAll, beforeAll, expect, inject, it } from 'vitest';
import { migrate } from '../../../persistence/migrate.ts';

const name = `migrate_${randomUUID().replaceAll('-', '')}`;
let url: string;
async function onServer(statement: string, at = inject('postgres').adminUrl): Promise<pg.QueryResult> {
  const client = new pg.Client(at);
  await client.connect();
  try {
    return await client.query(statement);
  } finally {
    await client.end();
  }
}
beforeAll(async () => {
  await onServer(`create database ${pg.escapeIdentifier(name)}`);
  const at = new URL(inject('postgres').adminUrl);
  at.pathname = `/${name}`;
  url = at.href;
});
afterAll(() => onServer(`drop database ${pg.escapeIdentifier(name)} with (force)`));

it('of several starters one migrates and the others wait for it; none fails', async () => {
  const ran = await Promise.all([migrate(url), migrate(url), migrate(url), migrate(url)]);
  const busy = ran.filter((names) => names.length > 0);
  expect(busy).toHaveLength(1);
  expect(busy[0]!.length).toBeGreaterThanOrEqual(3);
  const { rows } = await onServer('select name from schema_migrations order by id', url);
  expect(rows.map((row) => row['name'])).toEqual(busy[0]);
  expect((await onServer('select queue_name from pgmq.list_queues() order by 1', url)).rows).toEqual([
    { queue_name: 'disk_operations' },
    { queue_name: 'gpu_reservations' },
  ]);
});

it('a database that is up to date is left as it is', async () => {
  expect(await migrate(url)).toEqual([]);
});

it('a database of a newer version is refused', async () => {
  await onServer(`insert into schema_migrations (name, run_on) values ('9999_from-the-future', now())`, url);
  await expect(migrate(url)).rejects.toThrow(/newer|9999_from-the-future/);
  await onServer(`delete from schema_migrations where name = '9999_from-the-future'`, url);
  expect(await migrate(url)).toEqual([]);
});
