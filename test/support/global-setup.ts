// One real Postgres for the whole test run, with one migrated database that every test copies.
import { chmodSync, chownSync, mkdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import pg from 'pg';
import type { TestProject } from 'vitest/node';
import { startEmbeddedPostgres } from '../../persistence/embedded.ts';
import { migrate } from '../../persistence/migrate.ts';
import { startCoordinator } from './kubernetes/coordinator.ts';
import { makeScratch, makeScratchInMemory, removeScratch, sweepScratch } from './scratch.ts';

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
    /** Where a test file asks for the run's Kubernetes cluster. */
    kubernetes: string;
  }
}

/** Vitest calls this once per run, and what it returns at the end. TEST_POSTGRES_URL names a server to use instead of the embedded one. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const coordinator = await startCoordinator();
  project.provide('kubernetes', coordinator.url);
  const done = await setupPostgres(project);
  return async () => {
    await coordinator.stop();
    await done();
  };
}

async function setupPostgres(project: TestProject): Promise<() => Promise<void>> {
  const given = process.env.TEST_POSTGRES_URL;
  if (given) {
    const template = await createTemplate(given);
    project.provide('postgres', { adminUrl: given, template });
    return () => onServer(given, (client) => dropDatabase(client, template));
  }
  await sweepScratch();
  const folder = makeScratch('run');
  const server = await startEmbeddedPostgres({ dataDir: join(folder, 'postgres') });
  const memory = makeScratchInMemory('databases');
  await onServer(server.url, (client) => makeSwift(client, server.pid, memory));
  const template = await createTemplate(server.url, memory === undefined ? 'pg_default' : 'memory');
  project.provide('postgres', { adminUrl: server.url, template });
  return async () => {
    await removeScratch(folder);
    if (memory !== undefined) rmSync(memory, { recursive: true, force: true });
  };
}

/**
 * Hundreds of databases are made and dropped, of 350 files each. On ext4 that alone took a third of all processor time: whoever makes a file
 * walks past all that were deleted in the last minutes. So they live in memory where there is room; and the log need not outlast the machine.
 */
async function makeSwift(client: pg.Client, pid: number, memory: string | undefined): Promise<void> {
  await client.query('alter system set fsync = off');
  await client.query('alter system set full_page_writes = off');
  if (memory !== undefined) {
    const folder = join(memory, 'tablespace');
    mkdirSync(folder);
    // As root, the server runs as another user, who must own the folder and reach it.
    const { uid, gid } = statSync(`/proc/${pid}`);
    chmodSync(memory, 0o755);
    chownSync(folder, uid, gid);
    await client.query(`create tablespace memory location ${pg.escapeLiteral(folder)}`);
  }
  await client.query('select pg_reload_conf()');
}

/** Copies of it live where it does. */
async function createTemplate(adminUrl: string, tablespace = 'pg_default'): Promise<string> {
  const template = `gpu_dev_template_${process.pid}`;
  await onServer(adminUrl, async (client) => {
    await dropDatabase(client, template);
    await client.query(`create database ${pg.escapeIdentifier(template)} tablespace ${pg.escapeIdentifier(tablespace)}`);
  });
  const url = new URL(adminUrl);
  url.pathname = `/${template}`;
  await migrate(url.href);
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
