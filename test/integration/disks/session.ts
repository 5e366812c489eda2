/** Sessions on a disk, as a user has them. */
import { randomUUID } from 'node:crypto';
import type { ReservationRow, World } from '../../support/world.ts';

export interface DiskRow {
  disk_id: string;
  state: string;
  problem: string | null;
  volume_claim: string | null;
  latest_snapshot_id: string | null;
  snapshot_count: number;
}

const ENDED = ['expired', 'failed', 'cancelled'];

/** Ask for a server for two hours: of ann's with one t4, unless `fields` say otherwise. @returns its id */
export async function ask(world: World, fields: Record<string, unknown>): Promise<string> {
  const id = randomUUID();
  const usual = { action: 'create_reservation', user_id: 'ann', gpu_type: 't4', gpu_count: 1, duration_hours: 2 };
  await world.send({ ...usual, reservation_id: id, ...fields });
  return id;
}

/** Ask for a server with this disk. @returns its row when it runs or has failed. */
export async function open(world: World, disk: string): Promise<ReservationRow> {
  return world.reaches(await ask(world, { disk_name: disk }), 'running', ...ENDED);
}

/** End it, and wait until its disk is free. */
export async function close(world: World, row: ReservationRow): Promise<ReservationRow> {
  await world.send({ action: 'cancel', reservation_id: row['reservation_id'], user_id: 'ann' });
  const ended = await world.reaches(row['reservation_id'], ...ENDED);
  await world.until('the disk is free', async () => (await diskOf(world, row['disk_name']))?.state === 'idle');
  return ended;
}

/** The disk of that name that is not purged. */
export async function diskOf(world: World, name: string): Promise<DiskRow | null> {
  const { rows } = await world.db.query<DiskRow>(
    `select disk_id, state, problem, volume_claim, latest_snapshot_id, snapshot_count from disks
      where disk_name = $1 order by created_at desc limit 1`,
    [name],
  );
  return rows[0] ?? null;
}

/** An operation of the disk queue. @returns its row when it has ended. */
export async function operate(world: World, body: Record<string, unknown>): Promise<{ status: string; error: string | null }> {
  const id = randomUUID();
  await world.send({ operation_id: id, user_id: 'ann', ...body }, 'disk_operations');
  return world.until('the operation has ended', async () => {
    const { rows } = await world.db.query<{ status: string; error: string | null }>(
      `select status, error from operations where operation_id = $1 and status <> 'pending'`,
      [id],
    );
    return rows[0] ?? null;
  });
}

/** Delete a disk's claim behind everybody's back. */
export async function loseVolume(world: World, claim: string): Promise<void> {
  const call = { namespace: 'gpu-dev', name: claim };
  await world.client.core.deleteNamespacedPersistentVolumeClaim(call);
  await world.until('the volume is gone', async () =>
    world.client.core.readNamespacedPersistentVolumeClaim(call).then(
      () => false,
      () => true,
    ),
  );
}
