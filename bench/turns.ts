/**
 * Durable turns a second of the whole kernel, with effects that do nothing; and the same writes as bare set-based SQL, on the same server, in
 * turn with it.
 *
 * The rival is no imitation: a run of the kernel is recorded from the database's log, and exactly its transactions are run again (the same rows
 * with the same values, the same commits) without reading, deciding or checking anything.
 */
import { Database, type Queryable } from '../persistence/database.ts';
import type { KernelSettings } from '../actors/kernel/kernel.ts';
import { readWritten, startReading, stopReading, type Written } from './support/changes.ts';
import { Crew } from './support/crew.ts';
import { prepareJobs } from './support/job.ts';
import { compileReplay, readShapes, type Replay, runReplay } from './support/replay.ts';
import { familySeconds } from './support/processor.ts';
import type { BenchServer } from './support/server.ts';
import { median, round } from './support/statistics.ts';
import { countRows, type Difference, differenceOf, logPosition, type RowCounts } from './support/written-rows.ts';

export interface TurnsOptions {
  rounds: number;
  /** Actors, and how often each does its work in the part that is timed. Each time is two turns: its start and its result. */
  jobs: number;
  runs: number;
  /** Settings of the kernel other than the service's. */
  kernel?: Partial<KernelSettings>;
  /** Told what happens. */
  log?: (line: string) => void;
}

/** One timed run. */
export interface TurnsRound {
  perSecond: number;
  rows: RowCounts;
  /** Of the timed part. */
  commits: number;
  logBytes: number;
  /** Processor time a turn, in milliseconds: of this process, and of Postgres. */
  nodeMs: number;
  postgresMs: number;
}

export interface TurnsFigures {
  turnsPerSecond: number;
  rawPerSecond: number;
  rawSqlRatio: number;
  /** The same by processor time instead of time: what the kernel adds in work, whoever else was busy. */
  rawSqlProcessorRatio: number;
  kernel: TurnsRound[];
  raw: TurnsRound[];
  /** How far the rows written by the two differ. */
  difference: Difference;
}

/** Transactions of the rival at once: as many as the kernel's (two loops of turns, one of results, the door). More make it no faster. */
const LANES = 4;
/** Runs of each actor before the clock is started. */
const WARM_UP = 2;

/** Measure both, in turn. */
export async function measureTurns(server: BenchServer, options: TurnsOptions): Promise<TurnsFigures> {
  const log = options.log ?? (() => {});
  const { replay, start } = await recordRun(server, options);
  log(`recorded ${replay.steps.length} transactions, ${replay.rows} rows`);
  const kernel: TurnsRound[] = [];
  const raw: TurnsRound[] = [];
  for (let index = 0; index < options.rounds; index++) {
    const ours = await runTurns(server, options);
    const theirs = await inDatabase(server, (db, admin) => runRaw(db, admin, server, replay, start, options));
    kernel.push(ours);
    raw.push(theirs);
    log(`kernel ${describe(ours)}, raw ${describe(theirs)}: ${round(ours.perSecond / theirs.perSecond, 2)}`);
  }
  const turnsPerSecond = median(kernel.map((each) => each.perSecond));
  const rawPerSecond = median(raw.map((each) => each.perSecond));
  return {
    turnsPerSecond: round(turnsPerSecond),
    rawPerSecond: round(rawPerSecond),
    rawSqlRatio: round(turnsPerSecond / rawPerSecond, 3),
    rawSqlProcessorRatio: round(processorOf(raw) / processorOf(kernel), 3),
    kernel,
    raw,
    difference: differenceOf(kernel[0]!.rows, raw[0]!.rows),
  };
}

/** Processor time a turn, all processes together: the median of the rounds. */
function processorOf(rounds: readonly TurnsRound[]): number {
  return median(rounds.map(({ nodeMs, postgresMs }) => nodeMs + postgresMs));
}

