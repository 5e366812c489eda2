/** A file system for each person in EFS, beside their disks: made once, its id on record, reached from every subnet of the cluster. */
import { createHash } from 'node:crypto';
import type * as Sdk from '@aws-sdk/client-efs';
import { NotYet, TerminalError } from '../../../actors/errors.ts';
import type { Store } from '../../../persistence/database.ts';
import { filesystemOf, keepFilesystem } from '../../../persistence/user-filesystems.ts';
import { type AwsSettings, AwsService } from './client.ts';
import { AwsError, asAwsPort, isMissing } from './errors.ts';
import { allOf } from './pages.ts';
import { triedInVain, unlessDenied } from './rights.ts';
import { readTags, TAG, writeTags } from './tags.ts';

const READ = { repeatable: true } as const;

export class UserFilesystems {
  readonly #db: Store;
  readonly #subnets: readonly string[];
  readonly #securityGroup: string;
  readonly #efs: AwsService<typeof Sdk, Sdk.EFSClient>;
  /** Those that were found ready: they stay so. */
  readonly #ready = new Map<string, string>();

  constructor(
    settings: AwsSettings,
    { db, subnets, securityGroup }: { db: Store; subnets: readonly string[]; securityGroup: string },
  ) {
    this.#db = db;
    this.#subnets = subnets;
    this.#securityGroup = securityGroup;
    this.#efs = new AwsService(
      settings,
      () => import('@aws-sdk/client-efs'),
      (sdk, config) => new sdk.EFSClient(config),
    );
  }

  /**
   * The address from which the person's file system is mounted; it is made if there is none.
   * @throws NotYet while it is being made; TerminalError if the one on record is gone: another one would hide the loss
   */
  ensure(user: string): Promise<string> {
    return asAwsPort(async () => {
      const known = this.#ready.get(user);
      if (known !== undefined) return known;
      const id = (await filesystemOf(this.#db, user)) ?? (await keepFilesystem(this.#db, user, await this.#create(user)));
      const state = await this.#state(id);
      if (state === null || state === 'deleting' || state === 'deleted')
        throw new TerminalError(`The file system ${id} of ${user} is gone from EFS; an operator must look`);
      if (state !== 'available' && state !== 'updating') throw new NotYet(2_000, `The file system ${id} is being made`);
      await this.#reach(id);
      const { region } = this.#efs.settings;
      const address = `${id}.efs.${region}.amazonaws.com`;
      this.#ready.set(user, address);
      return address;
    });
  }

  /** What is missing, as far as it can be tried without making anything. @throws AwsError if EFS does not say */
  async findObstacles(): Promise<string[]> {
    const files = () =>
      this.#efs.call(
        'looking at file systems',
        ({ client, sdk }, abortSignal) => client.send(new sdk.DescribeFileSystemsCommand({ MaxItems: 1 }), { abortSignal }),
        READ,
      );
    const ways = () =>
      this.#efs.call(
        'looking at ways to a file system that is none',
        ({ client, sdk }, abortSignal) =>
          client.send(new sdk.DescribeMountTargetsCommand({ FileSystemId: 'fs-00000000000000000' }), { abortSignal }),
        READ,
      );
    return [
      ...(await unlessDenied('elasticfilesystem:DescribeFileSystems', files)),
      ...(await triedInVain('elasticfilesystem:DescribeMountTargets', ways)),
    ];
  }

  /** The token makes a second request the same as the first, whoever sends it. */
  async #create(user: string): Promise<string> {
    const { cluster } = this.#efs.settings;
    const token = `gpu-dev-${createHash('sha256').update(`${cluster}\n${user}`).digest('hex').slice(0, 48)}`;
    try {
      const { FileSystemId } = await this.#efs.call(
        `making a file system for ${user}`,
        ({ client, sdk }, abortSignal) =>
          client.send(
            new sdk.CreateFileSystemCommand({
              CreationToken: token,
              Encrypted: true,
              ThroughputMode: 'elastic',
              Tags: writeTags({ [TAG.cluster]: cluster, [TAG.owner]: user, [TAG.name]: `gpu-dev-${user}` }),
            }),
            { abortSignal },
          ),
        { repeatable: true },
      );
      if (FileSystemId !== undefined) return FileSystemId;
    } catch (error) {
      if (!(error instanceof AwsError) || error.code !== 'FileSystemAlreadyExists') throw error;
    }
    return this.#byToken(user, token);
  }

  async #byToken(user: string, CreationToken: string): Promise<string> {
    const { FileSystems = [] } = await this.#efs.call(
      `looking for the file system of ${user}`,
      ({ client, sdk }, abortSignal) => client.send(new sdk.DescribeFileSystemsCommand({ CreationToken }), { abortSignal }),
      READ,
    );
    const [found] = FileSystems;
    if (found?.FileSystemId === undefined) throw new NotYet(1_000, `The file system of ${user} does not show yet`);
    const tags = readTags(found.Tags);
    if (tags[TAG.cluster] !== this.#efs.settings.cluster || tags[TAG.owner] !== user)
      throw new TerminalError(
        `The file system ${found.FileSystemId} has the token of ${user}'s and not the tags; an operator must look`,
      );
    return found.FileSystemId;
  }

  /** Null only if EFS says that there is none. */
  async #state(FileSystemId: string): Promise<string | null> {
    try {
      const { FileSystems = [] } = await this.#efs.call(
        `looking at the file system ${FileSystemId}`,
        ({ client, sdk }, abortSignal) => client.send(new sdk.DescribeFileSystemsCommand({ FileSystemId }), { abortSignal }),
        READ,
      );
      return FileSystems[0]?.LifeCycleState ?? 'unknown';
    } catch (error) {
      if (isMissing(error, 'FileSystemNotFound')) return null;
      throw error;
    }
  }

  /** A way to it from each subnet. @throws NotYet until all of them are up */
  async #reach(FileSystemId: string): Promise<void> {
    const targets = await allOf(async (Marker) => {
      const page = await this.#efs.call(
        `looking at the ways to ${FileSystemId}`,
        ({ client, sdk }, abortSignal) =>
          client.send(new sdk.DescribeMountTargetsCommand({ FileSystemId, Marker }), { abortSignal }),
        READ,
      );
      return { items: page.MountTargets ?? [], next: page.NextMarker };
    });
    const missing = this.#subnets.filter((subnet) => !targets.some(({ SubnetId }) => SubnetId === subnet));
    for (const SubnetId of missing) await this.#makeTarget(FileSystemId, SubnetId);
    const ours = targets.filter(({ SubnetId }) => this.#subnets.includes(SubnetId ?? ''));
    if (missing.length > 0 || ours.some(({ LifeCycleState }) => LifeCycleState !== 'available'))
      throw new NotYet(2_000, `The ways to the file system ${FileSystemId} are being made`);
  }

  async #makeTarget(FileSystemId: string, SubnetId: string): Promise<void> {
    try {
      await this.#efs.call(
        `making a way to ${FileSystemId}`,
        ({ client, sdk }, abortSignal) =>
          client.send(new sdk.CreateMountTargetCommand({ FileSystemId, SubnetId, SecurityGroups: [this.#securityGroup] }), {
            abortSignal,
          }),
        { repeatable: true },
      );
    } catch (error) {
      if (!(error instanceof AwsError) || error.code !== 'MountTargetConflict') throw error;
    }
  }
}
