/** What the service takes when it does little: memory with a long line and many pods, and processor time when nothing happens. */
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
    await fill(stage, size.pods);
    await stage.until('every pod runs', async () => (await stage.count(RUNNING)) >= size.pods, 900_000);
    options.log?.(`${size.pods} pods after ${round((performance.now() - since) / 1_000)} s`);
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
