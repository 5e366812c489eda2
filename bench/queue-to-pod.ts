/**
 * From a message on the queue to the pod in the cluster: an open loop, so that a slow answer does not hold back the next request. The clock
 * starts before the send, and ends when a watch shows the pod; everything between is counted, the database's commit and the watch included.
 */
import type { BenchServer } from './support/server.ts';
import { create, Stage } from './support/stage.ts';
import { type Percentiles, percentilesOf, round } from './support/statistics.ts';

export interface QueueToPodOptions {
  /** Requests a second, and for how many seconds. */
  perSecond: number;
  seconds: number;
  withDisk: boolean;
  log?: (line: string) => void;
  /** Further variables of the service's environment. */
  environment?: NodeJS.ProcessEnv;
}

export interface QueueToPodFigures extends Percentiles {
  requests: number;
  max: number;
  /** By how much the sends were late at most, in milliseconds: an open loop must keep its own times. */
  sentLate: number;
  /** Processor time of each part a request, in milliseconds, until all pods were there: with so many cores, the most that can be served a second. */
  processorMs: Record<string, number>;
}

/** GPUs of a node. */
const GPUS = 8;
/** Requests before the first that is measured: a service that has just started compiles what it runs, and its connections make plans. */
const WARM_UP = 800;
/** A service that cannot keep up is waited for: its figures say so. */
const PATIENCE_MS = 300_000;

export async function measureQueueToPod(server: BenchServer, options: QueueToPodOptions): Promise<QueueToPodFigures> {
  const requests = options.perSecond * options.seconds;
  const stage = await Stage.start(server, { fleet: { h100: Math.ceil((Math.max(requests, 2_000) + WARM_UP) / GPUS) } });
  try {
    await stage.healthy(await stage.service(options.environment));
    const wish = () => (options.withDisk ? create({ disk_name: 'default', user_id: `user-${users++}` }) : create());
    let users = 0;
    for (let sent = 0; sent < WARM_UP; sent += GPUS) {
      await stage.sendAll(Array.from({ length: GPUS }, wish));
      await stage.until('the first pods are there', () => stage.pods.created.size >= sent + GPUS);
    }

    const sent = new Map<string, number>();
    let sentLate = 0;
    const pending: Promise<void>[] = [];
    const before = stage.processor();
    const since = performance.now();
    for (const [index, due] of poissonTimes(requests, options.perSecond).entries()) {
      const early = since + due - performance.now();
      if (early > 1) await new Promise((resolve) => setTimeout(resolve, early));
      const request = wish();
      if (index > 0) sentLate = Math.max(sentLate, performance.now() - since - due);
      sent.set(request.reservation_id, performance.timeOrigin + performance.now());
      pending.push(stage.send(request));
    }
    await Promise.all(pending);
    await stage.until('every request has its pod', () => [...sent.keys()].every((id) => stage.pods.created.has(id)), PATIENCE_MS);
    const after = stage.processor();
    const times = [...sent].map(([id, at]) => stage.pods.created.get(id)! - at);
    const parts = ['service', 'cluster', 'postgres'] as const;
    const processorMs = parts.map((part) => [part, round(((after[part] - before[part]) * 1_000) / requests, 2)]);
    const figures = {
      ...percentilesOf(times),
      max: round(Math.max(...times), 1),
      requests,
      sentLate: round(sentLate, 1),
      processorMs: Object.fromEntries(processorMs) as Record<string, number>,
    };
    options.log?.(JSON.stringify(figures));
    return figures;
  } finally {
    await stage.stop();
  }
}

/** Times in milliseconds at which requests of a Poisson process come, the same at every run. */
function poissonTimes(count: number, perSecond: number): number[] {
  let state = 42;
  const random = () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return (state + 1) / (2 ** 32 + 1);
  };
  let at = 0;
  return Array.from({ length: count }, () => (at += (-Math.log(random()) * 1_000) / perSecond));
}
