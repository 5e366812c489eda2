/** What an event and a start cost with few and with very many reservations stored: they must cost the same. */
import { TestKeys } from '../test/support/api-keys.ts';
import type { BenchServer } from './support/server.ts';
import { create, type ServiceProcess, Stage } from './support/stage.ts';
import { median, round } from './support/statistics.ts';
import { fillStored } from './support/stored.ts';

export interface SizesOptions {
  sizes: readonly number[];
  rounds: number;
  log?: (line: string) => void;
  environment?: NodeJS.ProcessEnv;
}

export interface SizesFigures {
  /** Milliseconds from an extension that is asked for by HTTP to its answer (two turns of the reservation, one of the pool), by stored reservations. */
  eventMsBySize: Record<string, number>;
  /** Seconds from the spawn of the service until it says that it is ready. */
  startSecondsBySize: Record<string, number>;
  /** The same until its health says so, the view of the cluster included. */
  healthySecondsBySize: Record<string, number>;
}

const EVENTS = 20;
/** Of the first events of a process: code is compiled, plans are made. */
const WARM_UP = 5;

interface Place {
  size: number;
  stage: Stage;
  running: string;
  eventMs: number[];
  start: number[];
  healthy: number[];
}

export async function measureSizes(server: BenchServer, options: SizesOptions): Promise<SizesFigures> {
  const places: Place[] = [];
  try {
    for (const size of options.sizes) places.push(await prepare(server, size, options));
    for (let index = 0; index < options.rounds; index++) for (const place of places) await visit(place, options);
    const figures: SizesFigures = { eventMsBySize: {}, startSecondsBySize: {}, healthySecondsBySize: {} };
    for (const { size, eventMs, start, healthy } of places) {
      figures.eventMsBySize[size] = round(median(eventMs), 2);
      figures.startSecondsBySize[size] = round(median(start), 2);
      figures.healthySecondsBySize[size] = round(median(healthy), 2);
    }
    return figures;
  } finally {
    for (const { stage } of places) await stage.stop();
  }
}

const RUNNING = `select count(*)::int as n from reservations where reservation_id = $1 and status = 'running'`;

async function prepare(server: BenchServer, size: number, { log, environment }: SizesOptions): Promise<Place> {
  const stage = await Stage.start(server, { fleet: { h100: 4, t4: 0 } });
  const service = await stage.service(environment);
  await stage.healthy(service);
  const since = performance.now();
  await fillStored(stage, size);
  log?.(`${size} stored after ${round((performance.now() - since) / 1_000)} s`);
  const wish = create({ duration_hours: 4 });
  await stage.send(wish);
  await stage.until('a server runs', async () => (await stage.count(RUNNING, [wish.reservation_id])) === 1);
  await stop(service);
  return { size, stage, running: wish.reservation_id, eventMs: [], start: [], healthy: [] };
}

/** Start a service here, send it some events, and stop it. */
async function visit(place: Place, { environment, log }: SizesOptions): Promise<void> {
  const since = performance.now();
  const service = await place.stage.service(environment);
  place.start.push((performance.now() - since) / 1_000);
  await place.stage.healthy(service);
  place.healthy.push((performance.now() - since) / 1_000);
  const times: number[] = [];
  const headers = await new TestKeys(place.stage.db).as('bench');
  for (let index = 0; index < WARM_UP + EVENTS; index++) times.push(await extend(service, place.running, headers));
  place.eventMs.push(median(times.slice(WARM_UP)));
  await stop(service);
  log?.(`${place.size}: ready after ${round(place.start.at(-1)!, 2)} s, an event ${round(place.eventMs.at(-1)!, 2)} ms`);
}

async function extend({ url }: ServiceProcess, id: string, headers: { authorization: string }): Promise<number> {
  const since = performance.now();
  const response = await fetch(`${url}/v1/reservations/${id}/events`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify({ type: 'extend', extension_hours: 0.02 }),
  });
  const answer = (await response.json()) as { applied?: boolean };
  if (response.status !== 200 || answer.applied !== true) throw new Error(`${response.status}: ${JSON.stringify(answer)}`);
  return performance.now() - since;
}

async function stop({ program }: ServiceProcess): Promise<void> {
  program.signal('SIGTERM');
  await program.exited();
}
