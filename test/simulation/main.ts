import { planOf } from './world/plan.ts';
import { Simulation } from './world/simulation.ts';
const from = Number(process.argv[2] ?? 1), n = Number(process.argv[3] ?? 1);
let turns = 0; const t0 = performance.now(); const f = new Map<string, number>();
for (let seed = from; seed < from + n; seed++) {
  const outcome = await new Simulation(planOf(seed), { trace: n === 1 }).run();
  turns += outcome.turns;
  for (const [k, v] of outcome.faults) f.set(k, (f.get(k) ?? 0) + v);
  if (n === 1) console.log(outcome.trace.join('\n'));
  if (outcome.violation) { console.log(seed, outcome.violation); if (process.argv[4]) break; }
}
const s = (performance.now() - t0) / 1000;
console.log({ turns, seconds: s, perMinute: Math.round(turns / s * 60) }, Object.fromEntries(f));
