/**
 * `npm run bench`: figures and ratios from one run on one Postgres. Options: --only turns,rivals picks measures; --rounds N (5); --json prints
 * one object and nothing else; --turns N (the length of `growth`); --kernel '{"turnLoops":3}' and
 * --service '{"BATCH_SIZE":"50"}' try other settings of the kernel and of the service.
 */
import { parseArgs } from 'node:util';
import { measureMemory } from './footprint.ts';
import { measureFreedToPod } from './freed-to-pod.ts';
import { measureFrontDoor } from './front-door.ts';
import { measureGrowth } from './growth.ts';
import { measureKubernetes } from './kubernetes.ts';
import { measurePage } from './page.ts';
import { measureQueueToPod } from './queue-to-pod.ts';
import { measureRivals } from './rivals.ts';
import { measureSizes } from './sizes.ts';
import { BenchServer } from './support/server.ts';
import { measureTakeover } from './takeover.ts';
import { measureTurns } from './turns.ts';

export interface BenchOptions {
  rounds: number;
  turns: number;
  kernel: Record<string, number>;
  /** Further variables of the service's environment. */
  environment: Record<string, string>;
  log: (line: string) => void;
}

/** What is measured, in the order in which it is: each gives some of the keys. */
const MEASURES: Record<string, (server: BenchServer, options: BenchOptions) => Promise<object>> = {
  turns: async (server, { rounds, kernel, log }) => {
    const {
      kernel: ours,
      raw,
      difference,
      ...figures
    } = await measureTurns(server, { rounds, jobs: 2_000, runs: 20, kernel, log });
    return {
      ...figures,
      turnsDetails: {
        rowsDifference: difference,
        kernelCommits: ours.map((each) => each.commits),
        rawCommits: raw.map((each) => each.commits),
        kernelLogBytes: ours.map((each) => each.logBytes),
        rawLogBytes: raw.map((each) => each.logBytes),
        kernelProcessorMs: ours.map((each) => [each.nodeMs, each.postgresMs]),
        rawProcessorMs: raw.map((each) => [each.nodeMs, each.postgresMs]),
        rows: ours[0]!.rows,
      },
    };
  },
  rivals: async (server, { rounds, kernel, log }) => {
    const { turnsPerSecond, ...figures } = await measureRivals(server, { rounds, jobs: 1_000, runs: 5, kernel, log });
    return { ...figures, rivalsTurnsPerSecond: turnsPerSecond };
  },
  queue: async (server, { log, environment }) => {
    const load = { perSecond: 100, seconds: 20, log, environment };
    return {
      queueToPodMs: await measureQueueToPod(server, { ...load, withDisk: false }),
      queueToPodWithDiskMs: await measureQueueToPod(server, { ...load, withDisk: true }),
    };
  },
  freed: async (server, { log, environment }) => ({
    freedToPodMs: await measureFreedToPod(server, { samples: 200, log, environment }),
  }),
  http: async (server, { log }) => {
    const loads = [
      { perSecond: 20, seconds: 10 },
      { perSecond: 200, seconds: 10 },
    ];
    return { frontDoor: await measureFrontDoor(server, { streams: 500, users: 100, loads, log }) };
  },
  takeover: (server, { rounds, log, environment }) => measureTakeover(server, { rounds, log, environment }),
  memory: async (server, { log, environment }) => {
    const line = await measureMemory(server, { pods: 2_000, queued: 100_000 }, { log, environment });
    const pods = await measureMemory(server, { pods: 10_000, queued: 0 }, { log, environment });
    return { rssMb100k: line.settled, rssMb10kPods: pods.settled, idleCpu: line.idleCpu, memoryDetails: { line, pods } };
  },
  sizes: (server, { rounds, log, environment }) =>
    measureSizes(server, { sizes: [100, 10_000, 1_000_000], rounds, log, environment }),
  growth: (server, { turns, log }) => measureGrowth(server, { turns, log }),
  kubernetes: (server, { log }) => measureKubernetes(server, { log }),
  page: async (server, { log }) => ({ page: await measurePage(server, { seconds: 120, log }) }),
};

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      only: { type: 'string' },
      rounds: { type: 'string', default: '5' },
      turns: { type: 'string', default: '240000' },
      kernel: { type: 'string', default: '{}' },
      service: { type: 'string', default: '{}' },
      json: { type: 'boolean', default: false },
    },
  });
  const chosen = values.only?.split(',') ?? Object.keys(MEASURES);
  for (const name of chosen) {
    if (MEASURES[name] === undefined)
      throw new Error(`There is no measure "${name}"; there are: ${Object.keys(MEASURES).join(', ')}`);
  }
  const say = (line: string) => void process[values.json ? 'stderr' : 'stdout'].write(`${line}\n`);
  const options: BenchOptions = {
    rounds: Math.max(1, Number(values.rounds)),
    turns: Number(values.turns),
    kernel: JSON.parse(values.kernel) as Record<string, number>,
    environment: JSON.parse(values.service) as Record<string, string>,
    log: (line) => say(`  ${line}`),
  };
  const server = await BenchServer.start();
  try {
    const surroundings = await server.surroundings();
    say(`Postgres ${surroundings.postgres}, Node ${surroundings.node}, ${surroundings.cores} cores (${surroundings.cpu})`);
    say(
      Object.entries(surroundings.settings)
        .map((setting) => setting.join('='))
        .join(' '),
    );
    let figures: object = {};
    for (const name of chosen) {
      say(`${name}:`);
      const found = await MEASURES[name]!(server, options);
      if (!values.json) for (const [key, value] of Object.entries(found)) say(`${key}: ${JSON.stringify(value)}`);
      figures = { ...figures, ...found };
    }
    if (values.json) process.stdout.write(`${JSON.stringify({ ...figures, rounds: options.rounds, surroundings })}\n`);
  } finally {
    await server.stop();
  }
}

await main();
