/** The disk as a kind of actor: its handlers, its read model and its records. */
import {
  type DiskEffect,
  DiskEffect as DiskEffects,
  DiskEvent,
  type DiskMessage,
  type DiskRecord,
} from '../../machines/disk.events.ts';
import { intentsOfDisk } from '../../machines/disk.effects.ts';
import { type DiskContext, type DiskInput, diskMachine } from '../../machines/disk.machine.ts';
import type { Store, Transaction } from '../../persistence/database.ts';
import { dropContents, dropListing } from '../../persistence/disk-contents.ts';
import { NotYet } from '../errors.ts';
import type { ActorKind, Change, EffectHandler, RetryPolicy } from '../kernel/kind.ts';
import { topState } from '../kernel/revive.ts';
import { Pace } from './pace.ts';
import { keepContents } from './contents.ts';
import { Filling, type Volumes } from './ports.ts';
import { ProgressTeller, wordsOf } from './progress.ts';
import { DEFAULT_RETENTION, prepareDisk, type SnapshotRetention } from './retention.ts';
import { isElsewhere, placeOf } from './whereabouts.ts';

export interface DiskPorts {
  db: Store;
  volumes: Volumes;
  /** Which snapshots are kept; left out: the newest 3 and those of 7 days. */
  snapshotRetention?: SnapshotRetention | undefined;
}

type Effect<T extends DiskEffect['type']> = Extract<DiskEffect, { type: T }>;

const LOOK_AGAIN = { detach: { firstMs: 500, longestMs: 5_000 }, snapshot: 500, clones: 1_000 } as const;
const UNTIL_LIMIT: RetryPolicy = { attempts: Number.POSITIVE_INFINITY, firstMs: 200, longestMs: 10_000 };

