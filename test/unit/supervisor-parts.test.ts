import { appendFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { identify, isRunning } from '../../persistence/embedded/processes.ts';
import { environmentExports } from '../../src/cli/env.ts';
import { cleanEnvironment, serviceEnvironment } from '../../src/supervisor/environment.ts';
import type { Instance } from '../../src/supervisor/instance.ts';
import { boundLogs, lastLines } from '../../src/supervisor/logs.ts';
import { readOptions, UsageError } from '../../src/supervisor/options.ts';
import { createScreen, firstScreen } from '../../src/supervisor/screen.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'gpu-dev-parts-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const me = identify(process.pid) ?? { pid: 0, startedAt: '' };

function instanceAt(home: string, change: Partial<Instance> = {}): Instance {
  const instance: Instance = {
    version: 1,
    home,
    url: 'http://127.0.0.1:8080',
    timeScale: 1,
    startedAt: '2026-01-01T00:00:00.000Z',
    supervisor: me,
    services: [{ ...me, port: 8080 }],
    postgres: {
      kind: 'embedded',
      host: '127.0.0.1',
      port: 5433,
      user: 'gpudev',
      database: 'gpudev',
      passwordFile: join(home, 'password'),
    },
    cluster: { kind: 'simulated', kubeconfig: join(home, 'kubeconfig'), port: 6443 },
    ...change,
  };
  mkdirSync(home, { recursive: true });
  writeFileSync(join(home, 'instance.json'), JSON.stringify(instance));
  writeFileSync(join(home, 'password'), 'secret\n');
  return instance;
}

describe('the options of npm start', () => {
  it('are embedded, simulated, port 8080 and .gpu-dev when nothing is said, whatever the shell exports', () => {
    const options = readOptions([], { POSTGRES_HOST: 'production.example', KUBECONFIG: '/etc/production', TIME_SCALE: '60' });
    expect(options).toEqual({
      home: join(process.cwd(), '.gpu-dev'),
      port: 8080,
      fresh: false,
      timeScale: 1,
      database: 'embedded',
      cluster: 'simulated',
      volumeSnapshots: true,
      replicas: 1,
    });
  });

  it('take PORT and GPU_DEV_HOME from the environment, and flags before those', () => {
    expect(readOptions([], { PORT: '0', GPU_DEV_HOME: '/a' })).toMatchObject({ port: 0, home: '/a' });
    expect(readOptions(['--port', '81', '--home', '/b'], { PORT: '0', GPU_DEV_HOME: '/a' })).toMatchObject({
      port: 81,
      home: '/b',
    });
    expect(readOptions(['--help'], {})).toBeUndefined();
  });

  it.each([
    [['--port', 'http'], /--port is a number from 0 to 65535, not "http"/],
    [['--port', '80.5'], /whole number/],
    [['--database', 'sqlite'], /--database is embedded or external, not "sqlite"/],
    [['--database', 'external'], /needs POSTGRES_HOST/],
    [['--time-scale', '0'], /--time-scale is a number from 1/],
    [['--cluster', 'kube', '--time-scale', '60'], /simulated cluster only/],
    [['--frsh'], /Unknown option '--frsh'[\s\S]*--fresh/],
  ])('refuse %j with a sentence', (args, message) => {
    expect(() => readOptions(args, {})).toThrow(UsageError);
    expect(() => readOptions(args, {})).toThrow(message);
  });
});

describe('the environment of the service', () => {
  const shell = {
    HOME: '/h',
    POLL_INTERVAL_SECONDS: '1',
    POSTGRES_HOST: 'db',
    PGSSLMODE: 'require',
    KUBECONFIG: '/k',
    PORT: '1',
    npm_config_x: 'y',
  };

  it('holds the shell’s database only with --database external and its cluster only with --cluster kube', () => {
    expect(cleanEnvironment(shell, { database: 'embedded', cluster: 'simulated' })).toEqual({
      HOME: '/h',
      POLL_INTERVAL_SECONDS: '1',
    });
    expect(cleanEnvironment(shell, { database: 'external', cluster: 'simulated' })).toMatchObject({
      POSTGRES_HOST: 'db',
      PGSSLMODE: 'require',
    });
    expect(cleanEnvironment(shell, { database: 'embedded', cluster: 'kube' })).toMatchObject({ KUBECONFIG: '/k' });
  });

  it('is the whole configuration of the service', () => {
    const options = readOptions(['--home', '/x', '--time-scale', '240'], {});
    if (options === undefined) throw new Error('no options');
    const postgres = { host: '127.0.0.1', port: 5433, user: 'u', password: 'p', database: 'd' };
    expect(serviceEnvironment({ GPU_DEV_USER: 'ada' }, options, 8080, { postgres, kubeconfig: '/x/kubeconfig' })).toEqual({
      POSTGRES_HOST: '127.0.0.1',
      POSTGRES_PORT: '5433',
      POSTGRES_USER: 'u',
      POSTGRES_PASSWORD: 'p',
      POSTGRES_DB: 'd',
      KUBECONFIG: '/x/kubeconfig',
      PORT: '8080',
      GPU_DEV_HOME: '/x',
      TIME_SCALE: '240',
      CLUSTER: 'simulated',
      GPU_DEV_LOCAL: 'true',
      GPU_DEV_ADMINS: 'ada',
      LOG_LEVEL: 'info',
    });
  });
});

describe('gpu-dev env', () => {
  it('quotes what a shell would take apart', () => {
    const home = join(folder, "it's $HOME; a test");
    instanceAt(home);
    const quoted = `'${home.replaceAll("'", "'\\''")}/kubeconfig'`;
    expect(environmentExports(home)).toContain(`export KUBECONFIG=${quoted}\n`);
  });

  it('says how to start when nothing runs', () => {
    expect(() => environmentExports(folder)).toThrow(
      `nothing of gpu-dev runs from ${folder}; start it with: npm start -- --home ${folder}`,
    );
    instanceAt(folder, { services: [{ pid: me.pid, startedAt: 'another process that had this pid', port: 1 }] });
    expect(() => environmentExports(folder)).toThrow('does not run now');
  });

  it('knows no password of an external database and says so', () => {
    instanceAt(folder, { postgres: { kind: 'external', host: 'db', port: 5432, user: 'u', database: 'd' } });
    const text = environmentExports(folder);
    expect(text).not.toContain('export POSTGRES_PASSWORD');
    expect(text).toContain('# POSTGRES_PASSWORD is as in the shell');
  });
});

describe('logs', () => {
  it('are bounded, keep one older part, and a writer that appends goes on', () => {
    const log = join(folder, 'service.log');
    writeFileSync(log, 'x'.repeat(2000));
    boundLogs(folder, 1000);
    expect(statSync(log).size).toBe(0);
    expect(statSync(`${log}.1`).size).toBe(2000);
    appendFileSync(log, 'next\n');
    boundLogs(folder, 1000);
    expect(readFileSync(log, 'utf8')).toBe('next\n');
  });

  it('give their last lines without being read whole', () => {
    const log = join(folder, 'service.log');
    writeFileSync(log, `${'old\n'.repeat(100_000)}one\n\ntwo\n`);
    expect(lastLines(log, 2)).toEqual(['one', 'two']);
    expect(lastLines(join(folder, 'none'), 2)).toEqual([]);
  });
});

describe('the screen', () => {
  const write = (environment: NodeJS.ProcessEnv, isTTY: boolean): string => {
    const stream = Object.assign(new PassThrough(), { isTTY }) as unknown as NodeJS.WriteStream;
    const screen = createScreen(stream, environment);
    screen.event('service', 'ended', ['its last words']);
    screen.print(firstScreen(instanceAt(folder, { timeScale: 240 }), process.cwd(), screen.paint));
    return String((stream as unknown as PassThrough).read());
  };

  it('has colours on a terminal only, and none with NO_COLOR', () => {
    const colour = String.fromCharCode(27);
    expect(write({}, true)).toContain(colour);
    expect(write({ NO_COLOR: '1' }, true)).not.toContain(colour);
    expect(write({}, false)).not.toContain(colour);
  });

  it('tells what runs and what to type next', () => {
    const text = write({}, false);
    for (const part of [
      'http://127.0.0.1:8080',
      '127.0.0.1:5433/gpudev',
      'http://127.0.0.1:6443',
      '4 h take 1 min',
      'eval "$(npx gpu-dev env',
      'curl -s $GPU_DEV_URL/v1/gpus',
      'npx gpu-dev reserve',
      'kubectl get pods -n gpu-dev',
      'pgmq.send',
      'its last words',
    ]) {
      expect(text).toContain(part);
    }
  });
});

it('a process is not the one that had its pid before', () => {
  expect(isRunning(me)).toBe(true);
  expect(isRunning({ ...me, startedAt: `${me.startedAt}0` })).toBe(false);
  expect(identify(2 ** 30)).toBeUndefined();
});