/** One timed run of the kernel alone. */
export function runTurns(server: BenchServer, options: TurnsOptions): Promise<TurnsRound> {
  return inDatabase(server, (db, admin) => runKernel(db, admin, server, options));
}

function describe({ perSecond, nodeMs, postgresMs }: TurnsRound): string {
  return `${round(perSecond)} turns/s (${round(nodeMs * 1_000)} + ${round(postgresMs * 1_000)} µs of Node and Postgres each)`;
}

type Timed = Omit<TurnsRound, 'rows'>;
type Postgres = { pid: number };

/** Run `work` in a fresh database, and count what it wrote when its connections are closed. */
async function inDatabase(
  server: BenchServer,
  work: (db: Database, admin: Queryable) => Promise<Timed>,
  before: (admin: Queryable) => Promise<void> = async () => {},
  after: (admin: Queryable) => Promise<void> = async () => {},
): Promise<TurnsRound> {
  const name = await server.create();
  const result = await server.connected(name, async (admin) => {
    await prepareJobs(admin);
    await before(admin);
    const db = new Database({ ...server.at(name), applicationName: 'gpu-dev bench' });
    const timed = await work(db, admin).finally(() => db.close());
    await after(admin);
    return timed;
  });
  // Counts arrive when the connections that wrote have ended.
  await server.left(name);
  const rows = await server.connected(name, countRows);
  await server.drop(name);
  return { ...result, rows };
}

/** Time `work`, which is `turns` turns. */
async function timed(admin: Queryable, postgres: Postgres, turns: number, work: () => Promise<void>): Promise<Timed> {
  const before = await logPosition(admin);
  const [ours, theirs] = [process.cpuUsage(), familySeconds(postgres.pid)];
  const since = performance.now();
  await work();
  const seconds = (performance.now() - since) / 1_000;
  const { user, system } = process.cpuUsage(ours);
  const postgresMs = ((familySeconds(postgres.pid) - theirs) * 1_000) / turns;
  const after = await logPosition(admin);
  return {
    perSecond: turns / seconds,
    commits: after.transactions - before.transactions,
    logBytes: after.bytes - before.bytes,
    nodeMs: round((user + system) / 1_000 / turns, 4),
    postgresMs: round(postgresMs, 4),
  };
}

async function runKernel(
  db: Database,
  admin: Queryable,
  postgres: Postgres,
  { jobs, runs, kernel: settings }: TurnsOptions,
  onStart: () => Promise<void> = async () => {},
): Promise<Timed> {
  const crew = new Crew(db, jobs, settings);
  await crew.begin();
  try {
    await crew.work(WARM_UP);
    await onStart();
    return await timed(admin, postgres, jobs * runs * 2, () => crew.work(WARM_UP + runs));
  } finally {
    await crew.end();
  }
}

async function runRaw(
  db: Database,
  admin: Queryable,
  postgres: Postgres,
  replay: Replay,
  start: number,
  { jobs, runs }: TurnsOptions,
): Promise<Timed> {
  await runReplay(db, replay, LANES, 0, start);
  return timed(admin, postgres, jobs * runs * 2, () => runReplay(db, replay, LANES, start, replay.steps.length));
}

/** Let the kernel run once, and read what it wrote. @returns it, ready to be run, and the first transaction of the timed part. */
async function recordRun(server: BenchServer, options: TurnsOptions): Promise<{ replay: Replay; start: number }> {
  await server.setLogical(true);
  const parts: Written[] = [];
  let replay: Replay | null = null;
  await inDatabase(
    server,
    (db, admin) => runKernel(db, admin, server, options, async () => void parts.push(await readWritten(admin))),
    startReading,
    async (admin) => {
      parts.push(await readWritten(admin));
      await stopReading(admin);
      const transactions = parts.flatMap((part) => part.transactions);
      replay = compileReplay({ transactions, types: new Map(parts.flatMap((part) => [...part.types])) }, await readShapes(admin));
    },
  );
  await server.setLogical(false);
  return { replay: replay!, start: parts[0]!.transactions.length };
}
