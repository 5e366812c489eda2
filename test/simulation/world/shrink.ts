/** Finds a short history that breaks the same rule: parts of the plan are left out as long as it still does. */
import { type Cut, cutPlan, wholeOf } from './cut.ts';
import type { Plan } from './plan.ts';
import { Simulation } from './simulation.ts';

/**
 * @param milliseconds how long to try at most
 * @returns the shortest cut found
 */
export async function shrink(plan: Plan, rule: string, milliseconds: number): Promise<Cut> {
  const until = performance.now() + milliseconds;
  const breaks = async (cut: Cut) => {
    const { violation } = await new Simulation(cutPlan(plan, cut)).run();
    return violation?.rule === rule;
  };
  let best = wholeOf(plan);
  const attempt = async (cut: Cut): Promise<boolean> => {
    if (performance.now() > until || !(await breaks(cut))) return false;
    best = cut;
    return true;
  };
  if (!(await breaks(best))) return best;
  for (let before = ''; before !== JSON.stringify(best); ) {
    before = JSON.stringify(best);
    if (best.kernels > 1) await attempt({ ...best, kernels: best.kernels - 1 });
    for (const part of ['ops', 'faults', 'rates'] as const) {
      for (let size = Math.ceil(best[part].length / 2); size >= 1; size = size === 1 ? 0 : Math.ceil(size / 2)) {
        for (let from = 0; from < best[part].length; ) {
          const left = [...best[part].slice(0, from), ...best[part].slice(from + size)];
          if (!(await attempt({ ...best, [part]: left }))) from += size;
        }
      }
    }
  }
  return best;
}
