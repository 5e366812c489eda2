// One real Postgres for the whole test run, with one migrated database that every test copies.
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import type { TestProject } from 'vitest/node';
import { identify, isRunning, type ProcessIdentity } from '../../persistence/embedded/processes.ts';
import { ensurePgmq, folderOutsideHome, startEmbeddedPostgres, stopEmbeddedPostgres } from '../../persistence/embedded.ts';

/** What every test file gets by `inject('postgres')`. */
export type TestPostgres = {
  /** Address of a database whose role may create others. */
  readonly adminUrl: string;
  /** The migrated database that tests copy; nobody may connect to it. */
  readonly template: string;
};

declare module 'vitest' {
  interface ProvidedContext {
    postgres: TestPostgres;
  }
}

const PREFIX = 'gpu-dev-test-';

/** Vitest calls this once per run, and what it returns at the end. TEST_POSTGRES_URL names a server to use instead of the embedded one. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const given = process.env.TEST_POSTGRES_URL;
  if (given) {
    const template = await createTemplate(given);
    project.provide('postgres', { adminUrl: given, template });
    return () => onServer(given, (client) => dropDatabase(client, template));
  }
  await sweepAbandonedRuns();
  const home = mkdtempSync(join(tmpdir(), PREFIX));
  writeFileSync(join(home, 'run.json'), JSON.stringify(identify(process.pid)));
  const dataDir = join(home, 'postgres');
  const server = await startEmbeddedPostgres({ dataDir });
  project.provide('postgres', { adminUrl: server.url, template: await createTemplate(server.url) });
  return async () => {
    await server.stop();
    removeRun(home);
  };
}

async function createTemplate(adminUrl: string): Promise<string> {
  const template = `gpu_dev_template_${process.pid}`;
  await onServer(adminUrl, async (client) => {
    await dropDatabase(client, template);
    await client.query(`create database ${pg.escapeIdentifier(template)}`);
  });
  const url = new URL(adminUrl);
  url.pathname = `/${template}`;
  const migrations = new URL('../../persistence/migrate.ts', import.meta.url);
  if (existsSync(migrations)) {
    const { migrate } = (await import(migrations.href)) as { migrate: (connectionString: string) => Promise<unknown> };
    await migrate(url.href);
  } else {
    await onServer(url.href, (client) => ensurePgmq(client));
  }
  return template;
}

async function onServer<T>(url: string, work: (client: pg.Client) => Promise<T>): Promise<void> {
  const client = new pg.Client(url);
  await client.connect();
  try {
    await work(client);
  } finally {
    await client.end();
  }
}

async function dropDatabase(client: pg.Client, name: string): Promise<void> {
  await client.query(`drop database if exists ${pg.escapeIdentifier(name)} with (force)`);
}

/** A run that was killed leaves its server behind: the next one tidies up. */
async function sweepAbandonedRuns(): Promise<void> {
  for (const name of readdirSync(tmpdir())) {
    if (!name.startsWith(PREFIX)) continue;
    const home = join(tmpdir(), name);
    try {
      const owner = JSON.parse(readFileSync(join(home, 'run.json'), 'utf8')) as ProcessIdentity;
      if (isRunning(owner)) continue;
      await stopEmbeddedPostgres(join(home, 'postgres'));
      removeRun(home);
    } catch {
      // Another user's, or one being made at this moment.
    }
  }
}

function removeRun(home: string): void {
  const outside = folderOutsideHome(join(home, 'postgres'));
  if (outside !== undefined) rmSync(outside, { recursive: true, force: true });
  rmSync(home, { recursive: true, force: true });
}
