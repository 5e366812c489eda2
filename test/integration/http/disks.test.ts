import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ask, close, diskOf, open } from '../disks/session.ts';
import { type Answer, type HttpWorld, type Json, startHttp } from './support.ts';

let http: HttpWorld;
beforeAll(async () => {
  http = await startHttp({
    fleet: { t4: 2 },
    ports: (ports) => ({ ...ports, snapshotRetention: { keepCount: 1, keepDays: 1 } }),
  });
});
afterAll(async () => {
  await http?.stop();
});

const disk = async (name: string, user = 'ann'): Promise<Json> => (await http.get(`/v1/disks/${name}`, user)).body;
const post = (path: string, body: unknown, key?: string): Promise<Answer> =>
  http.post(`/v1/disks${path}`, body, key === undefined ? { user: 'ann' } : { user: 'ann', key });
const remove = async (name: string, options: { user?: string; key?: string; date?: string } = {}): Promise<Answer> => {
  const headers = {
    ...(await http.as(options.user ?? 'ann')),
    ...(options.key === undefined ? {} : { 'idempotency-key': options.key }),
  };
  const query = options.date === undefined ? '' : `?delete_date=${encodeURIComponent(options.date)}`;
  const response = await http.app.inject({ method: 'DELETE', url: `/v1/disks/${name}${query}`, headers });
  return { status: response.statusCode, headers: response.headers, body: response.json() };
};
const ends = (operation: Json) =>
  http.world.until('the operation has ended', async () => {
    const { body } = await http.get(`/v1/operations/${operation.operation_id}`, 'ann');
    return body.status === 'pending' ? null : body;
  });
const snapshotsOf = async (name: string): Promise<Json[]> =>
  (await http.get(`/v1/disks/${name}/snapshots`, 'ann')).body.snapshots;

