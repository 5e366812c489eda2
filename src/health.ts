/** Whether the service can do its work: database, queues, and how old its view of the cluster is. */
import type { Tracker } from '../actors/gpu-pool/tracker.ts';
import type { Database } from '../persistence/database.ts';
import { assertQueues } from '../persistence/pgmq.ts';
import type { Health } from './http/deps.ts';

/** A view of the cluster older than this is told as a problem, in milliseconds: bookmarks alone come more often. */
const OLDEST_VIEW = 120_000;

interface Parts {
  db: Database;
  queues: readonly string[];
  tracker: Tracker;
}

async function tried(work: () => Promise<string>): Promise<{ ok: boolean; detail: string }> {
  try {
    return { ok: true, detail: await work() };
  } catch (error) {
    return { ok: false, detail: error instanceof Error ? error.message : String(error) };
  }
}

/** Look at each part. Never throws. */
export async function healthOf({ db, queues, tracker }: Parts): Promise<Health> {
  const database = await tried(async () => {
    await db.query('select 1');
    return 'answers';
  });
  const queue = await tried(async () => {
    await assertQueues(db, queues);
    return queues.join(', ');
  });
  const age = tracker.ageMs();
  const trackerHealth = !tracker.active
    ? { ok: true, detail: 'another replica tracks the cluster' }
    : age === null
      ? { ok: false, detail: 'the Kubernetes API has not answered yet' }
      : { ok: age < OLDEST_VIEW, detail: `the Kubernetes API answered ${Math.round(age / 1000)} s ago` };
  return { database, queue, tracker: trackerHealth };
}
