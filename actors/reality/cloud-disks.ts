/**
 * One comparison of disks with the cloud, in both directions. The database is the truth: what the cloud has and we have no record of is reported,
 * with its age and what it costs, and never deleted or taken for a disk's; what we have on record and the cloud proves to be gone is told to the
 * disk. Size, attachments and how far snapshots have come are brought up to date.
 */
import { isRetryableDatabaseError, type Transaction } from '../../persistence/database.ts';
import {
  knownDisks,
  type RecordedSnapshot,
  type RecordedVolume,
  recordedSnapshots,
  recordedVolumes,
  syncCounts,
  syncSnapshots,
  syncVolumes,
} from '../../persistence/ebs-reality.ts';
import { assertLease, LeaseLostError } from '../../persistence/leases.ts';
import type { Message } from '../../persistence/mailbox.ts';
import {
  closeFindings,
  type Difference,
  noteDeed,
  openFindings,
  recordFindings,
  type ReportLine,
} from '../../persistence/reality.ts';
import type { CloudDisks, CloudSnapshot, CloudVolume } from './cloud-ports.ts';
import type { SweepSettings } from './sweep.ts';

export type CloudSweepSettings = Omit<SweepSettings, 'reality' | 'graceMs'> & { cloud: CloudDisks };

export interface CloudReport {
  lines: ReportLine[];
  unanswered: string[];
}

const VOLUME = 'EbsVolume';
const SNAPSHOT = 'EbsSnapshot';
/** What is younger belongs to somebody who is at work, or does not show everywhere yet. */
const YOUNG_MS = 10 * 60_000;
const DAY_MS = 86_400_000;
/** Open findings that are read to see which are in doubt. */
const MOST_OPEN = 100_000;
/** Labels are brought up to date by so many at a time. */
const RENAMES = 50;
/** List prices of gp3 and of snapshots, in dollars for a GB and month: a hint, not a bill. */
const PRICE = { volume: 0.08, snapshot: 0.05 } as const;

/**
 * Compare, and act unless it is a dry run, which changes nothing anywhere. A kind whose list did not come to its end is left out.
 * @throws the database's error, LeaseLostError
 */
export async function sweepCloud(settings: CloudSweepSettings, { dryRun }: { dryRun: boolean }): Promise<CloudReport> {
  const now = settings.clock.now() ?? (await settings.db.query<{ now: Date }>('select now() as now', [])).rows[0]!.now;
  const unanswered: string[] = [];
  const found: Finding[] = [];
  const compared: string[] = [];
  /** Of what nothing could be found out: findings that are open stay so. */
  const doubtful = new Set<string>();
  for (const [kind, compare] of [
    [VOLUME, compareVolumes],
    [SNAPSHOT, compareSnapshots],
  ] as const) {
    if (settings.isOver()) break;
    const each: Each = async (id, work) => {
      try {
        return await work();
      } catch (error) {
        if (!(error instanceof Error) || error instanceof LeaseLostError || isOutage(error)) throw error;
        doubtful.add(id);
        unanswered.push(`${kind} ${id}: ${error.message}`);
        settings.onError(error);
        return null;
      }
    };
    try {
      found.push(...(await compare(settings, { dryRun, now, each })));
      compared.push(kind);
    } catch (error) {
      if (!(error instanceof Error) || error instanceof LeaseLostError || 'severity' in error) throw error;
      unanswered.push(`${kind}: ${error.message}`);
      settings.onError(error);
    }
  }
  if (dryRun || settings.isOver()) {
    return {
      lines: found.map((each) => lineOf(each, now.toISOString(), each.tell === undefined ? 'reported' : 'would tell')),
      unanswered,
    };
  }
  await syncCounts(settings.db);
  return { lines: await record(settings, found, { compared, doubtful, now }), unanswered };
}

type Finding = Difference & { tell?: Message };
/** Does something about one volume or snapshot: what goes wrong with one is noted, and says nothing of the others. @returns null then */
type Each = <T>(id: string, work: () => Promise<T>) => Promise<T | null>;

interface Comparing {
  dryRun: boolean;
  now: Date;
  each: Each;
}

/** The database itself is in trouble, not a row. */
function isOutage(error: Error): boolean {
  const { code } = error as { code?: unknown };
  return isRetryableDatabaseError(error) || (typeof code === 'string' && /^(08|53|57|58|XX)/.test(code));
}

async function record(
  settings: CloudSweepSettings,
  found: readonly Finding[],
  { compared, doubtful, now }: { compared: readonly string[]; doubtful: ReadonlySet<string>; now: Date },
): Promise<ReportLine[]> {
  const rows = await fenced(settings, async (tx) => {
    const written = await recordFindings(
      tx,
      found.map(({ tell: _tell, ...difference }) => difference),
      now,
    );
    const inDoubt = doubtful.size === 0 ? [] : (await openFindings(tx, MOST_OPEN)).filter(({ name }) => doubtful.has(name));
    await closeFindings(
      tx,
      compared,
      [...written, ...inDoubt].map(({ id }) => id),
      now,
    );
    return written;
  });
  const byName = new Map(found.map((each) => [`${each.kind} ${each.name}`, each]));
  const lines: ReportLine[] = [];
  for (const row of rows) {
    const tell = byName.get(`${row.kind} ${row.name}`)?.tell;
    let action: ReportLine['action'] = 'reported';
    if (tell !== undefined && row.done !== 'told') {
      await settings.post([{ ...tell, key: `finding:${row.id}` }]);
      await noteDeed(settings.db, row.id, 'told', now);
    }
    if (tell !== undefined) action = 'told';
    lines.push(lineOf(row, row.first_seen.toISOString(), action));
  }
  return lines;
}

