import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { isRunning, waitUntilGone } from '../../persistence/embedded/processes.ts';
import { environmentExports } from '../../src/cli/env.ts';
import type { Instance } from '../../src/supervisor/instance.ts';
import { readOptions, type StartOptions } from '../../src/supervisor/options.ts';
import { Supervisor } from '../../src/supervisor/supervisor.ts';
import { makeScratch, removeScratch } from '../support/scratch.ts';

// Two small programs that keep the promises the real ones make: a ready line, a port, an end on SIGTERM.
const SERVICE = `
import { createServer } from 'node:http';
const server = createServer((request, response) => response.end(JSON.stringify({
  pid: process.pid,
  environment: Object.fromEntries(Object.entries(process.env).filter(([name]) => /^(POSTGRES|PG|KUBE|TIME|CLUSTER|PORT|GPU_DEV)/.test(name))),
})));
server.listen(Number(process.env.PORT), '127.0.0.1', () => console.log(JSON.stringify({ ready: true, port: server.address().port })));
process.on('SIGTERM', () => { console.error('drained'); process.exit(0); });
`;
const CLUSTER = `
import { createServer } from 'node:http';
import { writeFileSync } from 'node:fs';
const value = (flag) => process.argv[process.argv.indexOf(flag) + 1];
const server = createServer((request, response) => response.end('{}'));
server.listen(Number(value('--port')), '127.0.0.1', () => {
  writeFileSync(value('--kubeconfig'), 'kubeconfig');
  console.log(JSON.stringify({ ready: true, port: server.address().port }));
});
process.on('SIGTERM', () => process.exit(0));
`;

let folder: string;
let home: string;
let programs: { service: string; cluster: string };
const running = new Set<Supervisor>();
const said: string[] = [];

beforeEach(() => {
  folder = makeScratch('supervisor');
  home = join(folder, 'home');
  programs = { service: join(folder, 'service.mjs'), cluster: join(folder, 'cluster.mjs') };
  writeFileSync(programs.service, SERVICE);
  writeFileSync(programs.cluster, CLUSTER);
  said.length = 0;
});
afterEach(async () => {
  for (const supervisor of running) await supervisor.stop('now');
  running.clear();
  await removeScratch(folder);
});

function create(options: Partial<StartOptions> = {}, environment: NodeJS.ProcessEnv = process.env): Supervisor {
  const given = readOptions(['--home', home, '--port', '0'], {});
  if (given === undefined) throw new Error('no options');
  const report = (part: string, message: string, lines: readonly string[] = []) => said.push(`${part}: ${message}`, ...lines);
  const supervisor = new Supervisor({ ...given, ...options }, environment, report, programs);
  running.add(supervisor);
  return supervisor;
}

async function ask(instance: Instance): Promise<{ pid: number; environment: Record<string, string> }> {
  return (await (await fetch(instance.url)).json()) as { pid: number; environment: Record<string, string> };
}

function recorded(): Instance {
  return JSON.parse(readFileSync(join(home, 'instance.json'), 'utf8')) as Instance;
}

it('brings up three processes, prints exports for them, and ends all of them', async () => {
  const supervisor = create();
  const instance = await supervisor.start();
  const exports = environmentExports(home);
  expect(exports).toContain(`export GPU_DEV_URL=${instance.url}\n`);
  expect(exports).toContain(`export KUBECONFIG=${join(home, 'kubeconfig')}\n`);
  expect(exports).toMatch(/export PGPASSWORD=\S{20,}\n/);
  expect(JSON.stringify(instance)).not.toContain(/PGPASSWORD=(\S+)/.exec(exports)?.[1]);
  await supervisor.stop('gently');
  const { services, postgres, cluster } = instance;
  for (const one of [services[0], postgres.process, cluster.process]) expect(one && isRunning(one)).toBe(false);
  expect(readFileSync(join(home, 'logs/service.log'), 'utf8')).toContain('drained');
  expect(() => environmentExports(home)).toThrow(/does not run now; start it with: npm start -- --home/);
});

it('gives the service its own database and cluster, whatever the shell exports', async () => {
  const trap = {
    POSTGRES_HOST: 'production.example',
    PGHOST: 'production.example',
    KUBECONFIG: '/etc/production',
    TIME_SCALE: '7',
  };
  const instance = await create({ timeScale: 240 }, { ...process.env, ...trap }).start();
  const { environment } = await ask(instance);
  expect(environment).toMatchObject({
    POSTGRES_HOST: '127.0.0.1',
    POSTGRES_PORT: String(instance.postgres.port),
    KUBECONFIG: join(home, 'kubeconfig'),
    TIME_SCALE: '240',
    CLUSTER: 'simulated',
    GPU_DEV_HOME: home,
  });
  expect(environment.PGHOST).toBeUndefined();
});

