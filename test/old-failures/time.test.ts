import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { Body } from '../messages/support.ts';
import { startWorld, type World } from '../support/world.ts';
import { actorOf, historyOf, pathOf } from './support.ts';

let world: World;
// One hour lasts 1.5 seconds; technical limits keep five.
const SCALE = 2_400;
beforeAll(async () => {
  world = await startWorld({ fleet: { t4: 2, a100: 1 }, timeScale: SCALE, delays: { schedule: 250 } });
});
afterAll(async () => {
  await world?.stop();
});
afterEach(async () => {
  await world.clearFaults();
});

async function submit(fields: Record<string, unknown>): Promise<string> {
  const id = crypto.randomUUID() as string;
  await world.send({
    action: 'create_reservation',
    user_id: 'ann',
    gpu_type: 't4',
    disk_name: null,
    reservation_id: id,
    ...fields,
  });
  return id;
}

describe('time', () => {
  it('S25: expiry is a timer of each reservation: one whose teardown hangs delays no other', async () => {
    const ids = await Promise.all([1, 2, 3, 4].map(() => submit({ duration_hours: 2 })));
    const rows = await Promise.all(ids.map((id) => world.reaches(id, 'running')));
    const stuck = rows[0]!['pod_name'] as string;
    await world.simulate('/faults', { kind: 'error', status: 500, verb: 'DELETE', path: `/pods/${stuck}` });
    for (const id of ids.slice(1)) await world.reaches(id, 'expired');
    await world.reaches(ids[0]!, 'snapshotting');
    for (const id of ids.slice(1)) {
      const entries = await historyOf(world.db, id);
      const due = Date.parse((await actorOf(world.db, id)).context.expiresAt);
      const met = Date.parse(entries.find((entry) => entry.type === 'deadline.expiry')!.event.at);
      expect(met - due).toBeGreaterThanOrEqual(0);
      expect(met - due).toBeLessThan(1_000);
    }
    await world.clearFaults();
    await world.reaches(ids[0]!, 'expired');
  });

  it('S23: each warning is given once, and the row changes only when something does', async () => {
    const id = await submit({ duration_hours: 1 });
    await world.reaches(id, 'running');
    await world.reaches(id, 'expired');
    const warnings = (await historyOf(world.db, id))
      .filter((entry) => entry.type.startsWith('deadline.warn'))
      .map((entry) => entry.type);
    expect(warnings).toEqual(['deadline.warn30', 'deadline.warn15', 'deadline.warn5']);
    const { rows } = await world.db.query<Body>(
      `select params ->> 'about' as about, count(*)::int as n from effects where actor = $1 and type = 'notice.post' group by 1 order by 1`,
      [`reservation/${id}`],
    );
    expect(rows).toEqual([
      { about: 'final', n: 1 },
      { about: 'warning', n: 3 },
    ]);
    const last = await actorOf(world.db, id);
    const relist = (await historyOf(world.db, id)).length;
    await world.simulate('/faults', { kind: 'expire-watches' });
    const other = await submit({});
    await world.reaches(other, 'running');
    expect((await historyOf(world.db, id)).length).toBe(relist);
    expect(await actorOf(world.db, id)).toEqual(last);
    await world.send({ action: 'cancel', reservation_id: other });
    await world.reaches(other, 'cancelled');
  });

  it('S19: a pod that finds no place goes back to the queue once, says why, and starts when there is a place', async () => {
    const id = await submit({ gpu_type: 'a100', duration_hours: 24 });
    await world.until('it has capacity', async () => (await world.reservation(id))?.['substate'] === 'creating');
    await world.simulate('/nodes/a100-1/cordon');
    const told = await world.until('it says why it waits', async () => {
      const row = await world.reservation(id);
      return /Waiting for a node/.test(row?.['current_detailed_status'] ?? '') ? row : null;
    });
    expect(told['status']).toBe('provisioning');
    await world.until('it is in the queue again', async () => (await world.reservation(id))?.['substate'] === 'capacity');
    await world.until(
      'its slots are free',
      async () => (await world.db.query('select 1 from gpu_slots where reservation_id = $1', [id])).rowCount === 0,
    );
    expect(await world.pods()).toEqual([]);
    await world.simulate('/nodes/a100-1/uncordon');
    await world.reaches(id, 'running');
    expect((await actorOf(world.db, id)).context.generation).toBe(2);
    expect(await pathOf(world.db, id)).toEqual(['queued', 'provisioning', 'queued', 'provisioning', 'running']);
    await world.send({ action: 'cancel', reservation_id: id });
    await world.reaches(id, 'cancelled');
  });
});
