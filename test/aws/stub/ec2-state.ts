import { randomBytes } from 'node:crypto';

/** What EC2 holds of volumes and snapshots, as EC2 itself rules over it: where moto and EC2 differ, this follows EC2's documentation. */
export interface Volume {
  id: string;
  zone: string;
  sizeGb: number;
  fromSnapshot: string;
  type: string;
  encrypted: boolean;
  token: string;
  state: 'creating' | 'available' | 'in-use' | 'deleting' | 'error';
  createdAt: number;
  /** Moment of `performance.now()` at which it becomes what it is becoming. */
  settlesAt: number;
  /** From when on lists and looks show it. */
  showsAt: number;
  attachments: Map<string, 'attaching' | 'attached' | 'busy' | 'detaching'>;
  tags: Map<string, string>;
  grows: { to: number; at: number } | null;
  /** What was last written to it. */
  content: string;
}

export interface Snapshot {
  id: string;
  volumeId: string;
  sizeGb: number;
  owner: string;
  state: 'pending' | 'completed' | 'error';
  settlesAt: number;
  showsAt: number;
  startedAt: number;
  tags: Map<string, string>;
  content: string;
}

/** A refusal, as EC2 words it. */
export class Refusal extends Error {
  readonly code: string;
  readonly status: number;
  constructor(code: string, message: string, status = 400) {
    super(message);
    this.code = code;
    this.status = status;
  }
}

export interface Delays {
  /** Milliseconds in which a volume is made. */
  create: number;
  /** Milliseconds in which a snapshot becomes complete. */
  capture: number;
  /** Milliseconds in which a volume goes. */
  remove: number;
  /** Milliseconds until what was made shows in answers. */
  show: number;
}

export const ACCOUNT = '123456789012';

export class Ec2State {
  readonly volumes = new Map<string, Volume>();
  readonly snapshots = new Map<string, Snapshot>();
  /** Every volume and snapshot there ever was. */
  readonly made = { volumes: 0, snapshots: 0 };
  readonly #instances = new Map<string, { zone: string; state: string }>();
  /** Instances whose system does not let go of what it holds. */
  readonly clinging = new Set<string>();
  readonly #run = randomBytes(5).toString('hex');
  /** Largest volume that may be made, in GiB. */
  largestGb = 16_384;
  delays: Delays = { create: 0, capture: 0, remove: 0, show: 0 };