function lineOf({ kind, name, actor, verdict, why }: Difference, first_seen: string, action: ReportLine['action']): ReportLine {
  return { kind, name, actor, verdict, why, first_seen, action };
}

function fenced<T>({ db, lease }: CloudSweepSettings, work: (tx: Transaction) => Promise<T>): Promise<T> {
  return db.withTransaction(async (tx) => {
    if (lease !== null) await assertLease(tx, lease.name, lease.token);
    return work(tx);
  });
}

async function compareVolumes(settings: CloudSweepSettings, { dryRun, now, each }: Comparing): Promise<Finding[]> {
  const { db, cloud, isOver } = settings;
  // Before the list: what is made meanwhile is in neither, or in the list alone and young.
  const records = new Map((await recordedVolumes(db)).map((each) => [each.volumeId, each]));
  const names = new Map(
    [...records.values()].filter(({ state }) => state === 'live').map((each) => [each.diskId, each.volumeId]),
  );
  const seen = new Set<string>();
  const found: Finding[] = [];
  let renames = 0;
  for await (const page of cloud.volumes()) {
    if (isOver()) return [];
    const strangers: CloudVolume[] = [];
    const changed: CloudVolume[] = [];
    for (const volume of page) {
      seen.add(volume.id);
      const known = records.get(volume.id);
      if (known === undefined) strangers.push(volume);
      else {
        if (known.state !== 'gone' && differs(known, volume)) changed.push(volume);
        found.push(...onRecord(known, volume));
        if (!dryRun && known.state === 'live' && volume.diskName !== known.name && renames++ < RENAMES)
          await each(volume.id, () => cloud.rename(volume.id, known.name));
      }
    }
    const ours = await knownDisks(db, idsOf(strangers));
    found.push(...strangers.filter((one) => isOld(one, now)).map((one) => strange(one, ours, names, now)));
    // Each in a transaction of its own: one that cannot be written holds up no other.
    if (!dryRun) for (const volume of changed) await each(volume.id, () => fenced(settings, (tx) => syncVolumes(tx, [volume])));
  }
  for (const known of records.values()) {
    if (known.state === 'gone' || known.fresh || seen.has(known.volumeId)) continue;
    if ((await each(known.volumeId, () => cloud.volumeIsGone(known.volumeId))) === true) found.push(missingVolume(known));
  }
  return found;
}

const differs = (known: RecordedVolume, { sizeGb, attachedTo }: CloudVolume): boolean =>
  known.sizeGb !== sizeGb || known.attachedTo.join() !== attachedTo.join();

function onRecord(known: RecordedVolume, volume: CloudVolume): Finding[] {
  const base = { kind: VOLUME, name: volume.id, uid: volume.id, actor: `disk/${known.diskId}` };
  if (known.state === 'gone' && !known.fresh && volume.state !== 'deleting')
    return [{ ...base, verdict: 'ended', why: `It is on record as deleted, and EBS still has it (${volume.state})` }];
  if (volume.diskId !== null && volume.diskId !== known.diskId)
    return [
      {
        ...base,
        verdict: 'unrecorded',
        why: `Two disks claim it: its tags name ${volume.diskId}. By our record it is this disk's, and that counts`,
      },
    ];
  if (known.stuck && volume.attachedTo.length > 0)
    return [
      {
        ...base,
        verdict: 'ended',
        why: `Its session is over, and ${volume.attachedTo.join(' and ')} did not let go of it. It is taken off by force when EC2 says that the machine is terminated, and not before: look at it, and terminate it if it hangs`,
      },
    ];
  if (volume.owner !== null && volume.owner !== known.owner)
    return [
      {
        ...base,
        verdict: 'unrecorded',
        why: `Its tags name ${volume.owner} as its owner. By our record it is ${known.owner}, and that counts`,
      },
    ];
  if (known.state !== 'gone' && known.unused && !known.fresh)
    return [
      {
        ...base,
        verdict: 'ended',
        why: 'Nobody uses its disk, which keeps no volume: what it holds is in snapshots. The next session takes it',
      },
    ];
  if (volume.state === 'error') return [{ ...base, verdict: 'ended', why: 'EBS says that it is broken' }];
  return [];
}

