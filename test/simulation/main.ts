/**
 * Deterministic simulation from the command line.
 *
 *   npm run simulate:faults -- --seeds 100000 [--from 1] [--workers 2]              many seeds (1,000 by default)
 *   npm run simulate:faults -- --minutes 20                                         as many as there is time for
 *                                  [--failures 5] [--shrink 20]                    failing seeds to stop at, seconds to shorten the first
 *   npm run simulate:faults -- --seed 17 [--cut "ops=…"]                                one seed, with its history
 */
import { parseArgs } from 'node:util';
import { Worker } from 'node:worker_threads';
import { addReport, emptyReport, type Report } from './seeds.ts';
import { cutPlan, parseCut, textOf, wholeOf } from './world/cut.ts';
import { planOf } from './world/plan.ts';
import { shrink } from './world/shrink.ts';
import { Simulation, type Violation } from './world/simulation.ts';

const { values } = parseArgs({
  options: {
    seeds: { type: 'string' },
    from: { type: 'string', default: '1' },
    workers: { type: 'string', default: '1' },
    minutes: { type: 'string' },
    seed: { type: 'string' },
    cut: { type: 'string' },
    shrink: { type: 'string', default: '20' },
    failures: { type: 'string', default: '5' },
  },
});

process.exitCode = values.seed === undefined ? await many() : await one(Number(values.seed), values.cut);

/** Replay a seed and print its history. */
async function one(seed: number, text: string | undefined): Promise<number> {
  const plan = planOf(seed);
  const cut = text === undefined ? wholeOf(plan) : parseCut(text);
  const outcome = await new Simulation(text === undefined ? plan : cutPlan(plan, cut), { trace: true }).run();
  console.log(outcome.trace.join('\n'));
  console.log(`seed ${seed}: ${outcome.turns} turns, ${outcome.violation === null ? 'every rule holds' : 'A RULE IS BROKEN'}`);
  return outcome.violation === null ? 0 : 1;
}

async function many(): Promise<number> {
  const [from, workers] = [Number(values.from), Number(values.workers)];
  const seeds = Number(values.seeds ?? (values.minutes === undefined ? 1000 : 1_000_000_000));
  const untilMs = values.minutes === undefined ? Number.POSITIVE_INFINITY : Number(values.minutes) * 60_000;
  const sum = emptyReport();
  const begun = performance.now();
  const running = Array.from({ length: workers }, (_, index) => {
    const workerData = { from: from + index, step: workers, seeds: Math.ceil((seeds - index) / workers), untilMs };
    return new Worker(new URL('./worker.ts', import.meta.url), { workerData });
  });
  let told = 0;
  await Promise.all(
    running.map(
      (worker) =>
        new Promise<void>((resolve, reject) => {
          worker.on('message', (report: Report) => {
            addReport(sum, report);
            if (sum.failures.length >= Number(values.failures)) for (const each of running) void each.terminate();
            if (performance.now() - told > 10_000) console.log(lineOf(sum));
            told = Math.max(told, performance.now() - (performance.now() % 10_000));
          });
          worker.on('error', reject);
          worker.on('exit', () => resolve());
        }),
    ),
  );
  print(sum, (performance.now() - begun) / 1000);
  const first = sum.failures.sort((a, b) => a.seed - b.seed)[0];
  if (first !== undefined) await explain(first);
  return sum.failures.length === 0 ? 0 : 1;
}

function lineOf({ seeds, turns, failures }: Report): string {
  return `${seeds} seeds, ${turns} turns, ${failures.length} failed`;
}

function print(sum: Report, seconds: number): void {
  console.log(lineOf(sum));
  const rate = (ms: number) => Math.round((sum.turns / ms) * 60_000).toLocaleString('en');
  console.log(
    `${rate(sum.cpuMs)} turns a minute of one core; ${rate(seconds * 1000)} a minute of this run (${Math.round(seconds)} s)`,
  );
  console.log(
    `${sum.reservations} reservations, ${sum.transactions} transactions checked, ${Math.round(sum.virtualMs / 3_600_000)} virtual hours`,
  );
  const faults = Object.entries(sum.faults).sort((a, b) => b[1] - a[1]);
  console.log(`faults: ${faults.map(([kind, count]) => `${kind} ${count}`).join(', ')}`);
  for (const { seed, violation } of sum.failures) console.log(`seed ${seed}: ${violation.rule}: ${violation.what}`);
}

/** The shortest history of a failing seed, and how to see it again. */
async function explain({ seed, violation }: { seed: number; violation: Violation }): Promise<void> {
  const plan = planOf(seed);
  const cut = await shrink(plan, violation.rule, Number(values.shrink) * 1000);
  const { trace } = await new Simulation(cutPlan(plan, cut), { trace: true }).run();
  console.log(`\nThe shortest history found for seed ${seed}:\n${trace.join('\n')}`);
  console.log(`\nReplay: npm run simulate:faults -- --seed ${seed} --cut "${textOf(cut)}"`);
}