  /** Seventeen hexadecimal digits that no other stub gives. */
  #id(number: number): string {
    return this.#run + number.toString(16).padStart(7, '0');
  }

  addInstance(id: string, zone: string): void {
    this.#instances.set(id, { zone, state: 'running' });
  }

  setInstance(id: string, state: string): void {
    this.instance(id).state = state;
  }

  /** @throws Refusal if there is none */
  instance(id: string): { zone: string; state: string } {
    const instance = this.#instances.get(id);
    if (instance === undefined) throw new Refusal('InvalidInstanceID.NotFound', `The instance ID '${id}' does not exist`);
    return instance;
  }

  removeInstance(id: string): void {
    this.#instances.delete(id);
  }

  /** What has become of everything by now. */
  settle(): void {
    const now = performance.now();
    for (const volume of this.volumes.values()) {
      if (volume.grows !== null && now >= volume.grows.at) {
        volume.sizeGb = volume.grows.to;
        volume.grows = null;
      }
      if (now < volume.settlesAt) continue;
      if (volume.state === 'creating') volume.state = 'available';
      else if (volume.state === 'deleting') this.volumes.delete(volume.id);
    }
    for (const snapshot of this.snapshots.values()) {
      if (snapshot.state === 'pending' && now >= snapshot.settlesAt) snapshot.state = 'completed';
    }
  }

  createVolume(asked: {
    zone: string;
    sizeGb: number | null;
    snapshotId: string | null;
    type: string;
    encrypted: boolean;
    token: string;
    tags: Map<string, string>;
  }): Volume {
    const same = asked.token === '' ? undefined : [...this.volumes.values()].find(({ token }) => token === asked.token);
    if (same !== undefined) {
      const alike =
        same.zone === asked.zone &&
        same.fromSnapshot === (asked.snapshotId ?? '') &&
        (asked.sizeGb ?? same.sizeGb) === same.sizeGb;
      if (!alike) throw new Refusal('IdempotentParameterMismatch', 'The client token was used with other parameters');
      return same;
    }
    if (!/^[a-z]+-[a-z]+-\d[a-z]$/.test(asked.zone))
      throw new Refusal('InvalidZone.NotFound', `The zone '${asked.zone}' does not exist.`);
    const origin = asked.snapshotId === null ? null : this.snapshot(asked.snapshotId);
    if (origin !== null && origin.state !== 'completed')
      throw new Refusal('IncorrectState', `Snapshot is in invalid state - ${origin.state}`);
    const sizeGb = asked.sizeGb ?? origin?.sizeGb ?? 0;
    if (sizeGb < 1 || sizeGb > this.largestGb)
      throw new Refusal('InvalidParameterValue', `Volume of ${sizeGb}GiB is too small or too large`);
    if (origin !== null && sizeGb < origin.sizeGb)
      throw new Refusal('InvalidParameterValue', 'The specified size is less than the size of the snapshot');
    const now = performance.now();
    this.made.volumes += 1;
    const volume: Volume = {
      id: `vol-${this.#id(this.made.volumes)}`,
      zone: asked.zone,
      sizeGb,
      fromSnapshot: asked.snapshotId ?? '',
      type: asked.type,
      encrypted: asked.encrypted,
      token: asked.token,
      state: 'creating',
      createdAt: Date.now(),
      settlesAt: now + this.delays.create,
      showsAt: now + this.delays.show,
      attachments: new Map(),
      tags: asked.tags,
      grows: null,
      content: origin?.content ?? '',
    };
    this.volumes.set(volume.id, volume);
    return volume;
  }

  createSnapshot(volumeId: string, tags: Map<string, string>): Snapshot {
    const volume = this.volume(volumeId);
    const now = performance.now();
    this.made.snapshots += 1;
    const snapshot: Snapshot = {
      id: `snap-${this.#id(this.made.snapshots)}`,
      volumeId,
      sizeGb: volume.sizeGb,
      owner: ACCOUNT,
      state: 'pending',
      settlesAt: now + this.delays.capture,
      showsAt: now + this.delays.show,
      startedAt: Date.now(),
      tags,
      content: volume.content,
    };
    this.snapshots.set(snapshot.id, snapshot);
    return snapshot;
  }

  attach(volumeId: string, instance: string): void {
    const volume = this.volume(volumeId);
    const { zone } = this.instance(instance);
    if (zone !== volume.zone)
      throw new Refusal(
        'InvalidVolume.ZoneMismatch',
        `The volume '${volumeId}' is not in the same availability zone as instance '${instance}'`,
      );
    if (volume.state !== 'available') throw new Refusal('VolumeInUse', `${volumeId} is already attached to an instance`);
    volume.attachments.set(instance, 'attached');
    volume.state = 'in-use';
  }

  detach(volumeId: string, instance: string, force = false): void {
    const volume = this.volume(volumeId);
    const state = volume.attachments.get(instance);
    if (state === undefined) throw new Refusal('IncorrectState', `Volume '${volumeId}' is in the 'available' state.`);
    if (force && this.#instances.get(instance)?.state === 'running') volume.content = 'torn';
    if (!force && state === 'busy') return;
    if (!force && this.clinging.has(instance)) {
      if (state === 'detaching') throw new Refusal('IncorrectState', `Volume '${volumeId}' is in the 'detaching' state.`);
      volume.attachments.set(instance, 'detaching');
      return;
    }
    volume.attachments.delete(instance);
    if (volume.attachments.size === 0) volume.state = 'available';
  }

  deleteVolume(id: string): void {
    const volume = this.volume(id);
    if (volume.attachments.size > 0) throw new Refusal('VolumeInUse', `Volume ${id} is currently attached to an instance`);
    if (volume.state === 'deleting') return;
    if (volume.state === 'creating') throw new Refusal('IncorrectState', `Volume ${id} is being created`);
    volume.state = 'deleting';
    volume.settlesAt = performance.now() + this.delays.remove;
  }

  deleteSnapshot(id: string): void {
    this.snapshot(id);
    this.snapshots.delete(id);
  }

  grow(id: string, sizeGb: number): void {
    const volume = this.volume(id);
    if (sizeGb > this.largestGb) throw new Refusal('InvalidParameterValue', `Volume of ${sizeGb}GiB is too large`);
    if (volume.grows !== null) throw new Refusal('IncorrectModificationState', `Volume ${id} is being modified`);
    if (sizeGb < volume.sizeGb) throw new Refusal('InvalidParameterValue', 'New size cannot be smaller than existing size');
    volume.grows = { to: sizeGb, at: performance.now() + this.delays.create };
  }

  /** @throws Refusal if it is not there, or does not show yet */
  volume(id: string): Volume {
    this.settle();
    const volume = this.volumes.get(id);
    if (volume === undefined || performance.now() < volume.showsAt)
      throw new Refusal('InvalidVolume.NotFound', `The volume '${id}' does not exist.`);
    return volume;
  }

  snapshot(id: string): Snapshot {
    this.settle();
    const snapshot = this.snapshots.get(id);
    if (snapshot === undefined || performance.now() < snapshot.showsAt)
      throw new Refusal('InvalidSnapshot.NotFound', `The snapshot '${id}' does not exist.`);
    return snapshot;
  }
}
