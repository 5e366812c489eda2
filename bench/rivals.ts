/** The kernel beside those who do durable work on Postgres too: the same number of durable steps, on the same server, in turn. */
import { runDbos } from './rivals/dbos.ts';
import { runGraphile } from './rivals/graphile.ts';
import { INPUT } from './support/job.ts';
import type { BenchServer } from './support/server.ts';
import { median, round } from './support/statistics.ts';
import { runTurns, type TurnsOptions } from './turns.ts';

export interface RivalsFigures {
  /** Our turns for each job of graphile-worker (batched), and for each step of DBOS. */
  graphileRatio: number;
  dbosRatio: number;
  /** The same, counting only our effects: one effect, its result and both turns are one step. */
  graphileRatioByEffect: number;
  dbosRatioByEffect: number;
  turnsPerSecond: number;
  graphilePerSecond: number;
  graphilePlainPerSecond: number;
  dbosStepsPerSecond: number;
}

/** DBOS and the plain worker are slower by far: they get a smaller part of the work. */
const SMALLER = 5;

export async function measureRivals(server: BenchServer, options: TurnsOptions): Promise<RivalsFigures> {
  const steps = options.jobs * options.runs * 2;
  const rates: { ours: number; graphile: number; plain: number; dbos: number }[] = [];
  for (let index = 0; index < options.rounds; index++) {
    const rate = {
      ours: (await runTurns(server, options)).perSecond,
      graphile: await runGraphile(server, steps, true, INPUT),
      plain: await runGraphile(server, steps / SMALLER, false, INPUT),
      dbos: await runDbos(server, steps / SMALLER, INPUT),
    };
    rates.push(rate);
    const { ours, graphile, plain, dbos } = rate;
    options.log?.(
      `kernel ${round(ours)} turns/s, graphile-worker ${round(graphile)} jobs/s (plain ${round(plain)}), DBOS ${round(dbos)} steps/s`,
    );
  }
  const ours = median(rates.map((rate) => rate.ours));
  const graphile = median(rates.map((rate) => rate.graphile));
  const dbos = median(rates.map((rate) => rate.dbos));
  return {
    graphileRatio: round(ours / graphile, 3),
    dbosRatio: round(ours / dbos, 2),
    graphileRatioByEffect: round(ours / 2 / graphile, 3),
    dbosRatioByEffect: round(ours / 2 / dbos, 2),
    turnsPerSecond: round(ours),
    graphilePerSecond: round(graphile),
    graphilePlainPerSecond: round(median(rates.map((rate) => rate.plain))),
    dbosStepsPerSecond: round(dbos),
  };
}
