import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { pruneBuildContexts, pruneDisks, pruneOperations, pruneSecrets } from '../../../persistence/retention.ts';
import { startWorld, type World } from '../../support/world.ts';
import { close, diskOf, open, operate } from './session.ts';

const OLD = `now() - interval '40 days'`;
let world: World;
beforeAll(async () => {
  world = await startWorld({ fleet: { t4: 1 } });
});
afterAll(async () => {
  await world?.stop();
});

const ROWS = {
  actors: 'select 1 from actors where actor = $1',
  history: 'select 1 from history where actor = $1',
  effects: 'select 1 from effects where actor = $1',
  checkpoints: 'select 1 from checkpoints where actor = $1',
  disks: 'select 1 from disks where disk_id = $1',
  snapshots: 'select 1 from disk_snapshots where disk_id = $1',
  operations: 'select 1 from operations where operation_id = $1',
  secrets: 'select 1 from secrets where secret_ref = $1',
} as const;
const count = async (what: keyof typeof ROWS, id: string) => (await world.db.query(ROWS[what], [id])).rowCount;

describe('what is removed when it is old', () => {
  it('are disks that were purged, with all of them, but not while a clone starts from their snapshot', async () => {
    await close(world, await open(world, 'gone'));
    const disk = (await diskOf(world, 'gone'))!.disk_id;
    await operate(world, { action: 'clone_disk', source_disk: 'gone', target_disk: 'copy' });
    await operate(world, { action: 'delete_disk', disk_name: 'gone', delete_date: new Date().toISOString() });
    await world.until('it is purged', async () => (await diskOf(world, 'gone'))?.state === 'purged');
    expect(await pruneDisks(world.db, 30, 10)).toBe(0);
    await world.db.query(`update disks set purged_at = ${OLD} where disk_id = $1`, [disk]);
    expect(await pruneDisks(world.db, 30, 10)).toBe(0);
    await world.db.query(`update disks set latest_snapshot_id = null where disk_name = 'copy'`);
    expect(await pruneDisks(world.db, 30, 10)).toBe(1);
    for (const table of ['actors', 'history', 'effects', 'checkpoints'] as const)
      expect(await count(table, `disk/${disk}`)).toBe(0);
    for (const table of ['disks', 'snapshots'] as const) expect(await count(table, disk)).toBe(0);
    expect(await diskOf(world, 'copy')).not.toBeNull();
  });

  it('are results of operations, but not of one that is not done', async () => {
    await world.db.query(
      `insert into operations (operation_id, user_id, action, status, updated_at)
       values ('old', 'ann', 'create_disk', 'failed', ${OLD}), ('open', 'ann', 'create_disk', 'pending', ${OLD})`,
    );
    expect(await pruneOperations(world.db, 30, 10)).toBe(1);
    expect(await count('operations', 'open')).toBe(1);
  });

  it('are secrets of reservations that never came to be, and of no other', async () => {
    const live = (await open(world, 'none'))['reservation_id'] as string;
    const never = randomUUID();
    const waiting = randomUUID();
    for (const id of [never, waiting])
      await world.db.query(`insert into secrets (secret_ref, owner, value) values ($1, 'ann', '{}')`, [id]);
    await world.db.query(
      `insert into mailbox (actor, key, event, sender, held) values ($1, 'k', '{"type":"cancel","by":null}', 'test', true)`,
      [`reservation/${waiting}`],
    );
    expect(await pruneSecrets(world.db, 30, 10)).toBe(0);
    await world.db.query(`update secrets set created_at = ${OLD}`);
    await pruneSecrets(world.db, 30, 10);
    expect(await count('secrets', never)).toBe(0);
    for (const id of [live, waiting]) expect(await count('secrets', id)).toBe(1);
  });

  it('are build contexts that no live reservation builds from', async () => {
    const live = (await open(world, 'none'))['reservation_id'] as string;
    await world.db.query(
      `insert into build_contexts (hash, owner, archive, created_at)
       values ('used', 'ann', '', ${OLD}), ('idle', 'ann', '', ${OLD}), ('new', 'ann', '', now())`,
    );
    await world.db.query(
      `update actors set snapshot = jsonb_set(snapshot, '{context,request,buildHash}', '"used"') where actor = $1`,
      [`reservation/${live}`],
    );
    expect(await pruneBuildContexts(world.db, 30, 10)).toBe(1);
    expect((await world.db.query('select hash from build_contexts order by 1')).rows).toEqual([
      { hash: 'new' },
      { hash: 'used' },
    ]);
  });
});
