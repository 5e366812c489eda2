/** What we ask of EC2, and how its answers read. */
import type * as Sdk from '@aws-sdk/client-ec2';
import { type AwsSettings, AwsService } from './client.ts';
import { AwsError, isMissing } from './errors.ts';
import { allOf, type Page, pagesOf } from './pages.ts';
import { readTags, type Tags, writeTags } from './tags.ts';

/** A volume as EC2 describes it. */
export interface VolumeView {
  id: string;
  /** creating, available, in-use, deleting, deleted or error. */
  state: string;
  zone: string;
  sizeGb: number;
  fromSnapshot: string | null;
  /** Nodes that hold it, with how: attaching, attached, busy, detaching. One that allows many may have many. */
  attachments: { instance: string; state: string }[];
  createdAt: Date | null;
  tags: Tags;
}

/** A snapshot as EC2 describes it. */
export interface SnapshotView {
  id: string;
  /** pending, completed, error, recoverable or recovering. */
  state: string;
  percent: number;
  why: string;
  volumeId: string;
  sizeGb: number;
  /** What it takes, if EC2 says so. */
  bytes: number | null;
  startedAt: Date | null;
  tags: Tags;
}

/** What new volumes are. */
export interface VolumeType {
  type: string;
  iops: number | null;
  throughput: number | null;
  /** Of KMS; null: the account's own key for EBS. Volumes are encrypted in any case. */
  keyId: string | null;
}

/** At most so many are asked for at once: a page of EC2. */
const PAGE = 500;
const READ = { repeatable: true } as const;

export class Ec2 {
  readonly service: AwsService<typeof Sdk, Sdk.EC2Client>;

  constructor(settings: AwsSettings) {
    this.service = new AwsService(
      settings,
      () => import('@aws-sdk/client-ec2'),
      (sdk, config) => new sdk.EC2Client(config),
    );
  }

  /** Volume of that id; null only if EC2 says that there is none. */
  async volume(id: string): Promise<VolumeView | null> {
    try {
      const { Volumes } = await this.service.call(
        `looking at volume ${id}`,
        ({ client, sdk }, abortSignal) => client.send(new sdk.DescribeVolumesCommand({ VolumeIds: [id] }), { abortSignal }),
        READ,
      );
      const found = Volumes?.find(({ VolumeId }) => VolumeId === id);
      // An answer without it is no proof of its absence.
      if (found === undefined) throw new AwsError(`looking at volume ${id}`, 'unknown', NO_ANSWER);
      const view = volumeView(found);
      return view.state === 'deleted' ? null : view;
    } catch (error) {
      if (isMissing(error, 'InvalidVolume.NotFound')) return null;
      throw error;
    }
  }

  /** All volumes with these tags. */
  volumes(tags: Record<string, string>): Promise<VolumeView[]> {
    return allOf((from) => this.#volumePage(tags, from));
  }

  volumePages(tags: Record<string, string>): AsyncGenerator<readonly VolumeView[]> {
    return pagesOf((from) => this.#volumePage(tags, from));
  }

  async #volumePage(tags: Record<string, string>, from: string | undefined): Promise<Page<VolumeView>> {
    const { Volumes = [], NextToken } = await this.service.call(
      'listing volumes',
      ({ client, sdk }, abortSignal) =>
        client.send(new sdk.DescribeVolumesCommand({ Filters: filters(tags), MaxResults: PAGE, NextToken: from }), {
          abortSignal,
        }),
      READ,
    );
    return { items: Volumes.map(volumeView), next: NextToken };
  }

  /** @param token by which EC2 recognizes the request when it comes again @throws AwsError */
  async createVolume(
    request: {
      zone: string;
      sizeGb: number;
      fromSnapshot: string | null;
      token: string;
      tags: Record<string, string | null | undefined>;
    },
    { type, iops, throughput, keyId }: VolumeType,
  ): Promise<string> {
    const { VolumeId } = await this.service.call(
      'creating a volume',
      ({ client, sdk }, abortSignal) =>
        client.send(
          new sdk.CreateVolumeCommand({
            AvailabilityZone: request.zone,
            Size: request.sizeGb,
            ...(request.fromSnapshot === null ? {} : { SnapshotId: request.fromSnapshot }),
            VolumeType: type as Sdk.VolumeType,
            ...(iops === null ? {} : { Iops: iops }),
            ...(throughput === null ? {} : { Throughput: throughput }),
            Encrypted: true,
            ...(keyId === null ? {} : { KmsKeyId: keyId }),
            ClientToken: request.token,
            TagSpecifications: [{ ResourceType: 'volume', Tags: writeTags(request.tags) }],
          }),
          { abortSignal },
        ),
      { repeatable: true },
    );
    if (VolumeId === undefined) throw new AwsError('creating a volume', 'unknown', NO_ANSWER);
    return VolumeId;
  }

  /** Ask for its deletion; one that is gone is fine. @throws AwsError, 'busy' while it is in use */
  async deleteVolume(id: string): Promise<void> {
    await this.#unlessMissing('InvalidVolume.NotFound', () =>
      this.service.call(
        `deleting volume ${id}`,
        ({ client, sdk }, abortSignal) => client.send(new sdk.DeleteVolumeCommand({ VolumeId: id }), { abortSignal }),
        { repeatable: true },
      ),
    );
  }

