/** What operators look at: whether the service can work, what waits, what failed, who plays which role. */
import { countReplicas, listLeases, retriedEffects } from '../../persistence/board.ts';
import { openDeadLetters } from '../../persistence/dead-letters.ts';
import { readTotals, type Totals } from '../../persistence/insight.ts';
import type { Health, HttpDeps } from '../http/deps.ts';

export interface OperationsFrame {
  health: Health;
  totals: Omit<Totals, 'oldestMailSeconds' | 'oldestDueDeadlineSeconds'> & {
    oldestMailSeconds: number;
    lateDeadlineSeconds: number;
  };
  trackerAgeSeconds: number | null;
  replicas: number;
  connections: Record<string, number>;
  databaseMs: number;
  leases: { name: string; holder: string; held: boolean }[];
  retries: {
    id: string;
    actor: string;
    type: string;
    attempts: number;
    running: boolean;
    next_at: string;
    created_at: string;
    last_error: string | null;
  }[];
  /** Ids of the newest open dead letters: what has changed is fetched where it is needed. */
  letters: number[];
}

const RETRIES = 200;
const LETTERS = 200;

export async function readOperations({ db, health, trackerAgeMs }: HttpDeps): Promise<OperationsFrame> {
  const begun = performance.now();
  const { oldestMailSeconds, oldestDueDeadlineSeconds, ...totals } = await readTotals(db);
  const databaseMs = Math.round(performance.now() - begun);
  const [state, replicas, leases, retries, letters] = await Promise.all([
    health(),
    countReplicas(db),
    listLeases(db),
    retriedEffects(db, RETRIES),
    openDeadLetters(db, LETTERS),
  ]);
  const age = trackerAgeMs();
  return {
    health: state,
    totals: {
      ...totals,
      oldestMailSeconds: Math.round(oldestMailSeconds),
      lateDeadlineSeconds: Math.round(oldestDueDeadlineSeconds),
    },
    trackerAgeSeconds: age === null ? null : Math.round(age / 1_000),
    replicas,
    connections: db.stats() as unknown as Record<string, number>,
    databaseMs,
    leases: leases.map(({ name, holder, until }) => ({ name, holder, held: until.getTime() > Date.now() })),
    retries: retries.map(({ next_at, created_at, ...row }) => ({
      ...row,
      next_at: next_at.toISOString(),
      created_at: created_at.toISOString(),
    })),
    letters: letters.map(({ id }) => id),
  };
}
