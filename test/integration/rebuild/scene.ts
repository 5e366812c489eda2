/** A service whose database can be lost: the cluster stays, and the database is dropped and made anew under its name. */
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { inject } from 'vitest';
import type { TestPostgres } from '../../support/global-setup.ts';
import type { Program } from '../../crash/support/process.ts';
import { Scene, SERVICE } from '../../crash/support/scene.ts';

const CLI = fileURLToPath(new URL('../../../src/cli/main.ts', import.meta.url));

// biome-ignore lint/suspicious/noExplicitAny: tests look at whatever they need.
type Any = any;

export interface Report {
  back: { kind: string; id: string; owner: string; name: string; as: string }[];
  left: { kind: string; id: string; why: string }[];
  known: { disks: number; servers: number };
}

export class Loss {
  readonly scene: Scene;
  readonly extra: NodeJS.ProcessEnv;
  service: Program | null = null;

  private constructor(scene: Scene, extra: NodeJS.ProcessEnv) {
    this.scene = scene;
    this.extra = { GPU_DEV_LOCAL: 'true', LOG_LEVEL: 'warn', ...extra };
  }

  /** @param extra of the service's environment, once the scene is there */
  static async start(fleet: Record<string, number>, extra: NodeJS.ProcessEnv = {}): Promise<Loss> {
    return new Loss(await Scene.start({ fleet }), extra);
  }

  async serve(): Promise<void> {
    this.service = this.scene.program(SERVICE, this.extra);
    if ((await this.service.ready()) === null) throw new Error(`The service did not start: ${this.service.log}`);
  }

  /** The service dies, and so does its database: a new one, migrated and empty, has its name. */
  async lose(): Promise<void> {
    await this.service?.kill();
    const { database } = this.scene.db.settings;
    const server: TestPostgres = inject('postgres');
    const client = new pg.Client(server.adminUrl);
    await client.connect();
    try {
      await client.query(`drop database ${pg.escapeIdentifier(database!)} with (force)`);
      await client.query(`create database ${pg.escapeIdentifier(database!)} template ${pg.escapeIdentifier(server.template)}`);
    } finally {
      await client.end();
    }
  }

  /** Run `gpu-dev admin …` as an operator does. */
  admin(...words: string[]): Promise<{ code: number; out: string; err: string }> {
    return new Promise((resolve) => {
      execFile(process.execPath, [CLI, 'admin', ...words], { env: this.#cliEnvironment() }, (error, out, err) =>
        resolve({ code: error === null ? 0 : Number(error.code ?? 1), out, err }),
      );
    });
  }

  async rebuild(...words: string[]): Promise<Report> {
    const { code, out, err } = await this.admin('rebuild', '--json', ...words);
    if (code !== 0) throw new Error(`rebuild: ${code} ${out}\n${err}`);
    return JSON.parse(out) as Report;
  }

  #cliEnvironment(): NodeJS.ProcessEnv {
    return { ...this.scene.environment(this.extra), GPU_DEV_USER: 'operator' };
  }

  get cliEnvironment(): NodeJS.ProcessEnv {
    return this.#cliEnvironment();
  }

  static readonly cli = CLI;

  /** Objects of the cluster, by their kind's path. */
  async objects(path: string): Promise<Any[]> {
    const response = await fetch(`${this.scene.clusterUrl}${path}`);
    return ((await response.json()) as { items: Any[] }).items;
  }

  pods(): Promise<Any[]> {
    return this.objects('/api/v1/namespaces/gpu-dev/pods');
  }

  async row(text: string, values: unknown[] = []): Promise<Any> {
    return (await this.scene.db.query<Any>(text, values)).rows[0] ?? null;
  }

  async stop(): Promise<void> {
    await this.scene.stop();
  }
}
