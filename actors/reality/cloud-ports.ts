/** What the comparison of disks with a cloud needs of it: complete lists of what bears our tag, page by page, and proof of absence. */

export interface CloudVolume {
  id: string;
  state: string;
  zone: string;
  sizeGb: number;
  /** Machines that hold it; one that allows many may have many. */
  attachedTo: string[];
  createdAt: Date | null;
  /** What its tags say; null where they do not. */
  diskId: string | null;
  owner: string | null;
  diskName: string | null;
  generation: number | null;
  reservationId: string | null;
}

export interface CloudSnapshot {
  id: string;
  state: string;
  volumeId: string;
  sizeGb: number;
  startedAt: Date | null;
  diskId: string | null;
  /** Our own id. */
  snapshotId: string | null;
  owner: string | null;
  diskName: string | null;
  generation: number | null;
}

export interface CloudDisks {
  /** Pages of all of them, or it throws: half a list would make the rest look missing. */
  volumes(): AsyncIterable<readonly CloudVolume[]>;
  snapshots(): AsyncIterable<readonly CloudSnapshot[]>;
  /** True only if the cloud says that there is none of this id. @throws if it cannot tell */
  volumeIsGone(id: string): Promise<boolean>;
  snapshotIsGone(id: string): Promise<boolean>;
  /** Give a volume the label that its disk has now. Ownership is never taken from labels. */
  rename(volumeId: string, diskName: string): Promise<void>;
}
