import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { grantSlots, lockSlots } from '../../../actors/gpu-pool/ledger.ts';
import type { Transaction } from '../../../persistence/database.ts';
import { removeNodes } from '../../../persistence/gpu-nodes.ts';
import { startWorld, type World } from '../../support/world.ts';
import { cancel, submit } from './support.ts';

let world: World;
beforeAll(async () => {
  world = await startWorld({ fleet: { t4: 2 } });
});
afterAll(async () => {
  await world?.stop();
});

async function noLetters(): Promise<void> {
  expect((await world.db.query('select actor, key, reason from dead_letters')).rows).toEqual([]);
}

/** Somebody waits for a lock, in a statement like this. */
function somebodyWaits(statement: string): Promise<unknown> {
  return world.until(`somebody waits in ${statement}`, async () => {
    const { rowCount } = await world.db.query(
      `select 1 from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database() and query like $1`,
      [`%${statement}%`],
    );
    return (rowCount ?? 0) > 0;
  });
}

describe('slots that vanish while the pool plans', () => {
  it('cost no message: the pool waits for the tracker, and plans with what is left', async () => {
    let id = '';
    await world.db.withTransaction(async (tx: Transaction) => {
      await lockSlots(tx);
      await removeNodes(tx, ['t4-1']);
      id = await submit(world);
      await somebodyWaits('pg_advisory_xact_lock_shared');
    });
    expect((await world.reaches(id, 'running'))['node_name']).toBe('t4-2');
    await noLetters();
    await cancel(world, id);
  });

  it('cost no message when somebody deletes them by hand: there is a new plan', async () => {
    const client = new pg.Client({ connectionString: world.database.url });
    await client.connect();
    try {
      await client.query('begin');
      await client.query(`delete from gpu_slots where node = 't4-2' and slot < 2 and reservation_id is null`);
      const id = await submit(world);
      await somebodyWaits('gpu_slots');
      await client.query('commit');
      await world.reaches(id, 'running');
      const { rows } = await world.db.query('select node, slot from gpu_slots where reservation_id = $1', [id]);
      expect(rows).toEqual([{ node: 't4-2', slot: 2 }]);
      await noLetters();
      await cancel(world, id);
    } finally {
      await client.end();
    }
  });

  it('are given all or none: where one of a plan is not free, nothing was given, and there must be another plan', async () => {
    const grant = (slots: number[]) =>
      world.db.withTransaction(async (tx) => {
        const at = new Date().toISOString();
        const given = await grantSlots(tx, [{ reservationId: 'r', generation: 1, node: 't4-2', zone: null, slots }], at);
        const { rowCount } = await tx.query(`select 1 from gpu_slots where reservation_id = 'r'`);
        return { given, slots: rowCount };
      });
    expect(await grant([0, 2])).toEqual({ given: false, slots: 0 });
    await expect(grant([2, 3])).rejects.toThrow('The ledger refuses what was planned');
  });
});
