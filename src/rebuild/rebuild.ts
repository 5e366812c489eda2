/**
 * Builds what an earlier database knew anew, from what stands on the cluster and in the cloud. It only ever adds what the database does not know,
 * each thing in a transaction of its own: whoever is killed in the middle goes on with the next run, and a second run adds nothing.
 */
import { podEvents } from '../../actors/gpu-pool/pod-events.ts';
import type { Database, Transaction } from '../../persistence/database.ts';
import type { Message } from '../../persistence/mailbox.ts';
import { adoptDisk, type Poster, Refused } from './adopt-disk.ts';
import { adoptServer } from './adopt-server.ts';
import { findRemains, readKnown } from './found.ts';
import { type Plan, planRebuild } from './plan.ts';
import type { Left } from './plan-disks.ts';
import type { Remains } from './ports.ts';
import { addUsers, missingUsers } from './users.ts';

export interface RebuildSettings {
  db: Database;
  kernel: Poster;
  remains: Remains;
  /** Told after each thing that came back. Throws to stop there. */
  onDone?: (what: Line) => void;
}

/** One thing that came back, or would. */
export interface Line {
  kind: 'disk' | 'server' | 'user';
  id: string;
  owner: string;
  name: string;
  /** What it comes back as, for people. */
  as: string;
}

export interface RebuildReport {
  dryRun: boolean;
  back: Line[];
  left: Left[];
  /** What the database knew already. */
  known: Plan['known'];
}

// One rebuild at a time; and what is known is read again under the lock.
const LOCK = `select pg_advisory_xact_lock(hashtext('gpu-dev rebuild')::bigint)`;
const NOW = 'select now() as now';

/**
 * Look for all that remains and bring it back; a dry run only tells.
 * @throws what a list of the cluster or of the cloud throws, and the database's errors: what was done before stays done
 */
export async function rebuild(settings: RebuildSettings, { dryRun }: { dryRun: boolean }): Promise<RebuildReport> {
  const { db, remains } = settings;
  const found = await findRemains(remains);
  const known = await readKnown(db, found);
  const { rows } = await db.query<{ now: Date }>(NOW, []);
  const plan = planRebuild(found, known, rows[0]!.now.getTime());
  const users = dryRun ? await missingUsers(db, plan.owners) : await addUsers(db, plan.owners);
  const back: Line[] = users.map((name) => ({ kind: 'user', id: name, owner: name, name, as: 'a user without keys' }));
  const left = [...plan.left];
  for (const [lines, adopt] of worksOf(settings, plan)) {
    try {
      if (!dryRun) await adopt();
    } catch (error) {
      const why = refusal(error);
      if (why === null) throw error;
      left.push(...lines.map(({ kind, id }) => ({ kind: kind === 'user' ? ('object' as const) : kind, id, why })));
      continue;
    }
    back.push(...lines);
    for (const line of lines) if (!dryRun) settings.onDone?.(line);
  }
  return { dryRun, back, left, known: plan.known };
}

/** What this one thing is left for, in words; null: it is not about this thing, and those after it would fare no better. */
function refusal(error: unknown): string | null {
  if (error instanceof Refused) return error.message;
  const { code, message } = error as { code?: unknown; message?: unknown };
  // What the database does not take (data that is none, or that contradicts what it has): nothing of this one was written.
  return typeof code === 'string' && /^2[23]...$/.test(code)
    ? `The database does not take it: ${String(message)} (${code})`
    : null;
}

type Work = [Line[], () => Promise<void>];

function worksOf(settings: RebuildSettings, plan: Plan): Work[] {
  const { remains } = settings;
  return [
    ...plan.disks.map(
      (disk): Work => [
        [diskLine(disk, 'nobody uses it')],
        () => inTransaction(settings, [`disk/${disk.id}`], (tx) => adoptDisk(tx, remains.disks, disk, null)),
      ],
    ),
    ...plan.servers.map((server): Work => {
      const { id, record, disk } = server;
      const line: Line = {
        kind: 'server',
        id,
        owner: record.owner,
        name: record.request.name,
        as: `running on ${record.stay.grant.node} until ${record.stay.expiresAt}`,
      };
      return [
        [...(disk === null ? [] : [diskLine(disk, `in use by ${id}`)]), line],
        async () => {
          const secrets = await remains.secretsOf({ reservationId: id, generation: record.stay.generation });
          const actors = [...(disk === null ? [] : [`disk/${disk.id}`]), `reservation/${id}`];
          await inTransaction(settings, actors, (tx) => adoptServer(tx, remains.disks, server, secrets));
          await catchUp(settings, server.server.pod);
        },
      ];
    }),
  ];
}

function diskLine({ id, owner, name, deleteAt, snapshots, latest, notes }: Plan['disks'][number], use: string): Line {
  const state = deleteAt === null ? use : `deleted, to be purged at ${deleteAt}`;
  const more = notes.length === 0 ? '' : `; ${notes.join('; ')}`;
  return {
    kind: 'disk',
    id,
    owner,
    name,
    as: `${state}; ${snapshots.length} snapshots, the next volume from ${latest ?? 'none'}${more}`,
  };
}

/** Add one thing, and take its first turns at once. */
async function inTransaction(
  { db, kernel }: RebuildSettings,
  actors: readonly string[],
  work: (tx: Transaction) => Promise<Message[]>,
): Promise<void> {
  await db.withTransaction(async (tx) => {
    await tx.query(LOCK, []);
    await kernel.post(await work(tx), tx);
  });
  for (const actor of actors) await kernel.pump(actor);
}

/** What the pod did between the list and its adoption was news to nobody. */
async function catchUp({ kernel, remains }: RebuildSettings, pod: string): Promise<void> {
  const view = await remains.viewOf(pod);
  // One that is gone is missed by the tracker.
  if (view === null) return;
  const news = podEvents(null, view).filter(({ event }) => ['pod.died', 'pod.ready', 'pod.oom'].includes(event.type));
  await kernel.post(news);
}
