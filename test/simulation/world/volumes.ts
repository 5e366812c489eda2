/** The truth about data: volumes and snapshots with what was last written to them. */

export interface SimVolume {
  diskId: string;
  sizeGb: number;
  /** Number of the last write that it holds. */
  content: number;
  /** The only node where it can be used; null: any. */
  home: string | null;
  users: Set<string>;
}

export interface SimSnapshot {
  diskId: string;
  content: number;
  state: 'pending' | 'complete' | 'failed';
}

export class Volumes {
  readonly volumes = new Map<string, SimVolume>();
  readonly snapshots = new Map<string, SimSnapshot>();
  /** Number of the last write of each disk's sessions: the next session must find it. */
  readonly written = new Map<string, number>();
  #writes = 0;
  readonly #stay: boolean;
  readonly #violated: (rule: string, what: string) => void;

  constructor(violated: (rule: string, what: string) => void, stay = false) {
    this.#violated = violated;
    this.#stay = stay;
  }

  static claimOf(diskId: string): string {
    return `disk-${diskId}`;
  }

  /** Whether a pod on this node can have the volume. Where volumes stay, the first of them decides where. */
  reaches(claim: string, node: string): boolean {
    const volume = this.volumes.get(claim);
    if (volume === undefined) return true;
    if (this.#stay) volume.home ??= node;
    return volume.home === null || volume.home === node;
  }

  /** A pod wants the volume. @returns why it must wait, or null. */
  mount(claim: string, uid: string): string | null {
    const volume = this.volumes.get(claim);
    if (volume === undefined) return `the volume ${claim} does not exist`;
    if (volume.users.size > 0 && !volume.users.has(uid)) return `the volume ${claim} is in use`;
    volume.users.add(uid);
    this.#compare(volume);
    return null;
  }

  #compare(volume: SimVolume): void {
    const expected = this.written.get(volume.diskId);
    if (expected !== undefined && volume.content !== expected) {
      this.#violated(
        'a session finds what the last one wrote',
        `disk ${volume.diskId} holds write ${volume.content}, the last was ${expected}`,
      );
    }
  }

  /** A session writes. */
  write(claim: string, uid: string): void {
    const volume = this.volumes.get(claim);
    if (volume === undefined || !volume.users.has(uid)) {
      this.#violated('a volume in use stays', `${claim} vanished under a running server`);
      return;
    }
    volume.content = ++this.#writes;
    this.written.set(volume.diskId, volume.content);
  }

  /** The last containers of a pod end; what they held back is written. */
  unmount(claim: string, uid: string, wrote: boolean): void {
    if (wrote) this.write(claim, uid);
    this.volumes.get(claim)?.users.delete(uid);
  }
}