  /**
   * Take it from this instance, whose system is asked to let go first.
   * @param options `force`: it is not asked, and what it has not written is lost. Only for an instance that {@link isTerminated}
   */
  async detachVolume(id: string, instance: string, { force = false } = {}): Promise<void> {
    await this.service.call(
      `detaching volume ${id} from ${instance}${force ? ' by force' : ''}`,
      ({ client, sdk }, abortSignal) =>
        client.send(new sdk.DetachVolumeCommand({ VolumeId: id, InstanceId: instance, ...(force ? { Force: true } : {}) }), {
          abortSignal,
        }),
      { repeatable: true },
    );
  }

  /** True only if EC2 says so: it is terminated, or there is no such instance (any more). One that is stopped may start again. */
  async isTerminated(instance: string): Promise<boolean> {
    try {
      const { Reservations = [] } = await this.service.call(
        `looking at instance ${instance}`,
        ({ client, sdk }, abortSignal) =>
          client.send(new sdk.DescribeInstancesCommand({ InstanceIds: [instance] }), { abortSignal }),
        READ,
      );
      const found = Reservations.flatMap(({ Instances = [] }) => Instances).find(({ InstanceId }) => InstanceId === instance);
      return found?.State?.Name === 'terminated';
    } catch (error) {
      if (isMissing(error, 'InvalidInstanceID.NotFound')) return true;
      throw error;
    }
  }

  async growVolume(id: string, sizeGb: number): Promise<void> {
    await this.service.call(
      `growing volume ${id}`,
      ({ client, sdk }, abortSignal) => client.send(new sdk.ModifyVolumeCommand({ VolumeId: id, Size: sizeGb }), { abortSignal }),
      { repeatable: false },
    );
  }

  /** Size that it is being changed to; null if it is not. */
  async growsTo(id: string): Promise<number | null> {
    try {
      const { VolumesModifications } = await this.service.call(
        `looking at the change of volume ${id}`,
        ({ client, sdk }, abortSignal) =>
          client.send(new sdk.DescribeVolumesModificationsCommand({ VolumeIds: [id] }), { abortSignal }),
        READ,
      );
      const current = VolumesModifications?.find(({ ModificationState }) => ModificationState === 'modifying');
      return current?.TargetSize ?? null;
    } catch (error) {
      if (isMissing(error, 'InvalidVolumeModification.NotFound')) return null;
      throw error;
    }
  }

  /** Snapshot of that id; null only if EC2 says that there is none. */
  async snapshot(id: string): Promise<SnapshotView | null> {
    try {
      const { Snapshots } = await this.service.call(
        `looking at snapshot ${id}`,
        ({ client, sdk }, abortSignal) => client.send(new sdk.DescribeSnapshotsCommand({ SnapshotIds: [id] }), { abortSignal }),
        READ,
      );
      const found = Snapshots?.find(({ SnapshotId }) => SnapshotId === id);
      if (found === undefined) throw new AwsError(`looking at snapshot ${id}`, 'unknown', NO_ANSWER);
      return snapshotView(found);
    } catch (error) {
      if (isMissing(error, 'InvalidSnapshot.NotFound')) return null;
      throw error;
    }
  }

