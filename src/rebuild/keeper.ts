/**
 * Keeps beside each server and each disk what only the database knows of it, some seconds after it has changed. One process at a time does it.
 * At its start it looks at what is kept already, so what was made by an earlier version, or while nobody kept anything, gets its record as well.
 */
import { createHash, randomUUID } from 'node:crypto';
import { eachOf } from '../../actors/gpu-pool/parallel.ts';
import { Loop } from '../../actors/kernel/loop.ts';
import type { DiskContext } from '../../machines/disk.machine.ts';
import type { ReservationContext } from '../../machines/reservation.context.ts';
import type { Store } from '../../persistence/database.ts';
import { dropLease, holdLease } from '../../persistence/leases.ts';
import { Patience } from './patience.ts';
import type { DiskCarrier, FoundDisks, Remains } from './ports.ts';
import { diskRecord, gistOf, laterFirst, readDiskRecord, serverRecord, writeRecord } from './records.ts';

const LEASE = 'records';
const LEASE_SECONDS = 10;
/** Between two looks at what has changed, in milliseconds. */
const LOOK_MS = 2_000;

export interface KeeperSettings {
  db: Store;
  remains: Remains;
  onError: (error: unknown) => void;
  lookMs?: number;
}

/** What is to be kept, of what, where, and how to keep it. */
interface Wish {
  /** What was kept of this elsewhere is no longer the latest: it is told anew when that place is its own again. */
  of: string;
  place: string;
  text: string;
  keep: () => Promise<boolean>;
}

/** Rights and allowances for the one say nothing of the other. */
const SIDES = ['servers', 'disks'] as const;
type Side = (typeof SIDES)[number];

interface Progress {
  /** All that changed before is kept, or waits. */
  since: Date;
  patience: Patience<Wish>;
}

// What a transaction that lasts has written shows only at its end: half a minute is read twice.
const CHANGED_SERVERS = `
  select snapshot->'context' as context from actors
   where kind = 'reservation' and state in ('running', 'extending') and updated_at > $1::timestamptz - interval '30 seconds'`;

const CHANGED_DISKS = `
  select a.snapshot->'context' as context, a.seq::int as seq, a.updated_at as at, a.state = 'purged' as purged, d.created_at as "createdAt",
         (select s.snapshot_id from disk_snapshots s
           where s.disk_id = d.disk_id and s.status = 'complete' order by s.completed_at desc, s.snapshot_id desc limit 1) as newest,
         (select s.snapshot_id from disk_snapshots s
           where s.disk_id = d.disk_id and s.status = 'complete' and s.snapshot_id = a.snapshot #>> '{context,latestSnapshot}') as own,
         array(select s.snapshot_id from disk_snapshots s
                where a.state = 'purged' and s.disk_id = d.disk_id and s.status = 'complete') as left
    from disks d join actors a on a.actor = 'disk/' || d.disk_id
   where a.kind = 'disk' and a.status in ('active', 'done') and d.last_updated > $1::timestamptz - interval '30 seconds'`;

const NOW = 'select now() as now';

interface DiskRow {
  context: DiskContext;
  seq: number;
  at: Date;
  purged: boolean;
  createdAt: Date;
  newest: string | null;
  /** The snapshot that it starts from, if it is one of its own: that of another disk bears the record of that one. */
  own: string | null;
  /** Of one that was purged: snapshots that were kept for clones. Each says so itself. */
  left: string[];
}

/** Of what a record is about: thousands of records are not held in memory. */
const sumOf = (place: string, text: string): string =>
  createHash('sha256')
    .update(`${place}\n${gistOf(text)}`)
    .digest('base64');

/** What stands on a snapshot of a disk that was purged; all others have one record. */
const ofPurged = (snapshotId: string): string => `purged ${snapshotId}`;
const ofDisk = (id: string): string => `disk ${id}`;

const nameOf = (carrier: DiskCarrier): string =>
  'volume' in carrier ? `volume ${carrier.volume}` : `snapshot ${carrier.snapshot}`;

export class Keeper {
  readonly #settings: KeeperSettings;
  readonly #holder = randomUUID();
  readonly #lease: Loop;
  readonly #work: Loop;
  #token: number | null = null;
  /** Sums of what is kept and where, by what it is of; null: not looked at yet. */
  #kept: Map<string, string> | null = null;
  #progress: Record<Side, Progress>;

  constructor(settings: KeeperSettings) {
    this.#settings = settings;
    const { onError } = settings;
    this.#progress = this.#fresh();
    this.#lease = new Loop({ name: 'records lease', work: () => this.#keepLease(), onError });
    this.#work = new Loop({ name: 'records', work: () => this.#look(), onError });
  }

  start(): void {
    this.#lease.start();
    this.#work.start();
  }

