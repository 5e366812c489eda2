// A Kubernetes control plane of real programs on 127.0.0.1: etcd, API server, scheduler, controller manager.
import { type ChildProcess, spawn } from 'node:child_process';
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { get } from 'node:https';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { freePort } from '../../../persistence/embedded/ports.ts';
import { identify } from '../../../persistence/embedded/processes.ts';
import type { Access } from './api.ts';
import { writeKubeconfig } from './kubeconfig.ts';
import type { ProgramName } from './programs.ts';

/** Free ports are asked for and then used: another process may have come in between. */
const TRIES = 3;
const READY_MS = 60_000;

export interface ControlPlaneOptions {
  programs: string;
  /** An empty folder of a test run: what runs is noted in its subfolder `run`, by which the next run finds what a killed one left. */
  folder: string;
}

export class ControlPlane {
  readonly folder: string;
  readonly #programs: string;
  readonly #token = randomBytes(16).toString('hex');
  readonly #children = new Map<ProgramName, ChildProcess>();
  #ports = { api: 0, etcd: 0, peers: 0 };
  #stopping = false;

  private constructor({ programs, folder }: ControlPlaneOptions) {
    this.#programs = programs;
    this.folder = folder;
  }

  /** @throws Error with the last words of the program that did not start */
  static async start(options: ControlPlaneOptions): Promise<ControlPlane> {
    for (let attempt = 1; ; attempt += 1) {
      const plane = new ControlPlane(options);
      try {
        await plane.#start();
        return plane;
      } catch (error) {
        await plane.stop();
        rmSync(join(options.folder, 'etcd'), { recursive: true, force: true });
        if (attempt === TRIES) throw error;
      }
    }
  }

