import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { DiskMessages, EventMessage } from '../../actors/intake/messages.ts';
import { Kernel } from '../../actors/kernel/kernel.ts';
import { gpuDevKinds, type Ports } from '../../actors/kinds.ts';
import { GithubKeys } from '../../src/providers/local/github-keys.ts';
import { buildHttp } from '../../src/http/server.ts';
import { type Body, messageOf } from '../messages/support.ts';
import { startWorld, type World } from '../support/world.ts';
import { actorOf, historyOf, pathOf } from './support.ts';

let world: World;
let ports: Ports;
const github = createServer((request, answer) => {
  if (request.url === '/ghost.keys') return void answer.writeHead(404).end();
  answer.end('ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHUZ7o8z0pJcE3XW0Yc1N2Wb1c2N2Wb1c2N2Wb1c2N2W someone\n');
});
beforeAll(async () => {
  await new Promise<void>((resolve) => void github.listen(0, '127.0.0.1', resolve));
  const baseUrl = `http://127.0.0.1:${(github.address() as AddressInfo).port}`;
  world = await startWorld({
    fleet: { t4: 2, h100: 1 },
    delays: { job: 300 },
    ports: (base) => (ports = { ...base, keys: new GithubKeys({ baseUrl }) }),
  });
});
afterAll(async () => {
  await world?.stop();
  github.close();
});
afterEach(async () => {
  await fetch(`http://127.0.0.1:${world.front.port}/simulation/faults`, { method: 'DELETE' });
});

const namespace = 'gpu-dev';
const newId = () => crypto.randomUUID() as string;

async function submit(fields: Record<string, unknown> = {}): Promise<string> {
  const id = (fields['reservation_id'] as string | undefined) ?? newId();
  await world.send({
    action: 'create_reservation',
    user_id: 'ann',
    gpu_type: 't4',
    disk_name: null,
    ...fields,
    reservation_id: id,
  });
  return id;
}

async function running(fields: Record<string, unknown> = {}): Promise<string> {
  const id = await submit(fields);
  await world.reaches(id, 'running');
  return id;
}

async function cancel(...ids: string[]): Promise<void> {
  for (const id of ids) await world.send({ action: 'cancel', reservation_id: id });
  for (const id of ids) await world.reaches(id, 'cancelled');
}

async function podsOf(id: string) {
  return (await world.client.core.listNamespacedPod({ namespace })).items.filter((pod) => pod.metadata!.name!.includes(id));
}

