/**
 * Disks in EBS. A disk has a volume while it is in use, and snapshots otherwise. What is on record (persistence/ebs.ts) comes before what is
 * made, so that a crash at any point leaves nothing unknown, and nothing is destroyed that is not on record and does not bear our tags.
 */
import { Filling, type SnapshotProgress, type VolumeRequest, type Volumes } from '../../../actors/disk/ports.ts';
import { NotYet, TerminalError } from '../../../actors/errors.ts';
import type { StaysSmall, VolumePlace } from '../../../machines/disk.events.ts';
import type { Store } from '../../../persistence/database.ts';
import {
  attemptVolume,
  diskFacts,
  type EbsVolume,
  giveUpVolume,
  intendVolume,
  movesOf,
  replaceVolume,
  snapshotOf,
  volumeGone,
  volumeGrown,
  volumeMade,
  volumesOf,
} from '../../../persistence/ebs.ts';
import type { KubernetesClient } from '../kubernetes/client.ts';
import { asPort } from '../kubernetes/errors.ts';
import { letGo } from './ebs-detaching.ts';
import { EbsSnapshots } from './ebs-snapshots.ts';
import type { Ec2, VolumeType, VolumeView } from './ec2.ts';
import { AwsError, type AwsFailure, asAwsPort } from './errors.ts';
import { StaticClaims, ZONE_LABEL } from './static-claims.ts';
import { bearsTags, TAG } from './tags.ts';

export interface EbsVolumesOptions {
  client: KubernetesClient;
  db: Store;
  ec2: Ec2;
  volumeType: VolumeType;
}

/** A volume that has its id. */
type Made = EbsVolume & { volumeId: string };

export class EbsVolumes implements Volumes {
  readonly #db: Store;
  readonly #ec2: Ec2;
  readonly #type: VolumeType;
  readonly #snapshots: EbsSnapshots;
  readonly #claims: StaticClaims;

  constructor({ client, db, ec2, volumeType }: EbsVolumesOptions) {
    this.#db = db;
    this.#ec2 = ec2;
    this.#type = volumeType;
    this.#snapshots = new EbsSnapshots(db, ec2);
    this.#claims = new StaticClaims(client);
  }

