/** Whether the service can do its work: database, queues, and how old its view of the cluster is. */
import type { Tracker } from '../actors/gpu-pool/tracker.ts';
import type { Database } from '../persistence/database.ts';
import { assertQueues } from '../persistence/pgmq.ts';
import type { Health, HealthCheck } from './http/deps.ts';

/** A view of the cluster older than this is told as a problem, in milliseconds: bookmarks alone come more often. */
const OLDEST_VIEW = 120_000;

interface Parts {
  db: Database;
  queues: readonly string[];
  /** Null in a process that answers requests only. */
  tracker: Tracker | null;
  /** Whether the cluster is believed; null in a process that does nothing there. */
  guard: { readonly doubt: string | null } | null;
}

async function tried(work: () => Promise<string>): Promise<HealthCheck> {
  try {
    return { ok: true, detail: await work() };
  } catch (error) {
    return { ok: false, detail: error instanceof Error ? error.message : String(error) };
  }
}

/** Look at each part. Never throws. */
export async function healthOf({ db, queues, tracker, guard }: Parts): Promise<Health> {
  const database = await tried(async () => {
    await db.query('select 1');
    return 'answers';
  });
  const queue = await tried(async () => {
    await assertQueues(db, queues);
    return queues.join(', ');
  });
  return { database, queue, tracker: viewOf(tracker, guard?.doubt ?? null) };
}

function viewOf(tracker: Tracker | null, doubt: string | null): HealthCheck {
  if (doubt !== null) return { ok: false, detail: doubt };
  if (tracker?.active !== true) return { ok: true, detail: 'another process tracks the cluster' };
  const age = tracker.ageMs();
  if (age === null) return { ok: false, detail: 'the Kubernetes API has not answered yet' };
  const answered = `the Kubernetes API answered ${Math.round(age / 1000)} s ago`;
  // What is held back waits for a person; all other work goes on.
  return { ok: age < OLDEST_VIEW, detail: tracker.brake === null ? answered : `${answered}. ${tracker.brake}` };
}