describe('one reservation', () => {
  it('R1: triggered from all sides at once has exactly one pod', async () => {
    const replica = new Kernel({ db: world.db, kinds: gpuDevKinds(ports), pollMs: 10 });
    await replica.start();
    const ids = [newId(), newId(), newId()];
    const trigger = async (reservation_id: string) => {
      await submit({ reservation_id });
      await world.simulate('/nodes/t4-1/cordon');
      await submit({ reservation_id });
      await world.simulate('/nodes/t4-1/uncordon');
      replica.wake();
    };
    await Promise.all([...ids, ...ids].map(trigger));
    for (const id of ids) await world.reaches(id, 'running');
    await replica.stop();
    for (const id of ids) {
      expect(await podsOf(id)).toHaveLength(1);
      const events = await historyOf(world.db, id);
      for (const type of ['reservation.submitted', 'capacity.granted', 'pod.created', 'pod.ready'])
        expect(
          events.filter((entry) => entry.type === type && entry.outcome === 'applied'),
          type,
        ).toHaveLength(1);
      expect((await actorOf(world.db, id)).context.generation).toBe(1);
    }
    await cancel(...ids);
  });

  it('R7: shares its first eight digits with another, and yet nothing else: every name derives from the whole id', async () => {
    const ids = ['0badcafe-0000-4000-8000-000000000001', '0badcafe-0000-4000-8000-000000000002'];
    for (const reservation_id of ids) await submit({ reservation_id, env_vars: { A: '1' } });
    const rows = await Promise.all(ids.map((id) => world.reaches(id, 'running')));
    expect(rows[0]!['pod_name']).not.toBe(rows[1]!['pod_name']);
    expect(rows[0]!['node_port']).not.toBe(rows[1]!['node_port']);
    const services = await world.client.core.listNamespacedService({ namespace });
    const secrets = await world.client.core.listNamespacedSecret({ namespace });
    for (const id of ids) {
      expect(services.items.filter((each) => each.metadata!.name!.includes(id))).toHaveLength(1);
      expect(secrets.items.filter((each) => each.metadata!.name!.includes(id))).toHaveLength(2);
    }
    await cancel(ids[0]!);
    expect(await podsOf(ids[1]!)).toHaveLength(1);
    await cancel(ids[1]!);
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
    const id = await running();
    const headers = { 'x-gpu-dev-user': 'ann' };
    const read = async () => (await app.inject({ url: `/v1/reservations/${id}` })).json();
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
    const id = await running();
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
    await cancel(id);
  });

  it('S4: that waits starts within seconds when capacity comes free', async () => {
    const first = await running({ gpu_type: 'h100', gpu_count: 8 });
    const next = await submit({ gpu_type: 'h100', gpu_count: 4 });
    await world.until('it waits', async () => (await world.reservation(next))?.['substate'] === 'capacity');
    await world.send({ action: 'cancel', reservation_id: first });
    await world.reaches(first, 'cancelled');
    const since = performance.now();
    await world.reaches(next, 'running');
    expect(performance.now() - since).toBeLessThan(5_000);
    await cancel(next);
  });

  it('S13: half made when its process ends is finished by the next process', async () => {
    await world.simulate('/faults', { kind: 'latency', ms: 500, verb: 'POST', path: '/pods$', count: 1 });
    const id = await submit();
    await world.until('its pod is being made', async () => (await world.reservation(id))?.['substate'] === 'creating');
    const stopped = world.kernel.stop(0);
    const next = new Kernel({ db: world.db, kinds: gpuDevKinds(ports), pollMs: 50 });
    await stopped;
    await next.start();
    await world.reaches(id, 'running');
    expect(await podsOf(id)).toHaveLength(1);
    await next.stop();
    world.kernel = new Kernel({ db: world.db, kinds: gpuDevKinds(ports), pollMs: 50 });
    await world.kernel.start();
    await cancel(id);
  });

  it('S23: writes only on change: a relist of the whole cluster and a refresh of its pool add nothing to its history', async () => {
    const id = await running();
    const before = await historyOf(world.db, id);
    const row = await world.reservation(id);
    for (let round = 0; round < 3; round++) await world.simulate('/faults', { kind: 'expire-watches' });
    await world.kernel.post([
      { actor: 'gpu-pool/t4', key: newId(), event: { type: 'nodes.changed', nodes: [] } as { type: string }, sender: 'test' },
    ]);
    const other = await running();
    await cancel(other);
    expect(await historyOf(world.db, id)).toEqual(before);
    expect(await world.reservation(id)).toEqual(row);
    await cancel(id);
  });
});