/** The kind `disk`; its ids are UUIDs. */
export function diskKind(ports: DiskPorts): ActorKind {
  const { db, volumes } = ports;
  const teller = new ProgressTeller(db);
  const detaching = new Pace(LOOK_AGAIN.detach);
  const handlers: Record<DiskEffect['type'], EffectHandler> = {
    'volume.ensure': async ({ round, locate, ...request }: Effect<'volume.ensure'>) => {
      const { claim, stays } = await volumes.ensure(request).catch(async (error: unknown) => {
        if (error instanceof Filling) await teller.tellFilling(request.diskId, round, error.percent);
        throw error;
      });
      teller.end(request.diskId);
      const place = locate === true ? await placeOf(volumes, request.diskId) : null;
      const elsewhere = await isElsewhere(db, request.node, place);
      const beside = { ...(elsewhere ? { elsewhere } : {}), ...(stays === undefined ? {} : { stays }) };
      return { type: 'volume.ready', round, claim, place, ...beside } as { type: string };
    },
    'volume.detach': async ({ round, diskId, unused, locate }: Effect<'volume.detach'>, { effectId }) => {
      if ((await volumes.detach(diskId)) !== 'detached') {
        throw new NotYet(detaching.next(diskId, effectId), 'The volume is still in use');
      }
      detaching.end(diskId);
      // Some storage has decided where a volume is when its first pod was placed.
      const place = locate === true ? await placeOf(volumes, diskId) : null;
      if (unused === true) await volumes.dropUnused?.(diskId);
      return { type: 'volume.detached', round, place } as { type: string };
    },
    'snapshot.take': async ({ round, diskId, snapshotId }: Effect<'snapshot.take'>) => {
      const progress = await volumes.snapshot(diskId, snapshotId);
      await teller.tell(diskId, round, progress);
      if (progress.state === 'pending') throw new NotYet(progress.lookAgainMs ?? LOOK_AGAIN.snapshot, wordsOf(progress));
      if (progress.state === 'complete') await keepContents(db, snapshotId, progress.contents ?? null);
      if (progress.state === 'failed') return { type: 'snapshot.failed', round, reason: progress.reason } as { type: string };
      return { type: 'snapshot.complete', round, snapshotId, sizeBytes: progress.sizeBytes } as { type: string };
    },
    'volume.delete': async ({ round, diskId, afterSnapshot }: Effect<'volume.delete'>) => {
      const what = await volumes.remove(diskId, afterSnapshot);
      return { type: 'volume.deleted', round, kept: what === 'kept' } as { type: string };
    },
    'volume.discard': async ({ round, diskId, afterSnapshot }: Effect<'volume.discard'>) => {
      await volumes.discard(diskId, afterSnapshot);
      return { type: 'volume.discarded', round } as { type: string };
    },
    'snapshots.remove': async ({ snapshots }: Effect<'snapshots.remove'>) => {
      for (const { diskId, snapshotId } of snapshots) await volumes.removeSnapshot(diskId, snapshotId);
      return { type: 'snapshots.removed', snapshotIds: snapshots.map(({ snapshotId }) => snapshotId) } as { type: string };
    },
    'disk.purge': async ({ round, diskId }: Effect<'disk.purge'>) => {
      const own = await snapshotsToPurge(db, diskId);
      await volumes.purge(diskId, own);
      const others = await snapshotsKeptFor(db, diskId);
      for (const kept of others) await volumes.removeSnapshot(kept.diskId, kept.snapshotId);
      await dropContents(db, [...own, ...others.map(({ snapshotId }) => snapshotId)]);
      await dropListing(db, diskId);
      return { type: 'purge.done', round } as { type: string };
    },
  };
  return {
    kind: 'disk',
    version: 3,
    machine: diskMachine,
    events: DiskEvent,
    birth: 'disk.created',
    adoption: 'disk.adopted',
    input: inputOf,
    intents: (action, context, event, before) => intentsOfDisk(action, context, event as never, before),
    effects: DiskEffects,
    migrations: {
      1: (old) => ({ ...old, context: { ...(old.context as object), restore: null } }),
      2: (old) => ({ ...old, context: { ...(old.context as object), place: null } }),
    },
    context: null,
    refuses: (context: DiskContext, event) => {
      const by = (event as { by?: string | null }).by ?? null;
      return by !== null && by !== context.owner ? 'The disk belongs to another user' : null;
    },
    prepare: (tx, event, turn) => prepareDisk(tx, event, turn, ports.snapshotRetention ?? DEFAULT_RETENTION),
    project: projectDisks,
    record: async (tx, entries) => {
      for (const { entry, at } of entries) writeRecord(tx, entry as DiskRecord, at);
    },
    handlers,
    retry: {
      'volume.ensure': UNTIL_LIMIT,
      'volume.detach': UNTIL_LIMIT,
      'snapshot.take': UNTIL_LIMIT,
      'volume.delete': UNTIL_LIMIT,
      'volume.discard': UNTIL_LIMIT,
      'snapshots.remove': UNTIL_LIMIT,
      'disk.purge': UNTIL_LIMIT,
    },
    effectFailed: (effect, reason) => {
      // Its rows say that they are to go: the next look takes them up again.
      if (effect.type === 'snapshots.remove') return null;
      const round = effect['round'] as number;
      const type = effect.type === 'snapshot.take' ? 'snapshot.failed' : 'volume.failed';
      return { type, round, reason } as { type: string };
    },
  };
}

/** What the machine begins with: a new disk, a clone, or one that is there already. */
function inputOf(event: { type: string } & Record<string, unknown>): DiskInput {
  const born = event as unknown as DiskMessage;
  if (born.type === 'disk.created') {
    const { id, owner, name, sizeGb, cloneOf, operationId } = born;
    return { id, owner, name, sizeGb, cloneOf, operationId };
  }
  if (born.type !== 'disk.adopted') throw new Error(`${born.type} is no birth of a disk`);
  const { id, owner, name, sizeGb, round, claim, latestSnapshot, held, deleteAt } = born;
  const use = {
    holder: held?.reservationId ?? null,
    holderGeneration: held?.generation ?? 0,
    node: held?.node ?? '',
    zone: held?.zone ?? null,
  };
  const adopted = { round, claim, latestSnapshot, deleteAt, ...use };
  return { id, owner, name, sizeGb, cloneOf: null, operationId: null, adopted };
}