describe('a disk over HTTP', () => {
  it('is made once for a key, has its row at once, and is nobody else’s', async () => {
    const first = await post('', { disk_name: 'data', size_gb: 50 }, 'make-data');
    expect(first).toMatchObject({ status: 202, body: { disk_name: 'data', action: 'create', status: 'completed' } });
    expect(first.body.requested_at).toMatch(/^\d{4}-/);
    expect(await disk('data')).toMatchObject({ name: 'data', size_gb: 50, state: 'idle', in_use: false });
    const again = await post('', { disk_name: 'data', size_gb: 50 }, 'make-data');
    expect(again).toMatchObject({ status: 200, body: { operation_id: first.body.operation_id } });
    expect(await post('', { disk_name: 'other' }, 'make-data')).toMatchObject({
      status: 409,
      body: { code: 'GPU_IDEMPOTENCY_CONFLICT' },
    });
    expect(await post('', { disk_name: 'data' })).toMatchObject({ status: 409, body: { code: 'GPU_DISK_EXISTS' } });
    // The same key of another user is another key.
    expect((await http.post('/v1/disks', { disk_name: 'data' }, { user: 'eve', key: 'make-data' })).status).toBe(202);
    expect((await http.get(`/v1/disks/${(await disk('data')).id}`, 'eve')).body.code).toBe('GPU_DISK_UNKNOWN');
    expect((await http.get(`/v1/operations/${first.body.operation_id}`, 'eve')).status).toBe(404);
    expect((await http.get(`/v1/disks/data/operations/${first.body.operation_id}`, 'ann')).body).toMatchObject({
      status: 'completed',
      error: null,
      disk_name: 'data',
    });
  });

  it('is not shrunk by a smaller size, and whoever asked is told; by a larger one its row grows at once', async () => {
    await http.post('/v1/disks', { disk_name: 'large', size_gb: 500 }, { user: 'kim' });
    const told = /^The disk large has 500 GB and stays as it is, though disk_size_gb is 200: a disk never shrinks$/;
    const wish = (disk_size_gb: number) => ({ disk_name: 'large', disk_size_gb });
    const asked = await http.post('/v1/reservations', { gpu_type: 't4', ...wish(200) }, { user: 'kim' });
    expect(asked).toMatchObject({ status: 202, headers: { 'gpu-dev-notice': expect.stringMatching(told) } });
    const env_vars = { GPU_TYPE: 't4', GPU_COUNT: '1' };
    const job = await http.post('/v1/jobs/submit', { instance_type: 'g4', env_vars, ...wish(200) }, { user: 'kim' });
    expect(job.body.message).toContain('stays as it is, though disk_size_gb is 200');
    const larger = await http.post('/v1/reservations', { gpu_type: 't4', ...wish(600) }, { user: 'kim' });
    expect(larger.headers['gpu-dev-notice']).toBeUndefined();
    await http.world.until('it is to grow', async () => (await disk('large', 'kim')).size_gb === 600);
    for (const { body } of [asked, job, larger])
      await http.post(`/v1/reservations/${body.id ?? body.job_id}/events`, { type: 'cancel' }, { user: 'kim' });
  });

  it('is listed page by page, by its owner and for an admin', async () => {
    for (const name of ['page-1', 'page-2', 'page-3']) await http.post('/v1/disks', { disk_name: name }, { user: 'lea' });
    const first = await http.get('/v1/disks?limit=2', 'lea');
    expect(first.body).toMatchObject({ total: 3, disks: [{ name: 'page-1' }, { name: 'page-2' }] });
    const second = await http.get(`/v1/disks?limit=2&cursor=${first.body.next_cursor}`, 'lea');
    expect(second.body).toMatchObject({ disks: [{ name: 'page-3' }], next_cursor: null });
    expect((await http.get('/v1/disks?user=lea', 'eve')).status).toBe(403);
    expect((await http.get('/v1/disks?user=lea')).body.total).toBe(3);
    expect((await http.get('/v1/disks?cursor=bogus', 'lea')).body.code).toBe('GPU_FIELD_INVALID');
    for (const day of ['2026-02-30', '0000-01-01']) {
      const cursor = Buffer.from(JSON.stringify([`${day} 00:00:00+00`, 'snap-1'])).toString('base64url');
      expect(await http.get(`/v1/disks/page-1/snapshots?cursor=${cursor}`, 'lea')).toMatchObject({ status: 400 });
    }
    expect((await http.post('/v1/disks?user=lea', { disk_name: 'by-operator' })).body).toMatchObject({ user_id: 'lea' });
  });

  it('refuses names and sizes that are none, naming the field', async () => {
    expect(await post('', { disk_name: 'a b' })).toMatchObject({ status: 400, body: { field: 'disk_name' } });
    expect(await post('', { disk_name: 'big', size_gb: 99_999 })).toMatchObject({ status: 400, body: { field: 'size_gb' } });
    expect(await post('/nowhere/clone', { target_disk: 'x' })).toMatchObject({ status: 404, body: { code: 'GPU_DISK_UNKNOWN' } });
  });

  it('D16: keeps its id, its data and its snapshots under another name, and its next session finds them', async () => {
    await close(http.world, await open(http.world, 'before'));
    const before = await disk('before');
    const renamed = await post('/before/rename', { new_name: 'after' }, 'rename-it');
    expect(renamed).toMatchObject({ status: 202, body: { action: 'rename', status: 'completed' } });
    expect(await post('/before/rename', { new_name: 'after' }, 'rename-it')).toMatchObject({
      status: 200,
      body: { operation_id: renamed.body.operation_id },
    });
    const after = await disk('after');
    expect(after).toMatchObject({ id: before.id, latest_snapshot_id: before.latest_snapshot_id, snapshot_count: 1 });
    expect((await disk('before')).code).toBe('GPU_DISK_UNKNOWN');
    await post('', { disk_name: 'taken' });
    expect(await post('/after/rename', { new_name: 'taken' })).toMatchObject({ status: 409, body: { code: 'GPU_DISK_EXISTS' } });
    const session = await open(http.world, 'after');
    expect(session).toMatchObject({ status: 'running', disk_id: before.id });
    await close(http.world, session);
    expect((await diskOf(http.world, 'after'))?.disk_id).toBe(before.id);
  });

  it('of two that want one name at the same time, one gets it', async () => {
    for (const name of ['left', 'right']) await post('', { disk_name: name });
    const answers = await Promise.all(['left', 'right'].map((name) => post(`/${name}/rename`, { new_name: 'middle' })));
    expect(answers.map(({ status }) => status).sort()).toEqual([202, 409]);
  });

  it('in use is neither deleted nor set back, and its holder is named', async () => {
    const session = await open(http.world, 'busy');
    expect(await post('/busy/restore', { snapshot_id: 'snap-none' })).toMatchObject({
      status: 404,
      body: { code: 'GPU_SNAPSHOT_UNKNOWN' },
    });
    expect(await remove('busy')).toMatchObject({
      status: 409,
      body: { code: 'GPU_DISK_IN_USE', details: { in_use_by: session['reservation_id'] } },
    });
    expect((await remove('busy')).body.detail).toContain(session['reservation_id']);
    // A clone of it waits, and says for whom.
    const clone = await post('/busy/clone', { target_disk: 'busy-copy' });
    expect(clone).toMatchObject({ status: 202, body: { action: 'clone', status: 'pending' } });
    await http.world.until('it says why it waits', async () =>
      (await http.get(`/v1/operations/${clone.body.operation_id}`, 'ann')).body.message.includes(session['reservation_id']),
    );
    await close(http.world, session);
    expect(await ends(clone.body)).toMatchObject({ status: 'completed', error: null });
    expect(await disk('busy-copy')).toMatchObject({ problem: null, latest_snapshot_id: (await disk('busy')).latest_snapshot_id });
  });

  it('D19: that exists, deleted or not, is not made anew by its name: nothing of it changes, and bringing it back is a wish of its own', async () => {
    await close(http.world, await open(http.world, 'mine'));
    const before = await disk('mine');
    const asked = { disk_name: 'mine', size_gb: 999 };
    expect(await post('', asked)).toMatchObject({ status: 409, body: { code: 'GPU_DISK_EXISTS' } });
    expect(await disk('mine')).toEqual(before);
    await remove('mine');
    const gone = await disk('mine');
    expect(await post('', asked)).toMatchObject({ status: 409, body: { code: 'GPU_DISK_EXISTS' } });
    const wish = { gpu_type: 't4', gpu_count: 1, duration_hours: 1, disk_name: 'mine', disk_size_gb: 999 };
    expect(await http.post('/v1/reservations', wish, { user: 'ann' })).toMatchObject({ body: { code: 'GPU_DISK_DELETED' } });
    expect(await disk('mine')).toEqual(gone);
    expect(gone).toMatchObject({ id: before.id, size_gb: before.size_gb, is_deleted: true, snapshot_count: 1 });
    await post('/mine/undelete', {});
    expect(await disk('mine')).toMatchObject({ size_gb: before.size_gb, is_deleted: false, delete_date: null });
  });

  it('D17: that is deleted is so in one commit, with nothing of its data touched, and comes back whole', async () => {
    await close(http.world, await open(http.world, 'whole'));
    const before = await disk('whole');
    const call = { group: 'snapshot.storage.k8s.io', version: 'v1', plural: 'volumesnapshots', namespace: 'gpu-dev' };
    const onCluster = async () =>
      ((await http.world.client.custom.listNamespacedCustomObject(call)) as { items: Json[] }).items
        .filter(({ metadata }) => metadata.name.startsWith(`snap-${before.id}-`))
        .map(({ metadata }) => [metadata.name, metadata.resourceVersion, metadata.labels]);
    const there = await onCluster();
    expect(there).toHaveLength(1);
    // What one of its statements cannot write, none of them writes.
    await http.world.db.query(`
      create function refuse_purge() returns trigger language plpgsql as $$ begin raise exception 'no purge today'; end $$;
      create trigger no_purge before insert on deadlines for each row when (new.name = 'purge') execute function refuse_purge()`);
    await remove('whole');
    await http.world.db.query('drop trigger no_purge on deadlines; drop function refuse_purge()');
    expect(await disk('whole')).toEqual(before);
    expect((await remove('whole')).body).toMatchObject({ status: 'completed' });
    const { rows } = await http.world.db.query(
      `select d.is_deleted, d.marked_deleted_at is not null as marked, l.due_at = d.delete_date as dated
         from disks d join deadlines l on l.actor = 'disk/' || d.disk_id and l.name = 'purge' where disk_id = $1`,
      [before.id],
    );
    expect(rows).toEqual([{ is_deleted: true, marked: true, dated: true }]);
    expect(await onCluster()).toEqual(there);
    await post('/whole/undelete', {});
    expect(await disk('whole')).toMatchObject({ ...before, last_used: expect.anything() });
    const session = await open(http.world, 'whole');
    expect(session['disk_id']).toBe(before.id);
    await close(http.world, session);
  });

  it('D18: that is purged is listed nowhere, and its name is free for another', async () => {
    await close(http.world, await open(http.world, 'purged'));
    const { id } = await disk('purged');
    await remove('purged', { date: new Date(Date.now() + 200).toISOString() });
    await http.world.until('it is purged', async () => (await diskOf(http.world, 'purged'))?.state === 'purged');
    for (const list of ['/v1/disks', '/v1/disks?deleted=true'])
      expect((await http.get(list, 'ann')).body.disks.map((each: Json) => each.id)).not.toContain(id);
    expect((await http.get(`/v1/disks/${id}`, 'ann')).body.code).toBe('GPU_DISK_UNKNOWN');
    expect(await post('', { disk_name: 'purged' })).toMatchObject({ status: 202 });
    expect((await disk('purged')).id).not.toBe(id);
  });

  it('that is deleted is hidden, can be brought back for 30 days, and refuses what it cannot do', async () => {
    await close(http.world, await open(http.world, 'old'));
    const deleted = await remove('old', { key: 'delete-old' });
    expect(deleted).toMatchObject({ status: 202, body: { action: 'delete', status: 'completed' } });
    expect((await http.get('/v1/disks', 'ann')).body.disks.map((each: Json) => each.name)).not.toContain('old');
    expect((await http.get('/v1/disks?deleted=true', 'ann')).body.disks.map((each: Json) => each.name)).toContain('old');
    const days = (Date.parse((await disk('old')).delete_date) - Date.now()) / 86_400_000;
    expect(days).toBeCloseTo(30, 1);
    expect((await http.get('/v1/disks/old/contents', 'ann')).status).toBe(410);
    expect((await post('/old/rename', { new_name: 'older' })).status).toBe(410);
    const { latest_snapshot_id } = await disk('old');
    expect((await post('/old/restore', { snapshot_id: latest_snapshot_id })).body.code).toBe('GPU_DISK_DELETED');
    expect((await post('', { disk_name: 'old' })).body.detail).toContain('brought back');
    expect(await post('/old/undelete', {})).toMatchObject({ status: 202, body: { status: 'completed' } });
    expect(await disk('old')).toMatchObject({ is_deleted: false, delete_date: null, state: 'idle' });
    expect(await remove('old', { key: 'delete-old' })).toMatchObject({ status: 200 });
    expect(await disk('old')).toMatchObject({ is_deleted: false });
  });
});