  /**
   * The volume is in the zone of the node. One in another zone, or with other data than the snapshot that is asked for, is captured first, and
   * another one takes its place.
   * @throws NotYet while EBS is at work; TerminalError if an expected volume is missing, or the snapshot to start from is
   */
  ensure(request: VolumeRequest): Promise<{ claim: string; stays?: StaysSmall }> {
    return asEbsPort(async () => {
      const { diskId, owner, expectVolume } = request;
      const zone = request.zone ?? (await this.#claims.zoneOf(request.node));
      if (zone === null)
        throw new TerminalError(`The zone of node ${request.node} is not known, so no volume can be made for it`);
      const current = await this.#current(diskId);
      if (current === null && expectVolume) throw new TerminalError(missing(request.snapshotId));
      const volume = current ?? (await this.#intend(request, zone));
      const view = volume.volumeId === null ? await this.#makeFor(request, volume) : await this.#look(volume as Made, request);
      const made = { ...volume, volumeId: view.id };
      if (view.state === 'creating') throw new NotYet(500, `The volume ${view.id} is being made`);
      if (view.zone !== zone || !(await this.#isOf(request, made))) await this.#replace(made, view, { ...request, zone });
      const { sizeGb, stays } = await this.#grow(made, view, request.sizeGb);
      await this.#leave(diskId);
      const claim = await this.#claims.ensure({ ...made, owner, sizeGb });
      return stays === undefined ? { claim } : { claim, stays };
    });
  }

  /** Its zone; it is made anew from a snapshot in another one, which takes its time. */
  async placeOf(diskId: string): Promise<VolumePlace | null> {
    const volume = await this.#current(diskId);
    return volume === null ? null : { anyOf: [{ [ZONE_LABEL]: [volume.zone] }], movable: true };
  }

  detach(diskId: string): Promise<'detached' | 'attached'> {
    return asEbsPort(async () => {
      const volume = await this.#current(diskId);
      if (volume === null || volume.volumeId === null) return 'detached';
      if ((await this.#claims.users(diskId, volume.generation)) > 0) return 'attached';
      const view = await this.#ec2.volume(volume.volumeId);
      if (view === null || view.attachments.length === 0) return 'detached';
      if (!bearsTags(view.tags, this.#tags(diskId))) throw new NotYet(30_000, foreign(view.id));
      // The cluster is done with it, and EC2 is not: nobody else will take it off.
      await letGo(this.#ec2, view);
      return 'attached';
    });
  }

  dropUnused(diskId: string): Promise<void> {
    return asEbsPort(async () => {
      const volume = await this.#current(diskId);
      // One that took another's place holds its data.
      const replaced = (await volumesOf(this.#db, diskId)).some(({ state }) => state === 'leaving');
      if (volume !== null && !replaced) await this.#delete(volume);
    });
  }

  /** Nothing is taken of a volume that a node still holds. */
  snapshot(diskId: string, snapshotId: string): Promise<SnapshotProgress> {
    return asEbsPort(async () => {
      const volume = await this.#current(diskId);
      if (volume === null || volume.volumeId === null) return { state: 'failed', reason: missing(null) };
      const record = await snapshotOf(this.#db, snapshotId);
      if (record !== null && record.diskId === diskId && record.ebsSnapshotId !== null) return this.#snapshots.progress(record);
      const view = await this.#ec2.volume(volume.volumeId);
      if (view === null) return { state: 'failed', reason: missing(null) };
      if (view.attachments.length > 0) throw new NotYet(500, `The volume ${view.id} is still attached`);
      return this.#snapshots.take(snapshotId, { ...volume, volumeId: volume.volumeId });
    });
  }

  remove(diskId: string, afterSnapshot: string): Promise<'removed' | 'kept'> {
    return asEbsPort<'removed' | 'kept'>(async () => {
      await this.#removeAfter(diskId, afterSnapshot);
      return 'removed';
    });
  }

  discard(diskId: string, afterSnapshot: string): Promise<void> {
    return asEbsPort(() => this.#removeAfter(diskId, afterSnapshot));
  }

  removeSnapshot(diskId: string, snapshotId: string): Promise<void> {
    return asEbsPort(() => this.#snapshots.remove(diskId, snapshotId));
  }

  purge(diskId: string, snapshotIds: string[]): Promise<void> {
    return asEbsPort(async () => {
      for (const snapshotId of snapshotIds) await this.#snapshots.remove(diskId, snapshotId);
      for (const volume of await volumesOf(this.#db, diskId)) await this.#delete(volume);
      for (const { snapshotId } of await movesOf(this.#db, diskId)) await this.#snapshots.remove(diskId, snapshotId);
    });
  }

  async #current(diskId: string): Promise<EbsVolume | null> {
    const volumes = await volumesOf(this.#db, diskId);
    return volumes.find(({ state }) => state === 'making' || state === 'live') ?? null;
  }

  async #intend({ diskId, sizeGb, snapshotId }: VolumeRequest, zone: string): Promise<EbsVolume> {
    const origin = snapshotId === null ? null : await this.#snapshots.origin(snapshotId);
    const size = Math.max(sizeGb, origin?.sizeGb ?? 0);
    await intendVolume(this.#db, { diskId, zone, sizeGb: size, fromSnapshot: origin?.ebsSnapshotId ?? null });
    const volume = await this.#current(diskId);
    if (volume === null) throw new NotYet(100, 'The volume that was asked for a moment ago is gone again');
    return volume;
  }

  /** A disk that EBS does not make as large as it is to be is made as large as it was; growing tells why it stays so. */
  async #makeFor({ snapshotId }: VolumeRequest, volume: EbsVolume): Promise<VolumeView> {
    try {
      return await this.#make(volume);
    } catch (error) {
      if (!(error instanceof AwsError) || error.failure !== 'refused' || snapshotId === null) throw error;
      const { ebsSnapshotId, sizeGb } = await this.#snapshots.origin(snapshotId);
      if (sizeGb >= volume.sizeGb) throw error;
      await intendVolume(this.#db, { ...volume, sizeGb, fromSnapshot: ebsSnapshotId });
      throw new NotYet(100, `EBS makes no volume of ${volume.sizeGb} GB (${error.detail}); one of ${sizeGb} GB is made`);
    }
  }

  /** Make what is on record, or find what an earlier attempt made of it. */
  async #make(volume: EbsVolume): Promise<VolumeView> {
    const { diskId, generation } = volume;
    if (!(await attemptVolume(this.#db, diskId, generation))) throw new NotYet(200, 'The volume is being asked for');
    const earlier = await this.#found(volume);
    const id = earlier?.id ?? (await this.#create(volume));
    await volumeMade(this.#db, volume, id);
    if (earlier !== null) return earlier;
    const view = await this.#ec2.volume(id);
    if (view === null) throw new NotYet(500, `The volume ${id} does not show yet`);
    return view;
  }

  /** What an attempt made whose answer was lost. */
  async #found({ diskId, generation }: EbsVolume): Promise<VolumeView | null> {
    const all = await this.#ec2.volumes({ ...this.#tags(diskId), [TAG.generation]: String(generation) });
    const alive = all.filter(({ state }) => state === 'creating' || state === 'available');
    alive.sort((a, b) => (a.createdAt?.getTime() ?? 0) - (b.createdAt?.getTime() ?? 0) || a.id.localeCompare(b.id));
    return alive[0] ?? null;
  }

  async #create(volume: EbsVolume): Promise<string> {
    const { diskId, generation, zone, sizeGb, fromSnapshot } = volume;
    const facts = await diskFacts(this.#db, diskId);
    const tags = {
      ...this.#tags(diskId),
      [TAG.owner]: facts?.owner,
      [TAG.diskName]: facts?.name,
      [TAG.reservation]: facts?.reservationId,
      [TAG.generation]: String(generation),
      [TAG.name]: `gpu-dev-${facts?.owner}-${facts?.name}`,
    };
    try {
      const token = `${diskId}-${generation}`;
      return await this.#ec2.createVolume({ zone, sizeGb, fromSnapshot, token, tags }, this.#type);
    } catch (error) {
      if (!(error instanceof AwsError)) throw error;
      // The token was used for something else once (a database that was built anew): the next number has a token of its own.
      if (error.code === 'IdempotentParameterMismatch') {
        await volumeGone(this.#db, volume);
        throw new NotYet(100, 'The volume gets another number');
      }
      if (error.undone) await giveUpVolume(this.#db, diskId, generation);
      // What will never be made is not asked for again in the same way.
      if (error.failure === 'refused') await volumeGone(this.#db, volume);
      throw error;
    }
  }

  /** @throws TerminalError if it is missing and holds what nothing else does; NotYet if it does not show */
  async #look(volume: Made, { diskId, expectVolume, snapshotId }: VolumeRequest): Promise<VolumeView> {
    const view = await this.#ec2.volume(volume.volumeId);
    if (view === null && volume.fresh) throw new NotYet(1_000, `The volume ${volume.volumeId} does not show yet`);
    if (view === null || view.state === 'deleting' || view.state === 'error') {
      if (expectVolume) throw new TerminalError(view?.state === 'error' ? broken(volume.volumeId) : missing(snapshotId));
      if (view?.state === 'error') await this.#ec2.deleteVolume(view.id);
      await volumeGone(this.#db, volume);
      if (view?.state === 'error') throw new TerminalError(broken(volume.volumeId));
      throw new NotYet(100, `The volume ${volume.volumeId} is gone; another one is made`);
    }
    if (!bearsTags(view.tags, this.#tags(diskId))) {
      throw new TerminalError(foreign(volume.volumeId));
    }
    return view;
  }

  /** Whether it holds what the request is about: its newest data, or the snapshot that it is to start from. */
  async #isOf({ expectVolume, snapshotId }: VolumeRequest, volume: Made): Promise<boolean> {
    if (expectVolume || snapshotId === null) return true;
    const record = await snapshotOf(this.#db, snapshotId);
    return record === null || record.ebsSnapshotId === volume.fromSnapshot || record.volumeId === volume.volumeId;
  }

  /** Capture all of it, then put on record that another one takes its place. @throws NotYet always, or TerminalError */
  async #replace(volume: Made, view: VolumeView, request: VolumeRequest & { zone: string }): Promise<never> {
    const { diskId, generation } = volume;
    if (view.attachments.length > 0) throw new NotYet(500, `The volume ${view.id} is still attached`);
    if ((await this.#claims.users(diskId, generation)) > 0) throw new NotYet(500, `The volume ${view.id} is still in use`);
    const moveId = `move-${diskId}-${generation}`;
    const progress = await this.#snapshots.take(moveId, volume);
    if (progress.state === 'failed')
      throw new TerminalError(`The disk cannot be moved to zone ${request.zone}: ${progress.reason}`);
    if (progress.state === 'pending')
      throw new Filling(1_000, progress.percent, `The disk is on its way to zone ${request.zone}: ${progress.percent} %`);
    const same = await this.#isOf(request, volume);
    const origin = await this.#snapshots.origin(same ? moveId : (request.snapshotId ?? moveId));
    const next = { zone: request.zone, sizeGb: Math.max(request.sizeGb, origin.sizeGb), fromSnapshot: origin.ebsSnapshotId };
    await this.#db.withTransaction((tx) => replaceVolume(tx, volume, next));
    throw new NotYet(100, `The disk is made anew in zone ${request.zone}`);
  }

  /** @returns the size that it has now, and why it is not what is wanted */
  async #grow(volume: Made, view: VolumeView, wanted: number): Promise<{ sizeGb: number; stays?: StaysSmall }> {
    const { sizeGb } = view;
    if (volume.sizeGb !== sizeGb) await volumeGrown(this.#db, volume, sizeGb);
    if (sizeGb >= wanted) return { sizeGb };
    const target = await this.#ec2.growsTo(view.id);
    if (target === null || target < wanted) {
      try {
        await this.#ec2.growVolume(view.id, wanted);
      } catch (error) {
        if (!(error instanceof AwsError)) throw error;
        const why = STAYS[error.failure];
        if (why === undefined) throw error;
        const said = error.detail === '' ? error.code : error.detail;
        return { sizeGb, stays: { sizeGb, reason: `The disk stays at ${sizeGb} GB: ${why.words} (${said})`, again: why.again } };
      }
    }
    throw new NotYet(500, `The volume ${view.id} is growing to ${wanted} GB`);
  }

  /** Volumes that another one has replaced go as soon as that is proven; what hinders it now is tried again later. */
  async #leave(diskId: string): Promise<void> {
    const leaving = (await volumesOf(this.#db, diskId)).filter(({ state }) => state === 'leaving');
    for (const volume of leaving) {
      const held = await this.#snapshots.holds(`move-${diskId}-${volume.generation}`, volume as Made);
      if (!held) continue;
      try {
        await this.#delete(volume);
      } catch (error) {
        if (!(error instanceof NotYet || error instanceof AwsError)) throw error;
      }
    }
  }

  async #removeAfter(diskId: string, afterSnapshot: string): Promise<void> {
    const volume = await this.#current(diskId);
    if (volume !== null) {
      // One that was never made holds nothing.
      if (volume.volumeId !== null && !(await this.#snapshots.holds(afterSnapshot, volume as Made))) {
        throw new TerminalError(
          `The snapshot ${afterSnapshot}, which holds the data of this disk, is not complete; the disk stays`,
        );
      }
      await this.#delete(volume);
    }
    await this.#leave(diskId);
    if ((await volumesOf(this.#db, diskId)).length > 0) throw new NotYet(1_000, 'A volume that was replaced is being removed');
    for (const { snapshotId } of await movesOf(this.#db, diskId)) await this.#snapshots.remove(diskId, snapshotId);
  }

  /** Delete one volume that is on record; resolves when EC2 says that it is gone. @throws NotYet until then */
  async #delete(volume: EbsVolume): Promise<void> {
    const { diskId, generation } = volume;
    if (volume.volumeId === null) {
      // An attempt whose answer was lost may show late.
      if (volume.fresh) throw new NotYet(2_000, 'What became of the volume that was asked for is being looked at');
      const found = await this.#found(volume);
      if (found === null) return volumeGone(this.#db, volume);
      await volumeMade(this.#db, volume, found.id);
      throw new NotYet(100, `The volume ${found.id} is being removed`);
    }
    await this.#claims.remove(diskId, [generation]);
    const view = await this.#ec2.volume(volume.volumeId);
    if (view === null) return volumeGone(this.#db, volume);
    if (!bearsTags(view.tags, this.#tags(diskId))) {
      throw new TerminalError(foreign(view.id));
    }
    if (view.attachments.length > 0) throw new NotYet(1_000, `The volume ${view.id} is still attached`);
    if (view.state !== 'deleting') await this.#ec2.deleteVolume(view.id);
    throw new NotYet(300, `The volume ${view.id} is being deleted`);
  }

  #tags(diskId: string): Record<string, string> {
    return { [TAG.cluster]: this.#ec2.service.settings.cluster, [TAG.disk]: diskId };
  }
}

function asEbsPort<T>(work: () => Promise<T>): Promise<T> {
  return asPort(() => asAwsPort(work));
}

/** What a change of size that EC2 refuses is to whoever waits for the disk: it serves as it is. All else is tried again. */
const STAYS: Partial<Record<AwsFailure, { words: string; again: boolean }>> = {
  // It may change once in some hours.
  busy: { words: 'EBS takes no other change of it just now, and it grows at a later use', again: true },
  full: { words: 'a quota of EBS does not suffice, and it grows at a later use', again: true },
  denied: { words: 'the service may not change it in EBS, and an operator must look', again: true },
  refused: { words: 'EBS does not make it larger', again: false },
};

const broken = (id: string) => `EBS could not make the volume ${id} usable (is its key there?)`;

const foreign = (id: string) =>
  `The volume ${id} in EBS does not bear this disk's tags: it stays as it is; an operator must look`;

/** Why a disk whose volume has vanished is not made anew, and what its owner can do. */
function missing(snapshotId: string | null): string {
  const held = snapshotId === null ? 'data that no snapshot has' : 'the newest data';
  const way = snapshotId === null ? '' : `. A clone of the disk starts from its last snapshot, ${snapshotId}`;
  return `The volume of this disk is missing (it held ${held}); an operator must look${way}`;
}
