import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import pg from 'pg';
import { afterAll, beforeAll, expect, inject, it } from 'vitest';
import { migrate, type TableHolder } from '../../../persistence/migrate.ts';

const name = `migrate_${randomUUID().replaceAll('-', '')}`;
let url: string;
async function onServer(statement: string, at = inject('postgres').adminUrl, values?: unknown[]): Promise<pg.QueryResult> {
  const client = new pg.Client(at);
  await client.connect();
  try {
    return await client.query(statement, values);
  } finally {
    await client.end();
  }
}
/** Go back to before a migration. @returns those that are undone */
async function undo(first: string): Promise<string[]> {
  const { rows } = await onServer('select name from schema_migrations where name >= $1 order by id', url, [first]);
  const names = rows.map((row) => row['name'] as string);
  for (const name of names.toReversed()) {
    const [, down] = readFileSync(new URL(`../../../persistence/migrations/${name}.sql`, import.meta.url), 'utf8').split(
      '-- Down Migration',
    );
    await onServer(down!, url);
    await onServer('delete from schema_migrations where name = $1', url, [name]);
  }
  return names;
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

it('a table that somebody reads for long is waited for in portions: those who come behind go on meanwhile', async () => {
  // What a backup reads is renamed by this migration.
  const undone = await undo('0025_answered_requests');
  const backup = new pg.Client({ connectionString: url, application_name: 'pg_dump' });
  await backup.connect();
  await backup.query('begin');
  await backup.query('select from admin_acts');
  let tries = 0;
  const told = new Set<string>();
  const onBusy = (holders: readonly TableHolder[]) => {
    tries++;
    for (const { application, tables } of holders) for (const table of tables) told.add(`${application}: ${table}`);
  };
  const migrating = migrate(url, { onBusy, betweenTriesMs: 50 });
  await expect.poll(() => tries).toBeGreaterThan(0);
  // What an old replica writes now comes through, at the latest between two tries.
  await onServer(`insert into admin_acts (user_name, key, act) values ('olga', 'k', 'POST /')`, url);
  await expect.poll(() => tries).toBeGreaterThan(1);
  await backup.query('commit');
  await backup.end();
  expect(await migrating).toEqual(undone);
  expect([...told]).toEqual(['pg_dump: admin_acts']);
  // And after it too, under the name that it knows.
  await onServer(
    `insert into admin_acts (user_name, key, act) values ('olga', 'k', 'x'), ('olga', 'k2', 'POST /') on conflict (user_name, key) do nothing`,
    url,
  );
  const { rows: kept } = await onServer('select key, request from answered_requests order by key', url);
  expect(kept).toEqual([
    { key: 'k', request: 'POST /' },
    { key: 'k2', request: 'POST /' },
  ]);
});
