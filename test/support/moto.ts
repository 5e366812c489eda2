/**
 * Moto, an AWS API emulator, for a test file:
 *
 *     const moto = await startMoto();
 *     describe.skipIf(moto.missing)('...', () => { ... moto.url ... });
 *
 * It is installed once into the cache: by pip where an index can be reached, else from Debian packages, unpacked beside the system. Where
 * neither can be had, the run says so. What moto gets wrong is tested on a stub of our own (test/aws/stub).
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { rm, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { afterAll } from 'vitest';
import { unpackDebian } from './debian.ts';
import { exclusively } from './kubernetes/once.ts';
import { notTested } from './not-tested.ts';

const run = promisify(execFile);
const VERSION = '5.1.1';
const FOLDER = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'gpu-dev', 'moto');

/** What moto needs, as Debian names it; moto itself comes from the first release that has it. */
const LIBRARIES =
  'flask flask-cors werkzeug boto3 botocore s3transfer jmespath responses xmltodict jinja2 markupsafe click itsdangerous cryptography cffi-backend requests urllib3 certifi charset-normalizer idna dateutil yaml six toml simplejson'
    .split(' ')
    .map((name) => `python3-${name}`);

interface Python {
  command: string;
  environment: Record<string, string>;
}

export interface Moto {
  /** Why it cannot be had here, for `describe.skipIf`; empty if it can. */
  missing: string;
  /** Endpoint of every service. */
  url: string;
  /** Forget everything. */
  reset(): Promise<void>;
}

/** A server of the file's own on a free port of 127.0.0.1; it ends with the file. */
export async function startMoto(): Promise<Moto> {
  const found = await exclusively(FOLDER, install, () => {});
  if ('missing' in found) {
    notTested('on moto, an emulator of AWS', found.missing);
    return { missing: found.missing, url: '', reset: async () => {} };
  }
  const { url, child } = await serve(found);
  const gone = once(child, 'exit');
  afterAll(async () => {
    child.kill();
    await gone;
  });
  const reset = async () => {
    const answer = await fetch(`${url}/moto-api/reset`, { method: 'POST' });
    if (!answer.ok) throw new Error(`moto could not be reset: ${answer.status}`);
  };
  return { missing: '', url, reset };
}

/** @throws Error with its last words if it ends before it listens */
async function serve({ command, environment }: Python): Promise<{ url: string; child: ChildProcess }> {
  const keys = { AWS_ACCESS_KEY_ID: 'test', AWS_SECRET_ACCESS_KEY: 'test', AWS_DEFAULT_REGION: 'us-east-2' };
  const child = spawn(command, ['-W', 'ignore', '-m', 'moto.server', '-H', '127.0.0.1', '-p', '0'], {
    env: { ...process.env, ...keys, ...environment },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  // Whatever becomes of the test run, the server does not outlive it.
  const end = () => child.kill('SIGKILL');
  process.once('exit', end);
  child.once('exit', () => process.off('exit', end));
  let said = '';
  for await (const line of createInterface({ input: child.stderr })) {
    const url = /Running on (http:\/\/127\.0\.0\.1:\d+)/.exec(line)?.[1];
    said = `${said}\n${line}`.slice(-2_000);
    if (url === undefined) continue;
    child.stderr.resume();
    return { url, child };
  }
  throw new Error(`moto did not start: ${said.trim()}`);
}

/** From Debian packages; else by pip. */
async function install(): Promise<Python | { missing: string }> {
  const debian = await fromDebian();
  if (!('missing' in debian)) return debian;
  const venv = join(FOLDER, `venv-${VERSION}`);
  const command = join(venv, 'bin', 'python3');
  const done = join(venv, 'done');
  if (existsSync(done)) return { command, environment: {} };
  try {
    await rm(venv, { recursive: true, force: true });
    await run('python3', ['-m', 'venv', venv], { timeout: 60_000 });
    const pip = ['-m', 'pip', 'install', '--quiet', '--retries', '0', '--timeout', '10', `moto[server]==${VERSION}`];
    await run(command, pip, { timeout: 180_000 });
    await writeFile(done, '');
    return { command, environment: {} };
  } catch (error) {
    const { stderr, message } = error as { stderr?: string; message: string };
    return { missing: `${debian.missing}; by pip: ${(stderr || message).trim().slice(-300)}` };
  }
}

/** Debian's own Python, for which its libraries are made. */
async function fromDebian(): Promise<Python | { missing: string }> {
  const command = '/usr/bin/python3';
  if (!existsSync(command)) return { missing: `${command} is not there` };
  const folders: string[] = [];
  for (const unpacked of [
    await unpackDebian('moto-libraries', LIBRARIES),
    await unpackDebian('moto', ['python3-moto'], 'trixie'),
  ]) {
    if ('missing' in unpacked) return unpacked;
    folders.push(join(unpacked.folder, 'usr', 'lib', 'python3', 'dist-packages'));
  }
  return { command, environment: { PYTHONPATH: folders.join(':') } };
}
