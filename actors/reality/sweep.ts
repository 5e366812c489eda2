/**
 * One comparison of the database with the cluster, in both directions. What nobody wants is reported, and removed once its grace is over, if
 * our database knows that it has ended and it holds no data. What actors believe in and is proven gone is told to them.
 */
import type { Store, Transaction } from '../../persistence/database.ts';
import { assertLease } from '../../persistence/leases.ts';
import type { Message } from '../../persistence/mailbox.ts';
import {
  closeFindings,
  type Deed,
  type Difference,
  type FindingRow,
  noteDeed,
  openFindings,
  recordFindings,
  type Report,
  type ReportLine,
} from '../../persistence/reality.ts';
import { noteTold } from '../../persistence/vanished-pods.ts';
import { goneProof } from '../gpu-pool/missing.ts';
import { eachOf } from '../gpu-pool/parallel.ts';
import type { Clock } from '../kernel/kind.ts';
import { type Belief, findMissing, nameOf, readBeliefs } from './believed.ts';
import { type Weighed, weigh } from './brake.ts';
import { judge } from './judge.ts';
import { forgetGone, readAbandoned } from './left-names.ts';
import { DATA, type FoundObject, type Kind, KINDS, type Reality } from './ports.ts';

/** Lines of a report, at most: the findings themselves are all on record. */
const LINES = 1_000;
/** Open findings that are read for a dry run, which records none. */
const OPEN = 100_000;

export interface SweepSettings {
  db: Store;
  reality: Reality;
  clock: Clock;
  post: (messages: readonly Message[]) => Promise<unknown>;
  /** Between the first sight of something that has ended and its removal, in milliseconds. */
  graceMs: number;
  /** Fences what is written; null: nobody else can be comparing. */
  lease: { name: string; token: number } | null;
  /** True when nothing more is to be done. */
  isOver: () => boolean;
  onError: (error: unknown) => void;
}

/**
 * Compare, and act unless it is a dry run, which changes nothing anywhere.
 * A kind whose list was cut off, refused or late is left out: nothing of it is a finding, and none of its findings is closed.
 * @throws the database's error, LeaseLostError
 */
export async function sweep(settings: SweepSettings, { dryRun }: { dryRun: boolean }): Promise<Report> {
  const { db, reality, isOver, clock } = settings;
  const unanswered: string[] = [];
  const beliefs = await readBeliefs(db, reality);
  const abandoned = dryRun ? [] : await readAbandoned(db);
  const lists = await listAll(settings, unanswered);
  await forgetGone(db, abandoned, lists, { reality, isOver, onError: settings.onError });
  const unwanted = await judge(db, [...lists.values()].flat());
  const doubtful = new Set<string>();
  const suspected = await findMissing(beliefs, lists, {
    reality,
    isOver,
    onError: (belief, error) => {
      doubtful.add(belief.name);
      unanswered.push(`${belief.kind} ${belief.name}: ${wordsOf(error)}`);
    },
  });
  // Whoever ended meanwhile took it along.
  const now = suspected.length === 0 ? new Set() : new Set((await readBeliefs(db, reality)).map(nameOf));
  const missing = suspected.filter((belief) => now.has(nameOf(belief)));
  const pods = (of: readonly Belief[]) => of.flatMap(({ pod }) => (pod === null ? [] : [pod]));
  // Without a list of pods nothing is known of them, and what waits for a word goes on waiting.
  const brake = lists.has('Pod') ? await weigh(db, pods(missing), pods(beliefs), { note: !dryRun }) : null;
  const differences: Difference[] = [
    ...unwanted.map(({ object: _object, ...difference }) => difference),
    ...missing.map(({ kind, name, actor, why, pod }): Difference => {
      const held = pod !== null && brake?.held.has(pod.uid) === true;
      return { kind, name, uid: '', actor, verdict: 'missing', why: held ? `${why}. ${brake.why}` : why };
    }),
  ];
  const rows = dryRun
    ? await asRecorded(db, differences, clock)
    : await written(settings, (tx) => record(tx, differences, { lists, doubtful, clock }));
  const objects = new Map(unwanted.map(({ object }) => [object.uid, object]));
  const believed = new Map(missing.map((belief) => [`${belief.kind} ${belief.name}`, belief]));
  const lines: ReportLine[] = [];
  const act = async (row: FindingRow) => {
    const object = objects.get(row.uid);
    const belief = row.verdict === 'missing' ? believed.get(`${row.kind} ${row.name}`) : undefined;
    const held = belief?.pod != null && brake?.held.has(belief.pod.uid) === true;
    const action = held
      ? 'held'
      : isOver()
        ? 'reported'
        : await actOn(settings, row, { object, belief: worded(belief, brake), dryRun });
    const { kind, name, actor, verdict, why } = row;
    lines.push({ kind, name, actor, verdict, why, first_seen: row.first_seen.toISOString(), action });
  };
  await eachOf(rows, act, settings.onError);
  lines.sort((a, b) => KINDS.indexOf(a.kind as Kind) - KINDS.indexOf(b.kind as Kind) || (a.name < b.name ? -1 : 1));
  return { findings: lines.slice(0, LINES), left_out: Math.max(0, lines.length - LINES), unanswered };
}