describe('the snapshots of a disk', () => {
  it('are listed, and the disk can be set back to any of them and forward again', async () => {
    const name = `versions-${randomUUID().slice(0, 8)}`;
    for (let session = 0; session < 2; session++) await close(http.world, await open(http.world, name));
    await http.world.until('what is on it is known', async () => (await snapshotsOf(name))[0]?.has_contents === true);
    const [newer, older] = await snapshotsOf(name);
    expect(newer).toMatchObject({ is_latest: true, status: 'complete', has_contents: true });
    const page = await http.get(`/v1/disks/${name}/snapshots?limit=1`, 'ann');
    expect(page.body.snapshots).toHaveLength(1);
    expect((await http.get(`/v1/disks/${name}/snapshots?cursor=${page.body.next_cursor}`, 'ann')).body.snapshots).toEqual([
      older,
    ]);

    const back = await post(`/${name}/restore`, { snapshot_id: older.snapshot_id });
    expect(back.status).toBe(202);
    expect(await ends(back.body)).toMatchObject({ status: 'completed', action: 'restore' });
    expect(await disk(name)).toMatchObject({ latest_snapshot_id: older.snapshot_id, state: 'idle', snapshot_count: 2 });
    const session = await open(http.world, name);
    const claim = await http.world.client.core.readNamespacedPersistentVolumeClaim({
      namespace: 'gpu-dev',
      name: (await diskOf(http.world, name))!.volume_claim!,
    });
    expect(claim.spec?.dataSource?.name).toBe(older.snapshot_id);
    await close(http.world, session);
    expect(await snapshotsOf(name)).toHaveLength(3);

    const forward = await post(`/${name}/restore`, { snapshot_id: newer.snapshot_id });
    expect(await ends(forward.body)).toMatchObject({ status: 'completed' });
    expect((await disk(name)).latest_snapshot_id).toBe(newer.snapshot_id);
    expect((await post(`/${name}/restore`, { snapshot_id: 'snap-of-another' })).body.code).toBe('GPU_SNAPSHOT_UNKNOWN');
    const other = (await snapshotsOf('busy'))[0];
    expect((await post(`/${name}/restore`, { snapshot_id: other.snapshot_id })).body.code).toBe('GPU_SNAPSHOT_UNKNOWN');
  });

  it('D9: go when they are too old, each disk by itself, and never the one that it would start from', async () => {
    for (const name of ['few', 'many']) await close(http.world, await open(http.world, name));
    for (let session = 0; session < 2; session++) await close(http.world, await open(http.world, 'many'));
    const [first, , third] = await snapshotsOf('many');
    const age = () => http.world.db.query(`update disk_snapshots set created_at = created_at - interval '3 days'`);
    await age();
    await post('/many/restore', { snapshot_id: third.snapshot_id }).then(({ body }) => ends(body));
    const { id } = await disk('many');
    await http.world.db.query(`update deadlines set due_at = now() where actor = 'disk/' || $1 and name = 'retention'`, [id]);
    await http.world.until('the one in the middle is gone', async () => (await snapshotsOf('many')).length === 2);
    expect((await snapshotsOf('many')).map((each) => each.snapshot_id)).toEqual([first.snapshot_id, third.snapshot_id]);
    expect(await disk('many')).toMatchObject({ snapshot_count: 2, latest_snapshot_id: third.snapshot_id });
    expect(await snapshotsOf('few')).toHaveLength(1);
    const call = { group: 'snapshot.storage.k8s.io', version: 'v1', plural: 'volumesnapshots', namespace: 'gpu-dev' };
    const { items } = (await http.world.client.custom.listNamespacedCustomObject(call)) as { items: Json[] };
    const there = items.map((each) => each.metadata.name);
    expect(there).toEqual(expect.arrayContaining([first.snapshot_id, third.snapshot_id]));
    expect(there.filter((name: string) => name.startsWith(`snap-${id}-`))).toHaveLength(2);
    // It looks again tomorrow, as long as there is more than is kept.
    const { rows } = await http.world.db.query(`select 1 from deadlines where actor = 'disk/' || $1 and name = 'retention'`, [
      id,
    ]);
    expect(rows).toHaveLength(1);
  });

  it('that were kept for a clone of a purged disk go when the clone has one of its own', async () => {
    await close(http.world, await open(http.world, 'mother'));
    const { id, latest_snapshot_id: kept } = await disk('mother');
    await ends((await post('/mother/clone', { target_disk: 'daughter' })).body);
    await remove('mother', { date: new Date(Date.now() + 200).toISOString() });
    await http.world.until('the mother is purged', async () => (await diskOf(http.world, 'mother'))?.state === 'purged');
    const rowOf = async () => (await http.world.db.query(`select 1 from disk_snapshots where snapshot_id = $1`, [kept])).rowCount;
    const daughter = (await disk('daughter')).id;
    const look = () =>
      http.world.db.query(`update deadlines set due_at = now() where actor = 'disk/' || $1 and name = 'retention'`, [daughter]);
    await look();
    await http.world.until(
      'it was looked for',
      async () =>
        (
          await http.world.db.query(
            `select 1 from history where actor = 'disk/' || $1 and event->>'type' = 'deadline.retention'`,
            [daughter],
          )
        ).rowCount === 1,
    );
    expect(await rowOf()).toBe(1);
    await close(http.world, await open(http.world, 'daughter'));
    await look();
    await http.world.until('the kept one is gone', async () => (await rowOf()) === 0);
    expect(id).not.toBe(daughter);
  });
});

it('a disk that is wanted while it is set back is given after that', async () => {
  for (let session = 0; session < 2; session++) await close(http.world, await open(http.world, 'wanted'));
  const [, older] = await snapshotsOf('wanted');
  const [restore, id] = await Promise.all([
    post('/wanted/restore', { snapshot_id: older.snapshot_id }),
    ask(http.world, { disk_name: 'wanted' }),
  ]);
  const session = await http.world.reaches(id, 'running', 'failed');
  expect(session).toMatchObject({ status: 'running', failure_reason: null });
  // Whoever came first was served first.
  if (restore.status === 409) expect(restore.body.code).toBe('GPU_DISK_IN_USE');
  else {
    // The answer may come before the disk has decided, and the other wish may have reached it first.
    const { status, error } = await ends(restore.body);
    if (status !== 'completed')
      expect({ status, error }).toEqual({ status: 'failed', error: expect.stringMatching(/in use|just now/) });
  }
  await close(http.world, session);
  await http.world.checkClean();
});
