/**
 * What the page costs a browser on a large cluster: 1,000 nodes, 8,000 GPUs that are held, 2,000 reservations that wait. First paint, the time
 * from an update on the wire until it is drawn, and whether its memory stays flat while much changes.
 */
import type { Page } from 'playwright-core';
import { gpuDevKinds, type Ports } from '../actors/kinds.ts';
import { Kernel } from '../actors/kernel/kernel.ts';
import { Database } from '../persistence/database.ts';
import { buildHttp } from '../src/http/server.ts';
import { buildPage } from '../src/supervisor/page.ts';
import { keyFor } from '../test/support/api-keys.ts';
import { launchBrowser } from '../test/support/chromium.ts';
import type { BenchServer } from './support/server.ts';
import { type Percentiles, percentilesOf, round } from './support/statistics.ts';

export interface PageFigures {
  /** From the click to the first paint, and until nodes are drawn, in milliseconds; medians of the loads. */
  firstPaintMs: number;
  boardDrawnMs: number;
  /** From the arrival of an update until it is drawn. */
  updateMs: Percentiles;
  /** Processor time of the page's thread for each of them, all that it does in a second included, in milliseconds. */
  updateProcessorMs: number;
  /** Time of a frame while the list of nodes is scrolled. */
  frameMs: Percentiles;
  /** Memory of the page's scripts after a collection: at first, and after all updates. */
  heapMb: { first: number; last: number };
  updates: number;
}

const NODES = 1_000;
const SLOTS = 8;
const WAITING = 2_000;
const HELD = NODES * SLOTS;
const ALL = HELD + WAITING;
const LOADS = 5;

const SEED = [
  `insert into nodes (node, uid, gpu_type, ready, schedulable, slots, cpu_millis, memory_bytes)
   select 'node-' || lpad(n::text, 4, '0'), 'uid-' || n, 'h100', true, true, ${SLOTS}, 192000, 2e12 from generate_series(1, ${NODES}) n`,
  `insert into reservations (reservation_id, user_id, status, substate, gpu_type, gpu_count, duration_hours, total_hours, created_at,
                             state_entered_at, launched_at, expires_at, name)
   select lpad(n::text, 8, '0') || '-0000-7000-8000-000000000000', 'user-' || n % 400,
          case when n <= ${HELD} then 'running'::reservation_status else 'queued' end,
          case when n <= ${HELD} then 'serving' else 'capacity' end, 'h100', 1, 8, 8, now() - n * interval '1 s', now(),
          case when n <= ${HELD} then now() - interval '1 hour' end,
          case when n <= ${HELD} then now() + (n % 40) * interval '1 hour' end, 'name-' || n
     from generate_series(1, ${ALL}) n`,
  `insert into gpu_slots (gpu_type, node, slot, reservation_id, generation, held_since)
   select 'h100', 'node-' || lpad(((n - 1) / ${SLOTS} + 1)::text, 4, '0'), (n - 1) % ${SLOTS}, lpad(n::text, 8, '0') || '-0000-7000-8000-000000000000', 1,
          now() - interval '1 hour'
     from generate_series(1, ${HELD}) n`,
  `insert into capacity_requests (reservation_id, gpu_type, owner, generation, slots, cpu_millis, memory_bytes, duration_hours, submitted_at, status)
   select reservation_id, 'h100', user_id, 1, 1, 1000, 1e9, 8, created_at, 'waiting' from reservations where status = 'queued'`,
  `update gpu_availability set total = ${HELD}, in_use = ${HELD}, queued = ${WAITING} where gpu_type = 'h100'`,
  'analyze',
];

/** As a turn does it: the read model, and a step in the history. */
const CHANGE = `
  with changed as (
    update reservations set expires_at = now() + random() * interval '40 hours', updated_at = now()
     where reservation_id in (select reservation_id from gpu_slots where node = any($1::text[])) returning reservation_id)
  insert into history (actor, seq, key, event, outcome, from_state, to_state, machine_version, sender, at)
  select 'reservation/' || reservation_id, $2::bigint, 'bench ' || $2::bigint, '{"type": "extension.allowed"}', 'applied', 'running', 'running', 1, 'bench', now()
    from changed`;

/** Notes when updates arrive and when they are drawn, and how long frames take. Written as text: it runs in the page. */
const WATCH = `
  window.figures = { arrived: 0, drawn: [], frames: [] };
  const read = ReadableStreamDefaultReader.prototype.read;
  ReadableStreamDefaultReader.prototype.read = async function (...args) {
    const result = await read.apply(this, args);
    if (result.value && result.value.length > 200 && figures.arrived === 0) figures.arrived = performance.now();
    return result;
  };
  new MutationObserver(() => {
    if (figures.arrived === 0) return;
    const { arrived } = figures;
    figures.arrived = 0;
    requestAnimationFrame(() => setTimeout(() => figures.drawn.push(performance.now() - arrived)));
  }).observe(document, { subtree: true, childList: true, attributes: true, attributeFilter: ['title'] });
`;
interface Watched {
  drawn: number[];
  frames: number[];
}

