/**
 * DBOS: workflows of ten steps that do nothing, as many at once as its pool can serve, called directly (its queues are slower). A step is a row
 * that records its result; the start and the end of the workflow are not counted, and with ten steps weigh little.
 */
import { DBOS } from '@dbos-inc/dbos-sdk';
import type { BenchServer } from '../support/server.ts';

export const STEPS_PER_WORKFLOW = 10;
/** Workflows at once, and connections. */
const AT_ONCE = 64;
const CONNECTIONS = 20;

/** Run at least so many steps. @returns steps a second. */
export async function runDbos(server: BenchServer, steps: number, input: string): Promise<number> {
  const database = await server.createBare();
  try {
    DBOS.setConfig({
      name: 'bench',
      systemDatabaseUrl: server.urlOf(database),
      systemDatabasePoolSize: CONNECTIONS,
      logLevel: 'error',
      enableOTLP: false,
    });
    await DBOS.launch();
    const workflows = Math.ceil(steps / STEPS_PER_WORKFLOW);
    await together(AT_ONCE, AT_ONCE, () => workflow(input));
    const since = performance.now();
    await together(workflows, AT_ONCE, () => workflow(input));
    const seconds = (performance.now() - since) / 1_000;
    await DBOS.shutdown();
    return (workflows * STEPS_PER_WORKFLOW) / seconds;
  } finally {
    await server.drop(database);
  }
}

// A workflow is registered once in a process, before DBOS is launched.
const workflow = DBOS.registerWorkflow(
  async (input: string) => {
    let output = '';
    for (let step = 0; step < STEPS_PER_WORKFLOW; step++) {
      output = await DBOS.runStep(async () => (input === '' ? '' : 'finished without a word'), { name: `step ${step}` });
    }
    return output;
  },
  { name: 'work' },
);

async function together(count: number, lanes: number, work: () => Promise<unknown>): Promise<void> {
  let left = count;
  const lane = async () => {
    while (left-- > 0) await work();
  };
  await Promise.all(Array.from({ length: lanes }, lane));
}
