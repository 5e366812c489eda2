/** Parts of a plan that are kept: a shorter history with the same end. Written as text, so that a command line can replay it. */
import { type Plan, QUIET, type Rates } from './plan.ts';

export interface Cut {
  /** Numbers of the wishes and the faults that are kept. */
  ops: number[];
  faults: number[];
  /** Names of the kinds of chance that are kept. */
  rates: string[];
  kernels: number;
}

const NETWORK = ['slow', 'hang', 'refuse', 'unanswered', 'repeat'] as const;
const OTHERS = [
  ...(['statementLost', 'commitLost', 'commitUnanswered', 'podNeverReady', 'podSlow', 'failing'] as const),
  ...(['watchLag', 'watchRepeats'] as const),
];

/** The whole plan. */
export function wholeOf(plan: Plan): Cut {
  return {
    ops: plan.ops.map((_, index) => index),
    faults: plan.faults.map((_, index) => index),
    rates: [...NETWORK.filter((name) => plan.rates.network[name] > 0), ...OTHERS.filter((name) => plan.rates[name] > 0)],
    kernels: plan.kernels,
  };
}

/** What is left of a plan. */
export function cutPlan(plan: Plan, cut: Cut): Plan {
  const network = { ...QUIET.network };
  const rates: Rates = { ...QUIET, watchLag: 0, network };
  for (const name of NETWORK) if (cut.rates.includes(name)) network[name] = plan.rates.network[name];
  for (const name of OTHERS) if (cut.rates.includes(name)) rates[name] = plan.rates[name];
  return {
    ...plan,
    kernels: cut.kernels,
    ops: cut.ops.flatMap((index) => plan.ops[index] ?? []),
    faults: cut.faults.flatMap((index) => plan.faults[index] ?? []),
    rates,
  };
}

export function textOf({ ops, faults, rates, kernels }: Cut): string {
  return `ops=${ops.join(',')};faults=${faults.join(',')};rates=${rates.join(',')};kernels=${kernels}`;
}

/** @throws if the text is none that {@link textOf} writes */
export function parseCut(text: string): Cut {
  const parts = new Map(text.split(';').map((part) => part.split('=', 2) as [string, string]));
  const numbers = (name: string) => (parts.get(name) ?? '').split(',').filter(Boolean).map(Number);
  const cut = {
    ops: numbers('ops'),
    faults: numbers('faults'),
    rates: (parts.get('rates') ?? '').split(',').filter(Boolean),
    kernels: Number(parts.get('kernels')),
  };
  if (!(cut.kernels > 0) || [...cut.ops, ...cut.faults].some(Number.isNaN)) throw new Error(`This is no cut: ${text}`);
  return cut;
}
