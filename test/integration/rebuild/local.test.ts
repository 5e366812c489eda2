/** The database is dropped while servers run: what stands on the cluster brings it all back, nothing twice, and life goes on. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Loss } from './scene.ts';

const RECORD = 'gpu-dev.io/record';
let loss: Loss;
const id = (n: number) => `0198f000-0000-7000-8000-00000000000${n}`;
const [RUNS, PLAIN, ENDS, GONE, SPARE, MUTE] = [1, 2, 3, 4, 5, 7].map(id) as [string, string, string, string, string, string];

beforeAll(async () => {
  loss = await Loss.start({ h100: 3 });
  await loss.serve();
});
afterAll(() => loss?.stop());

const create = (reservation: string, fields: object) =>
  loss.scene.send({ action: 'create_reservation', reservation_id: reservation, gpu_type: 'h100', gpu_count: 2, ...fields });
const kept = async (uid: string) => {
  const pod = (await loss.pods()).find((each) => each.metadata.uid === uid);
  return pod?.metadata.annotations[RECORD] as string | undefined;
};
const ask = (method: string, pod: string, body: object) =>
  fetch(`${loss.scene.clusterUrl}/api/v1/namespaces/gpu-dev/pods/${pod}`, {
    method,
    headers: { 'content-type': method === 'PATCH' ? 'application/merge-patch+json' : 'application/json' },
    body: JSON.stringify(body),
  });
const deadlineNow = (actor: string, name: string) =>
  loss.scene.db.query('update deadlines set due_at = now() where actor = $1 and name = $2', [actor, name]);
const diskOf = (name: string) => loss.row('select * from disks where disk_name = $1', [name]);
/** How many GPUs of each node count as taken by servers that the database does not know. */
const taken = async () => {
  const { rows } = await loss.scene.db.query('select node, foreign_slots as n from nodes where foreign_slots > 0 order by node');
  return Object.fromEntries(rows.map(({ node, n }) => [node, n]));
};
const volumes = async () =>
  (await loss.objects('/api/v1/namespaces/gpu-dev/persistentvolumeclaims')).map(({ metadata }) => metadata.uid).sort();