  /** All snapshots of our own account with these tags, and of this volume if one is given. */
  snapshots(tags: Record<string, string>, volumeId?: string): Promise<SnapshotView[]> {
    return allOf((from) => this.#snapshotPage(tags, volumeId, from));
  }

  snapshotPages(tags: Record<string, string>): AsyncGenerator<readonly SnapshotView[]> {
    return pagesOf((from) => this.#snapshotPage(tags, undefined, from));
  }

  async #snapshotPage(
    tags: Record<string, string>,
    volumeId: string | undefined,
    from: string | undefined,
  ): Promise<Page<SnapshotView>> {
    const ofVolume = volumeId === undefined ? [] : [{ Name: 'volume-id', Values: [volumeId] }];
    const { Snapshots = [], NextToken } = await this.service.call(
      'listing snapshots',
      ({ client, sdk }, abortSignal) =>
        client.send(
          new sdk.DescribeSnapshotsCommand({
            OwnerIds: ['self'],
            Filters: [...filters(tags), ...ofVolume],
            MaxResults: PAGE,
            NextToken: from,
          }),
          { abortSignal },
        ),
      READ,
    );
    return { items: Snapshots.map(snapshotView), next: NextToken };
  }

  /** EC2 does not recognize this request when it comes again: whoever asks looks first. */
  async createSnapshot(volumeId: string, description: string, tags: Record<string, string | null | undefined>): Promise<string> {
    const { SnapshotId } = await this.service.call(
      `taking a snapshot of ${volumeId}`,
      ({ client, sdk }, abortSignal) =>
        client.send(
          new sdk.CreateSnapshotCommand({
            VolumeId: volumeId,
            Description: description,
            TagSpecifications: [{ ResourceType: 'snapshot', Tags: writeTags(tags) }],
          }),
          { abortSignal },
        ),
      { repeatable: false },
    );
    if (SnapshotId === undefined) throw new AwsError(`taking a snapshot of ${volumeId}`, 'unknown', NO_ANSWER);
    return SnapshotId;
  }

  /** One that is gone is fine. */
  async deleteSnapshot(id: string): Promise<void> {
    await this.#unlessMissing('InvalidSnapshot.NotFound', () =>
      this.service.call(
        `deleting snapshot ${id}`,
        ({ client, sdk }, abortSignal) => client.send(new sdk.DeleteSnapshotCommand({ SnapshotId: id }), { abortSignal }),
        { repeatable: true },
      ),
    );
  }

  /** Give these tags new values. */
  async tag(ids: string[], tags: Record<string, string>): Promise<void> {
    await this.service.call(
      `labelling ${ids.join(', ')}`,
      ({ client, sdk }, abortSignal) =>
        client.send(new sdk.CreateTagsCommand({ Resources: ids, Tags: writeTags(tags) }), { abortSignal }),
      { repeatable: true },
    );
  }

  async #unlessMissing(code: string, work: () => Promise<unknown>): Promise<void> {
    try {
      await work();
    } catch (error) {
      if (!isMissing(error, code)) throw error;
    }
  }
}

const NO_ANSWER = { code: 'IncompleteAnswer', status: null, detail: '' };

function filters(tags: Record<string, string>): { Name: string; Values: string[] }[] {
  return Object.entries(tags).map(([key, value]) => ({ Name: `tag:${key}`, Values: [value] }));
}

function volumeView(volume: Sdk.Volume): VolumeView {
  return {
    id: volume.VolumeId ?? '',
    state: volume.State ?? 'unknown',
    zone: volume.AvailabilityZone ?? '',
    sizeGb: volume.Size ?? 0,
    fromSnapshot: volume.SnapshotId === undefined || volume.SnapshotId === '' ? null : volume.SnapshotId,
    attachments: (volume.Attachments ?? [])
      .filter(({ State }) => State !== 'detached')
      .map(({ InstanceId, State }) => ({ instance: InstanceId ?? '', state: State ?? '' })),
    createdAt: volume.CreateTime ?? null,
    tags: readTags(volume.Tags),
  };
}

function snapshotView(snapshot: Sdk.Snapshot): SnapshotView {
  const percent = Number.parseFloat(snapshot.Progress ?? '');
  return {
    id: snapshot.SnapshotId ?? '',
    state: snapshot.State ?? 'unknown',
    percent: Number.isFinite(percent) ? percent : 0,
    why: snapshot.StateMessage ?? '',
    volumeId: snapshot.VolumeId ?? '',
    sizeGb: snapshot.VolumeSize ?? 0,
    bytes: snapshot.FullSnapshotSizeInBytes ?? null,
    startedAt: snapshot.StartTime ?? null,
    tags: readTags(snapshot.Tags),
  };
}