/** The belief with the word of an operator in its event, where one was needed. */
function worded(belief: Belief | undefined, brake: Weighed | null): Belief | undefined {
  const word = belief?.pod == null ? undefined : brake?.words.get(belief.pod.uid);
  if (belief?.event.type !== 'pod.gone' || word === undefined) return belief;
  return { ...belief, event: { ...belief.event, proof: goneProof(word) } };
}

/** One list a kind, one after the other: a comparison is in no hurry. */
async function listAll({ reality, isOver, onError }: SweepSettings, unanswered: string[]): Promise<Map<Kind, FoundObject[]>> {
  const lists = new Map<Kind, FoundObject[]>();
  for (const kind of KINDS) {
    if (isOver()) break;
    try {
      const found = await reality.list(kind);
      if (found !== null) lists.set(kind, found);
    } catch (error) {
      unanswered.push(`${kind}: ${wordsOf(error)}`);
      onError(error);
    }
  }
  return lists;
}

const wordsOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/** Write under the lease, if there is one. */
function written<T>({ db, lease }: SweepSettings, work: (tx: Transaction) => Promise<T>): Promise<T> {
  return db.withTransaction(async (tx) => {
    if (lease !== null) await assertLease(tx, lease.name, lease.token);
    return work(tx);
  });
}

async function record(
  tx: Transaction,
  differences: readonly Difference[],
  { lists, doubtful, clock }: { lists: ReadonlyMap<Kind, unknown>; doubtful: ReadonlySet<string>; clock: Clock },
): Promise<FindingRow[]> {
  const now = clock.now();
  const rows = await recordFindings(tx, differences, now);
  const inDoubt =
    doubtful.size === 0
      ? []
      : (await openFindings(tx, OPEN)).filter(({ verdict, name }) => verdict === 'missing' && doubtful.has(name));
  await closeFindings(
    tx,
    [...lists.keys()],
    [...rows, ...inDoubt].map(({ id }) => id),
    now,
  );
  return rows;
}

/** The rows that {@link recordFindings} would give. */
async function asRecorded(db: Store, differences: readonly Difference[], clock: Clock): Promise<FindingRow[]> {
  const key = ({ kind, name, uid, verdict }: Difference) => `${kind} ${name} ${uid} ${verdict}`;
  const open = new Map((await openFindings(db, OPEN)).map((row) => [key(row), row]));
  const now = await timeOf(db, clock);
  const unseen = { id: 0, first_seen: now, done: 'reported', done_at: null } as const;
  return differences.map((difference) => ({ ...unseen, ...open.get(key(difference)), ...difference, last_seen: now }));
}

async function timeOf(db: Store, clock: Clock): Promise<Date> {
  return clock.now() ?? (await db.query<{ now: Date }>('select now() as now', [])).rows[0]!.now;
}

async function actOn(
  settings: SweepSettings,
  row: FindingRow,
  { object, belief, dryRun }: { object: FoundObject | undefined; belief: Belief | undefined; dryRun: boolean },
): Promise<ReportLine['action']> {
  if (belief !== undefined) return tell(settings, row, belief, dryRun);
  if (object === undefined || row.verdict !== 'ended' || DATA.has(object.kind)) return 'reported';
  if (row.last_seen.getTime() - row.first_seen.getTime() < settings.graceMs) return 'waits';
  if (dryRun) return 'would remove';
  try {
    if ((await settings.reality.remove(object)) === 'changed') return 'changed';
  } catch (error) {
    settings.onError(error);
    return 'failed';
  }
  await noted(settings, row, 'removed');
  return 'removed';
}

/** Tell the actor; once more if it has not helped within a grace. */
async function tell(settings: SweepSettings, row: FindingRow, belief: Belief, dryRun: boolean): Promise<ReportLine['action']> {
  if (row.done === 'told' && row.last_seen.getTime() - (row.done_at?.getTime() ?? 0) < settings.graceMs) return 'told';
  if (dryRun) return 'would tell';
  const key = belief.key ?? `missing:${row.id}:${row.done_at?.getTime() ?? 0}`;
  if (belief.pod !== null) await noteTold(settings.db, belief.pod);
  await settings.post([{ actor: belief.actor, key, event: belief.event as { type: string }, sender: 'reality' }]);
  await noted(settings, row, 'told');
  return 'told';
}

function noted(settings: SweepSettings, row: FindingRow, deed: Deed): Promise<void> {
  return written(settings, (tx) => noteDeed(tx, row.id, deed, settings.clock.now()));
}
