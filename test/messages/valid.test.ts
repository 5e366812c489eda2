import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startWorld, type World } from '../support/world.ts';
import { type Body, fresh, messageNames, messageOf } from './support.ts';

let world: World;
beforeAll(async () => {
  world = await startWorld({ fleet: { h100: 3, a100: 1, t4: 3, 'cpu-x86': 1 } });
});
afterAll(async () => {
  await world?.stop();
});

const tested = new Set<string>();
/** A test of one file; the last test checks that none was forgotten. */
function file(name: string, effect: string, test: () => Promise<void>): void {
  tested.add(name);
  it(`${name}.json ${effect}`, test);
}

/** A running server of the owner that the file names, for files that ask something of one. */
async function serverFor(name: string, changes: Record<string, unknown> = {}): Promise<Body> {
  const body = { ...fresh(name), ...(messageOf('valid', name).user_id === undefined ? { user_id: undefined } : {}) };
  const owner = body.user_id ?? `owner-${body.reservation_id.slice(0, 6)}`;
  await world.send({
    action: 'create_reservation',
    reservation_id: body.reservation_id,
    user_id: owner,
    gpu_type: 't4',
    duration_hours: 4,
    disk_name: null,
    ...changes,
  });
  await world.reaches(body.reservation_id, 'running');
  return body;
}

async function actorContext(id: string): Promise<Body> {
  const { rows } = await world.db.query<Body>(`select snapshot -> 'context' as c from actors where actor = $1`, [
    `reservation/${id}`,
  ]);
  return rows[0]?.c;
}

async function cancel(id: string): Promise<void> {
  await world.send({ action: 'cancel', reservation_id: id });
  await world.reaches(id, 'cancelled');
}

async function operation(id: string): Promise<Body> {
  return world.until(`operation ${id} ends`, async () => {
    const { rows } = await world.db.query<Body>(`select * from operations where operation_id = $1 and status <> 'pending'`, [id]);
    return rows[0] ?? null;
  });
}

async function disk(user: string, name: string): Promise<Body> {
  return (await world.db.query<Body>('select * from disks where user_id = $1 and disk_name = $2', [user, name])).rows[0];
}

