/** Many seeds, one after the other. */
import { planOf } from './world/plan.ts';
import { Simulation, type Violation } from './world/simulation.ts';

export interface Report {
  seeds: number;
  turns: number;
  transactions: number;
  reservations: number;
  virtualMs: number;
  cpuMs: number;
  faults: Record<string, number>;
  failures: { seed: number; violation: Violation }[];
}

export function emptyReport(): Report {
  return { seeds: 0, turns: 0, transactions: 0, reservations: 0, virtualMs: 0, cpuMs: 0, faults: {}, failures: [] };
}

/** Add one report to another. */
export function addReport(sum: Report, more: Report): void {
  for (const name of ['seeds', 'turns', 'transactions', 'reservations', 'virtualMs', 'cpuMs'] as const) sum[name] += more[name];
  for (const [kind, count] of Object.entries(more.faults)) sum.faults[kind] = (sum.faults[kind] ?? 0) + count;
  sum.failures.push(...more.failures);
}

const REPORT_EVERY = 50;

/**
 * Run seeds `from`, `from + step`, … as many as asked for, or until the time is over (milliseconds since the process began to run them).
 * @param tell called after every few seeds, and at once when one has failed
 */
export async function runSeeds(
  order: { from: number; step: number; seeds: number; untilMs: number },
  tell: (report: Report) => void,
): Promise<void> {
  const begun = performance.now();
  let report = emptyReport();
  let cpu = process.threadCpuUsage();
  const send = () => {
    const { user, system } = process.threadCpuUsage(cpu);
    cpu = process.threadCpuUsage();
    tell({ ...report, cpuMs: (user + system) / 1000 });
    report = emptyReport();
  };
  for (let i = 0; i < order.seeds && performance.now() - begun < order.untilMs; i++) {
    const seed = order.from + i * order.step;
    const outcome = await new Simulation(planOf(seed)).run();
    const failures = outcome.violation === null ? [] : [{ seed, violation: outcome.violation }];
    const { turns, transactions, reservations, virtualMs } = outcome;
    const faults = Object.fromEntries(outcome.faults);
    addReport(report, { seeds: 1, turns, transactions, reservations, virtualMs, cpuMs: 0, faults, failures });
    if (failures.length > 0 || report.seeds >= REPORT_EVERY) send();
  }
  send();
}
