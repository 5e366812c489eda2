/** What tests of old failures share. */
import type { Database } from '../../persistence/database.ts';
import { writeNodes } from '../../persistence/gpu-nodes.ts';
import type { Body, Door } from '../messages/support.ts';

export const GIB = 1024 ** 3;

/** The actor's row with its context; null if there is none. */
export async function actorOf(db: Database, id: string, kind = 'reservation'): Promise<Body> {
  const { rows } = await db.query<Body>(
    `select actor, seq, status, state, snapshot -> 'value' as value, snapshot -> 'context' as context, quarantined_at
       from actors where actor = $1`,
    [`${kind}/${id}`],
  );
  return rows[0] ?? null;
}

/** The history of a reservation, oldest first. */
export async function historyOf(db: Database, id: string): Promise<Body[]> {
  const { rows } = await db.query<Body>(
    `select seq, key, event ->> 'type' as type, event, outcome, reason, from_state as "from", to_state as "to" from history
      where actor = $1 order by seq`,
    [`reservation/${id}`],
  );
  return rows;
}

/** The top-level states that a reservation went through, each once in a row. */
export async function pathOf(db: Database, id: string): Promise<string[]> {
  const states = (await historyOf(db, id)).map((entry) => entry.to as string);
  return states.filter((state, index) => state !== states[index - 1]);
}

/** Put nodes of a type on record, as the tracker would. */
export async function addNodes(db: Database, gpuType: string, names: readonly string[], slots = 8): Promise<void> {
  const rows = names.map((node) => ({
    node,
    uid: node,
    gpuType,
    ready: true,
    schedulable: true,
    reason: null,
    slots,
    foreignSlots: 0,
    cpuMillis: 192_000,
    memoryBytes: 2_048 * GIB,
    foreignCpu: 0,
    foreignMemory: 0,
    address: '10.0.0.1',
    zone: 'a',
    labels: {},
  }));
  await db.withTransaction((tx) => writeNodes(tx, rows));
}

/** Open the pool of a type and tell it of its nodes. */
export async function openPool({ kernel }: Door, gpuType: string): Promise<void> {
  const actor = `gpu-pool/${gpuType}`;
  await kernel.post([
    { actor, key: 'opened', event: { type: 'pool.opened', gpuType } as { type: string }, sender: 'test' },
    { actor, key: `nodes:${Math.random()}`, event: { type: 'nodes.changed', nodes: [] } as { type: string }, sender: 'test' },
  ]);
  await kernel.pump(actor);
}

/** Take turns, without effects, until nobody has mail. */
export async function settle({ db, kernel }: Pick<Door, 'db' | 'kernel'>): Promise<void> {
  for (;;) {
    const { rows } = await db.query<{ actor: string }>('select distinct actor from mailbox where not held');
    if (rows.length === 0) return;
    for (const { actor } of rows) await kernel.pump(actor);
  }
}

/** Send a create through the door and let its turns be taken, without effects. @returns its id. */
export async function create(door: Door, fields: Record<string, unknown>): Promise<string> {
  const id = (fields['reservation_id'] as string | undefined) ?? crypto.randomUUID();
  await door.send({
    action: 'create_reservation',
    user_id: 'ann',
    gpu_type: 'h100',
    disk_name: null,
    ...fields,
    reservation_id: id,
  });
  await door.drain();
  await settle(door);
  return id;
}

/** Post an event to a reservation, as `sender`, and take its turn. */
export async function post(
  door: Door,
  id: string,
  event: { type: string; [key: string]: unknown },
  key = crypto.randomUUID() as string,
) {
  await door.kernel.post([{ actor: `reservation/${id}`, key, event, sender: 'test' }]);
  await door.kernel.pump(`reservation/${id}`);
}
