/**
 * graphile-worker: jobs that do nothing, added while they run, with the settings that its makers publish their own figures with (a local queue
 * and batched completion), and plain. A job is a row that is added, locked and deleted: there is no history, no state, and no order among the
 * jobs of one thing.
 */
import { Logger, makeWorkerUtils, run } from 'graphile-worker';
import type { BenchServer } from '../support/server.ts';

const SILENT = new Logger(() => () => {});
/** Jobs waiting at most, and added at a time. */
const BACKLOG = 2_000;
const AT_ONCE = 500;

const BATCHED = { localQueue: { size: 500 }, completeJobBatchDelay: 0, failJobBatchDelay: 0 };

/** Run so many jobs. @returns jobs a second, from the first that is added to the last that is done. */
export async function runGraphile(server: BenchServer, jobs: number, batched: boolean, input: string): Promise<number> {
  const database = await server.createBare();
  try {
    const crew = new Jobs();
    const runner = await run({
      preset: {
        worker: {
          connectionString: server.urlOf(database),
          concurrentJobs: 24,
          maxPoolSize: 25,
          logger: SILENT,
          ...(batched ? BATCHED : {}),
        },
      },
      noHandleSignals: true,
      taskList: { work: async () => crew.note() },
    });
    const utils = await makeWorkerUtils({ connectionString: server.urlOf(database), logger: SILENT });
    const add = (count: number) =>
      utils.addJobs(Array.from({ length: count }, () => ({ identifier: 'work', payload: { input } })));
    // Connections and plans are made before the clock is started.
    await crew.work(add, AT_ONCE);
    const since = performance.now();
    await crew.work(add, jobs);
    const seconds = (performance.now() - since) / 1_000;
    await utils.release();
    await runner.stop();
    return jobs / seconds;
  } finally {
    await server.drop(database);
  }
}

/** Adds jobs as fast as they are taken, and counts those that ran. */
class Jobs {
  #done = 0;
  #added = 0;

  note(): void {
    this.#done++;
  }

  async work(add: (count: number) => Promise<unknown>, jobs: number): Promise<void> {
    const goal = this.#done + jobs;
    while (this.#added < goal) {
      if (this.#added - this.#done < BACKLOG) {
        const count = Math.min(AT_ONCE, goal - this.#added);
        await add(count);
        this.#added += count;
      } else await tick();
    }
    while (this.#done < goal) await tick();
  }
}

function tick(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 1));
}