it('starts each killed process again and leaves the others alone', async () => {
  const before = await create().start();
  const parts = (instance: Instance) => [
    instance.services[0]?.pid,
    instance.postgres.process?.pid,
    instance.cluster.process?.pid,
  ];
  for (const index of [0, 1, 2]) {
    const old = parts(recorded());
    const victim = old[index];
    if (victim === undefined) throw new Error('not running');
    process.kill(victim, 'SIGKILL');
    await vi.waitFor(() => expect(parts(recorded())[index] ?? victim).not.toBe(victim), { timeout: 45_000 });
    const now = parts(recorded());
    expect(now.filter((_, at) => at !== index)).toEqual(old.filter((_, at) => at !== index));
  }
  expect(recorded()).toMatchObject({
    url: before.url,
    cluster: { port: before.cluster.port },
    postgres: { port: before.postgres.port },
  });
  expect(said.filter((line) => line.includes('runs again'))).toHaveLength(3);
});

it('tells the last log lines of a service that does not come up, and leaves nothing running', async () => {
  writeFileSync(programs.service, `console.error('the moon is in the wrong place'); process.exit(3);`);
  const supervisor = create();
  await expect(supervisor.start()).rejects.toMatchObject({
    message: 'the service ended before it was ready (exit code 3)',
    lines: expect.arrayContaining(['the moon is in the wrong place']),
  });
  await supervisor.stop('gently');
  const left = readdirSync(join(home, 'run')).map((name) => JSON.parse(readFileSync(join(home, 'run', name), 'utf8')));
  expect(left.filter((one) => isRunning(one))).toEqual([]);
});

it('tells why a running service gave up, waits longer each time, and goes on trying', async () => {
  await create().start();
  writeFileSync(programs.service, `${SERVICE}; setTimeout(() => { console.error('out of luck'); process.exit(7); }, 20);`);
  const pid = recorded().services[0]?.pid;
  process.kill(pid ?? 0, 'SIGKILL');
  await vi.waitFor(() => expect(said.join('\n')).toContain('time 3 in a row'), { timeout: 45_000 });
  expect(said).toContain('service: ended (SIGKILL); starting it again');
  expect(said).toContain('service: ended (exit code 7); starting it again');
  expect(said.filter((line) => line === 'out of luck').length).toBeGreaterThan(0);
  writeFileSync(programs.service, SERVICE);
  await vi.waitFor(async () => expect((await ask(recorded())).pid).not.toBe(pid), { timeout: 45_000 });
});

it('refuses a second supervisor on the same folder and names the first', async () => {
  await create().start();
  await expect(create().start()).rejects.toThrow(new RegExp(`runs from ${home} already \\(pid ${process.pid}\\)`));
});

it('names who holds a busy port, before anything is started', async () => {
  const squatter = createServer();
  await new Promise<void>((resolve) => squatter.listen(0, '127.0.0.1', resolve));
  const address = squatter.address();
  const port = address !== null && typeof address === 'object' ? address.port : 0;
  try {
    await expect(create({ port }).start()).rejects.toThrow(
      new RegExp(`port ${port} is in use by .*pid ${process.pid}.*--port 0`),
    );
    expect(existsSync(join(home, 'postgres'))).toBe(false);
  } finally {
    await new Promise((resolve) => squatter.close(resolve));
  }
});

it('wipes its own folder with --fresh, and never one that is not its own', async () => {
  const first = create();
  await first.start();
  await first.stop('gently');
  writeFileSync(join(home, 'keys.json'), '[]');
  const passwordBefore = readFileSync(join(home, 'postgres/password'), 'utf8');
  await create({ fresh: true }).start();
  expect(readFileSync(join(home, 'postgres/password'), 'utf8')).not.toBe(passwordBefore);
  expect(existsSync(join(home, 'keys.json'))).toBe(true);

  const foreign = join(folder, 'thesis');
  mkdirSync(foreign);
  writeFileSync(join(foreign, 'chapter-1.txt'), 'years of work');
  await expect(create({ home: foreign, fresh: true }).start()).rejects.toThrow(/is not empty and not a folder of gpu-dev/);
  expect(readdirSync(foreign)).toEqual(['chapter-1.txt']);
});

it('takes over Postgres and the cluster from a supervisor that was killed, and drains the old service first', async () => {
  const script = join(folder, 'first.ts');
  const module = new URL('../../src/supervisor/supervisor.ts', import.meta.url).href;
  const options = readOptions(['--home', home, '--port', '0'], {});
  writeFileSync(
    script,
    `import { Supervisor } from ${JSON.stringify(module)};
     const supervisor = new Supervisor(${JSON.stringify(options)}, process.env, () => {}, ${JSON.stringify(programs)});
     await supervisor.start(); console.log('up');`,
  );
  const child = spawn(process.execPath, [script], { stdio: ['ignore', 'pipe', 'inherit'] });
  await new Promise((resolve) => child.stdout.once('data', resolve));
  const before = recorded();
  child.kill('SIGKILL');
  await waitUntilGone(before.supervisor, 5_000);
  const [oldService] = before.services;
  expect(oldService && isRunning(oldService)).toBe(true);

  const after = await create().start();
  expect(after.postgres.process).toEqual(before.postgres.process);
  expect(after.cluster.process).toEqual(before.cluster.process);
  expect(oldService && isRunning(oldService)).toBe(false);
  expect(said.join('\n')).toContain('still runs from an earlier start');
  expect((await ask(after)).pid).toBe(after.services[0]?.pid);
});