/** One that no record names: whoever it belongs to, nothing is done to it. */
function strange(volume: CloudVolume, ours: ReadonlySet<string>, live: ReadonlyMap<string, string>, now: Date): Finding {
  const { id, diskId, owner, diskName, sizeGb, createdAt, attachedTo, reservationId } = volume;
  const held = attachedTo.length === 0 ? '' : `; ${attachedTo.join(' and ')} ${attachedTo.length === 1 ? 'holds' : 'hold'} it`;
  const made = reservationId === null ? '' : `; made for reservation ${reservationId}`;
  const facts = `${cost('volume', sizeGb, createdAt, now)}${made}${held}`;
  if (diskId === null || !ours.has(diskId)) {
    const whose = `Its tags name the disk ${diskName ?? diskId ?? '?'} of ${owner ?? '?'}, which we do not know`;
    return { kind: VOLUME, name: id, uid: id, actor: null, verdict: 'unknown', why: `${whose}; ${facts}` };
  }
  const other = live.get(diskId);
  const why =
    other === undefined
      ? `It claims to be the disk's, and there is no record of it`
      : `Two volumes claim to be the disk's: our record names ${other}, and there is none of this one`;
  return { kind: VOLUME, name: id, uid: id, actor: `disk/${diskId}`, verdict: 'unrecorded', why: `${why}; ${facts}` };
}

function missingVolume({ volumeId, diskId, claim }: RecordedVolume): Finding {
  const actor = `disk/${diskId}`;
  const difference: Difference = {
    kind: VOLUME,
    name: volumeId,
    uid: '',
    actor,
    verdict: 'missing',
    why: 'The disk has this volume, and EBS says that there is none',
  };
  // Whoever uses the disk finds out at once; one that nobody uses is told.
  if (claim === null) return difference;
  return {
    ...difference,
    tell: { actor, key: '', event: { type: 'volume.missing', claim } as { type: string }, sender: 'reality' },
  };
}

async function compareSnapshots(settings: CloudSweepSettings, { dryRun, now, each }: Comparing): Promise<Finding[]> {
  const { db, cloud, isOver } = settings;
  const records = new Map((await recordedSnapshots(db)).map((each) => [each.ebsSnapshotId, each]));
  const seen = new Set<string>();
  const found: Finding[] = [];
  for await (const page of cloud.snapshots()) {
    if (isOver()) return [];
    const strangers: CloudSnapshot[] = [];
    const changed: CloudSnapshot[] = [];
    for (const snapshot of page) {
      seen.add(snapshot.id);
      const known = records.get(snapshot.id);
      if (known === undefined) strangers.push(snapshot);
      else if (known.state !== snapshot.state) changed.push(snapshot);
    }
    const ours = await knownDisks(db, idsOf(strangers));
    found.push(...strangers.filter((one) => isOld(one, now)).map((one) => strangeSnapshot(one, ours, now)));
    if (!dryRun && changed.length > 0) await fenced(settings, (tx) => syncSnapshots(tx, changed));
  }
  for (const known of records.values()) {
    if (known.fresh || seen.has(known.ebsSnapshotId)) continue;
    const isGone = await each(known.ebsSnapshotId, () => cloud.snapshotIsGone(known.ebsSnapshotId));
    if (isGone === true) found.push(missingSnapshot(known));
  }
  return found;
}

function strangeSnapshot(
  { id, diskId, owner, diskName, volumeId, sizeGb, startedAt }: CloudSnapshot,
  ours: ReadonlySet<string>,
  now: Date,
): Finding {
  const known = diskId !== null && ours.has(diskId);
  const why = known
    ? `There is no record of this snapshot (of ${volumeId}) of the disk: another program may have copied it, tags and all`
    : `Its tags name the disk ${diskName ?? diskId ?? '?'} of ${owner ?? '?'}, which we do not know`;
  return {
    kind: SNAPSHOT,
    name: id,
    uid: id,
    actor: known ? `disk/${diskId}` : null,
    verdict: known ? 'unrecorded' : 'unknown',
    why: `${why}; ${cost('snapshot', sizeGb, startedAt, now)}`,
  };
}

function missingSnapshot({ ebsSnapshotId, snapshotId, diskId }: RecordedSnapshot): Finding {
  const why = `The disk has this snapshot (${snapshotId}), and EBS says that there is none`;
  return { kind: SNAPSHOT, name: ebsSnapshotId, uid: '', actor: `disk/${diskId}`, verdict: 'missing', why };
}

function isOld(each: CloudVolume | CloudSnapshot, now: Date): boolean {
  const since = 'startedAt' in each ? each.startedAt : each.createdAt;
  return since === null || now.getTime() - since.getTime() > YOUNG_MS;
}

function idsOf(strangers: readonly { diskId: string | null }[]): string[] {
  return strangers.flatMap(({ diskId }) => diskId ?? []);
}

function cost(what: keyof typeof PRICE, sizeGb: number, since: Date | null, now: Date): string {
  const days = since === null ? null : Math.floor((now.getTime() - since.getTime()) / DAY_MS);
  const upTo = what === 'snapshot' ? 'at most' : 'about';
  return `${sizeGb} GB${days === null ? '' : `, ${days} days old`}, ${upTo} $${(sizeGb * PRICE[what]).toFixed(2)} a month`;
}
