/** What the service takes when it does little: memory with a long line and many pods, and processor time when nothing happens. */
import { join } from 'node:path';
import { createClient } from '../src/providers/kubernetes/client.ts';
import { processorSeconds } from './support/processor.ts';
import type { BenchServer } from './support/server.ts';
import { create, memoryOf, type ServiceProcess, Stage } from './support/stage.ts';
import { round } from './support/statistics.ts';
import { fillWaiting } from './support/waiting.ts';

export interface FootprintOptions {
  log?: (line: string) => void;
  environment?: NodeJS.ProcessEnv;
}

export interface Memory {
  /** MB (10^6 bytes) of the service: after a start over what is there, settled; and at most. */
  settled: number;
  peak: number;
  /** The same of the process that took all the requests in, at its end. */
  filling: { settled: number; peak: number };
}

/** Waits of the measuring itself, in milliseconds. A quiet service gives back what its start took within half a minute. */
const SETTLE_MS = 40_000;
const IDLE_MS = 30_000;
const AT_ONCE = 1_000;
const SENT = 2_000;
/** A cluster with the usual range of node ports has room for 2,768 servers. The other pods are somebody else's. */
const SERVERS = 2_000;
const STRANGERS_AT_ONCE = 50;
/** For the time of filling: many messages a transaction. */
const FILLING = { BATCH_SIZE: '200' };
/** A pod that is made ready at once, so that filling does not take an hour. */
const DELAYS = { schedule: 1, pull: 1, start: 1, init: 1, ready: 1 };

/** Memory with so many pods running, and so many reservations in the line behind them. */
export async function measureMemory(
  server: BenchServer,
  size: { pods: number; queued: number },
  options: FootprintOptions,
): Promise<Memory & { idleCpu: number }> {
  const stage = await Stage.start(server, { fleet: { h100: size.pods / 8 }, delays: DELAYS });
  try {
    const filler = await stage.service({ ...FILLING, ...options.environment });
    await stage.healthy(filler);
    const since = performance.now();
    const servers = Math.min(size.pods, SERVERS);
    await fill(stage, servers);
    await stage.until('every server runs', async () => (await stage.count(RUNNING)) >= servers, 900_000);
    await strangers(stage, size.pods - servers);
    options.log?.(`${size.pods} pods, ${servers} of them servers, after ${round((performance.now() - since) / 1_000)} s`);
    // The first of the line are sent, the others copied: to send them all takes ten minutes.
    const sent = Math.min(size.queued, SENT);
    await fill(stage, sent);
    await stage.until('the line has begun', async () => (await stage.count(WAITING)) >= sent, 900_000);
    if (size.queued > sent) await fillWaiting(stage, size.queued - sent);
    await stage.until('the line is complete', async () => (await stage.count(WAITING)) >= size.queued);
    options.log?.(`${size.queued} in the line after ${round((performance.now() - since) / 1_000)} s`);
    const filling = await settledMemory(filler);
    filler.program.signal('SIGTERM');
    await filler.program.exited();

    const service = await stage.service(options.environment);
    await stage.healthy(service);
    const { settled, peak } = await settledMemory(service);
    const idleCpu = await idle(service);
    const figures = { settled, peak, filling, idleCpu };
    options.log?.(JSON.stringify(figures));
    return figures;
  } finally {
    await stage.stop();
  }
}

const RUNNING = `select count(*)::int as n from reservations where status = 'running'`;
const WAITING = `select count(*)::int as n from capacity_requests where status = 'waiting'`;

async function fill(stage: Stage, count: number): Promise<void> {
  for (let sent = 0; sent < count; sent += AT_ONCE) {
    await stage.sendAll(
      Array.from({ length: Math.min(AT_ONCE, count - sent) }, (_, index) => create({ user_id: `user-${index % 97}` })),
    );
  }
}

/** Pods that are not ours, as the tracker finds them in any cluster: it keeps count of what they take. */
async function strangers(stage: Stage, count: number): Promise<void> {
  const { core } = createClient({ kubeconfig: join(stage.folder, 'kubeconfig') });
  const resources = { requests: { cpu: '10m', memory: '64Mi' }, limits: { memory: '128Mi' } };
  const containers = ['main', 'sidecar'].map((name) => ({ name, image: `registry.example/${name}:1`, resources }));
  // As those of a DaemonSet: they run on nodes that only servers may use otherwise.
  const tolerations = [{ operator: 'Exists' }];
  for (let made = 0; made < count; made += STRANGERS_AT_ONCE) {
    const names = Array.from({ length: Math.min(STRANGERS_AT_ONCE, count - made) }, (_, index) => `stranger-${made + index}`);
    await Promise.all(
      names.map((name) =>
        core.createNamespacedPod({
          namespace: 'default',
          body: { metadata: { name, labels: { app: 'stranger' } }, spec: { containers, tolerations } },
        }),
      ),
    );
  }
  await stage.until(
    'the strangers run',
    async () => {
      const { items } = await core.listPodForAllNamespaces({
        labelSelector: 'app=stranger',
        fieldSelector: 'status.phase=Running',
      });
      return items.length >= count;
    },
    300_000,
  );
}

async function settledMemory({ program }: ServiceProcess): Promise<{ settled: number; peak: number }> {
  await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
  const { now, peak } = memoryOf(program.child.pid!);
  return { settled: round(now), peak: round(peak) };
}

/** Processor time of a service that nobody talks to, in percent of a core. */
async function idle({ program }: ServiceProcess): Promise<number> {
  const pid = program.child.pid!;
  const before = processorSeconds(pid);
  await new Promise((resolve) => setTimeout(resolve, IDLE_MS));
  return round(((processorSeconds(pid) - before) * 100_000) / IDLE_MS, 2);
}
