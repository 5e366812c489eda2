/** Short ways to ask a world for servers, and a feed of changes that a test drives by hand. */
import type { ClusterChanges, ClusterEvents, NodeView, PodView } from '../../../actors/gpu-pool/ports.ts';
import type { World } from '../../support/world.ts';

// biome-ignore lint/suspicious/noExplicitAny: tests look at whatever column they need.
type Row = Record<string, any>;

export async function submit(world: World, fields: Record<string, unknown> = {}): Promise<string> {
  const id = crypto.randomUUID() as string;
  const base = {
    action: 'create_reservation',
    reservation_id: id,
    user_id: 'ann',
    gpu_type: 't4',
    gpu_count: 1,
    disk_name: null,
  };
  await world.send({ ...base, duration_hours: 2, ...fields });
  return id;
}

export async function running(world: World, fields: Record<string, unknown> = {}): Promise<string> {
  const id = await submit(world, fields);
  await world.reaches(id, 'running');
  return id;
}

export async function cancel(world: World, id: string): Promise<void> {
  await world.send({ action: 'cancel', reservation_id: id });
  await world.reaches(id, 'cancelled');
}

/** Wait until the row of a node has these columns. */
export async function nodeBecomes(world: World, name: string, expected: Row | null): Promise<void> {
  await world.until(`${name} is ${JSON.stringify(expected)}`, async () => {
    const { rows } = await world.db.query<Row>('select * from nodes where node = $1', [name]);
    if (expected === null) return rows.length === 0;
    return rows.length === 1 && Object.entries(expected).every(([column, value]) => rows[0]![column] === value);
  });
}

export async function relabel(world: World, name: string, gpuType: string): Promise<void> {
  await world.client.core.patchNode({ name, body: [{ op: 'replace', path: '/metadata/labels/GpuType', value: gpuType }] });
}

export async function slotsOf(world: World, id: string): Promise<number> {
  return (await world.db.query('select 1 from gpu_slots where reservation_id = $1', [id])).rowCount ?? 0;
}

/** A cluster of which a test tells what it likes. */
export class HandDriven implements ClusterEvents {
  changes: ClusterChanges | null = null;
  readonly #nodes: NodeView[];

  constructor(nodes: NodeView[] = []) {
    this.#nodes = nodes;
  }

  start(changes: ClusterChanges): Promise<void> {
    this.changes = changes;
    for (const node of this.#nodes) changes.nodeChanged(node);
    changes.synced();
    return Promise.resolve();
  }

  stop(): Promise<void> {
    return Promise.resolve();
  }

  lastContact(): number | null {
    return Date.now();
  }
}

/** A dev server that runs. */
export function podOf(reservationId: string, fields: Partial<PodView> = {}): PodView {
  return {
    uid: `uid-${reservationId}`,
    name: `gpu-dev-${reservationId}-1`,
    namespace: 'gpu-dev',
    resourceVersion: '1',
    node: 't4-1',
    server: { reservationId, generation: 1 },
    phase: 'Running',
    cpuMillis: 0,
    memoryBytes: 0,
    resources: {},
    unschedulable: null,
    started: true,
    ready: true,
    unreadyReason: null,
    terminating: false,
    death: null,
    ooms: [],
    ...fields,
  };
}
