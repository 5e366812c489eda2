/** What was on disks, in S3 as moto plays it: brought there, read from there, and gone with its snapshot. */
import { CreateBucketCommand, ListObjectsV2Command, PutObjectCommand, S3Client } from '@aws-sdk/client-s3';
import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Database } from '../../persistence/database.ts';
import { recordContents } from '../../persistence/disk-contents.ts';
import { ContentsMover, type ContentsStore } from '../../src/disk-contents-store.ts';
import { ContentsBucket } from '../../src/providers/aws/contents-bucket.ts';
import { type HttpWorld, startHttp } from '../integration/http/support.ts';
import { startMoto } from '../support/moto.ts';
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts';
import { type Front, startFront } from './support/front.ts';
import { CLUSTER } from './support/ebs.ts';

const moto = await startMoto();
const BUCKET = 'contents-of-disks';

describe.skipIf(moto.missing)('what is on disks, in a bucket', () => {
  let database: TestDatabase;
  let db: Database;
  let s3: S3Client;
  let front: Front;
  let http: HttpWorld;
  /** Whether S3 does its work. */
  let up = true;
  /** Told of each request while S3 answers none. */
  let hangs: (() => void) | null = null;
  const errors: unknown[] = [];
  let store: ContentsBucket;
  const disk = { id: randomUUID(), name: 'data' };

  const bucket = (name = BUCKET) =>
    new ContentsBucket({ region: 'us-east-2', endpoint: front.url, cluster: CLUSTER, maxAttempts: 1 }, name);
  /** One portion, by a process of its own. */
  const move = async (over: ContentsStore = store): Promise<number> => {
    const mover = new ContentsMover({ db, store: over, onError: (error) => errors.push(error), settledMs: 0 });
    const sleeps = await mover.move();
    await mover.stop();
    return sleeps;
  };
  const objects = async () => {
    const { Contents = [] } = await s3.send(new ListObjectsV2Command({ Bucket: BUCKET }));
    return Contents.map(({ Key }) => Key).sort();
  };
  const snapshot = async (id: string) => {
    await db.query(
      `insert into disk_snapshots (snapshot_id, disk_id, status, created_at, completed_at) values ($1, $2, 'complete', now(), now())`,
      [id, disk.id],
    );
    const entries = ['a', 'b', 'c'].map((path) => ({ path, kind: 'file', size: 1 }));
    await recordContents(db, id, { entries, total: 3, sizeBytes: 3, cut: [] });
    await db.query('update disks set latest_snapshot_id = $1 where disk_id = $2', [id, disk.id]);
  };
  const forget = (id: string) => db.query('delete from disk_snapshots where snapshot_id = $1', [id]);
  const row = async (id: string) =>
    (await db.query<{ entries: unknown; object: string }>('select * from disk_contents where snapshot_id = $1', [id])).rows[0]!;

  const leavings = async () =>
    (await db.query<{ object: string }>('select object from disk_contents_leavings order by object')).rows.map(
      ({ object }) => object,
    );
  /** The same store, to be changed in part. */
  const around = (behind: ContentsStore): ContentsStore => ({
    within: behind.within,
    placeOf: (what) => behind.placeOf(what),
    owns: (place) => behind.owns(place),
    put: (place, what) => behind.put(place, what),
    get: (place) => behind.get(place),
    remove: (place) => behind.remove(place),
    findObstacles: () => behind.findObstacles(),
  });

  beforeAll(async () => {
    database = await createTestDatabase();
    s3 = new S3Client({ endpoint: moto.url, region: 'us-east-2', forcePathStyle: true });
    await s3.send(new CreateBucketCommand({ Bucket: BUCKET, CreateBucketConfiguration: { LocationConstraint: 'us-east-2' } }));
    await s3.send(new PutObjectCommand({ Bucket: BUCKET, Key: 'somebody/elses/object', Body: 'x' }));
    front = await startFront(moto.url, () => {
      if (hangs === null) return up ? null : { status: 503, body: {} };
      hangs();
      return 'silence';
    });
    store = bucket();
    http = await startHttp({ database }, { contents: { owns: (place) => store.owns(place), get: (place) => store.get(place) } });
    db = http.world.db;
    await db.query(
      `insert into disks (disk_id, disk_name, user_id, size_gb, created_at) values ($1, $2, 'ann@lab.org', 10, now())`,
      [disk.id, disk.name],
    );
  });
  afterAll(async () => {
    await http?.stop();
    await front?.stop();
    await database?.drop();
  });
  const contents = (query = '') => http.get(`/v1/disks/data/contents${query}`, 'ann@lab.org');

  it('D28: goes under the id of its snapshot, is read from there page by page, and is known when S3 cannot be reached for not known now', async () => {
    await snapshot('snap-1');
    await move();
    expect(await objects()).toEqual(['ann@lab.org/data/snap-1', 'somebody/elses/object']);
    expect(await row('snap-1')).toMatchObject({ entries: null, object: `s3://${BUCKET}/ann@lab.org/data/snap-1` });
    const first = await contents('?limit=2');
    expect(first.body).toMatchObject({ snapshot_id: 'snap-1', total: 3, kept: 3, s3_path: (await row('snap-1')).object });
    expect(first.body.entries).toEqual(['a', 'b'].map((path) => ({ path, kind: 'file', size: 1 })));
    const second = await contents(`?limit=2&cursor=${first.body.next_cursor}`);
    expect(second.body).toMatchObject({ entries: [{ path: 'c', kind: 'file', size: 1 }], next_cursor: null });
    expect((await http.get('/v1/disks/data/contents?user=ann@lab.org', 'eve')).status).not.toBe(200);
    up = false;
    expect(await contents()).toMatchObject({ status: 503, body: { code: 'GPU_CONTENTS_UNAVAILABLE' } });
    up = true;
    // It has been there once, so a new name leaves it where it is.
    await db.query(`update disks set disk_name = 'other' where disk_id = $1`, [disk.id]);
    expect((await http.get('/v1/disks/other/contents', 'ann@lab.org')).body).toMatchObject({ total: 3 });
    await db.query(`update disks set disk_name = 'data' where disk_id = $1`, [disk.id]);
  });

  it('waits in the database while S3 does not take it, and the snapshot is none the worse', async () => {
    await snapshot('snap-2');
    up = false;
    expect(await move()).toBeGreaterThan(10_000);
    expect(errors.splice(0)).toHaveLength(1);
    expect((await contents()).body).toMatchObject({ snapshot_id: 'snap-2', entries: { length: 3 } });
    up = true;
    await move();
    expect((await row('snap-2')).entries).toBeNull();
    expect((await contents()).body).toMatchObject({ snapshot_id: 'snap-2', entries: { length: 3 } });
  });

  it('goes with its snapshot, also with one that is deleted while it is on its way, and nothing of others does', async () => {
    await snapshot('snap-3');
    const slow: ContentsStore = {
      ...around(store),
      put: async (place, what) => {
        await forget('snap-3');
        // It was slow enough for another process to take over, which removes what was left before it is there.
        await db.query(`update leases set until = now() - interval '1 s' where name = 'disk-contents'`);
        await move();
        await store.put(place, what);
      },
    };
    await move(slow);
    expect(await objects()).not.toContain('ann@lab.org/data/snap-3');
    await forget('snap-1');
    await forget('snap-2');
    // More of a former bucket than one portion holds, and older: nobody removes those any more.
    await db.query(
      `insert into disk_contents_leavings (object, left_at) select 's3://another-bucket/' || n, now() - interval '1 h' from generate_series(1, 25) n`,
    );
    await db.query('insert into disk_contents_leavings (object) values ($1)', [`s3://${BUCKET}/ann@lab.org/data/gone-already`]);
    await move();
    expect(await objects()).toEqual(['somebody/elses/object']);
    expect(await leavings()).toHaveLength(25);
    expect(await leavings()).toContain('s3://another-bucket/1');
    await db.query('delete from disk_contents_leavings');
    expect(errors).toEqual([]);
  });

  it('is forgotten in no bucket when that is changed for another and back while it is on its way', async () => {
    await snapshot('snap-4');
    const place = `s3://${BUCKET}/ann@lab.org/data/snap-4`;
    const lost = {
      ...around(store),
      put: async (...what: Parameters<ContentsStore['put']>) => {
        await store.put(...what);
        throw new Error('The answer is lost');
      },
    };
    await move(lost);
    expect(await objects()).toContain('ann@lab.org/data/snap-4');
    await move(bucket('another-bucket-that-is-not'));
    expect(errors.splice(0)).toHaveLength(2);
    expect((await row('snap-4')).object).toBe('s3://another-bucket-that-is-not/ann@lab.org/data/snap-4');
    expect(await leavings()).toEqual([place]);
    await move();
    await move();
    expect(await objects()).toContain('ann@lab.org/data/snap-4');
    expect(await row('snap-4')).toMatchObject({ entries: null, object: place });
    expect(await leavings()).toEqual(['s3://another-bucket-that-is-not/ann@lab.org/data/snap-4']);
    await forget('snap-4');
    await move();
    expect(await objects()).not.toContain('ann@lab.org/data/snap-4');
  });

  it('keeps no process from ending while S3 does not answer, and is brought there, or removed, by the next', async () => {
    const hang = async () => {
      let asked = 0;
      const called = new Promise<void>((resolve) => {
        hangs = () => {
          asked += 1;
          resolve();
        };
      });
      const mover = new ContentsMover({ db, store, onError: (error) => errors.push(error), settledMs: 0 });
      mover.start();
      await called;
      const began = performance.now();
      await mover.stop();
      hangs = null;
      // A call waits 15 s for its answer.
      expect(performance.now() - began).toBeLessThan(5_000);
      expect(asked).toBe(1);
      expect(errors).toEqual([]);
    };
    const both = ['snap-5', 'snap-6'];
    for (const id of both) await snapshot(id);
    await hang();
    await move();
    expect(await objects()).toEqual([...both.map((id) => `ann@lab.org/data/${id}`), 'somebody/elses/object']);
    for (const id of both) await forget(id);
    await hang();
    await move();
    expect(await objects()).toEqual(['somebody/elses/object']);
  });

  it('is asked for at the start', async () => {
    const before = await objects();
    expect(await store.findObstacles()).toEqual([]);
    expect(await objects()).toEqual(before);
    expect(await bucket('no-such-bucket').findObstacles()).toEqual(['There is no bucket no-such-bucket (DISK_CONTENTS_BUCKET)']);
    for (const [method, right] of [
      ['GET', 's3:GetObject'],
      ['PUT', 's3:PutObject'],
      ['DELETE', 's3:DeleteObject'],
    ]) {
      const denies = await startFront(moto.url, (request) =>
        request.method === method && request.url!.includes('.gpu-dev/trial')
          ? { status: 403, headers: { 'content-type': 'application/xml' }, body: {} }
          : null,
      );
      const settings = { region: 'us-east-2', endpoint: denies.url, cluster: CLUSTER, maxAttempts: 1 };
      expect(await new ContentsBucket(settings, BUCKET).findObstacles()).toEqual([
        `May not ${right} in AWS (see docs/aws.md for the policy)`,
      ]);
      await denies.stop();
    }
    expect(await objects()).toEqual([...before, '.gpu-dev/trial'].sort());
  });
});
