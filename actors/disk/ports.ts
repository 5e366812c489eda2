/** What a disk needs of the world. Names derive from the disk's id; every call is create-or-adopt and may be repeated. */
import type { StaysSmall, VolumePlace } from '../../machines/disk.events.ts';
import { NotYet } from '../errors.ts';

export interface VolumeRequest {
  diskId: string;
  owner: string;
  sizeGb: number;
  /** Start from this snapshot if there is no volume yet. */
  snapshotId: string | null;
  /** The volume must be there already: it holds data that no snapshot has, or was kept when its last session ended. */
  expectVolume: boolean;
  node: string;
  zone: string | null;
}

export interface ContentsEntry {
  /** From the top of the disk, as one printable line: what cannot be printed, and the backslash, are escaped as in C. */
  path: string;
  kind: 'file' | 'folder' | 'link' | 'other';
  /** Bytes of a file, if known. */
  size: number | null;
}

/** Why a listing ends before the disk does: more entries than are kept, too long, too deep, out of time, or not all could be read. */
export const CONTENTS_CUTS = ['entries', 'bytes', 'depth', 'time', 'unread'] as const;
export type ContentsCut = (typeof CONTENTS_CUTS)[number];

/** What was on a disk when a snapshot was taken, for people: as much of it as was listed. */
export interface DiskContents {
  /** In the order of their paths, {@link MOST_ENTRIES} at most. */
  entries: ContentsEntry[];
  /** Entries that there were, the left out ones included; null if nobody counted them all. */
  total: number | null;
  /** Sum of all files; null if not all are known. */
  sizeBytes: number | null;
  /** Empty: all is there. */
  cut: ContentsCut[];
}

/** Entries that are kept of a listing. */
export const MOST_ENTRIES = 5_000;

export type SnapshotProgress =
  /** What it waits for, for people; and after how many milliseconds to look again, if the provider knows better. */
  | { state: 'pending'; percent: number; detail?: string; lookAgainMs?: number }
  | { state: 'complete'; sizeBytes: number | null; contents?: DiskContents | null }
  | { state: 'failed'; reason: string };

/** Data is on its way into the volume, and so many percent of it are there. */
export class Filling extends NotYet {
  readonly percent: number;
  constructor(milliseconds: number, percent: number, what: string) {
    super(milliseconds, what);
    this.percent = percent;
  }
}

export interface Volumes {
  /**
   * Create the volume, or adopt it if it is there, at the size asked for: one that is smaller grows, one that is larger stays.
   * @returns the name of its PersistentVolumeClaim, and `stays` if it could not grow: it serves as it is then
   * @throws Filling while data is copied into it: it may take as long as it goes on
   * @throws TerminalError if one that is expected is missing: an older copy in its place would hide the loss from its user.
   */
  ensure(request: VolumeRequest): Promise<{ claim: string; stays?: StaysSmall }>;
  /**
   * Where the disk's volume can be used; null if it has none, or its storage has not decided it. Left out: everywhere.
   * @throws if the storage does not say
   */
  placeOf?(diskId: string): Promise<VolumePlace | null>;
  /**
   * 'detached' only when it is proven that no pod uses the volume and no node holds it.
   * @throws NotYet in words for an operator if a node does not let go of it
   */
  detach(diskId: string): Promise<'detached' | 'attached'>;
  /**
   * Delete a volume that was made and never given to a server; resolves when it is gone. Left out: it stays for the next session.
   * @throws NotYet until then
   */
  dropUnused?(diskId: string): Promise<void>;
  /** Start the snapshot of that id or look at it. */
  snapshot(diskId: string, snapshotId: string): Promise<SnapshotProgress>;
  /** Delete the live volume after checking that the snapshot is complete; a provider that keeps volumes says 'kept'. */
  remove(diskId: string, afterSnapshot: string): Promise<'removed' | 'kept'>;
  /**
   * Delete the live volume so that the next one starts from a snapshot; resolves when it is gone.
   * @throws NotYet while it is in use or still there; TerminalError if the snapshot that holds its data is not complete
   */
  discard(diskId: string, afterSnapshot: string): Promise<void>;
  /** Delete one snapshot that is recorded as this disk's, and bears its id; one that is gone is fine. */
  removeSnapshot(diskId: string, snapshotId: string): Promise<void>;
  /** Delete volume and the given snapshots for good. Touches only what bears the disk's id. */
  purge(diskId: string, snapshotIds: string[]): Promise<void>;
}
