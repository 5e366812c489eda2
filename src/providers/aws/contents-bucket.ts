/** What was on disks, in S3: an object for each snapshot, `s3://BUCKET/USER/DISK/SNAPSHOT`. */
import { createHash } from 'node:crypto';
import type * as Sdk from '@aws-sdk/client-s3';
import type { ContentsStore, StoredContents } from '../../disk-contents-store.ts';
import { type AwsSettings, AwsService } from './client.ts';
import { AwsError } from './errors.ts';
import { triedInVain } from './rights.ts';

type S3 = { client: Sdk.S3Client; sdk: typeof Sdk };

const AGAIN = { repeatable: true } as const;

export class ContentsBucket implements ContentsStore {
  readonly within: string;
  readonly #bucket: string;
  readonly #s3: AwsService<typeof Sdk, Sdk.S3Client>;

  constructor(settings: AwsSettings, bucket: string) {
    this.#bucket = bucket;
    this.within = `s3://${bucket}/`;
    this.#s3 = new AwsService(
      settings,
      () => import('@aws-sdk/client-s3'),
      // An emulator answers at one address, whatever the bucket.
      (sdk, config) => new sdk.S3Client({ ...config, forcePathStyle: settings.endpoint !== undefined }),
    );
  }

  placeOf({ user, disk, snapshotId }: { user: string; disk: string; snapshotId: string }): string {
    const part = (text: string): string => encodeURIComponent(text).replaceAll('%40', '@');
    return `${this.within}${[user, disk, snapshotId].map(part).join('/')}`;
  }

  owns(place: string): boolean {
    return place.startsWith(this.within);
  }

  async put(place: string, contents: StoredContents, signal?: AbortSignal): Promise<void> {
    const request = { ...this.#at(place), Body: JSON.stringify(contents), ContentType: 'application/json' };
    await this.#s3.call(
      `keeping ${place}`,
      ({ client, sdk }, abortSignal) => client.send(new sdk.PutObjectCommand(request), { abortSignal }),
      { ...AGAIN, signal },
    );
  }

  async get(place: string): Promise<StoredContents | null> {
    try {
      const text = await this.#s3.call(
        `reading ${place}`,
        async ({ client, sdk }, abortSignal) => {
          const { Body } = await client.send(new sdk.GetObjectCommand(this.#at(place)), { abortSignal });
          return Body?.transformToString() ?? '';
        },
        AGAIN,
      );
      return JSON.parse(text) as StoredContents;
    } catch (error) {
      if (error instanceof AwsError && error.code === 'NoSuchKey') return null;
      throw error;
    }
  }

  async remove(place: string, signal?: AbortSignal): Promise<void> {
    await this.#s3.call(
      `removing ${place}`,
      ({ client, sdk }, abortSignal) => client.send(new sdk.DeleteObjectCommand(this.#at(place)), { abortSignal }),
      { ...AGAIN, signal },
    );
  }

  async findObstacles(): Promise<string[]> {
    const Bucket = this.#bucket;
    try {
      await this.#s3.call(
        `looking at the bucket ${Bucket}`,
        ({ client, sdk }, abortSignal) => client.send(new sdk.ListObjectsV2Command({ Bucket, MaxKeys: 1 }), { abortSignal }),
        AGAIN,
      );
    } catch (error) {
      if (error instanceof AwsError && error.failure === 'denied')
        return [`May not s3:ListBucket of ${Bucket} in AWS (see docs/aws.md for the policy)`];
      if (error instanceof AwsError && error.failure === 'missing')
        return [`There is no bucket ${Bucket} (DISK_CONTENTS_BUCKET)`];
      throw error;
    }
    return this.#tryObjects();
  }

  /** Try what is done with objects, on one that nobody has. One that comes with a sum of other bytes is refused after the right is looked at. */
  async #tryObjects(): Promise<string[]> {
    const at = { Bucket: this.#bucket, Key: '.gpu-dev/trial' };
    const other = createHash('md5').update('something else').digest('base64');
    const tried = (action: string, send: (service: S3, signal: AbortSignal) => Promise<unknown>) =>
      triedInVain(`s3:${action}`, () => this.#s3.call(`trying ${action} in the bucket ${this.#bucket}`, send, AGAIN));
    return [
      ...(await tried('GetObject', ({ client, sdk }, abortSignal) => client.send(new sdk.GetObjectCommand(at), { abortSignal }))),
      ...(await tried('PutObject', ({ client, sdk }, abortSignal) =>
        client.send(new sdk.PutObjectCommand({ ...at, Body: 'trial', ContentMD5: other }), { abortSignal }),
      )),
      ...(await tried('DeleteObject', ({ client, sdk }, abortSignal) =>
        client.send(new sdk.DeleteObjectCommand(at), { abortSignal }),
      )),
    ];
  }

  #at(place: string): { Bucket: string; Key: string } {
    if (!this.owns(place)) throw new Error(`${place} is not in the bucket ${this.#bucket}`);
    return { Bucket: this.#bucket, Key: place.slice(this.within.length) };
  }
}
