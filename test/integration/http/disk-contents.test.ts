import { afterAll, beforeAll, expect, it } from 'vitest';
import { runInside } from '../../../src/providers/kubernetes/exec.ts';
import { close, open } from '../disks/session.ts';
import { type Answer, type HttpWorld, type Json, startHttp } from './support.ts';

let http: HttpWorld;
/** What servers say of their disks in place of what is on them. */
let answers: (() => Promise<null>) | null = null;
beforeAll(async () => {
  http = await startHttp({
    fleet: { t4: 1 },
    ports: (ports) => {
      const { servers } = ports;
      const listDisk = servers.listDisk?.bind(servers);
      servers.listDisk = async (server) => (answers === null ? ((await listDisk?.(server)) ?? null) : answers());
      return { ...ports, snapshotRetention: { keepCount: 1, keepDays: 1 } };
    },
  });
});
afterAll(async () => {
  await http?.stop();
});

const disk = async (name: string): Promise<Json> => (await http.get(`/v1/disks/${name}`, 'ann')).body;
const post = (path: string, body: unknown): Promise<Answer> => http.post(`/v1/disks${path}`, body, { user: 'ann' });
const ends = (operation: Json) =>
  http.world.until('the operation has ended', async () => {
    const { body } = await http.get(`/v1/operations/${operation.operation_id}`, 'ann');
    return body.status === 'pending' ? null : body;
  });
const snapshotsOf = async (name: string): Promise<Json[]> =>
  (await http.get(`/v1/disks/${name}/snapshots`, 'ann')).body.snapshots;
/** Make files in the home of a server that runs. */
const write = async (session: Json, files: Record<string, string>): Promise<void> => {
  for (const [path, text] of Object.entries(files)) {
    const line = `printf "%s" '${text}' > '/home/dev/${path}'`;
    await runInside(http.world.client, session['pod_name'], ['sh', '-c', line]);
  }
};
const contents = (query = '', user = 'ann') => http.get(`/v1/disks/listed/contents${query}`, user);

it('D28 D29: snapshots tell what was on the disk when they were taken, by their own id, page by page, to those alone who may see it', async () => {
  expect(await post('', { disk_name: 'listed' })).toMatchObject({ status: 202 });
  expect((await contents()).body).toMatchObject({ code: 'GPU_CONTENTS_UNKNOWN', detail: expect.stringMatching(/no snapshot/) });
  const session = await open(http.world, 'listed');
  await write(session, { 'a.txt': 'hello', 'b/c\\d.txt': 'x', 'b/<script>\u202e': '12' });
  // The snapshot knows its disk by the id: a new name changes nothing.
  await post('/listed/rename', { new_name: 'listed-2' }).then(({ body }) => ends(body));
  await post('/listed-2/rename', { new_name: 'listed' }).then(({ body }) => ends(body));
  await close(http.world, session);
  const { latest_snapshot_id: snapshot } = await disk('listed');
  const first = await contents('?limit=2');
  expect(first.body).toMatchObject({
    disk_name: 'listed',
    snapshot_id: snapshot,
    entries: [
      { path: 'a.txt', kind: 'file', size: 5 },
      { path: 'b', kind: 'folder', size: null },
    ],
    total: 4,
    kept: 4,
    left_out: 0,
    cut: [],
    size_bytes: 8,
    s3_path: null,
  });
  const second = await contents(`?limit=2&cursor=${first.body.next_cursor}`);
  expect(second.body.entries.map(({ path }: Json) => path)).toEqual(['b/<script>\\u{202e}', 'b/c\\\\d.txt']);
  expect(second.body.next_cursor).toBeNull();
  expect((await http.get('/v1/disks/listed/content', 'ann')).body).toMatchObject({
    content: 'a.txt\nb/\nb/<script>\\u{202e}\nb/c\\\\d.txt',
    message: `4 of 4 entries, as they were in ${snapshot}`,
    s3_path: null,
  });
  expect((await contents('', 'eve')).status).toBe(404);
  expect((await snapshotsOf('listed'))[0]).toMatchObject({ snapshot_id: snapshot, has_contents: true });
  const { rows } = await http.world.db.query('select 1 from disk_listings');
  expect(rows).toEqual([]);

  // A server that does not tell, or tells nonsense, delays nothing and changes nothing: its snapshot says that nobody has listed it.
  for (const trouble of ['mute', 'liar']) {
    const next = await open(http.world, 'listed');
    await http.world.db.query(`insert into disk_listings (disk_id, reservation_id, entries) values ($1, 'another', '[]')`, [
      (await disk('listed')).id,
    ]);
    answers = async () => (trouble === 'mute' ? Promise.reject(new Error('no answer')) : null);
    await close(http.world, next);
    answers = null;
    const { latest_snapshot_id: latest } = await disk('listed');
    expect(latest).not.toBe(snapshot);
    expect((await contents()).body).toMatchObject({
      code: 'GPU_CONTENTS_UNKNOWN',
      detail: expect.stringContaining(latest),
    });
    expect((await snapshotsOf('listed'))[0]).toMatchObject({ snapshot_id: latest, status: 'complete', has_contents: false });
  }
  // What the earlier one holds is known as before, for as long as it is there.
  expect((await contents(`?snapshot_id=${snapshot}`)).body).toMatchObject({ snapshot_id: snapshot, total: 4 });
  await http.world.db.query(`update disk_snapshots set created_at = created_at - interval '3 days' where snapshot_id = $1`, [
    snapshot,
  ]);
  await http.world.db.query(`update deadlines set due_at = now() where actor = 'disk/' || $1 and name = 'retention'`, [
    (await disk('listed')).id,
  ]);
  await http.world.until('it is deleted, and what is known of it', async () => {
    const { rowCount } = await http.world.db.query('select 1 from disk_contents where snapshot_id = $1', [snapshot]);
    return rowCount === 0 && (await contents(`?snapshot_id=${snapshot}`)).status === 404;
  });
});
