import { spawn } from 'node:child_process';
import { existsSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import pg from 'pg';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { isRunning, waitUntilGone } from '../../persistence/embedded/processes.ts';
import { findEmbeddedPostgres, folderOutsideHome, startEmbeddedPostgres } from '../../persistence/embedded.ts';
import { makeScratch, removeScratch } from '../support/scratch.ts';

let scratch: string;
let dataDir: string;
beforeEach(() => {
  scratch = makeScratch('embedded');
  dataDir = join(scratch, 'postgres');
});
afterEach(() => removeScratch(scratch));

async function query(url: string, text: string): Promise<Record<string, unknown>[]> {
  const client = new pg.Client(url);
  await client.connect();
  try {
    return (await client.query(text)).rows;
  } finally {
    await client.end();
  }
}

function dataFolder(): string {
  return join(folderOutsideHome(dataDir) ?? dataDir, 'data');
}

describe('the embedded Postgres', () => {
  it('is Postgres 18 with fsync, on 127.0.0.1 only, and refuses a wrong password', async () => {
    const server = await startEmbeddedPostgres({ dataDir });
    const [settings] = await query(
      server.url,
      `select current_setting('server_version_num')::int / 10000 as major, current_setting('fsync') as fsync,
              current_setting('listen_addresses') as addresses, current_setting('TimeZone') as zone`,
    );
    expect(settings).toEqual({ major: 18, fsync: 'on', addresses: '127.0.0.1', zone: 'UTC' });
    await expect(query(server.url.replace(server.password, 'wrong'), 'select 1')).rejects.toMatchObject({ code: '28P01' });
    expect(statSync(join(dataDir, 'password')).mode & 0o777).toBe(0o600);
  });

  it('is taken over by a second start, keeps its data and its port across a restart', async () => {
    const first = await startEmbeddedPostgres({ dataDir });
    await query(first.url, 'create table kept as select 42 as answer');
    const second = await startEmbeddedPostgres({ dataDir });
    expect(second).toMatchObject({ adopted: true, pid: first.pid, port: first.port });
    await second.stop();
    expect(findEmbeddedPostgres(dataDir)).toBeUndefined();
    const third = await startEmbeddedPostgres({ dataDir });
    expect(third).toMatchObject({ adopted: false, port: first.port });
    expect(await query(third.url, 'select answer from kept')).toEqual([{ answer: 42 }]);
  });

  it('comes back after kill -9 with every committed row', async () => {
    const first = await startEmbeddedPostgres({ dataDir });
    await query(first.url, 'create table kept as select 42 as answer');
    process.kill(first.pid, 'SIGKILL');
    expect(await waitUntilGone(first, 10_000)).toBe(true);
    const second = await startEmbeddedPostgres({ dataDir });
    expect(second.adopted).toBe(false);
    expect(await query(second.url, 'select answer from kept')).toEqual([{ answer: 42 }]);
  });

  it('outlives kill -9 of the process that started it', async () => {
    const module = new URL('../../persistence/embedded.ts', import.meta.url).href;
    const parent = spawn(
      process.execPath,
      [
        '--input-type=module-typescript',
        '-e',
        `const { startEmbeddedPostgres } = await import(${JSON.stringify(module)});
        await startEmbeddedPostgres({ dataDir: ${JSON.stringify(dataDir)} }); console.log('up'); setInterval(() => {}, 1000);`,
      ],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
    await new Promise((resolve) => parent.stdout.once('data', resolve));
    const gone = new Promise((resolve) => parent.once('exit', resolve));
    parent.kill('SIGKILL');
    await gone;
    const server = await startEmbeddedPostgres({ dataDir });
    expect(server.adopted).toBe(true);
  });

  it('is not fooled by a lock file whose pid now belongs to another process', async () => {
    const first = await startEmbeddedPostgres({ dataDir });
    const lock = readFileSync(join(dataFolder(), 'postmaster.pid'), 'utf8');
    await first.stop();
    writeFileSync(join(dataFolder(), 'postmaster.pid'), lock.replace(/^\d+/, String(process.pid)));
    const said: string[] = [];
    const second = await startEmbeddedPostgres({ dataDir, log: (line) => said.push(line) });
    expect(second.adopted).toBe(false);
    expect(said.join('\n')).toContain('lock file');
    expect(isRunning(second)).toBe(true);
  });

  it('names the holder of a busy port that was asked for, and moves away from a remembered one', async () => {
    const squatter = createServer();
    await new Promise<void>((resolve) => squatter.listen(0, '127.0.0.1', resolve));
    const address = squatter.address();
    const port = address !== null && typeof address === 'object' ? address.port : 0;
    try {
      await expect(startEmbeddedPostgres({ dataDir, port })).rejects.toThrow(
        new RegExp(`port ${port}.*in use by .*pid ${process.pid}`),
      );
      writeFileSync(join(dataDir, 'postgres.json'), JSON.stringify({ port }));
      const server = await startEmbeddedPostgres({ dataDir });
      expect(server.port).not.toBe(port);
    } finally {
      await new Promise((resolve) => squatter.close(resolve));
    }
  });

  it('says what is missing when the password of existing data is lost', async () => {
    const server = await startEmbeddedPostgres({ dataDir });
    await server.stop();
    rmSync(join(dataDir, 'password'));
    expect(existsSync(dataFolder())).toBe(true);
    await expect(startEmbeddedPostgres({ dataDir })).rejects.toThrow(/password .* is missing/);
  });

  it.runIf(process.getuid?.() === 0)(
    'as root: starts anew where a deleted folder was, and follows a folder that was moved',
    async () => {
      const first = await startEmbeddedPostgres({ dataDir });
      await query(first.url, 'create table kept as select 42 as answer');
      rmSync(dataDir, { recursive: true });
      const said: string[] = [];
      const second = await startEmbeddedPostgres({ dataDir, log: (line) => said.push(line) });
      expect(second.adopted).toBe(false);
      expect(said.join()).toContain('data of an earlier one was left');
      expect(await query(second.url, `select to_regclass('kept') as kept`)).toEqual([{ kept: null }]);

      await query(second.url, 'create table moved as select 43 as answer');
      const oldFolder = folderOutsideHome(dataDir);
      const movedTo = `${dataDir}-moved`;
      renameSync(dataDir, movedTo);
      dataDir = movedTo;
      const third = await startEmbeddedPostgres({ dataDir });
      expect(await query(third.url, 'select answer from moved')).toEqual([{ answer: 43 }]);
      expect(oldFolder && existsSync(oldFolder)).toBe(false);
    },
  );
});
