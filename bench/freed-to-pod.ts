/**
 * From capacity that became free to the pod of the next in line: a full pool, a line behind it, and one server after the other cancelled. The
 * clock starts when a watch shows that the pod is gone and ends when it shows the next one.
 */
import type { BenchServer } from './support/server.ts';
import type { PodSeen } from './support/pod-times.ts';
import { create, Stage } from './support/stage.ts';
import { type Percentiles, percentilesOf, round } from './support/statistics.ts';

export interface FreedToPodOptions {
  samples: number;
  log?: (line: string) => void;
  environment?: NodeJS.ProcessEnv;
}

export interface FreedToPodFigures extends Percentiles {
  samples: number;
  max: number;
}

const NODES = 4;
const GPUS = NODES * 8;
/** In the line beside those who will get a server. */
const BEHIND = 20;
const DELAYS = { schedule: 1, pull: 5, start: 1, init: 1, ready: 2, terminate: 5 };

export async function measureFreedToPod(server: BenchServer, options: FreedToPodOptions): Promise<FreedToPodFigures> {
  const stage = await Stage.start(server, { fleet: { h100: NODES }, delays: DELAYS });
  try {
    await stage.healthy(await stage.service(options.environment));
    const wishes = Array.from({ length: GPUS + options.samples + BEHIND }, () => create());
    await stage.sendAll(wishes);
    const { pods } = stage;
    await stage.until('the pool is full', () => pods.created.size === GPUS, 120_000);
    await stage.until('all others are in the line', async () => (await stage.count(WAITING)) === wishes.length - GPUS, 120_000);

    const times: number[] = [];
    for (let sample = 0; sample < options.samples; sample++) {
      const next = await nextRunning(stage);
      const gone = first<PodSeen>((note) => (pods.onGone = note));
      const created = first<PodSeen>((note) => (pods.onCreated = note));
      await stage.send({ action: 'cancel', reservation_id: next, user_id: 'bench' });
      const [end, begin] = await Promise.all([gone, created]);
      if (end.reservation !== next) throw new Error(`The pod of ${end.reservation} ended, not that of ${next}`);
      times.push(begin.at - end.at);
    }
    const figures = { ...percentilesOf(times), max: round(Math.max(...times), 1), samples: times.length };
    options.log?.(JSON.stringify(figures));
    return figures;
  } finally {
    await stage.stop();
  }
}

const WAITING = `select count(*)::int as n from capacity_requests where status = 'waiting'`;
const RUNNING = `select reservation_id as id from reservations where status = 'running' order by launched_at limit 1`;

/** The server that has run for longest. */
async function nextRunning(stage: Stage): Promise<string> {
  let found: string | undefined;
  await stage.until('a server runs', async () => {
    found = (await stage.db.query<{ id: string }>(RUNNING)).rows[0]?.id;
    return found !== undefined;
  });
  return found!;
}

/** What a callback is told first; rejects if that takes a minute. */
function first<T>(listen: (note: (value: T) => void) => void): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error('Nothing came in a minute')), 60_000);
    listen((value) => {
      clearTimeout(timer);
      resolve(value);
    });
  });
}
