/** Where what was on disks is kept when it does not stay in the database, and who brings it there: beside the sessions, never in their way. */
import { randomUUID } from 'node:crypto';
import { Loop } from '../actors/kernel/loop.ts';
import type { Database } from '../persistence/database.ts';
import {
  type ContentsToStore,
  contentsToStore,
  intendObject,
  type Listing,
  objectRemoved,
  objectStored,
  objectsLeft,
} from '../persistence/disk-contents.ts';
import { dropLease, holdLease } from '../persistence/leases.ts';

/** What stands in an object. */
export interface StoredContents {
  snapshot_id: string;
  user_id: string;
  disk_name: string;
  listed_at: string;
  total: number | null;
  size_bytes: number | null;
  cut: readonly string[];
  entries: Listing['entries'];
}

/** A store of listings outside the database. A place is what the database remembers; a call ends, failing, once its signal is aborted. */
export interface ContentsStore {
  placeOf(what: { user: string; disk: string; snapshotId: string }): string;
  /** What all its places begin with, and none elsewhere does. */
  readonly within: string;
  /** Whether the place is in this store: nothing else is ever touched. */
  owns(place: string): boolean;
  put(place: string, contents: StoredContents, signal?: AbortSignal): Promise<void>;
  /** Null if nothing stands there. @throws if it cannot tell */
  get(place: string): Promise<StoredContents | null>;
  /** What is gone already is fine. */
  remove(place: string, signal?: AbortSignal): Promise<void>;
  /** What is missing for it to work, in words for the operator. @throws if that cannot be told now */
  findObstacles(): Promise<string[]>;
}

const LEASE = 'disk-contents';
const LEASE_SECONDS = 60;
const EVERY_MS = 3_000;
const AFTER_FAILURE_MS = 30_000;
const PORTION = 20;
/** An object is removed so long after its snapshot: whoever was writing it then has ended. In milliseconds. */
const SETTLED_MS = 60_000;

export interface ContentsMoverSettings {
  db: Database;
  store: ContentsStore;
  onError: (error: unknown) => void;
  /** Milliseconds; for tests. */
  settledMs?: number;
}

export class ContentsMover {
  readonly #settings: ContentsMoverSettings;
  readonly #holder = randomUUID();
  readonly #loop: Loop;
  readonly #end = new AbortController();

  constructor(settings: ContentsMoverSettings) {
    this.#settings = settings;
    this.#loop = new Loop({ name: 'contents of disks', work: () => this.move(), onError: settings.onError });
  }

  start(): void {
    this.#loop.start();
  }

  /** Does not wait for the store: what is on its way is on record, and whoever comes next tries it again. */
  async stop(): Promise<void> {
    this.#end.abort();
    await this.#loop.stop();
    await dropLease(this.#settings.db, LEASE, this.#holder).catch(this.#settings.onError);
  }

  /**
   * One portion, if it is this process's turn: listings go out, and objects whose snapshots are gone go away. A place is on record before its
   * object is made, and is forgotten after the object is removed: no object is ever without a row. What fails is told, and tried again.
   * @returns how long to sleep, in milliseconds
   */
  async move(): Promise<number> {
    const { db, store, settledMs = SETTLED_MS } = this.#settings;
    const waiting = await contentsToStore(db, PORTION);
    const left = (await objectsLeft(db, store.within, settledMs, PORTION)).filter((place) => store.owns(place));
    if (waiting.length + left.length === 0) return EVERY_MS;
    if ((await holdLease(db, LEASE, this.#holder, LEASE_SECONDS)) === null) return EVERY_MS;
    // First: what is stored now may stand where something was left.
    const removed = await this.#each(left, async (place) => {
      await store.remove(place, this.#end.signal);
      await objectRemoved(db, place);
    });
    const stored = await this.#each(waiting, (row) => this.#store(row));
    if (!stored || !removed) return AFTER_FAILURE_MS;
    return waiting.length === PORTION || left.length === PORTION ? 0 : EVERY_MS;
  }

  /** @returns false if one of them failed; the first is told. Ends early when this is stopped, and then tells nothing */
  async #each<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<boolean> {
    const failures: unknown[] = [];
    const { signal } = this.#end;
    for (const item of items) if (!signal.aborted) await work(item).catch((error: unknown) => failures.push(error));
    if (failures.length > 0 && !signal.aborted) this.#settings.onError(failures[0]);
    return failures.length === 0;
  }

  async #store(row: ContentsToStore): Promise<void> {
    const { db, store } = this.#settings;
    const { snapshot_id: snapshotId, user_id: user, disk_name: disk, listed_at: listedAt, entries, total, sizeBytes, cut } = row;
    // What an earlier try has written down stays, whatever the disk is called by now.
    const known = row.object !== null && store.owns(row.object) ? row.object : null;
    const place = known ?? store.placeOf({ user, disk, snapshotId });
    if (known === null && !(await intendObject(db, snapshotId, place))) return;
    const about = { snapshot_id: snapshotId, user_id: user, disk_name: disk, listed_at: listedAt.toISOString() };
    await store.put(place, { ...about, total, size_bytes: sizeBytes, cut, entries }, this.#end.signal);
    // Its snapshot may have been deleted meanwhile, and the object before it was made.
    if (!(await objectStored(db, snapshotId, place))) await store.remove(place, this.#end.signal);
  }
}
