/** What a disk needs of the world. Names derive from the disk's id; every call is create-or-adopt and may be repeated. */

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

export type SnapshotProgress =
  | { state: 'pending'; percent: number }
  | { state: 'complete'; sizeBytes: number | null }
  | { state: 'failed'; reason: string };

export interface Volumes {
  /**
   * Create the volume, or adopt it if it is there, at the size asked for. @returns the name of its PersistentVolumeClaim.
   * @throws TerminalError if one that is expected is missing: an older copy in its place would hide the loss from its user.
   */
  ensure(request: VolumeRequest): Promise<{ claim: string }>;
  /** 'detached' only when it is proven that no pod uses the volume and no node holds it. */
  detach(diskId: string): Promise<'detached' | 'attached'>;
  /** Start the snapshot of that id or look at it. */
  snapshot(diskId: string, snapshotId: string): Promise<SnapshotProgress>;
  /** Delete the live volume after checking that the snapshot is complete; a provider that keeps volumes says 'kept'. */
  remove(diskId: string, afterSnapshot: string): Promise<'removed' | 'kept'>;
  /** Delete volume and the given snapshots for good. Touches only what bears the disk's id. */
  purge(diskId: string, snapshotIds: string[]): Promise<void>;
}
