import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { KubeConfig } from '@kubernetes/client-node';
import { createCluster } from '../../../src/simulated-cluster/cluster.ts';
import { type Front, serve } from '../../../src/simulated-cluster/http-server.ts';
import type { SettingsInput } from '../../../src/simulated-cluster/settings.ts';
import { PATIENCE_MS } from '../../support/patience.ts';

/** Delays short enough for tests, long enough to be seen. */
export const QUICK = {
  delays: {
    schedule: 2,
    pull: 5,
    start: 2,
    init: 2,
    ready: 2,
    terminate: 5,
    snapshot: 20,
    job: 20,
    provision: 2,
    detach: 5,
    collect: 2,
    crashBackoff: 20,
    nodeGrace: 10,
    orphan: 10,
  },
} satisfies SettingsInput;

export interface Running extends Front {
  url: string;
  config: KubeConfig;
}

/** A cluster in this process, served on a free port. */
export async function startCluster(settings: SettingsInput = QUICK): Promise<Running> {
  const front = await serve(createCluster({ now: Date.now(), settings }), 0);
  return { ...front, url: `http://127.0.0.1:${front.port}`, config: configFor(front.port) };
}

export function configFor(port: number): KubeConfig {
  const config = new KubeConfig();
  config.loadFromOptions({
    clusters: [{ name: 'c', server: `http://127.0.0.1:${port}`, skipTLSVerify: true }],
    users: [{ name: 'u' }],
    contexts: [{ name: 'x', cluster: 'c', user: 'u' }],
    currentContext: 'x',
  });
  return config;
}

export interface ClusterProcess {
  child: ChildProcess;
  port: number;
}

/** A cluster in a process of its own, ready to be killed. */
export async function spawnCluster(...args: string[]): Promise<ClusterProcess> {
  const child = spawn(process.execPath, ['src/simulated-cluster/main.ts', ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
  for await (const line of createInterface({ input: child.stdout as NodeJS.ReadableStream })) {
    const message = JSON.parse(line) as { ready: boolean; port: number };
    if (message.ready) return { child, port: message.port };
  }
  throw new Error('the simulated cluster ended before it was ready');
}

/** Ends a process and waits until it is gone. */
export async function end(child: ChildProcess, signal: NodeJS.Signals): Promise<number | null> {
  if (child.exitCode !== null || child.signalCode !== null) return child.exitCode;
  const gone = new Promise<number | null>((resolve) => child.once('exit', resolve));
  child.kill(signal);
  return gone;
}

/** Waits until `probe` gives something other than undefined or false; says what was awaited when it does not come. */
export async function until<T>(
  what: string,
  probe: () => Promise<T | undefined | false> | T | undefined | false,
  ms = PATIENCE_MS,
): Promise<T> {
  const limit = Date.now() + ms;
  for (;;) {
    const value = await probe();
    if (value !== undefined && value !== false) return value;
    if (Date.now() > limit) throw new Error(`waited ${ms} ms in vain: ${what}`);
    await sleep(5);
  }
}

export interface Answer {
  status: number;
  // biome-ignore lint/suspicious/noExplicitAny: answers are read field by field.
  body: any;
}

/** One plain HTTP call. */
export async function call(
  url: string,
  method: string,
  path: string,
  body?: unknown,
  type = 'application/json',
): Promise<Answer> {
  const response = await fetch(url + path, {
    method,
    ...(body === undefined ? {} : { body: JSON.stringify(body), headers: { 'Content-Type': type } }),
  });
  const text = await response.text();
  return { status: response.status, body: text === '' ? undefined : JSON.parse(text) };
}

export function podBody(name: string, more: object = {}, metadata: object = {}): object {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, ...metadata },
    spec: { containers: [{ name: 'main', image: 'tool:1' }], ...more },
  };
}

/** A pod that asks for GPUs of a type. */
export function gpuPod(name: string, type: string, gpus: number, metadata: object = {}): object {
  return podBody(
    name,
    {
      nodeSelector: { GpuType: type },
      tolerations: [{ key: 'nvidia.com/gpu', operator: 'Exists', effect: 'NoSchedule' }],
      containers: [{ name: 'main', image: 'tool:1', resources: { limits: { 'nvidia.com/gpu': String(gpus) } } }],
    },
    metadata,
  );
}

export function temporaryFolder(): { path: string; remove(): void } {
  const path = mkdtempSync(join(tmpdir(), 'gpu-dev-cluster-'));
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) };
}
