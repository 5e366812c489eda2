// One real cluster for all files of a test run, started when the first file asks for it. Runs in the main process of the test runner.
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { makeScratch, removeScratch } from '../scratch.ts';
import { ensurePrograms } from './programs.ts';
import { type ClusterProcess, startClusterProcess } from './process.ts';
import { notTested } from '../not-tested.ts';

/** What a test file is answered: where the run's cluster is, or why there is none. */
export type SharedAnswer = ({ programs: string } & ClusterProcess['facts']) | { missing: string };

export interface Coordinator {
  /** Where test files ask: `inject('kubernetes')`. */
  url: string;
  stop(): Promise<void>;
}

const FLEET = { h100: 2, 'cpu-x86': 1 };

export async function startCoordinator(): Promise<Coordinator> {
  let started: Promise<{ answer: SharedAnswer; stop: () => Promise<void> }> | null = null;
  const server = createServer((_request, response) => {
    started ??= start();
    started.then(
      ({ answer }) => response.end(JSON.stringify(answer)),
      (error: unknown) => response.end(JSON.stringify({ missing: String(error) })),
    );
  });
  // Building the programs takes minutes: whoever waits for the answer must not be cut off.
  server.requestTimeout = 0;
  server.unref();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async stop() {
      server.closeAllConnections();
      server.close();
      const running = await started?.catch(() => null);
      await running?.stop();
      if (running !== undefined && running !== null && 'missing' in running.answer) {
        notTested('on a real Kubernetes API server', running.answer.missing);
        if (process.env.GPU_DEV_KUBERNETES === 'required') process.exitCode = 1;
      }
    },
  };
}

async function start(): Promise<{ answer: SharedAnswer; stop: () => Promise<void> }> {
  if (process.env.GPU_DEV_KUBERNETES === 'off')
    return { answer: { missing: 'GPU_DEV_KUBERNETES=off' }, stop: async () => undefined };
  const programs = await ensurePrograms((text) => process.stderr.write(`kubernetes: ${text}\n`));
  if ('missing' in programs) return { answer: programs, stop: async () => undefined };
  const folder = makeScratch('kubernetes');
  const cluster = await startClusterProcess({ programs: programs.folder, folder, fleet: FLEET });
  return {
    answer: { programs: programs.folder, ...cluster.facts },
    async stop() {
      await cluster.stop();
      await removeScratch(folder);
    },
  };
}