  async stop(): Promise<void> {
    await Promise.all([this.#lease.stop(), this.#work.stop()]);
    if (this.#token !== null) await dropLease(this.#settings.db, LEASE, this.#holder).catch(() => {});
    this.#token = null;
  }

  async #keepLease(): Promise<number> {
    const token = await holdLease(this.#settings.db, LEASE, this.#holder, LEASE_SECONDS);
    if (token !== this.#token) {
      this.#token = token;
      this.#kept = null;
      this.#work.wake();
    }
    return (LEASE_SECONDS * 1000) / 3;
  }

  async #look(): Promise<number> {
    const { lookMs = LOOK_MS } = this.#settings;
    const token = this.#token;
    if (token === null) return lookMs;
    if (this.#kept === null) await this.#begin();
    for (const side of SIDES) await this.#keepSide(side, token);
    return lookMs;
  }

  async #keepSide(side: Side, token: number): Promise<void> {
    const { db, onError } = this.#settings;
    const progress = this.#progress[side];
    const { patience } = progress;
    if (patience.isHeld) return;
    const { rows } = await db.query<{ now: Date }>(NOW, []);
    const wishes = new Map((await this.#wishes[side](progress.since)).map((wish) => [wish.of, wish]));
    let isStopped = false;
    let isAccepted = false;
    const keep = async (wish: Wish) => {
      const { of, place, text } = wish;
      if (isStopped || this.#token !== token) return;
      if (this.#kept?.get(of) === sumOf(place, text)) return patience.done(of, false);
      try {
        // What is gone needs no record, and what is not there yet is told of when its disk knows it.
        const isKept = await wish.keep();
        if (isKept) this.#kept?.set(of, sumOf(place, text));
        isAccepted ||= isKept;
        patience.done(of, isKept);
      } catch (error) {
        const { who, isNews } = patience.failed(of, wish, error);
        isStopped ||= who === 'all';
        if (isNews) onError(who === 'one' ? error : new Error(`No records of ${side} are kept for now`, { cause: error }));
      }
    };
    const due = [...patience.due(wishes).values()];
    while (patience.isRefused && !isAccepted && !isStopped && due.length > 0) await keep(due.shift()!);
    await eachOf(due, keep, onError);
    // What was not tried is found again from the same time on.
    if (isStopped) return;
    progress.since = rows[0]!.now;
    if (isAccepted) patience.recovered();
  }

  #fresh(): Record<Side, Progress> {
    const one = () => ({ since: new Date(0), patience: new Patience<Wish>(this.#settings.lookMs ?? LOOK_MS) });
    return { servers: one(), disks: one() };
  }

  /** What stands there already. A list that fails only means that all is written once more. */
  async #begin(): Promise<void> {
    const { remains, onError } = this.#settings;
    const kept = new Map<string, string>();
    const note = (of: string, place: string, record: string) => kept.set(of, sumOf(place, record));
    try {
      for (const { pod, record } of await remains.servers()) if (record !== null) note(`server ${pod}`, `server ${pod}`, record);
      for (const { of, place, record } of latestRecords(await remains.disks.find())) note(of, place, record);
    } catch (error) {
      onError(error);
    }
    this.#progress = this.#fresh();
    this.#kept = kept;
  }

  readonly #wishes: Record<Side, (since: Date) => Promise<Wish[]>> = {
    servers: async (since) => {
      const { db, remains } = this.#settings;
      const { rows } = await db.query<{ context: ReservationContext }>(CHANGED_SERVERS, [since]);
      return rows.flatMap(({ context }): Wish[] => {
        const record = serverRecord(context);
        const { uid, name: pod } = context.pod;
        if (record === null || uid === null || pod === null) return [];
        const text = writeRecord(record);
        return [{ of: `server ${pod}`, place: `server ${pod}`, text, keep: () => remains.keepServer({ pod, uid }, text) }];
      });
    },
    disks: async (since) => {
      const { db, remains } = this.#settings;
      const { rows } = await db.query<DiskRow>(CHANGED_DISKS, [since]);
      return rows.flatMap(({ context, createdAt, at, own, left, ...row }): Wish[] => {
        const { id, claim } = context;
        const text = writeRecord(diskRecord(context, { ...row, at: at.toISOString(), createdAt: createdAt.toISOString() }));
        const wish = (of: string, carrier: DiskCarrier | null): Wish[] =>
          carrier === null ? [] : [{ of, place: nameOf(carrier), text, keep: () => remains.disks.keep(id, carrier, text) }];
        if (row.purged)
          return left.flatMap((latest) => wish(ofPurged(latest), remains.disks.carrierOf({ id, claim: null, latest })));
        return wish(ofDisk(id), remains.disks.carrierOf({ id, claim, latest: own }));
      });
    },
  };
}

/** The records that hold: of each disk the latest, and of one that was purged each that says so. */
function latestRecords({ volumes, snapshots }: FoundDisks): { of: string; place: string; record: string }[] {
  const found = [
    ...volumes.map(({ claim, record }) => ({ place: nameOf({ volume: claim }), record, purged: null })),
    ...snapshots.map(({ snapshotId, record }) => ({
      place: nameOf({ snapshot: snapshotId }),
      record,
      purged: ofPurged(snapshotId),
    })),
  ].flatMap(({ place, record: text, purged }) => {
    const read = readDiskRecord(text);
    if (text === null || !('record' in read)) return [];
    const { record } = read;
    return [{ of: record.purged && purged !== null ? purged : ofDisk(record.id), place, text, record }];
  });
  // Those that hold come last, and take the place of the others.
  found.sort((one, other) => laterFirst(other.record, one.record));
  return found.map(({ of, place, text }) => ({ of, place, record: text }));
}