/** @param seconds how long things change @throws Error if no browser can be had here */
export async function measurePage(
  server: BenchServer,
  { seconds, log }: { seconds: number; log?: (line: string) => void },
): Promise<PageFigures> {
  const browser = await launchBrowser();
  if ('missing' in browser) throw new Error(browser.missing);
  const build = await buildPage();
  if (build.how === 'failed') throw new Error(build.reason);
  const db = new Database({ ...server.at(await server.create()), maxConnections: 8 });
  for (const statement of SEED) await db.query(statement);
  // Nobody works here: what is seen is what was written above.
  const kernel = new Kernel({ db, kinds: gpuDevKinds({ db } as unknown as Ports), onError: () => {} });
  const fine = { ok: true, detail: 'fine' };
  const app = await buildHttp({
    db,
    kernel,
    logger: false,
    timeScale: 1,
    health: async () => ({ database: fine, queue: fine, tracker: fine }),
    trackerAgeMs: () => 0,
  });
  const url = await app.listen({ host: '127.0.0.1', port: 0 });
  const key = await keyFor(db, 'operator', { admin: true });
  const load = async (): Promise<{ page: Page; paint: number; drawn: number }> => {
    const context = await browser.newContext({ viewport: { width: 1360, height: 900 } });
    await context.addInitScript(`sessionStorage.setItem('gpu-dev-key', ${JSON.stringify(key)});${WATCH}`);
    const page = await context.newPage();
    await page.goto(`${url}/ui#/board`);
    await page.locator('.node-row .hold').first().waitFor();
    const [paint, drawn] = (await page.evaluate(
      `[performance.getEntriesByName('first-contentful-paint')[0].startTime, performance.now()]`,
    )) as [number, number];
    return { page, paint, drawn };
  };
  try {
    const loads: { paint: number; drawn: number }[] = [];
    for (let index = 0; index < LOADS; index++) {
      const { page, ...times } = await load();
      loads.push(times);
      log?.(JSON.stringify(times));
      await page.context().close();
    }
    const { page } = await load();
    const first = await heapOf(page);
    const processor = await processorOf(page);
    let updates = 0;
    for (const end = Date.now() + seconds * 1_000; Date.now() < end; updates++) {
      const nodes = Array.from(
        { length: 30 },
        (_, index) => `node-${String(index < 10 ? index + 1 : 1 + Math.floor(Math.random() * NODES)).padStart(4, '0')}`,
      );
      await db.query(CHANGE, [nodes, updates + 1]);
      await page.waitForTimeout(1_000);
    }
    const processorMs = await processor();
    const last = await heapOf(page);
    await scroll(page);
    const { drawn, frames } = (await page.evaluate('figures')) as Watched;
    return {
      firstPaintMs: round(median(loads.map(({ paint }) => paint))),
      boardDrawnMs: round(median(loads.map(({ drawn: each }) => each))),
      updateMs: percentilesOf(drawn),
      updateProcessorMs: round(processorMs / updates),
      frameMs: percentilesOf(frames),
      heapMb: { first, last },
      updates,
    };
  } finally {
    await browser.close();
    await app.close();
    await db.close();
  }
}

/** From the first node to the last. */
async function scroll(page: Page): Promise<void> {
  await page.evaluate(`new Promise((resolve) => {
    const list = document.querySelector('.virtual[aria-label="Nodes"]');
    let last = performance.now();
    const step = (now) => {
      figures.frames.push(now - last);
      last = now;
      list.scrollTop += 160;
      if (list.scrollTop + list.clientHeight < list.scrollHeight - 1) requestAnimationFrame(step);
      else resolve();
    };
    requestAnimationFrame(step);
  })`);
}

/** Tells the processor time of the page's thread since it was made, in milliseconds. */
async function processorOf(page: Page): Promise<() => Promise<number>> {
  const session = await page.context().newCDPSession(page);
  await session.send('Performance.enable', { timeDomain: 'threadTicks' });
  const now = async () => {
    const { metrics } = await session.send('Performance.getMetrics');
    return (metrics.find(({ name }) => name === 'TaskDuration')?.value ?? 0) * 1_000;
  };
  const before = await now();
  return async () => (await now()) - before;
}

async function heapOf(page: Page): Promise<number> {
  const session = await page.context().newCDPSession(page);
  await session.send('HeapProfiler.collectGarbage');
  const { usedSize } = await session.send('Runtime.getHeapUsage');
  await session.detach();
  return round(usedSize / 1024 / 1024);
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!;
}
