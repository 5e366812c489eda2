/** The one Postgres that everything is measured on: embedded, with its default settings, fsync on; a fresh database for each round. */
import { availableParallelism, cpus } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import type { DatabaseSettings } from '../../persistence/database.ts';
import { type EmbeddedPostgres, startEmbeddedPostgres } from '../../persistence/embedded.ts';
import { migrate } from '../../persistence/migrate.ts';
import { makeScratch, removeScratch, sweepScratch } from '../../test/support/scratch.ts';

/** What a figure means nothing without. */
export interface Surroundings {
  postgres: string;
  node: string;
  cores: number;
  cpu: string;
  settings: Record<string, string>;
}

const PRINTED = [
  'server_version',
  'fsync',
  'synchronous_commit',
  'full_page_writes',
  'wal_level',
  'shared_buffers',
  'max_wal_size',
  'autovacuum',
];

const OTHERS = `select count(*)::int as others from pg_stat_activity where datname = $1 and backend_type = 'client backend'`;

export class BenchServer {
  readonly folder: string;
  #postgres: EmbeddedPostgres;
  #next = 0;
  readonly #template = 'bench_template';

  private constructor(folder: string, postgres: EmbeddedPostgres) {
    this.folder = folder;
    this.#postgres = postgres;
  }

  static async start(): Promise<BenchServer> {
    await sweepScratch();
    const folder = makeScratch('bench');
    const server = new BenchServer(folder, await startEmbeddedPostgres({ dataDir: join(folder, 'postgres') }));
    await server.administrate((client) => client.query(`create database ${pg.escapeIdentifier(server.#template)}`));
    await migrate(server.urlOf(server.#template));
    // One user asks for everything here.
    await server.connected(server.#template, (client) =>
      client.query('update quotas set max_reservations = null, max_gpus = null'),
    );
    return server;
  }

  /** The pid of the server. */
  get pid(): number {
    return this.#postgres.pid;
  }

  /** A fresh database: migrated and empty, or a copy of another, to which nobody may be connected. @returns its name. */
  async create(template: string = this.#template): Promise<string> {
    const name = `bench_${this.#next++}`;
    await this.administrate(async (client) => {
      await client.query(`create database ${pg.escapeIdentifier(name)} template ${pg.escapeIdentifier(template)}`);
      // What was written to make it must not be paid for by what is measured in it.
      await client.query('checkpoint');
    });
    return name;
  }

  /** A database without our tables, for others. */
  createBare(): Promise<string> {
    return this.create('template1');
  }

  async drop(name: string): Promise<void> {
    await this.left(name);
    await this.administrate((client) => client.query(`drop database if exists ${pg.escapeIdentifier(name)} with (force)`));
  }

  /** Wait until nobody is connected to the database: a closed connection ends a little later. Gives up after 5 s. */
  async left(name: string): Promise<void> {
    await this.administrate(async (client) => {
      for (const end = performance.now() + 5_000; performance.now() < end; ) {
        const { rows } = await client.query<{ others: number }>(OTHERS, [name]);
        if (rows[0]!.others === 0) return;
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
    });
  }

  /** How to reach a database of this server. */
  at(database: string): DatabaseSettings {
    const { host, port, user, password } = this.#postgres;
    return { host, port, user, password, database };
  }

  urlOf(database: string): string {
    const url = new URL(this.#postgres.url);
    url.pathname = `/${database}`;
    return url.href;
  }

  /** Run `work` on a connection of its own. */
  async connected<T>(database: string, work: (client: pg.Client) => Promise<T>): Promise<T> {
    const client = new pg.Client(this.urlOf(database));
    await client.connect();
    try {
      return await work(client);
    } finally {
      await client.end();
    }
  }

  administrate<T>(work: (client: pg.Client) => Promise<T>): Promise<T> {
    return this.connected('postgres', work);
  }

  /** Write changes into the log so that they can be read again row by row, or (the default) not. Restarts the server. */
  async setLogical(logical: boolean): Promise<void> {
    await this.administrate((client) =>
      client.query(logical ? "alter system set wal_level = 'logical'" : 'alter system reset wal_level'),
    );
    await this.#postgres.stop();
    this.#postgres = await startEmbeddedPostgres({ dataDir: join(this.folder, 'postgres') });
  }

  /** Set how long autovacuum rests; null: as long as by default. */
  async setNap(pause: '1s' | null): Promise<void> {
    await this.administrate(async (client) => {
      await client.query(pause === null ? 'alter system reset autovacuum_naptime' : "alter system set autovacuum_naptime = '1s'");
      await client.query('select pg_reload_conf()');
    });
  }

  async surroundings(): Promise<Surroundings> {
    const { rows } = await this.administrate((client) =>
      client.query<{ name: string; value: string }>(
        'select name, current_setting(name) as value from pg_settings where name = any($1::text[]) order by name',
        [PRINTED],
      ),
    );
    const settings = Object.fromEntries(rows.map(({ name, value }) => [name, value]));
    const { server_version: postgres = '?', ...others } = settings;
    return { postgres, node: process.version, cores: availableParallelism(), cpu: cpus()[0]?.model ?? '?', settings: others };
  }

  async stop(): Promise<void> {
    await this.#postgres.stop();
    await removeScratch(this.folder);
  }
}
