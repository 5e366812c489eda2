/** A dev server as a process on this machine: its own scripts, run as its pod says, in an image that is this machine with Debian's sshd. */
import { type ChildProcess, execFile, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { type AddressInfo, connect, createServer } from 'node:net';
import { join } from 'node:path';
import type { ServerSpec } from '../../../actors/reservation/ports.ts';
import { SCRIPTS } from '../../../src/providers/kubernetes/scripts.ts';
import { POD_DEFAULTS, podOf } from '../../../src/providers/kubernetes/pod-spec.ts';
import { unpackDebian } from '../../support/debian.ts';
import { makeScratch, removeScratch } from '../../support/scratch.ts';

const ENTER = new URL('enter.sh', import.meta.url).pathname;
/** What an image of a dev server has beyond a plain Debian. */
const PACKAGES = ['openssh-server', 'openssh-sftp-server', 'openssh-client', 'libwrap0', 'sudo', 'busybox-static'];

export interface Platform {
  packages: string;
  /** The ssh of this machine, else that of the packages. */
  folder: string;
}

/** What is needed to run dev servers here; or, in words, why it cannot be done. */
export async function findPlatform(): Promise<Platform | { missing: string }> {
  if (process.getuid?.() !== 0) return { missing: 'logins need root here, to mount an image' };
  const tried = spawnSync('unshare', ['--mount', '--pid', '--fork', 'mount', '-t', 'tmpfs', 'tmpfs', '/mnt'], {
    encoding: 'utf8',
  });
  if (tried.status !== 0) return { missing: `namespaces cannot be made here: ${tried.stderr || tried.error?.message}` };
  const unpacked = await unpackDebian('dev-server', PACKAGES);
  return 'missing' in unpacked ? unpacked : { packages: unpacked.folder, folder: join(unpacked.folder, 'usr/bin') };
}

export interface Ended {
  code: number | null;
  stdout: string;
  stderr: string;
}

/** What differs from a plain server. */
export interface MachineOptions {
  spec: ServerSpec;
  /** Files that the image lacks, and links that it has instead (`/bin/sh=bash`). */
  image?: string[];
  /** Scripts that the image has on its PATH. */
  programs?: Record<string, string>;
}

/** A server whose volumes outlive its container. */
export class Machine {
  readonly folder = makeScratch('login');
  readonly #platform: Platform;
  readonly #options: MachineOptions;
  #child: ChildProcess | null = null;
  #environment: NodeJS.ProcessEnv = {};
  /** All that the container printed. */
  log = '';
  port = 0;

  constructor(platform: Platform, options: MachineOptions) {
    this.#platform = platform;
    this.#options = options;
    for (const volume of ['image', 'home', 'workspace', 'state', 'access', 'scripts', 'cgroup', 'programs'])
      mkdirSync(join(this.folder, volume));
    chmodSync(join(this.folder, 'home'), 0o777);
    // As a node mounts a Secret: its folder is open to everybody.
    chmodSync(join(this.folder, 'access'), 0o1777);
    for (const [name, text] of Object.entries(SCRIPTS)) {
      writeFileSync(join(this.folder, 'scripts', name), text);
      chmodSync(join(this.folder, 'scripts', name), 0o555);
    }
    for (const [name, text] of Object.entries(options.programs ?? {}))
      writeFileSync(this.path('programs', name), text, { mode: 0o755 });
    this.setKeys(options.spec.authorizedKeys);
  }

  path(...parts: string[]): string {
    return join(this.folder, ...parts);
  }

  /** Replace the mounted keys, as a node does after the Secret has changed. */
  setKeys(lines: string[]): void {
    const file = this.path('access', 'authorized_keys');
    writeFileSync(`${file}.new`, lines.map((line) => `${line}\n`).join(''), { mode: 0o400 });
    renameSync(`${file}.new`, file);
  }

  /** Start the container; resolves when its port answers. @throws Error with its log if it ends before */
  async start(): Promise<this> {
    if (this.port === 0) this.port = await freePort();
    const child = this.#spawn();
    const ended = once(child, 'exit');
    for (;;) {
      if (await answers(this.port)) return this;
      const over = await Promise.race([ended, new Promise<null>((resolve) => setTimeout(resolve, 20, null))]);
      if (over !== null) throw new Error(`the server ended with code ${over[0]}: ${this.log}`);
    }
  }

  /** Run the container to its end. */
  async run(): Promise<number | null> {
    const [code] = (await once(this.#spawn(), 'exit')) as [number | null];
    return code;
  }

  #spawn(): ChildProcess {
    const pod = podOf(this.#options.spec, POD_DEFAULTS);
    const { command = [], env = [], securityContext } = pod.spec!.containers[0]!;
    const rights = ['-all', ...(securityContext?.capabilities?.add ?? []).map((each) => `+${each.toLowerCase()}`)].join(',');
    const own = this.#options.spec.environment.reveal();
    // What the node makes of it: a doubled dollar becomes one.
    const facts = Object.fromEntries(env.map(({ name, value = '' }) => [name, value.replaceAll('$$(', () => '$(')]));
    const image = { PATH: '/opt/of-the-image/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', LANG: 'C.UTF-8' };
    const args = ['--mount', '--pid', '--fork', '--kill-child=SIGKILL', '/bin/sh', ENTER];
    this.#environment = { ...image, ...own, ...facts, HOSTNAME: 'a-server', GPU_DEV_SSH_PORT: String(this.port) };
    const child = spawn(
      'unshare',
      [...args, this.folder, this.#platform.packages, (this.#options.image ?? []).join(','), rights, ...command],
      {
        env: this.#environment,
        stdio: ['ignore', 'pipe', 'pipe'],
      },
    );
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (text: Buffer) => (this.log += text.toString()));
    this.#child = child;
    return child;
  }

  /** Process 1 of the container. */
  get #first(): number {
    const pid = this.#child?.pid ?? 0;
    return Number(readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim());
  }

  /** End the container: by the signal of a deleted pod, or as a lack of memory does. @returns its code, null if it was killed */
  async end(how: 'SIGTERM' | 'SIGKILL'): Promise<number | null> {
    const child = this.#child;
    if (child === null || child.exitCode !== null || child.signalCode !== null) return child?.exitCode ?? null;
    const ended = once(child, 'exit');
    process.kill(this.#first, how);
    const [code] = (await ended) as [number | null];
    return code;
  }

  /** As exec does: a new process beside what runs there. */
  inside(argv: string[], input = ''): Promise<Ended> {
    return execute(
      'nsenter',
      ['-t', String(this.#first), '--mount', '--pid', '--root', '--wd', ...argv],
      input,
      this.#environment,
    );
  }

  /** ssh with a key, as a person does. */
  ssh(key: string, argv: string[], { input = '', options = [] as string[] } = {}): Promise<Ended> {
    return execute(
      this.#program('ssh'),
      [...this.#common(key), '-p', String(this.port), ...options, 'dev@127.0.0.1', ...argv],
      input,
    );
  }

  /** sftp with a key, as a person copies files. */
  sftp(key: string, batch: string): Promise<Ended> {
    return execute(this.#program('sftp'), [...this.#common(key), '-P', String(this.port), '-b', '-', 'dev@127.0.0.1'], batch);
  }

  #program(name: string): string {
    return spawnSync(name, ['-V']).error === undefined ? name : join(this.#platform.folder, name);
  }

  #common(key: string): string[] {
    const known = `UserKnownHostsFile=${this.path('known_hosts')}`;
    const options = ['IdentitiesOnly=yes', 'BatchMode=yes', 'StrictHostKeyChecking=accept-new', 'ConnectTimeout=10', known];
    return ['-F', '/dev/null', '-q', '-i', key, ...options.flatMap((option) => ['-o', option])];
  }

  async stop(): Promise<void> {
    await this.end('SIGKILL');
    await removeScratch(this.folder);
  }
}

function execute(
  program: string,
  argv: string[],
  input: string,
  env: NodeJS.ProcessEnv = { PATH: process.env.PATH },
): Promise<Ended> {
  return new Promise((resolve) => {
    const child = execFile(program, argv, { timeout: 40_000, env }, (error, stdout, stderr) => {
      const code = error === null ? 0 : typeof error.code === 'number' ? error.code : null;
      resolve({ code, stdout, stderr });
    });
    // Who does not read its input may be gone before it comes.
    child.stdin?.on('error', () => undefined);
    child.stdin?.end(input);
  });
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

/** What the readiness probe asks: whether somebody listens. */
function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}

/** A new key pair. @returns the private file and the line of its public part */
export function makeKey(folder: string, name: string, type: string, ...more: string[]): { file: string; line: string } {
  const file = join(folder, name);
  const made = spawnSync('ssh-keygen', ['-q', '-t', type, ...more, '-N', '', '-C', name, '-f', file], { encoding: 'utf8' });
  if (made.status !== 0) throw new Error(made.stderr);
  return { file, line: readFileSync(`${file}.pub`, 'utf8').trim() };
}
