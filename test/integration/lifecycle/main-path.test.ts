import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startWorld, type World } from '../../support/world.ts';

let world: World;
beforeAll(async () => {
  world = await startWorld({ timeScale: 2_400 });
});
afterAll(async () => {
  await world?.stop();
});

describe('a message on the queue', () => {
  it('becomes a running server with its disk, warns, expires, saves the disk and leaves nothing behind', async () => {
    const id = '0b7f2f2e-5a55-4a39-9d0e-0f6d9b1f7c11';
    await world.send({
      action: 'create_reservation',
      reservation_id: id,
      user_id: 'mkowalski',
      gpu_type: 'h100',
      gpu_count: 2,
      duration_hours: 4,
      disk_name: 'default',
      github_user: 'mkowalski',
    });
    const running = await world.reaches(id, 'running');
    expect(running).toMatchObject({ gpu_type: 'h100', gpu_count: 2, disk_name: 'default', node_name: 'h100-1' });
    expect(running['ssh_command']).toMatch(/^ssh -p \d+ dev@/);
    expect(await world.pods()).toHaveLength(1);
    const held = await world.db.query('select node, slot from gpu_slots where reservation_id = $1 order by slot', [id]);
    expect(held.rows).toEqual([
      { node: 'h100-1', slot: 0 },
      { node: 'h100-1', slot: 1 },
    ]);
    const ended = await world.reaches(id, 'expired', 'failed');
    expect(ended).toMatchObject({ status: 'expired', failure_reason: 'The reserved time is over' });
    expect(ended['warnings_sent']).toEqual([30, 15, 5]);
    expect(ended['snapshot_id']).toMatch(/^snap-/);
    expect(await world.pods()).toEqual([]);
    await world.until(
      'the disk is free',
      async () => (await world.db.query(`select 1 from disks where not in_use and snapshot_count = 1`)).rowCount === 1,
    );
    await world.until('mail is read', async () => (await world.db.query('select 1 from mailbox')).rowCount === 0);
    await world.checkClean();
  });
});

describe('two extensions in one breath', () => {
  it('are both granted: the second joins the first while it is decided', async () => {
    const id = crypto.randomUUID();
    await world.send({
      action: 'create_reservation',
      reservation_id: id,
      user_id: 'ada',
      gpu_type: 't4',
      duration_hours: 12,
      disk_name: null,
    });
    await world.reaches(id, 'running');
    await world.send({ action: 'extend', reservation_id: id, extension_hours: 2, user_id: 'ada' });
    await world.send({ action: 'extend_reservation', reservation_id: id, extension_hours: 1.5 });
    const extended = await world.until('both are granted', async () => {
      const row = await world.reservation(id);
      return row?.['total_hours'] === 15.5 ? row : null;
    });
    expect(extended['last_extension']).toMatchObject({ granted: true });
    await world.send({ action: 'cancel', reservation_id: id });
    await world.reaches(id, 'cancelled');
  });
});
