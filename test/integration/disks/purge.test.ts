import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { keepListing, recordContents } from '../../../persistence/disk-contents.ts';
import { startWorld, type World } from '../../support/world.ts';
import { close, diskOf, open, operate } from './session.ts';

let world: World;
beforeAll(async () => {
  world = await startWorld({ fleet: { t4: 1 } });
});
afterAll(async () => {
  await world?.stop();
});

const snapshots = async () => {
  const call = { group: 'snapshot.storage.k8s.io', version: 'v1', plural: 'volumesnapshots', namespace: 'gpu-dev' };
  const { items } = (await world.client.custom.listNamespacedCustomObject(call)) as { items: { metadata: { name: string } }[] };
  return items.map((item) => item.metadata.name);
};
const soon = () => new Date(Date.now() + 200).toISOString();
const purged = (name: string) => world.until(`${name} is purged`, async () => (await diskOf(world, name))?.state === 'purged');

describe('purging a disk', () => {
  it('keeps the snapshot that a clone starts from, and that clone can be used', async () => {
    await close(world, await open(world, 'source'));
    await close(world, await open(world, 'source'));
    const source = await diskOf(world, 'source');
    expect(await snapshots()).toHaveLength(2);
    expect(await operate(world, { action: 'clone_disk', source_disk: 'source', target_disk: 'copy' })).toMatchObject({
      status: 'completed',
    });
    await operate(world, { action: 'delete_disk', disk_name: 'source', delete_date: soon() });
    await purged('source');
    expect(await snapshots()).toEqual([source!.latest_snapshot_id]);
    const session = await open(world, 'copy');
    expect(session).toMatchObject({ status: 'running', failure_reason: null });
    await close(world, session);
  });

  it('waits for a clone that has not yet been told where it starts from', async () => {
    await close(world, await open(world, 'slow'));
    const source = await diskOf(world, 'slow');
    await operate(world, { action: 'clone_disk', source_disk: 'slow', target_disk: 'slower' });
    const clone = await diskOf(world, 'slower');
    // The clone as it is just before it reads its answer.
    await world.db.query(`update disks set state = 'cloning', latest_snapshot_id = null where disk_id = $1`, [clone!.disk_id]);
    await operate(world, { action: 'delete_disk', disk_name: 'slow', delete_date: soon() });
    await world.until('the purge waits', async () => {
      const { rows } = await world.db.query<{ last_error: string | null }>(
        `select last_error from effects where actor = $1 and type = 'disk.purge' and status = 'pending'`,
        [`disk/${source!.disk_id}`],
      );
      return rows[0]?.last_error?.includes('clone') ?? false;
    });
    expect(await snapshots()).toContain(source!.latest_snapshot_id);
    await world.db.query(`update disks set state = 'idle', latest_snapshot_id = $2 where disk_id = $1`, [
      clone!.disk_id,
      source!.latest_snapshot_id,
    ]);
    await purged('slow');
    expect(await snapshots()).toContain(source!.latest_snapshot_id);
  });
});

describe('the date of a deletion', () => {
  const daysLeft = async (name: string) => {
    const { rows } = await world.db.query<{ days: number }>(
      `select extract(epoch from delete_date - now())::float8 / 86400 as days from disks where disk_name = $1`,
      [name],
    );
    return rows[0]!.days;
  };

  it('that is past destroys nothing at once: the disk can be brought back for 30 days', async () => {
    await close(world, await open(world, 'stays'));
    for (const date of ['2020-01-01', '2020-01-01T00:00:00Z']) {
      await operate(world, { action: 'delete_disk', disk_name: 'stays', delete_date: date });
      expect(await daysLeft('stays')).toBeCloseTo(30, 2);
      await operate(world, { action: 'undelete_disk', disk_name: 'stays' });
    }
    expect(await diskOf(world, 'stays')).toMatchObject({ state: 'idle' });
  });

  it('that is today means now, and leaves no list of what was on the disk; one that is left out lies 30 days ahead of the database', async () => {
    const { disk_id: disk, latest_snapshot_id: snapshot } = (await diskOf(world, 'stays'))!;
    const listed = { entries: [{ path: 'secret', kind: 'file', size: 1 }], total: 1, sizeBytes: 1, cut: [] };
    // Its server told what is on it, and no snapshot was taken then.
    await keepListing(world.db, disk, 'a session', listed);
    await recordContents(world.db, snapshot!, listed);
    await operate(world, { action: 'delete_disk', disk_name: 'stays', delete_date: new Date().toISOString().slice(0, 10) });
    await purged('stays');
    expect((await world.db.query('select from disk_listings where disk_id = $1', [disk])).rows).toEqual([]);
    expect((await world.db.query('select from disk_contents where snapshot_id = $1', [snapshot])).rows).toEqual([]);
    await operate(world, { action: 'create_disk', disk_name: 'later' });
    await operate(world, { action: 'delete_disk', disk_name: 'later' });
    expect(await daysLeft('later')).toBeCloseTo(30, 2);
  });
});
