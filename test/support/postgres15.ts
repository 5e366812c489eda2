// The persistence suite on Debian's Postgres 15, the oldest that is promised and one without a pgmq extension: `npm run test:postgres15`.
// Arguments go to vitest. Where that Postgres is not installed, it says so and succeeds.
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { chownSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { freePort } from '../../persistence/embedded/ports.ts';
import { identify, signal, waitUntilGone } from '../../persistence/embedded/processes.ts';

const PROGRAMS = process.env.POSTGRES15_BIN ?? '/usr/lib/postgresql/15/bin';
/** What speaks to the database and to nothing else. */
const SUITE = ['test/integration/embedded-pgmq.test.ts', 'test/integration/persistence', 'test/integration/kernel'];

process.exitCode = await main();

async function main(): Promise<number> {
  if (!existsSync(join(PROGRAMS, 'postgres'))) {
    console.log(`postgres15: not run, there is no Postgres 15 in ${PROGRAMS} (apt-get install postgresql-15, or POSTGRES15_BIN)`);
    return 0;
  }
  // Postgres refuses root; the package brings its user.
  const owner = process.getuid?.() === 0 ? { uid: id('-u'), gid: id('-g') } : {};
  const folder = mkdtempSync(join(tmpdir(), 'gpu-dev-postgres15-'));
  if (owner.uid !== undefined) chownSync(folder, owner.uid, owner.gid);
  const data = join(folder, 'data');
  const port = await freePort();
  try {
    const made = spawnSync(
      join(PROGRAMS, 'initdb'),
      ['-D', data, '-U', 'postgres', '--auth=trust', '--encoding=UTF8', '--locale=C'],
      {
        ...owner,
        cwd: folder,
        encoding: 'utf8',
      },
    );
    if (made.status !== 0) throw new Error(`initdb failed:\n${made.stderr}`);
    const log = openSync(join(folder, 'log'), 'a');
    const options = [`port=${port}`, 'listen_addresses=127.0.0.1', 'unix_socket_directories=', 'max_connections=200'];
    const server = spawn(join(PROGRAMS, 'postgres'), ['-D', data, ...options.flatMap((option) => ['-c', option])], {
      ...owner,
      cwd: folder,
      stdio: ['ignore', log, log],
    });
    const identity = server.pid === undefined ? undefined : identify(server.pid);
    if (identity === undefined) throw new Error(`Postgres 15 did not start: ${readFileSync(join(folder, 'log'), 'utf8')}`);
    try {
      const url = `postgres://postgres@127.0.0.1:${port}/postgres`;
      console.log(`postgres15: ${await version(url)} on port ${port}`);
      return await runVitest(url);
    } finally {
      signal(identity, 'SIGINT');
      await waitUntilGone(identity, 20_000);
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function id(what: '-u' | '-g'): number {
  return Number(execFileSync('id', [what, 'postgres'], { encoding: 'utf8' }));
}

async function version(url: string): Promise<string> {
  for (let attempt = 1; ; attempt++) {
    const client = new pg.Client(url);
    try {
      await client.connect();
      return String((await client.query('select version()')).rows[0]?.version);
    } catch (error) {
      if (attempt >= 200) throw error;
      await new Promise((resolve) => setTimeout(resolve, 50));
    } finally {
      await client.end().catch(() => undefined);
    }
  }
}

function runVitest(url: string): Promise<number> {
  const program = fileURLToPath(new URL('../../node_modules/vitest/vitest.mjs', import.meta.url));
  const args = process.argv.slice(2);
  const files = args.some((arg) => !arg.startsWith('-')) ? args : [...SUITE, ...args];
  const run = spawn(process.execPath, [program, 'run', ...files], {
    stdio: 'inherit',
    env: { ...process.env, TEST_POSTGRES_URL: url },
  });
  return new Promise((resolve, reject) => {
    run.once('error', reject);
    run.once('exit', (code) => resolve(code ?? 1));
  });
}
