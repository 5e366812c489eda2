import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { DiskMessages, EventMessage } from '../../actors/intake/messages.ts';
import { type Body, messageOf } from '../messages/support.ts';
import type { World } from '../support/world.ts';
import { namespace, newId, type Scene, startScene } from './scene.ts';
import { actorOf, historyOf, pathOf } from './support.ts';

let scene: Scene;
let world: World;
beforeAll(async () => {
  scene = await startScene({ fleet: { t4: 2, 'cpu-x86': 1 }, delays: { job: 2_000 } });
  world = scene.world;
});
afterAll(async () => {
  await scene?.stop();
});
afterEach(() => world.clearFaults());

describe('what fails', () => {
  it('S7: a build that failed is built again under a name of its own', async () => {
    const { dockerfile } = messageOf('valid', 'create-dockerfile');
    const jobs = async () => (await world.client.batch.listNamespacedJob({ namespace })).items.map((job) => job.metadata!.name!);
    const first = await scene.submit({ dockerfile });
    const pod = await world.until('the build runs', async () => {
      const { items } = await world.client.core.listNamespacedPod({ namespace });
      return items.find((each) => each.metadata!.name!.startsWith('build-') && each.status?.phase === 'Running') ?? null;
    });
    await world.simulate(`/pods/${namespace}/${pod.metadata!.name}/kill`, { exitCode: 1 });
    expect((await world.reaches(first, 'failed'))['failure_reason']).toMatch(/build|image/i);
    const [attempt] = await jobs();
    const second = await scene.submit({ dockerfile });
    await world.reaches(second, 'running');
    const names = await jobs();
    expect(names).toHaveLength(2);
    expect(names).toContain(attempt);
    await scene.cancel(second);
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
    const id = await scene.submit({ disk_name: 'kept' });
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
    const id = await scene.running();
    const { rows } = await world.db.query<Body>(`select attempts, status from effects where actor = $1 and type = 'pod.create'`, [
      `reservation/${id}`,
    ]);
    expect(rows).toEqual([{ attempts: 5, status: 'done' }]);
    await scene.cancel(id);
  });

  it('a server that cannot be created says what the cluster answers, without secrets, and so does its end', async () => {
    const answer = { kind: 'error', status: 500, verb: 'POST', path: '/pods$', message: 'no quorum for hunter2-hunter2' };
    await world.simulate('/faults', answer);
    const id = await scene.submit({ env_vars: { WORD: 'hunter2-hunter2' } });
    const overdue = async (life: number) => {
      await world.until(`life ${life} tells why`, async () => {
        const context = (await actorOf(world.db, id))?.context;
        return context?.generation === life && /tried again: .*no quorum for \[secret\]/.test(context.detail);
      });
      await world.db.query(`update deadlines set due_at = now() where actor = $1 and name = 'podPending'`, [`reservation/${id}`]);
    };
    await overdue(1);
    await overdue(2);
    const row = await world.reaches(id, 'failed');
    expect(row['failure_reason']).toMatch(
      /^The pod could not be created within 10 minutes, twice: .*500 InternalError \(no quorum for \[secret\]\)$/,
    );
    expect(row['current_detailed_status']).toBe(row['failure_reason']);
    const { rows } = await world.db.query<Body>(
      `select (select json_agg(event) from history where actor = $1 and seq > 1)::text || (select json_agg(last_error) from effects where actor = $1)::text as told`,
      [`reservation/${id}`],
    );
    expect(rows[0]!['told']).toContain('[secret]');
    expect(rows[0]!['told']).not.toContain('hunter2');
  });

  it('S15: a user who cannot be added is told of with the reason, and the server goes on', async () => {
    const id = await scene.running({ github_user: 'octo' });
    await world.send({ action: 'add_user', reservation_id: id, github_username: 'ghost' });
    const { context, state } = await world.until('the failure is told', async () => {
      const actor = await actorOf(world.db, id);
      return actor.context.usersError === null ? null : actor;
    });
    expect(state).toBe('running');
    expect(context.usersError).toMatch(/ghost/);
    expect((await world.reservation(id))!['current_detailed_status']).toBe(`Running. ${context.usersError}`);
    await world.send({ action: 'add_user', reservation_id: id, github_username: 'octo2' });
    await world.until('the other is added', async () => (await actorOf(world.db, id)).context.users.includes('octo2'));
    await scene.cancel(id);
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
    const id = await scene.submit();
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
    const id = await scene.running({ github_user: 'octo' });
    const fields: Record<keyof typeof EventMessage, Body> = {
      add_user: { github_username: 'octo3' },
      remove_user: { github_username: 'Octo3' },
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
      undelete_disk: { disk_name: 'one' },
      restore_disk: { disk_name: 'one', snapshot_id: 'snap-of-one' },
      rename_disk: { disk_name: 'one', new_name: 'uno' },
    };
    for (const [action, body] of Object.entries(disks)) {
      if (action === 'restore_disk')
        await world.db.query(
          `insert into disk_snapshots (snapshot_id, disk_id, status, created_at, completed_at)
           select 'snap-of-one', disk_id, 'complete', now(), now() from disks where disk_name = 'one'`,
        );
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

describe('afterwards', () => {
  it('nothing is left behind', () => scene.checkEnd());
});