export const UNDECIDED_CLONES = `select 1 from disks d join actors a on a.actor = 'disk/' || d.disk_id
      where d.state = 'cloning' and a.snapshot #>> '{context,cloneOf}' = $1 limit 1`;

export const SNAPSHOTS_TO_PURGE = `select s.snapshot_id from disk_snapshots s
      where s.disk_id = $1
        and not exists (select 1 from disks d
                         where d.latest_snapshot_id = s.snapshot_id and d.disk_id <> s.disk_id and d.purged_at is null)`;

/**
 * Recorded snapshots of a disk that nobody needs any more. One that a clone would start from outlives the disk it was taken of.
 * @throws NotYet while a clone of this disk has not said which snapshot it starts from
 */
async function snapshotsToPurge(db: Store, diskId: string): Promise<string[]> {
  const { rowCount: undecided } = await db.query(UNDECIDED_CLONES, [diskId]);
  if (undecided !== 0) throw new NotYet(LOOK_AGAIN.clones, 'A clone of this disk is being made');
  const { rows } = await db.query<{ snapshot_id: string }>(SNAPSHOTS_TO_PURGE, [diskId]);
  return rows.map((row) => row.snapshot_id);
}

export const SNAPSHOTS_KEPT_FOR = `select s.snapshot_id as "snapshotId", s.disk_id as "diskId"
       from disks me join disks gone on gone.user_id = me.user_id and gone.purged_at is not null and gone.disk_id <> me.disk_id
       join disk_snapshots s on s.disk_id = gone.disk_id
      where me.disk_id = $1
        and not exists (select from disks d
                         where d.latest_snapshot_id = s.snapshot_id and d.disk_id <> me.disk_id and d.purged_at is null)`;

/** Snapshots of purged disks of the same owner that nobody but this disk could still need: they go with it. */
async function snapshotsKeptFor(db: Store, diskId: string): Promise<{ snapshotId: string; diskId: string }[]> {
  return (await db.query<{ snapshotId: string; diskId: string }>(SNAPSHOTS_KEPT_FOR, [diskId])).rows;
}

export const UPSERT = `
  insert into disks as d (disk_id, user_id, disk_name, size_gb, state, created_at, last_used, in_use, reservation_id, is_backing_up, is_deleted,
                          delete_date, marked_deleted_at, purged_at, latest_snapshot_id, volume_claim, volume_place, problem, last_updated)
  select n.id, n.owner, n.name, n.size_gb, n.state, $2, case when n.holder is not null then $2::timestamptz end, n.holder is not null, n.holder,
         n.state = 'capturing', n.delete_at is not null, n.delete_at, case when n.delete_at is not null then $2::timestamptz end,
         case when n.state = 'purged' then $2::timestamptz end, n.latest_snapshot, n.claim, n.place, n.problem, $2
    from jsonb_to_recordset($1::jsonb) as n(id uuid, owner text, name text, size_gb int, state text, holder text, delete_at timestamptz,
         latest_snapshot text, claim text, place jsonb, problem text)
  on conflict (disk_id) do update set
         state = excluded.state, in_use = excluded.in_use, reservation_id = excluded.reservation_id, is_backing_up = excluded.is_backing_up,
         last_used = coalesce(excluded.last_used, d.last_used), is_deleted = excluded.is_deleted, delete_date = excluded.delete_date,
         marked_deleted_at = case when excluded.is_deleted then coalesce(d.marked_deleted_at, excluded.marked_deleted_at) end,
         purged_at = excluded.purged_at, latest_snapshot_id = excluded.latest_snapshot_id, volume_claim = excluded.volume_claim,
         volume_place = excluded.volume_place,
         problem = excluded.problem, last_updated = excluded.last_updated`;

