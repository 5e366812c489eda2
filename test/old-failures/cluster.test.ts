import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { Kernel } from '../../actors/kernel/kernel.ts';
import { gpuDevKinds } from '../../actors/kinds.ts';
import { TestKeys } from '../support/api-keys.ts';
import { buildHttp } from '../../src/http/server.ts';
import type { Body } from '../messages/support.ts';
import type { World } from '../support/world.ts';
import { namespace, newId, type Scene, startScene } from './scene.ts';
import { actorOf, historyOf } from './support.ts';

let scene: Scene;
let world: World;
beforeAll(async () => {
  scene = await startScene({ fleet: { t4: 2, h100: 1 } });
  world = scene.world;
});
afterAll(async () => {
  await scene?.stop();
});
afterEach(() => world.clearFaults());

describe('one reservation', () => {
  it('R1: triggered from all sides at once has exactly one pod', async () => {
    const replica = new Kernel({ db: world.db, kinds: gpuDevKinds(scene.ports), pollMs: 10 });
    await replica.start();
    const ids = [newId(), newId(), newId()];
    const trigger = async (reservation_id: string) => {
      await scene.submit({ reservation_id });
      await world.simulate('/nodes/t4-1/cordon');
      await scene.submit({ reservation_id });
      await world.simulate('/nodes/t4-1/uncordon');
      replica.wake();
    };
    await Promise.all([...ids, ...ids].map(trigger));
    for (const id of ids) await world.reaches(id, 'running');
    await replica.stop();
    for (const id of ids) {
      expect(await scene.podsOf(id)).toHaveLength(1);
      const events = await historyOf(world.db, id);
      for (const type of ['reservation.submitted', 'capacity.granted', 'pod.created', 'pod.ready'])
        expect(
          events.filter((entry) => entry.type === type && entry.outcome === 'applied'),
          type,
        ).toHaveLength(1);
      expect((await actorOf(world.db, id)).context.generation).toBe(1);
    }
    await scene.cancel(...ids);
  });

  it('R7: shares its first eight digits with another, and yet nothing else: every name derives from the whole id', async () => {
    const ids = ['0badcafe-0000-4000-8000-000000000001', '0badcafe-0000-4000-8000-000000000002'];
    for (const reservation_id of ids) await scene.submit({ reservation_id, env_vars: { A: '1' } });
    const rows = await Promise.all(ids.map((id) => world.reaches(id, 'running')));
    expect(rows[0]!['pod_name']).not.toBe(rows[1]!['pod_name']);
    expect(rows[0]!['node_port']).not.toBe(rows[1]!['node_port']);
    const services = await world.client.core.listNamespacedService({ namespace });
    const secrets = await world.client.core.listNamespacedSecret({ namespace });
    for (const id of ids) {
      expect(services.items.filter((each) => each.metadata!.name!.includes(id))).toHaveLength(1);
      expect(secrets.items.filter((each) => each.metadata!.name!.includes(id))).toHaveLength(2);
    }
    await scene.cancel(ids[0]!);
    expect(await scene.podsOf(ids[1]!)).toHaveLength(1);
    await scene.cancel(ids[1]!);
  });

  it('R13: is read as it was written: the answer to a command and the next read both show its result', async () => {
    const ok = { ok: true, detail: '' };
    const app = await buildHttp({
      db: world.db,
      kernel: world.kernel,
      logger: false,
      timeScale: 1,
      health: async () => ({ database: ok, queue: ok, tracker: ok }),
      trackerAgeMs: () => 0,
    });
    const id = await scene.running();
    const headers = await new TestKeys(world.db).as('ann');
    const read = async () => (await app.inject({ url: `/v1/reservations/${id}`, headers })).json();
    const before = await read();
    for (let round = 1; round <= 5; round++) {
      const answer = await app.inject({
        method: 'POST',
        url: `/v1/reservations/${id}/events`,
        headers,
        payload: { type: 'extend', extension_hours: 1 },
      });
      expect(answer.statusCode).toBe(200);
      const moved = Date.parse(before.expires_at) + round * 3_600_000;
      expect(Date.parse(answer.json().reservation.expires_at)).toBe(moved);
      expect(Date.parse((await read()).expires_at)).toBe(moved);
    }
    await app.inject({ method: 'POST', url: `/v1/reservations/${id}/events`, headers, payload: { type: 'cancel' } });
    expect(['snapshotting', 'cancelled']).toContain((await read()).state);
    await world.reaches(id, 'cancelled');
    await app.close();
  });

  it('N5: has its name and route with the same end as itself, as a time, also after an extension', async () => {
    const id = await scene.running();
    const ends = async () => {
      const { rows } = await world.db.query<Body>(
        `select m.expires_at = r.expires_at as same, m.expires_at, m.node_port = r.node_port as port from domain_mappings m join reservations r using (reservation_id)
          where reservation_id = $1`,
        [id],
      );
      return rows[0];
    };
    const before = await ends();
    expect(before).toMatchObject({ same: true, port: true });
    await world.send({ action: 'extend', reservation_id: id, extension_hours: 0.5 });
    await world.until('it is extended', async () => (await world.reservation(id))?.['total_hours'] === 8.5);
    const after = await ends();
    expect(after).toMatchObject({ same: true });
    expect(after.expires_at - before.expires_at).toBe(30 * 60_000);
    await scene.cancel(id);
  });

  it('S4: that waits starts within seconds when capacity comes free', async () => {
    const first = await scene.running({ gpu_type: 'h100', gpu_count: 8 });
    const next = await scene.submit({ gpu_type: 'h100', gpu_count: 4 });
    await world.until('it waits', async () => (await world.reservation(next))?.['substate'] === 'capacity');
    await world.send({ action: 'cancel', reservation_id: first });
    await world.reaches(first, 'cancelled');
    const since = performance.now();
    await world.reaches(next, 'running');
    expect(performance.now() - since).toBeLessThan(5_000);
    await scene.cancel(next);
  });

  it('S13: half made when its process ends is finished by the next process', async () => {
    await world.simulate('/faults', { kind: 'hold', verb: 'POST', path: '/pods$', count: 1 });
    const id = await scene.submit();
    await world.until('its pod is being made', () => world.isHolding());
    const stopped = world.kernel.stop(0);
    const next = new Kernel({ db: world.db, kinds: gpuDevKinds(scene.ports), pollMs: 50 });
    await stopped;
    await next.start();
    await world.reaches(id, 'running');
    await world.clearFaults();
    expect(await scene.podsOf(id)).toHaveLength(1);
    await next.stop();
    world.kernel = new Kernel({ db: world.db, kinds: gpuDevKinds(scene.ports), pollMs: 50 });
    await world.kernel.start();
    await scene.cancel(id);
  });

  it('S23: writes only on change: a relist of the whole cluster and a refresh of its pool add nothing to its history', async () => {
    const id = await scene.running();
    const before = await historyOf(world.db, id);
    const row = await world.reservation(id);
    for (let round = 0; round < 3; round++) await world.simulate('/faults', { kind: 'expire-watches' });
    await world.kernel.post([
      { actor: 'gpu-pool/t4', key: newId(), event: { type: 'nodes.changed', nodes: [] } as { type: string }, sender: 'test' },
    ]);
    const other = await scene.running();
    await scene.cancel(other);
    expect(await historyOf(world.db, id)).toEqual(before);
    expect(await world.reservation(id)).toEqual(row);
    await scene.cancel(id);
  });
});

