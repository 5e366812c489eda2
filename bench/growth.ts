/**
 * How tables and indexes grow over very many turns. Time passes a day a portion, and what is older than it may be is removed after each, by the
 * same statements as in the service: what is kept must stop to grow.
 */
import { Database, type Queryable } from '../persistence/database.ts';
import { pruneEffects, pruneHistory } from '../persistence/retention.ts';
import { Crew } from './support/crew.ts';
import { prepareJobs } from './support/job.ts';
import type { BenchServer } from './support/server.ts';
import { round } from './support/statistics.ts';

export interface GrowthOptions {
  turns: number;
  log?: (line: string) => void;
}

export interface TableSize {
  table: string;
  tableMb: number;
  indexMb: number;
  live: number;
  dead: number;
}

export interface GrowthFigures {
  tableGrowth: {
    turns: number;
    /** Bytes of tables and indexes a turn, as long as nothing is removed. */
    bytesPerTurn: number;
    /** Size of everything after each portion, in MB; removing begins after the third. */
    megabytes: number[];
    /** How much larger all is after the last portion than in the middle of the portions: 1 means that it does not grow. */
    lastToMiddle: number;
    tables: TableSize[];
    deadAfterVacuum: number;
  };
}

const JOBS = 1_000;
const DAYS = 12;
const DAY_MS = 86_400_000;
/** Days that history and ended effects are kept here. */
const KEPT_DAYS = 3;
const PORTION = 500;

const SIZES = `
  select relname as "table", pg_table_size(relid) as bytes, pg_indexes_size(relid) as indexes, n_live_tup as live, n_dead_tup as dead
    from pg_stat_user_tables where schemaname = 'public' and pg_total_relation_size(relid) > 65536 order by pg_total_relation_size(relid) desc`;

export async function measureGrowth(server: BenchServer, { turns, log }: GrowthOptions): Promise<GrowthFigures> {
  const name = await server.create();
  const began = Date.now() - DAYS * DAY_MS;
  let now = began;
  const db = new Database({ ...server.at(name), applicationName: 'gpu-dev bench' });
  const crew = new Crew(db, JOBS, { clock: { now: () => new Date(now) } });
  const runs = Math.max(1, Math.round(turns / 2 / JOBS / DAYS));
  // A day passes within seconds, so the pauses of autovacuum must too.
  await server.setNap('1s');
  try {
    await server.connected(name, prepareJobs);
    await crew.begin();
    const empty = await megabytes(db);
    const after: number[] = [];
    for (let day = 1; day <= DAYS; day++) {
      await crew.work(day * runs);
      now = began + day * DAY_MS;
      const removed = await prune(db, DAYS - day + KEPT_DAYS);
      after.push(round(await megabytes(db), 1));
      log?.(`day ${day}: ${after.at(-1)} MB, ${removed} actors pruned`);
    }
    const tables = await sizes(db);
    await server.connected(name, (client) => client.query('vacuum'));
    const deadAfterVacuum = (await sizes(db)).reduce((sum, { dead }) => sum + dead, 0);
    const perDay = JOBS * runs * 2;
    return {
      tableGrowth: {
        turns: perDay * DAYS,
        bytesPerTurn: round(((after[KEPT_DAYS - 1]! - empty) * 1e6) / (perDay * KEPT_DAYS)),
        megabytes: after,
        lastToMiddle: round(after.at(-1)! / after[Math.floor(DAYS / 2)]!, 3),
        tables,
        deadAfterVacuum,
      },
    };
  } finally {
    await crew.end();
    await db.close();
    await server.drop(name);
    await server.setNap(null);
  }
}

/** Remove what is older than so many days, as the housekeeper does, until nothing is left. @returns how many actors lost history. */
async function prune(db: Database, days: number): Promise<number> {
  let actors = 0;
  for (let count = PORTION; count === PORTION; actors += count) count = await pruneHistory(db, ['job'], days, PORTION);
  while ((await pruneEffects(db, days, PORTION)) === PORTION);
  return actors;
}

async function sizes(db: Queryable): Promise<TableSize[]> {
  type Size = { table: string; bytes: string; indexes: string; live: string; dead: string };
  const { rows } = await db.query<Size>(SIZES);
  return rows.map(({ table, bytes, indexes, live, dead }) => ({
    table,
    tableMb: round(Number(bytes) / 1e6, 1),
    indexMb: round(Number(indexes) / 1e6, 1),
    live: Number(live),
    dead: Number(dead),
  }));
}

async function megabytes(db: Queryable): Promise<number> {
  return (await sizes(db)).reduce((sum, { tableMb, indexMb }) => sum + tableMb + indexMb, 0);
}