describe('a valid message', () => {
  file('create-api', 'becomes a running server with the name, image, disk and variables it asks for', async () => {
    const body = fresh('create-api');
    await world.send(body);
    const row = await world.reaches(body.reservation_id, 'running');
    expect(row).toMatchObject({
      user_id: body.user_id,
      gpu_type: 'h100',
      gpu_count: 2,
      duration_hours: 4,
      name: 'kernel-tuning',
      github_user: 'mkowalski',
      image: body.image,
      disk_name: 'default',
      cli_version: '0.4.0',
      jupyter_enabled: false,
    });
    expect(Date.parse(row['expires_at']) - Date.parse(row['launched_at'])).toBe(4 * 3_600_000);
    const pods = await world.client.core.listNamespacedPod({ namespace: 'gpu-dev' });
    const pod = pods.items.find((each) => each.metadata!.name!.includes(body.reservation_id))!;
    expect(pod.spec!.containers[0]!.image).toBe(body.image);
    expect(pod.spec!.containers[0]!.resources!.requests!['nvidia.com/gpu']).toBe('2');
    const secret = await world.client.core.readNamespacedSecret({ namespace: 'gpu-dev', name: `${pod.metadata!.name}-env` });
    expect(Buffer.from(secret.data!['POD_NAME']!, 'base64').toString()).toBe('kernel-tuning');
    expect(await disk(body.user_id, 'default')).toMatchObject({
      in_use: true,
      size_gb: 200,
      reservation_id: body.reservation_id,
    });
    const { rows } = await world.db.query<Body>(`select sent_at from history where actor = $1 and seq = 1`, [
      `reservation/${body.reservation_id}`,
    ]);
    expect(rows[0].sent_at.toISOString()).toBe('2026-11-20T09:14:07.120Z');
    await cancel(body.reservation_id);
  });

  file('create-cli', 'becomes a running half-hour server with Jupyter and without a disk', async () => {
    const body = fresh('create-cli');
    await world.send(body);
    const row = await world.reaches(body.reservation_id, 'running');
    expect(row).toMatchObject({ name: 'quick-check', gpu_type: 't4', gpu_count: 1, disk_name: null, github_user: 'dana-dev' });
    expect(Date.parse(row['expires_at']) - Date.parse(row['launched_at'])).toBe(30 * 60_000);
    const on = await world.until('Jupyter is on', async () => {
      const now = await world.reservation(body.reservation_id);
      return now?.['jupyter_state'] === 'on' ? now : null;
    });
    expect(on['jupyter_url']).toMatch(/^http/);
    await cancel(body.reservation_id);
  });

  file('create-cpu', 'becomes a running server without GPUs, for a week', async () => {
    const body = fresh('create-cpu');
    await world.send(body);
    const row = await world.reaches(body.reservation_id, 'running');
    expect(row).toMatchObject({
      gpu_type: 'cpu-x86',
      gpu_count: 0,
      duration_hours: 168,
      github_user: 'anaruiz',
      disk_name: 'default',
    });
    const slots = await world.db.query('select 1 from gpu_slots where reservation_id = $1', [body.reservation_id]);
    expect(slots.rowCount).toBe(1);
    await cancel(body.reservation_id);
  });

  file('create-dockerfile', 'builds its image with a Job, holding no GPU meanwhile, and then runs it', async () => {
    const body = fresh('create-dockerfile');
    await world.send(body);
    const row = await world.reaches(body.reservation_id, 'running');
    expect(row).toMatchObject({ gpu_type: 'a100', gpu_count: 8, disk_name: 'vision' });
    const { rows } = await world.db.query<Body>('select to_state from history where actor = $1 order by seq', [
      `reservation/${body.reservation_id}`,
    ]);
    const path = rows.map((each) => each.to_state).filter((state, index, all) => state !== all[index - 1]);
    expect(path).toEqual(['building', 'queued', 'provisioning', 'running']);
    const jobs = await world.client.batch.listNamespacedJob({ namespace: 'gpu-dev' });
    expect(jobs.items).toHaveLength(1);
    expect(row['image']).toBe((await actorContext(body.reservation_id)).image);
    const pods = await world.client.core.listNamespacedPod({ namespace: 'gpu-dev' });
    const pod = pods.items.find((each) => each.metadata!.name!.includes(body.reservation_id))!;
    expect(pod.spec!.containers[0]!.image).toBe(row['image']);
    await cancel(body.reservation_id);
  });

  tested.add('create-multinode-0').add('create-multinode-1');
  it('create-multinode-0.json and -1.json are one gang: granted in one decision, on two whole nodes', async () => {
    const [zero, one] = [randomUUID(), randomUUID()];
    const user = `gang-${zero.slice(0, 6)}`;
    const common = { master_reservation_id: zero, user_id: user };
    await world.send({ ...messageOf('valid', 'create-multinode-0'), ...common, reservation_id: zero });
    const waits = await world.until('the first member waits for its sibling', async () => {
      const row = await world.reservation(zero);
      return row?.['substate'] === 'gang' ? row : null;
    });
    expect(waits['current_detailed_status']).toBe('Waiting for the other members of the gang');
    expect((await world.db.query('select 1 from gpu_slots where reservation_id = $1', [zero])).rowCount).toBe(0);
    await world.send({ ...messageOf('valid', 'create-multinode-1'), ...common, reservation_id: one });
    const [first, second] = [await world.reaches(zero, 'running'), await world.reaches(one, 'running')];
    expect(first['node_name']).not.toBe(second['node_name']);
    expect(first).toMatchObject({ is_multinode: true, node_index: 0, total_nodes: 2, disk_name: 'default' });
    expect(second).toMatchObject({ is_multinode: true, node_index: 1, master_reservation_id: zero, disk_name: null });
    const { rows } = await world.db.query<Body>('select distinct granted_at from capacity_requests where gang_id = $1', [zero]);
    expect(rows).toHaveLength(1);
    await cancel(zero);
    await cancel(one);
  });

  file('extend', 'adds two hours to the stay', async () => {
    const body = await serverFor('extend');
    const before = (await world.reservation(body.reservation_id))!;
    await world.send(body);
    const after = await world.until('it is extended', async () => {
      const row = await world.reservation(body.reservation_id);
      return row?.['total_hours'] === 6 ? row : null;
    });
    expect(Date.parse(after['expires_at']) - Date.parse(before['expires_at'])).toBe(2 * 3_600_000);
    await cancel(body.reservation_id);
  });

  file('extend-long-name', 'adds an hour and a half, acting as the owner since it names no user', async () => {
    const body = await serverFor('extend-long-name');
    const before = (await world.reservation(body.reservation_id))!;
    await world.send(body);
    const after = await world.until('it is extended', async () => {
      const row = await world.reservation(body.reservation_id);
      return row?.['total_hours'] === 5.5 ? row : null;
    });
    expect(Date.parse(after['expires_at']) - Date.parse(before['expires_at'])).toBe(1.5 * 3_600_000);
    const { rows } = await world.db.query<Body>(
      `select event, sender from history where actor = $1 and event ->> 'type' = 'extend'`,
      [`reservation/${body.reservation_id}`],
    );
    expect(rows[0]).toMatchObject({ event: { by: null, hours: 1.5 }, sender: 'queue:gpu_reservations' });
    await cancel(body.reservation_id);
  });

  file('cancel', 'ends the server and gives everything back', async () => {
    const body = await serverFor('cancel');
    await world.send(body);
    const row = await world.reaches(body.reservation_id, 'cancelled');
    expect(row['failure_reason']).toBe('Cancelled by its owner');
    expect((await world.pods()).filter((name) => name.includes(body.reservation_id))).toEqual([]);
  });

  file('cancel-old-style', 'ends the server that its eight-digit prefix names', async () => {
    const body = await serverFor('cancel-old-style');
    await world.send({ ...body, reservation_id: body.reservation_id.slice(0, 8) });
    await world.reaches(body.reservation_id, 'cancelled');
  });

  file('add-user', 'adds the keys of a second user to the server', async () => {
    const body = await serverFor('add-user');
    await world.send(body);
    const context = await world.until('the keys are written', async () => {
      const { rows } = await world.db.query<Body>(
        `select 1 from history where actor = $1 and event ->> 'type' = 'access.updated'`,
        [`reservation/${body.reservation_id}`],
      );
      return rows.length === 1 ? actorContext(body.reservation_id) : null;
    });
    expect(context).toMatchObject({ users: ['teammate42'], usersError: null });
    expect((await world.reservation(body.reservation_id))!['secondary_users']).toEqual(['teammate42']);
    await cancel(body.reservation_id);
  });

  file('enable-jupyter', 'starts Jupyter, and disable-jupyter.json stops it', async () => {
    const body = await serverFor('enable-jupyter');
    const id = body.reservation_id;
    const state = (wanted: string) =>
      world.until(`Jupyter is ${wanted}`, async () => {
        const row = await world.reservation(id);
        return row?.['jupyter_state'] === wanted ? row : null;
      });
    await world.send(body);
    const on = await state('on');
    expect(on).toMatchObject({ jupyter_enabled: true, jupyter_error: null });
    expect(on['jupyter_url']).not.toContain('token');
    await world.send({ ...messageOf('valid', 'disable-jupyter'), reservation_id: id, user_id: body.user_id });
    const off = await state('off');
    expect(off).toMatchObject({ jupyter_enabled: false, jupyter_url: null, jupyter_port: null });
    await cancel(id);
  });
  tested.add('disable-jupyter');

  file('disk-create', 'makes a disk of 500 GB, disk-clone.json copies one, and disk-delete.json marks it deleted', async () => {
    const body = fresh('disk-create');
    const user = body.user_id;
    await world.send(body, 'disk_operations');
    expect(await operation(body.operation_id)).toMatchObject({ status: 'completed', error: null, user_id: user });
    expect(await disk(user, 'datasets')).toMatchObject({ size_gb: 500, in_use: false, is_deleted: false });

    const clone = fresh('disk-clone', { user_id: user, source_disk: 'datasets' });
    await world.send(clone, 'disk_operations');
    expect(await operation(clone.operation_id)).toMatchObject({ status: 'completed' });
    expect(await disk(user, 'default-copy')).toMatchObject({ size_gb: 500, state: 'idle' });

    const inAMonth = new Date(Date.now() + 31 * 86_400_000).toISOString().slice(0, 10);
    const remove = fresh('disk-delete', { user_id: user, delete_date: inAMonth });
    await world.send(remove, 'disk_operations');
    expect(await operation(remove.operation_id)).toMatchObject({ status: 'completed' });
    const deleted = await disk(user, 'datasets');
    expect(deleted).toMatchObject({ is_deleted: true, state: 'deleted' });
    expect(deleted.delete_date.toISOString()).toBe(`${inAMonth}T00:00:00.000Z`);

    const back = { action: 'undelete_disk', operation_id: crypto.randomUUID(), user_id: user, disk_name: 'datasets' };
    await world.send(back, 'disk_operations');
    expect(await operation(back.operation_id)).toMatchObject({ status: 'completed', error: null });
    expect(await disk(user, 'datasets')).toMatchObject({ is_deleted: false, state: 'idle' });
  });
  tested.add('disk-clone').add('disk-delete');

  it('of every file has its test here', () => {
    expect([...tested].sort()).toEqual(messageNames('valid'));
  });

  it('leaves nothing behind', async () => {
    await world.until('mail is read', async () => (await world.db.query('select 1 from mailbox')).rowCount === 0);
    await world.until('the last notices are given up', async () => {
      const { rows } = await world.db.query<Body>(`select count(*)::int as n from effects where status = 'pending'`);
      return rows[0].n === 0;
    });
    await world.checkClean();
    expect(await world.db.query('select * from dead_letters').then(({ rows }) => rows)).toEqual([]);
    const used = await world.db.query<Body>('select sum(in_use)::int as n from gpu_availability');
    expect(used.rows[0].n).toBe(0);
  });
});
