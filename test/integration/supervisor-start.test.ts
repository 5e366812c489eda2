// `npm start` as a person uses it: the real Postgres, the real simulated cluster, the real service, real signals.
import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { isRunning, type ProcessIdentity } from '../../persistence/embedded/processes.ts';
import type { Instance } from '../../src/supervisor/instance.ts';
import { makeScratch, removeScratch } from '../support/scratch.ts';

const ROOT = new URL('../../', import.meta.url).pathname;
let scratch: string;
let home: string;
let started: { process: ChildProcess; output: () => string; ended: Promise<number | null> }[];

beforeEach(() => {
  scratch = makeScratch('start');
  home = join(scratch, 'home');
  started = [];
});
afterEach(async () => {
  for (const { process: child } of started) child.kill('SIGKILL');
  await removeScratch(scratch);
});

/** Starts it and waits for the end of the first screen. */
async function start(...args: string[]) {
  const child = spawn(process.execPath, [join(ROOT, 'src/supervisor/start.ts'), '--port', '0', ...args], {
    cwd: scratch,
    env: { ...process.env, GPU_DEV_HOME: home, POSTGRES_HOST: 'production.example', KUBECONFIG: '/nowhere' },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let text = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (text += chunk));
  const run = { process: child, output: () => text, ended: new Promise<number | null>((resolve) => child.once('exit', resolve)) };
  started.push(run);
  await vi.waitFor(() => expect(text).toContain('Ctrl-C stops everything'), { timeout: 60_000 });
  return run;
}

const instance = (): Instance => JSON.parse(readFileSync(join(home, 'instance.json'), 'utf8')) as Instance;

function processes({ services, postgres, cluster }: Instance): ProcessIdentity[] {
  return [services[0], postgres.process, cluster.process].filter((one) => one !== undefined);
}

async function isUp(): Promise<void> {
  const answer = await fetch(`${instance().url}/health/live`, { signal: AbortSignal.timeout(2_000) });
  expect(answer.status).toBe(200);
}

it('comes up, survives kill -9 of each process and of itself, and one Ctrl-C that arrives twice drains it', {
  timeout: 240_000,
}, async () => {
  const first = await start();
  await isUp();
  expect(first.output()).toContain('eval "$(npx gpu-dev env');
  expect(first.output()).not.toContain(String.fromCharCode(27));

  for (const index of [0, 1, 2]) {
    const victim = processes(instance())[index];
    if (victim === undefined) throw new Error(first.output());
    process.kill(victim.pid, 'SIGKILL');
    await vi.waitFor(() => expect(processes(instance())[index]).not.toEqual(victim), { timeout: 45_000 });
    await vi.waitFor(isUp, { timeout: 45_000 });
  }

  const before = instance();
  first.process.kill('SIGKILL');
  await first.ended;
  const second = await start();
  expect(instance()).toMatchObject({
    postgres: { process: before.postgres.process },
    cluster: { process: before.cluster.process },
  });
  await isUp();

  const last = processes(instance());
  second.process.kill('SIGINT');
  second.process.kill('SIGINT');
  expect(await second.ended).toBe(0);
  expect(second.output()).toContain('stopped, the data is kept');
  expect(second.output()).not.toContain('stopping at once');
  expect(last.filter(isRunning)).toEqual([]);
});
