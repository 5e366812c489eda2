/** The one capacity function: admission, availability, queue positions and estimates all read it. */
import type { Queryable, Transaction } from '../../persistence/database.ts';
import { forecast, type PlanHolder, type PlanNode, type PlanRequest } from './planner.ts';

export interface PoolRows {
  /** Schedulable nodes with what is free on them. */
  nodes: PlanNode[];
  /** The line in order, the first of it if a limit was given. */
  waiting: (PlanRequest & { waitsBecause: string | null })[];
  holders: PlanHolder[];
  /** Members of each gang that hold slots. */
  gangsGranted: Map<string, number>;
  /** Slots of all ready nodes, schedulable or not, and those held. */
  total: number;
  held: number;
  wholeNodes: number;
}

interface NodeRow {
  node: string;
  zone: string | null;
  labels: Record<string, string>;
  schedulable: boolean;
  ready: boolean;
  slots: number;
  foreign_slots: number;
  cpu: number;
  memory: number;
  free: number[];
  held: number;
}

// A node counts when it is Ready, not cordoned and without foreign NoSchedule taints. What is free on it: allocatable, less what pods that
// are not ours take, less what the ledger has promised. CPU and memory of a promise are its request, whether or not its pod exists yet.
export const NODES = `
  select n.node, n.zone, n.labels, n.schedulable, n.ready, n.slots, n.foreign_slots,
         n.cpu_millis - n.foreign_cpu - coalesce(promised.cpu, 0) as cpu,
         n.memory_bytes - n.foreign_memory - coalesce(promised.memory, 0) as memory,
         coalesce(ledger.free, '{}') as free, coalesce(ledger.held, 0)::int as held
    from nodes n
    left join lateral (
      select array_agg(s.slot order by s.slot) filter (where s.reservation_id is null) as free,
             count(*) filter (where s.reservation_id is not null) as held
        from gpu_slots s where s.node = n.node) ledger on true
    left join lateral (
      select sum(r.cpu_millis) as cpu, sum(r.memory_bytes) as memory
        from capacity_requests r where r.node = n.node and r.status = 'granted') promised on true
   where n.gpu_type = $1
   order by n.node`;

export const WAITING = `
  select reservation_id as "reservationId", generation, slots, cpu_millis as "cpuMillis", memory_bytes as "memoryBytes",
         node_labels as "nodeLabels", gang_id as "gangId", gang_size as "gangSize", duration_hours as "durationHours", waits_because as "waitsBecause"
    from capacity_requests where gpu_type = $1 and status = 'waiting'
   order by submitted_at, reservation_id
   limit $2`;

export const HOLDERS = `
  select r.reservation_id as "reservationId", r.node, r.cpu_millis as "cpuMillis", r.memory_bytes as "memoryBytes", r.gang_id as "gangId",
         array(select s.slot from gpu_slots s where s.reservation_id = r.reservation_id order by s.slot) as slots, v.expires_at as "expiresAt"
    from capacity_requests r left join reservations v on v.reservation_id = r.reservation_id
   where r.gpu_type = $1 and r.status = 'granted'`;

/** Read the state of one pool; of the line, the first `limit` (null: all). */
export async function readPool(db: Queryable, gpuType: string, limit: number | null = null): Promise<PoolRows> {
  const nodeRows = (await db.query<NodeRow>(NODES, [gpuType])).rows;
  const waitingRows = (
    await db.query<PlanRequest & { gangId: string | null; gangSize: number | null; waitsBecause: string | null }>(WAITING, [
      gpuType,
      limit,
    ])
  ).rows;
  const holderRows = (await db.query<PlanHolder & { gangId: string | null; expiresAt: Date | null }>(HOLDERS, [gpuType])).rows;
  const gangsGranted = new Map<string, number>();
  for (const { gangId } of holderRows) if (gangId !== null) gangsGranted.set(gangId, (gangsGranted.get(gangId) ?? 0) + 1);
  const usable = nodeRows.map((row) => ({
    ...row,
    free: row.free.slice(0, Math.max(0, row.slots - row.foreign_slots - row.held)),
  }));
  return {
    nodes: usable
      .filter((row) => row.schedulable)
      .map(({ node, zone, free, cpu, memory, labels }) => ({
        node,
        zone,
        free,
        cpuMillis: Number(cpu),
        memoryBytes: Number(memory),
        labels,
      })),
    waiting: waitingRows.map(({ gangId, gangSize, ...row }) => ({
      ...row,
      gang: gangId === null ? null : { id: gangId, size: gangSize ?? 1 },
    })),
    holders: holderRows.map(({ gangId: _gang, expiresAt, ...row }) => ({ ...row, endsAt: expiresAt?.getTime() ?? null })),
    gangsGranted,
    total: nodeRows.filter((row) => row.ready).reduce((sum, row) => sum + row.slots, 0),
    held: nodeRows.reduce((sum, row) => sum + row.held, 0),
    wholeNodes: usable.filter((row) => row.schedulable && row.slots > 0 && row.free.length === row.slots).length,
  };
}