/** The read model of disks, written in the transaction of the turn. */
async function projectDisks(tx: Transaction, changes: readonly Change[]): Promise<void> {
  const rows = changes.map(({ id, after }) => {
    const context = after.context as DiskContext;
    return {
      id,
      owner: context.owner,
      name: context.name,
      size_gb: context.sizeGb,
      state: topState(after.value),
      holder: context.holder,
      delete_at: context.deleteAt,
      latest_snapshot: context.latestSnapshot,
      claim: context.claim,
      place: context.place,
      problem: context.problem,
    };
  });
  tx.send(UPSERT, [JSON.stringify(rows), changes[0]!.at]);
}

export const SNAPSHOT_STARTED = `insert into disk_snapshots (snapshot_id, disk_id, reservation_id, status, created_at) values ($1, $2, $3, 'pending', $4)
         on conflict (snapshot_id) do nothing`;

export const SNAPSHOT_COMPLETED = `update disk_snapshots set status = 'complete', completed_at = $2, size_bytes = $3 where snapshot_id = $1`;

export const SNAPSHOT_FAILED = `update disk_snapshots set status = 'failed', completed_at = $2, reason = $3 where snapshot_id = $1 and status = 'pending'`;

export const SNAPSHOTS_REMOVED = `delete from disk_snapshots where snapshot_id = any($1::text[]) and status = 'removing'`;

export const SNAPSHOTS_ADOPTED = `
  insert into disk_snapshots (snapshot_id, disk_id, reservation_id, status, size_bytes, created_at, completed_at)
  select s."snapshotId", $1, s."reservationId", 'complete', s."sizeBytes", s."createdAt", s."createdAt"
    from jsonb_to_recordset($2::jsonb) as s("snapshotId" text, "reservationId" text, "sizeBytes" bigint, "createdAt" timestamptz)
  on conflict (snapshot_id) do nothing`;

export const OPERATION_ENDED = `update operations set status = $2, error = $3, code = $5, updated_at = $4 where operation_id = $1 and status = 'pending'`;

export const COUNT_SNAPSHOTS = `update disks d set
            snapshot_count = (select count(*) from disk_snapshots s where s.disk_id = d.disk_id and s.status = 'complete'),
            pending_snapshot_count = (select count(*) from disk_snapshots s where s.disk_id = d.disk_id and s.status = 'pending'),
            last_snapshot_at = (select max(completed_at) from disk_snapshots s where s.disk_id = d.disk_id and s.status = 'complete')
      where d.disk_id = $1`;

export const PLACE_REQUEST = `update capacity_requests set place = $2::jsonb where reservation_id = $1 and status = 'waiting'`;

export const SIZE_DISK = `update disks set size_gb = $2 where disk_id = $1`;

function writeRecord(tx: Transaction, entry: DiskRecord, at: Date): void {
  switch (entry.type) {
    case 'snapshot.started':
      tx.send(SNAPSHOT_STARTED, [entry.snapshotId, entry.diskId, entry.reservationId, at]);
      break;
    case 'snapshot.completed':
      tx.send(SNAPSHOT_COMPLETED, [entry.snapshotId, at, entry.sizeBytes]);
      break;
    case 'snapshot.failed':
      tx.send(SNAPSHOT_FAILED, [entry.snapshotId, at, entry.reason]);
      break;
    case 'operation.ended':
      tx.send(OPERATION_ENDED, [entry.operationId, entry.status, entry.error, at, entry.code]);
      return;
    case 'snapshots.adopted':
      tx.send(SNAPSHOTS_ADOPTED, [entry.diskId, JSON.stringify(entry.snapshots)]);
      break;
    case 'volume.placed':
      tx.send(PLACE_REQUEST, [entry.reservationId, JSON.stringify(entry.place)]);
      return;
    case 'disk.sized':
      tx.send(SIZE_DISK, [entry.diskId, entry.sizeGb]);
      return;
    case 'snapshots.removed':
      tx.send(SNAPSHOTS_REMOVED, [entry.snapshotIds]);
      break;
  }
  tx.send(COUNT_SNAPSHOTS, [entry.diskId]);
}