  /** The way in for one who may do everything. */
  get access(): Access {
    return { server: `https://127.0.0.1:${this.#ports.api}`, caFile: this.certificate, token: this.#token };
  }

  /** The API server's own certificate with its authority, and its key: parts that stand in for others may show them too. */
  get certificate(): string {
    return join(this.folder, 'certificates', 'apiserver.crt');
  }
  get certificateKey(): string {
    return join(this.folder, 'certificates', 'apiserver.key');
  }
  get kubeconfig(): string {
    return join(this.folder, 'kubeconfig');
  }

  async #start(): Promise<void> {
    for (const name of ['run', 'certificates']) mkdirSync(join(this.folder, name), { recursive: true });
    this.#ports = { api: await freePort(), etcd: await freePort(), peers: await freePort() };
    const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
    writeFileSync(join(this.folder, 'service-accounts.key'), privateKey.export({ type: 'pkcs1', format: 'pem' }), {
      mode: 0o600,
    });
    writeFileSync(join(this.folder, 'tokens.csv'), `${this.#token},admin,admin,"system:masters"\n`, { mode: 0o600 });
    const etcd = `http://127.0.0.1:${this.#ports.etcd}`;
    const peers = `http://127.0.0.1:${this.#ports.peers}`;
    this.#spawn('etcd', {
      'data-dir': join(this.folder, 'etcd'),
      'listen-client-urls': etcd,
      'advertise-client-urls': etcd,
      'listen-peer-urls': peers,
      'initial-advertise-peer-urls': peers,
      'initial-cluster': `default=${peers}`,
      'unsafe-no-fsync': 'true',
    });
    await this.startApiServer();
    writeKubeconfig(this.kubeconfig, this.access);
    // Generous rates: by default these throttle themselves to 20 calls a second.
    const client = { kubeconfig: this.kubeconfig, 'leader-elect': 'false', 'kube-api-qps': '500', 'kube-api-burst': '1000' };
    this.#spawn('kube-scheduler', { ...client, port: '0', 'secure-port': '0' });
    this.#spawn('kube-controller-manager', {
      ...client,
      port: '0',
      'secure-port': '0',
      // No kubelet renews leases here, so the judge of silent nodes would take them all for lost.
      controllers: '*,-nodelifecycle,-nodeipam,-ttl',
      'service-account-private-key-file': join(this.folder, 'service-accounts.key'),
      'root-ca-file': this.certificate,
      'pvclaimbinder-sync-period': '2s',
    });
  }

  /** Start the API server, or start it again after `stopApiServer`, and wait until it is ready. */
  async startApiServer(): Promise<void> {
    const key = join(this.folder, 'service-accounts.key');
    const child = this.#spawn('kube-apiserver', {
      'etcd-servers': `http://127.0.0.1:${this.#ports.etcd}`,
      'bind-address': '127.0.0.1',
      'advertise-address': '127.0.0.1',
      'secure-port': String(this.#ports.api),
      'cert-dir': join(this.folder, 'certificates'),
      'token-auth-file': join(this.folder, 'tokens.csv'),
      'authorization-mode': 'RBAC',
      'service-account-key-file': key,
      'service-account-signing-key-file': key,
      'service-account-issuer': 'https://kubernetes.default.svc',
      'service-cluster-ip-range': '10.96.0.0/16',
      'allow-privileged': 'true',
      // New nodes would wait for the judge of silent nodes to take their taint away.
      'disable-admission-plugins': 'TaintNodesByCondition',
      'kubelet-preferred-address-types': 'InternalIP',
      'endpoint-reconciler-type': 'none',
    });
    const end = Date.now() + READY_MS;
    while (!(await isReady(this.#ports.api, this.#token))) {
      if (child.exitCode !== null || child.signalCode !== null)
        throw new Error(`kube-apiserver ended: ${this.#words('kube-apiserver')}`);
      if (Date.now() > end) throw new Error(`kube-apiserver is not ready after ${READY_MS} ms: ${this.#words('kube-apiserver')}`);
      await pause(50);
    }
  }

  /** As a crash of its machine: without notice. Etcd keeps everything. */
  async stopApiServer(): Promise<void> {
    await this.#kill('kube-apiserver');
  }

  /** End all programs. The folder stays. */
  async stop(): Promise<void> {
    this.#stopping = true;
    await Promise.all([...this.#children.keys()].reverse().map((name) => this.#kill(name)));
  }

  #spawn(name: ProgramName, flags: Record<string, string>): ChildProcess {
    const log = openSync(join(this.folder, `${name}.log`), 'a');
    const args = Object.entries(flags).map(([flag, value]) => `--${flag}=${value}`);
    const child = spawn(join(this.#programs, name), args, { cwd: this.folder, stdio: ['ignore', log, log] });
    closeSync(log);
    child.on('error', () => undefined);
    if (child.pid !== undefined) writeFileSync(join(this.folder, 'run', name), JSON.stringify(identify(child.pid) ?? null));
    child.once('exit', (code, signal) => {
      if (this.#stopping || this.#children.get(name) !== child) return;
      process.stderr.write(`${name} ended by itself (${code ?? signal}): ${this.#words(name)}\n`);
    });
    this.#children.set(name, child);
    return child;
  }

  async #kill(name: ProgramName): Promise<void> {
    const child = this.#children.get(name);
    this.#children.delete(name);
    if (child?.pid === undefined) return;
    if (child.exitCode === null && child.signalCode === null) {
      const gone = once(child, 'exit');
      child.kill('SIGKILL');
      await gone;
    }
    rmSync(join(this.folder, 'run', name), { force: true });
  }

  #words(name: ProgramName): string {
    const file = join(this.folder, `${name}.log`);
    return existsSync(file) ? readFileSync(file, 'utf8').slice(-1_500).trim() : '';
  }
}

function isReady(port: number, token: string): Promise<boolean> {
  return new Promise((resolve) => {
    // Its certificate is made as it starts: until it is ready there is nothing to check it against.
    const headers = { authorization: `Bearer ${token}` };
    const address = { host: '127.0.0.1', port, path: '/readyz', rejectUnauthorized: false };
    const request = get({ ...address, headers, timeout: 1_000, agent: false }, (response) => {
      response.resume();
      resolve(response.statusCode === 200);
    });
    request.on('timeout', () => request.destroy());
    request.on('error', () => resolve(false));
  });
}