export const WRITE_AVAILABILITY = `insert into gpu_availability (gpu_type, total, free, in_use, queued, whole_nodes_free, largest_fit, paused_because, updated_at)
     values ($1, $2, $3, $4, (select count(*) from capacity_requests where gpu_type = $1 and status = 'waiting'), $5, $6, $7, $8)
     on conflict (gpu_type) do update set total = excluded.total, free = excluded.free, in_use = excluded.in_use, queued = excluded.queued,
       whole_nodes_free = excluded.whole_nodes_free, largest_fit = excluded.largest_fit, paused_because = excluded.paused_because,
       updated_at = excluded.updated_at`;

/** Write the availability of a type, from what is left after the decision. */
export async function writeAvailability(
  tx: Transaction,
  gpuType: string,
  after: PoolRows,
  pausedBecause: string | null,
  at: string,
): Promise<void> {
  const free = after.nodes.reduce((sum, node) => sum + node.free.length, 0);
  const largest = after.nodes.reduce((most, node) => Math.max(most, node.free.length), 0);
  await tx.query(WRITE_AVAILABILITY, [gpuType, after.total, free, after.held, after.wholeNodes, largest, pausedBecause, at]);
}

export const WRITE_REASONS = `update capacity_requests r set waits_because = w.because
       from unnest($1::text[], $2::text[]) as w(reservation_id, because)
      where r.reservation_id = w.reservation_id and r.status = 'waiting'`;

/** Write why some wait, where that has changed. Nothing is written for those who wait behind others: their place says it. */
export async function writeReasons(
  tx: Transaction,
  waiting: PoolRows['waiting'],
  waits: readonly { reservationId: string; because: string }[],
): Promise<void> {
  const because = new Map(waits.map((wait) => [wait.reservationId, wait.because]));
  const changed = waiting.filter((request) => request.waitsBecause !== (because.get(request.reservationId) ?? null));
  if (changed.length === 0) return;
  await tx.query(WRITE_REASONS, [
    changed.map((request) => request.reservationId),
    changed.map((request) => because.get(request.reservationId) ?? null),
  ]);
}

/** Place in the line of a type, and when a start may be expected. */
export interface QueuePlace {
  position: number;
  /** ISO 8601; null if no known end leads to a start. */
  estimatedStart: string | null;
  reason: string | null;
}

/**
 * The line of one GPU type, with an estimate for each from the known ends on nodes that fit.
 * @param timeScale how many times faster than the calendar reserved hours run.
 */
export async function queueView(db: Queryable, gpuType: string, timeScale = 1): Promise<Map<string, QueuePlace>> {
  const rows = await readPool(db, gpuType);
  if (rows.waiting.length === 0) return new Map();
  const { rows: state } = await db.query<{ paused: string | null; now: Date }>(
    'select (select paused_because from gpu_availability where gpu_type = $1) as paused, now() as now',
    [gpuType],
  );
  const { paused, now } = state[0]!;
  const starts = forecast(rows.nodes, rows.holders, rows.waiting, now.getTime(), 3_600_000 / timeScale);
  const behind = (index: number) => (index === 0 ? null : `Behind ${index} ${index === 1 ? 'other' : 'others'} in the queue`);
  return new Map(
    rows.waiting.map((request, index) => {
      const start = starts.get(request.reservationId) ?? null;
      return [
        request.reservationId,
        {
          position: index + 1,
          estimatedStart: start === null ? null : new Date(start).toISOString(),
          reason: paused === null ? (request.waitsBecause ?? behind(index)) : `This GPU type is under maintenance: ${paused}`,
        },
      ];
    }),
  );
}