it('a database that was dropped is built anew: disks, snapshots and servers that run are all back, and live on', async () => {
  const { scene } = loss;
  // Two servers run, one with a disk and added users; one disk has a snapshot and rests; one was deleted by its owner.
  await create(RUNS, { user_id: 'ada', disk_name: 'work', duration_hours: 4, name: 'box', env_vars: { TOKEN: 's3cret' } });
  await create(PLAIN, { user_id: 'bob', disk_name: null, duration_hours: 2, gpu_count: 4 });
  await create(ENDS, { user_id: 'ada', disk_name: 'rest', duration_hours: 2 });
  await create(GONE, { user_id: 'cleo', disk_name: 'old', disk_size_gb: 77, duration_hours: 2 });
  await create(MUTE, { user_id: 'eve', disk_name: null, gpu_count: 8, duration_hours: 2 });
  for (const each of [RUNS, PLAIN, ENDS, GONE, MUTE]) await scene.reaches(each, 'running');
  for (const each of [ENDS, GONE]) {
    await scene.send({ action: 'cancel', reservation_id: each });
    await scene.reaches(each, 'cancelled');
  }
  await scene.send({ action: 'extend_reservation', reservation_id: RUNS, extension_hours: 3 });
  await scene.until('it is extended', async () => (await scene.reservation(RUNS))!['total_hours'] === 7);
  await scene.db.query(`select pgmq.send('disk_operations', $1::jsonb)`, [
    JSON.stringify({ action: 'delete_disk', user_id: 'cleo', disk_name: 'old' }),
  ]);
  await scene.until('it is deleted', async () => (await diskOf('old'))?.is_deleted === true);
  const before = { runs: (await scene.reservation(RUNS))!, plain: (await scene.reservation(PLAIN))! };
  const disks = { work: await diskOf('work'), rest: await diskOf('rest'), old: await diskOf('old') };
  const uidOf = async (of: string) =>
    (await loss.row(`select snapshot #>> '{context,pod,uid}' as uid from actors where actor = $1`, [`reservation/${of}`])).uid;
  const uids = { runs: await uidOf(RUNS), plain: await uidOf(PLAIN) };
  await scene.until('the extension is on record', async () => (await kept(uids.runs))?.includes('"totalHours":7') === true);
  await scene.until('the other server is on record', async () => (await kept(uids.plain)) !== undefined);
  await scene.until('the deletion is on record', async () =>
    (await loss.objects('/api/v1/namespaces/gpu-dev/persistentvolumeclaims')).some(
      ({ metadata }) => metadata.annotations?.[RECORD]?.includes('"deleteAt":"') === true,
    ),
  );
  const there = { pods: (await loss.pods()).length, volumes: await volumes(), snapshots: (await scene.snapshots()).sort() };
  expect(there).toMatchObject({ pods: 3, snapshots: { length: 2 } });

  const mute = (await scene.reservation(MUTE))!;
  await loss.lose();
  // One has lost what it said of itself.
  await ask('PATCH', mute['pod_name'], { metadata: { annotations: { [RECORD]: null } } });
  // Somebody has given his word for the cluster before the first start: that is no reason to give what is in use.
  const { uid } = (await loss.objects('/api/v1/namespaces')).find(({ metadata }) => metadata.name === 'gpu-dev').metadata;
  const accepted = await loss.admin('accept-cluster', '--namespace-uid', uid, '--reason', 'the database was lost');
  expect(accepted, accepted.err).toMatchObject({ code: 0 });
  await loss.serve();
  await scene.until('the fleet is known', async () => (await scene.db.query('select 1 from nodes')).rowCount === 3);
  // As soon as there are nodes, what servers take counts as taken that nobody knows.
  const uses = new Map<string, number>();
  for (const [server, gpus] of [
    [before.runs, 2],
    [before.plain, 4],
    [mute, 8],
  ] as const)
    uses.set(server['node_name'], (uses.get(server['node_name']) ?? 0) + gpus);
  expect(await taken()).toEqual(Object.fromEntries(uses));
  expect(loss.service!.log).toContain('gpu-dev admin rebuild');

  const dry = await loss.rebuild('--dry-run');
  expect(dry.back.map(({ kind, name }) => `${kind} ${name}`).sort()).toEqual([
    'disk old',
    'disk rest',
    'disk work',
    ...['server box', `server ${before.plain['name']}`].sort(),
    'user ada',
    'user bob',
    'user cleo',
  ]);
  const untold = [{ kind: 'server', id: MUTE, why: expect.stringContaining('no record') }];
  expect(dry.left).toEqual(untold);
  expect(await loss.row('select 1 from disks')).toBeNull();
  expect(await loss.row(`select 1 from actors where kind <> 'gpu-pool'`)).toBeNull();

  // Killed in the middle, wherever that is: the next one completes it.
  const killed = spawn(process.execPath, [Loss.cli, 'admin', 'rebuild'], { env: loss.cliEnvironment, stdio: 'ignore' });
  const over = once(killed, 'exit');
  await scene.until('it has begun', async () => (await scene.db.query('select 1 from disks')).rowCount! > 0);
  killed.kill('SIGKILL');
  await over;
  const rest = await loss.rebuild();
  expect(rest).toMatchObject({ left: untold });
  // It is left alone, and its GPUs are not given, until somebody has looked.
  await scene.until('the others count no more', async () => Object.keys(await taken()).length === 1);
  expect(await taken()).toEqual({ [mute['node_name']]: 8 });
  expect((await loss.pods()).map(({ metadata }) => metadata.name)).toContain(mute['pod_name']);
  await ask('DELETE', mute['pod_name'], { gracePeriodSeconds: 0 });
  await scene.until('it is gone', async () => (await loss.pods()).length === 2);
  const again = await loss.rebuild();
  expect(again).toMatchObject({ back: [], left: [], known: { disks: 3, servers: 2 } });

  for (const [of, was] of [
    [RUNS, before.runs],
    [PLAIN, before.plain],
  ] as const) {
    const now = (await scene.reservation(of))!;
    for (const column of 'user_id status name gpu_count total_hours node_name node_port ssh_command pod_name disk_id launched_at expires_at created_at'.split(
      ' ',
    ))
      expect(now[column], column).toEqual(was[column]);
  }
  for (const [name, was] of Object.entries(disks)) {
    const now = await diskOf(name);
    for (const column of 'disk_id user_id size_gb state in_use reservation_id is_deleted latest_snapshot_id volume_claim snapshot_count created_at'.split(
      ' ',
    ))
      expect(now[column], `${name} ${column}`).toEqual(was[column]);
  }
  expect((await diskOf('old')).delete_date.getTime()).toBe(disks.old.delete_date.getTime());
  const { rows: slots } = await scene.db.query(
    'select node, reservation_id, count(*)::int as n from gpu_slots where reservation_id is not null group by 1, 2',
  );
  expect(slots.map(({ reservation_id, n }) => [reservation_id, n]).sort()).toEqual([
    [RUNS, 2],
    [PLAIN, 4],
  ]);
  expect((await loss.row('select value from secrets where secret_ref = $1', [RUNS])).value.environment).toMatchObject({
    TOKEN: 's3cret',
  });
  const { rows: standing } = await scene.db.query('select name from deadlines where actor = $1 order by name', [
    `reservation/${RUNS}`,
  ]);
  expect(standing.map(({ name }) => name)).toEqual(['expiry', 'warn15', 'warn30', 'warn5']);
  const verified = await loss.admin('verify');
  expect(verified, verified.out + verified.err).toMatchObject({ code: 0 });
  expect((await loss.pods()).map(({ metadata }) => metadata.uid).sort()).toEqual([uids.runs, uids.plain].sort());
  expect(await volumes()).toEqual(there.volumes);

  // Somebody new gets what is free, and waits for no disk of another.
  await create(SPARE, { user_id: 'dora', disk_name: null, duration_hours: 1, gpu_count: 8 });
  await scene.reaches(SPARE, 'running');
  // The server is extended, ends at its time, and its disk is saved; the one that rested serves again.
  await scene.send({ action: 'extend_reservation', reservation_id: RUNS, extension_hours: 1 });
  await scene.until('it is extended again', async () => (await scene.reservation(RUNS))!['total_hours'] === 8);
  await deadlineNow(`reservation/${RUNS}`, 'expiry');
  await scene.until('it is in its grace', async () => (await scene.reservation(RUNS))!['substate'] === 'grace');
  await deadlineNow(`reservation/${RUNS}`, 'graceEnd');
  await scene.reaches(RUNS, 'expired');
  await scene.until('the disk is free', async () => (await diskOf('work')).in_use === false);
  expect(await diskOf('work')).toMatchObject({ snapshot_count: 1, state: 'idle' });
  expect((await scene.snapshots()).sort()).toEqual([...there.snapshots, (await diskOf('work')).latest_snapshot_id].sort());
  await create(id(6), { user_id: 'ada', disk_name: 'rest', duration_hours: 1 });
  await scene.reaches(id(6), 'running');
  expect(await volumes()).toEqual(there.volumes);
  expect((await loss.admin('verify')).code).toBe(0);
}, 240_000);
