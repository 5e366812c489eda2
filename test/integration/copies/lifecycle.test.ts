// Disks from session to session where the cluster takes no snapshots, through the whole service.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runInside } from '../../../src/providers/kubernetes/exec.ts';
import { startWorld, type World } from '../../support/world.ts';

let world: World;
beforeAll(async () => {
  world = await startWorld({ volumeSnapshots: false, timeScale: 60, delays: { job: 1_500 } });
});
afterAll(() => world?.stop());

/** A reservation with that disk; a command in its server; its end. @returns what the command said, and the reservation's last row */
async function session(diskName: string, argv: string[]) {
  const id = crypto.randomUUID();
  const base = { action: 'create_reservation', reservation_id: id, user_id: 'ada', gpu_type: 'h100', gpu_count: 1 };
  await world.send({ ...base, duration_hours: 4, disk_name: diskName, github_user: 'ada' });
  const running = await world.reaches(id, 'running', 'failed');
  expect(running).toMatchObject({ status: 'running', failure_reason: null });
  const { stdout } = await runInside(world.client, running['pod_name'] as string, argv);
  await world.send({ action: 'cancel', reservation_id: id, user_id: 'ada' });
  return { stdout, id, row: await world.reaches(id, 'cancelled', 'failed') };
}
const diskRow = async (name: string) =>
  (await world.db.query<Record<string, unknown>>('select * from disks where disk_name = $1', [name])).rows[0];
const free = (name: string) => world.until(`${name} is free`, async () => (await diskRow(name))?.['in_use'] === false);

describe('a disk on a cluster without VolumeSnapshots', () => {
  it('D2 D10 D11: is copied at the end of each session, with its progress told, and a clone of it has what it had', async () => {
    const first = await session('work', ['sh', '-c', 'printf one > /home/dev/notes && printf two > /home/dev/more']);
    expect(first.row).toMatchObject({ status: 'cancelled', snapshot_id: expect.stringMatching(/^snap-/) });
    const { rows: told } = await world.db.query(
      `select 1 from history where actor = $1 and event->>'type' = 'disk.progress' and outcome = 'applied'`,
      [`reservation/${first.id}`],
    );
    expect(told.length).toBeGreaterThan(0);
    await free('work');
    await world.send({ action: 'clone_disk', user_id: 'ada', source_disk: 'work', target_disk: 'copy' }, 'disk_operations');
    await world.until('the clone is there', async () => (await diskRow('copy'))?.['state'] === 'idle');
    const second = await session('work', ['sh', '-c', 'cat /home/dev/notes && printf changed > /home/dev/notes']);
    expect(second.stdout).toBe('one');
    const third = await session('copy', ['sh', '-c', 'cat /home/dev/notes /home/dev/more']);
    expect(third.stdout).toBe('onetwo');
    await Promise.all(['work', 'copy'].map(free));
    const { rows: snapshots } = await world.db.query<{ snapshot_id: string; status: string; size_bytes: string }>(
      'select snapshot_id, status, size_bytes from disk_snapshots order by created_at',
    );
    expect(snapshots.map(({ status }) => status)).toEqual(['complete', 'complete', 'complete']);
    const { core, batch, networking, namespace } = world.client;
    const { items } = await core.listNamespacedPersistentVolumeClaim({ namespace, labelSelector: 'gpu-dev.io/snapshot' });
    expect(items.map(({ metadata }) => metadata?.name).sort()).toEqual(snapshots.map(({ snapshot_id: id }) => id).sort());
    expect(items.filter(({ metadata }) => metadata?.annotations?.['gpu-dev.io/complete'] === undefined)).toEqual([]);
    await world.until('nothing is left around', async () => {
      const lists = [
        await batch.listNamespacedJob({ namespace }),
        await networking.listNamespacedNetworkPolicy({ namespace }),
        await core.listNamespacedConfigMap({ namespace }),
      ];
      return lists.every((list) => list.items.length === 0);
    });
    await world.until('mail is read', async () => (await world.db.query('select 1 from mailbox')).rowCount === 0);
    await world.checkClean();
  });
});