describe('what fails', () => {
  it('S7: a build that failed is built again under a name of its own', async () => {
    const { dockerfile } = messageOf('valid', 'create-dockerfile');
    const jobs = async () => (await world.client.batch.listNamespacedJob({ namespace })).items.map((job) => job.metadata!.name!);
    const first = await submit({ dockerfile });
    const pod = await world.until('the build runs', async () => {
      const { items } = await world.client.core.listNamespacedPod({ namespace });
      return items.find((each) => each.metadata!.name!.startsWith('build-') && each.status?.phase === 'Running') ?? null;
    });
    await world.simulate(`/pods/${namespace}/${pod.metadata!.name}/kill`, { exitCode: 1 });
    expect((await world.reaches(first, 'failed'))['failure_reason']).toMatch(/build|image/i);
    const [attempt] = await jobs();
    const second = await submit({ dockerfile });
    await world.reaches(second, 'running');
    const names = await jobs();
    expect(names).toHaveLength(2);
    expect(names).toContain(attempt);
    await cancel(second);
  });

  it('S8: an effect that fails for good ends its reservation with the reason and gives its capacity back', async () => {
    await world.simulate('/faults', {
      kind: 'error',
      status: 422,
      reason: 'Invalid',
      message: 'the pod is not to our taste',
      verb: 'POST',
      path: '/pods$',
      count: 1,
    });
    const id = await submit({ disk_name: 'kept' });
    const row = await world.reaches(id, 'failed');
    expect(row['failure_reason']).toContain('not to our taste');
    expect((await world.db.query('select 1 from gpu_slots where reservation_id = $1', [id])).rowCount).toBe(0);
    expect((await world.db.query('select 1 from dead_letters where actor = $1', [`reservation/${id}`])).rowCount).toBe(1);
    await world.until(
      'the disk is free',
      async () => (await world.db.query(`select 1 from disks where disk_name = 'kept' and not in_use`)).rowCount === 1,
    );
  });

  it('S6: an effect that fails for a while is tried again until it succeeds', async () => {
    await world.simulate('/faults', { kind: 'error', status: 500, verb: 'POST', path: '/(pods|services)$', count: 4 });
    const id = await running();
    const { rows } = await world.db.query<Body>(`select attempts, status from effects where actor = $1 and type = 'pod.create'`, [
      `reservation/${id}`,
    ]);
    expect(rows).toEqual([{ attempts: 5, status: 'done' }]);
    await cancel(id);
  });

  it('S15: a user who cannot be added is told of with the reason, and the server goes on', async () => {
    const id = await running({ github_user: 'octo' });
    await world.send({ action: 'add_user', reservation_id: id, github_username: 'ghost' });
    const { context, state } = await world.until('the failure is told', async () => {
      const actor = await actorOf(world.db, id);
      return actor.context.usersError === null ? null : actor;
    });
    expect(state).toBe('running');
    expect(context.usersError).toMatch(/ghost/);
    await world.send({ action: 'add_user', reservation_id: id, github_username: 'octo2' });
    await world.until('the other is added', async () => (await actorOf(world.db, id)).context.users.includes('octo2'));
    await cancel(id);
  });

  it('S14: a permission that the provider lacks is told to the user instead of a wait without end', async () => {
    await world.simulate('/faults', {
      kind: 'error',
      status: 403,
      reason: 'Forbidden',
      message: 'services is forbidden',
      verb: 'POST',
      path: '/services$',
      count: 50,
    });
    const id = await submit();
    const told = await world.until('the error can be read', async () => {
      const { rows } = await world.db.query<Body>(
        `select coalesce(r.failure_reason, e.last_error) as error from reservations r left join effects e on e.actor = 'reservation/' || r.reservation_id
          where reservation_id = $1 and (e.last_error is not null or r.failure_reason is not null)`,
        [id],
      );
      return rows[0] ?? null;
    });
    expect(told.error).toMatch(/services is forbidden/);
    await world.send({ action: 'cancel', reservation_id: id });
    await world.reaches(id, 'cancelled', 'failed');
  });

  it('S18: every action that a message can name is applied against the real schema', async () => {
    const id = await running({ github_user: 'octo' });
    const fields: Record<keyof typeof EventMessage, Body> = {
      add_user: { github_username: 'octo3' },
      extend: { extension_hours: 1 },
      enable_jupyter: {},
      disable_jupyter: {},
      cancel: {},
    };
    const letters = async () => (await world.db.query(`select 1 from dead_letters where source <> 'effect'`)).rowCount;
    const before = await letters();
    for (const [action, body] of Object.entries(fields)) {
      await world.send({ action, reservation_id: id, ...body });
      await world.until(`${action} is applied`, async () =>
        (await historyOf(world.db, id)).some((entry) => entry.type === action && entry.outcome === 'applied'),
      );
      if (action === 'enable_jupyter')
        await world.until('Jupyter is on', async () => (await world.reservation(id))?.['jupyter_state'] === 'on');
    }
    await world.reaches(id, 'cancelled');
    const disks: Record<keyof typeof DiskMessages, Body> = {
      create_disk: { disk_name: 'one' },
      clone_disk: { source_disk: 'one', target_disk: 'two' },
      delete_disk: { disk_name: 'one' },
    };
    for (const [action, body] of Object.entries(disks)) {
      const operation_id = newId();
      await world.send({ action, operation_id, user_id: 'ann', ...body }, 'disk_operations');
      await world.until(
        `${action} is done`,
        async () =>
          (await world.db.query(`select 1 from operations where operation_id = $1 and status = 'completed'`, [operation_id]))
            .rowCount === 1,
      );
    }
    expect(await letters()).toBe(before);
    expect((await pathOf(world.db, id)).at(-1)).toBe('cancelled');
  });
});

describe('a disk', () => {
  it('R11: goes to one of two who ask at once; the other is told by whom it is held, and holds no GPU meanwhile', async () => {
    const ids = await Promise.all([submit({ disk_name: 'only' }), submit({ disk_name: 'only' })]);
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
    expect(await podsOf(waiter)).toHaveLength(0);
    const { rows: disks } = await world.db.query<Body>(`select reservation_id, in_use from disks where disk_name = 'only'`);
    expect(disks).toEqual([{ reservation_id: holder, in_use: true }]);
    const second = world.db.query(
      `insert into disks (disk_id, disk_name, user_id, size_gb, created_at, in_use, reservation_id) values (gen_random_uuid(), 'x', 'ann', 1, now(), true, $1)`,
      [holder],
    );
    await expect(second).rejects.toMatchObject({ code: '23505' });
    await cancel(holder);
    await world.reaches(waiter, 'running');
    await cancel(waiter);
  });
});

describe('afterwards', () => {
  it('nothing is left behind', async () => {
    await world.until('mail is read and effects have ended', async () => {
      const { rows } = await world.db.query<Body>(
        `select (select count(*) from mailbox) + (select count(*) from effects where status = 'pending') as n`,
      );
      return rows[0].n === 0;
    });
    await world.checkClean();
  });
});