describe('a disk', () => {
  it('R11: goes to one of two who ask at once; the other is told by whom it is held, and holds no GPU meanwhile', async () => {
    const ids = await Promise.all([scene.submit({ disk_name: 'only' }), scene.submit({ disk_name: 'only' })]);
    const rows = await world.until('one runs and one waits', async () => {
      const both = await Promise.all(ids.map((id) => world.reservation(id)));
      const states = both.map((row) => `${row?.['status']}.${row?.['substate']}`).sort();
      return states[0] === 'queued.disk' &&
        states[1] === 'running.serving' &&
        both.some((row) => /in use by/.test(row?.['current_detailed_status']))
        ? both
        : null;
    });
    const [holder, waiter] = rows[0]!['status'] === 'running' ? [ids[0]!, ids[1]!] : [ids[1]!, ids[0]!];
    expect((await world.reservation(waiter))!['current_detailed_status']).toBe(
      `Waiting for the disk only, in use by reservation ${holder}`,
    );
    expect((await world.db.query('select 1 from gpu_slots where reservation_id = $1', [waiter])).rowCount).toBe(0);
    expect(await scene.podsOf(waiter)).toHaveLength(0);
    const { rows: disks } = await world.db.query<Body>(`select reservation_id, in_use from disks where disk_name = 'only'`);
    expect(disks).toEqual([{ reservation_id: holder, in_use: true }]);
    const second = world.db.query(
      `insert into disks (disk_id, disk_name, user_id, size_gb, created_at, in_use, reservation_id) values (gen_random_uuid(), 'x', 'ann', 1, now(), true, $1)`,
      [holder],
    );
    await expect(second).rejects.toMatchObject({ code: '23505' });
    await scene.cancel(holder);
    await world.reaches(waiter, 'running');
    await scene.cancel(waiter);
  });
});

describe('afterwards', () => {
  it('nothing is left behind', () => scene.checkEnd());
});
