import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { run } from '../../../src/cli/program.ts';
import { startWorld, type World } from '../../support/world.ts';
import { open } from './session.ts';
import { databaseEnvironment } from '../../support/database-environment.ts';

let world: World;
beforeAll(async () => {
  // A time scale so high that the limit of stopping is five seconds, its least.
  world = await startWorld({ fleet: { t4: 2 }, timeScale: 240 });
});
afterAll(async () => {
  await world?.stop();
});

async function admin(...argv: string[]): Promise<{ code: number; out: string; err: string }> {
  const out: string[] = [];
  const err: string[] = [];
  const code = await run(['admin', ...argv], {
    environment: {
      ...databaseEnvironment(world.db.settings),
      GPU_DEV_USER: 'olga',
    },
    directory: '/',
    out: { write: (text) => out.push(text) },
    err: { write: (text) => err.push(text) },
    interrupted: new AbortController().signal,
  });
  return { code, out: out.join(''), err: err.join('') };
}

const slots = async (id: string) =>
  (await world.db.query('select 1 from gpu_slots where reservation_id = $1', [id])).rowCount ?? 0;
const events = async (id: string, type: string) =>
  (
    await world.db.query<{ sender: string; proof: string | null }>(
      `select sender, event->>'proof' as proof from history where actor = $1 and event->>'type' = $2 order by seq`,
      [`reservation/${id}`, type],
    )
  ).rows;

/** A running server whose node has fallen silent, and that is cancelled: it says that it waits. */
async function stuck(): Promise<{ id: string; node: string; pod: string }> {
  const session = await open(world, 'none');
  const id = session['reservation_id'] as string;
  const node = session['node_name'] as string;
  expect((await admin('confirm-gone', id, '--reason', 'too early')).code).toBe(4);
  await world.simulate(`/nodes/${node}/lose`);
  await world.until('the node is known to be silent', async () => {
    const { rows } = await world.db.query<{ ready: boolean }>('select ready from nodes where node = $1', [node]);
    return rows[0]?.ready === false;
  });
  await world.send({ action: 'cancel', reservation_id: id, user_id: 'ann' });
  await world.until('it says that it waits', async () => {
    const row = await world.reservation(id);
    return row?.['substate'] === 'stopping' && /^Waiting for node .*operator/.test(row['current_detailed_status']) ? row : null;
  });
  return { id, node, pod: session['pod_name'] as string };
}

describe('a server on a node that does not answer', () => {
  it('keeps its slots however often its limit runs out, until the node answers', async () => {
    const { id, node, pod } = await stuck();
    await world.until('it was asked for twice', async () => (await events(id, 'pod.unreachable')).length >= 2);
    expect(await slots(id)).toBe(1);
    expect(await world.pods()).toContain(pod);
    await world.simulate(`/nodes/${node}/recover`);
    const ended = await world.reaches(id, 'cancelled');
    expect(ended['failure_reason']).toBe('Cancelled by its owner');
    expect(await slots(id)).toBe(0);
    expect(await world.pods()).not.toContain(pod);
  });

  it('is given up on the word of an operator, which stands in its history', async () => {
    const { id, node } = await stuck();
    expect((await admin('confirm-gone', id)).code).toBe(2);
    const told = await admin('confirm-gone', id, '--reason', 'the rack has no power', '--json');
    expect(told).toMatchObject({ code: 0, err: '' });
    expect(JSON.parse(told.out)).toMatchObject({ actor: `reservation/${id}`, by: 'olga' });
    await world.until('its slots are free', async () => (await slots(id)) === 0);
    await world.reaches(id, 'cancelled');
    expect(await events(id, 'pod.gone')).toContainEqual({
      sender: 'operator:olga',
      proof: 'the word of olga: the rack has no power',
    });
    await world.simulate(`/nodes/${node}/recover`);
  });

  it('is removed by force when the node itself is deleted', async () => {
    const { id, node, pod } = await stuck();
    await world.client.core.deleteNode({ name: node });
    await world.reaches(id, 'cancelled');
    expect(await slots(id)).toBe(0);
    await world.until('the pod is gone', async () => !(await world.pods()).includes(pod));
  });
});
