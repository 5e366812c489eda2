/** The one capacity function: admission, availability and estimates all read it. */
import type { Queryable, Transaction } from '../../persistence/database.ts';
import { keysOf, type Located } from './places.ts';
import type { PlanHolder, PlanNode, PlanRequest } from './planner.ts';

/** A node with all its slots, of which `free` are free. */
export interface PoolNode extends PlanNode {
  slots: number;
}

export interface PoolRows {
  /** Schedulable nodes with what is free on them. */
  nodes: PoolNode[];
  /** The others. */
  shut: Located[];
  /** The line in order, the first of it if a limit was given; submitted at so many milliseconds since 1970. */
  waiting: (PlanRequest & { owner: string; waitsBecause: string | null; submittedAt: number })[];
  /** Members that hold slots, of each gang in the line. */
  gangsGranted: Map<string, number>;
  /** Slots of all ready nodes, schedulable or not, and those held. */
  total: number;
  held: number;
}

interface NodeRow {
  node: string;
  zone: string | null;
  schedulable: boolean;
  ready: boolean;
  slots: number;
  foreign_slots: number;
  cpu: number;
  memory: number;
  free: string;
  held: number;
}

// A node counts when it is Ready, not cordoned, without foreign NoSchedule taints, and not being drained by an operator. What is free on it: allocatable, less what pods that
// are not ours take, less what the ledger has promised. CPU and memory of a promise are its request, whether or not its pod exists yet.
// The slots come as JSON: of hundreds of nodes, a turn looks at the slots of a few.
export const NODES = `
  select n.node, n.zone, n.schedulable and d.node is null as schedulable, n.ready, n.slots, n.foreign_slots,
         n.cpu_millis - n.foreign_cpu - coalesce(u.cpu_millis, 0) as cpu,
         n.memory_bytes - n.foreign_memory - coalesce(u.memory_bytes, 0) as memory,
         '[' || array_to_string(u.free, ',') || ']' as free, coalesce(u.held, 0) as held
    from nodes n left join node_usage u on u.node = n.node left join node_drains d on d.node = n.node
   where n.gpu_type = $1
   order by n.node`;

/** Labels are many and long, and few are asked for: only these. */
export const NODE_LABELS = `
  select n.node, (select jsonb_object_agg(key, n.labels -> key) from unnest($2::text[]) as asked(key) where n.labels ? key) as labels
    from nodes n where n.gpu_type = $1`;

export const WAITING = `
  select reservation_id as "reservationId", generation, slots, cpu_millis as "cpuMillis", memory_bytes as "memoryBytes",
         node_labels as "nodeLabels", owner, gang_id as "gangId", gang_size as "gangSize", duration_hours as "durationHours", waits_because as "waitsBecause", place,
         (extract(epoch from submitted_at) * 1000)::float8 as "submittedAt"
    from capacity_requests where gpu_type = $1 and status = 'waiting' and ($3::text[] is null or owner = any($3))
   order by submitted_at, reservation_id
   limit $2`;

export const GANGS_GRANTED = `
  select owner, gang_id as "gangId", count(*)::int as members from capacity_requests
   where (gang_id, owner) in (select * from unnest($1::text[], $2::text[])) and gang_id is not null and status = 'granted' group by owner, gang_id`;

export const GANGS_WAITING = `
  select owner, gang_id as "gangId", count(*)::int as members from capacity_requests
   where (gang_id, owner) in (select * from unnest($1::text[], $2::text[])) and gang_id is not null and status = 'waiting' group by owner, gang_id`;

/** Which gang it is: that of its owner, whoever else uses its id. */
const keyOf = (gangId: string, owner: string): string => `${gangId}/${owner}`;

/** How many members each of these gangs has. */
async function membersOf(db: Queryable, statement: string, keys: readonly string[]): Promise<Map<string, number>> {
  const parts = keys.map((key) => [key.slice(0, key.indexOf('/')), key.slice(key.indexOf('/') + 1)]);
  const { rows } = await db.query<{ owner: string; gangId: string; members: number }>(statement, [
    parts.map(([gangId]) => gangId),
    parts.map(([, owner]) => owner),
  ]);
  return new Map(rows.map(({ gangId, owner, members }) => [keyOf(gangId, owner), members]));
}

/** Whether a gang that looks incomplete in this part of the line is complete with those who wait further back. */
export async function hasGangBeyond(db: Queryable, { waiting, gangsGranted }: PoolRows): Promise<boolean> {
  const here = new Map<string, { size: number; members: number }>();
  for (const { gang } of waiting) {
    if (gang !== null)
      here.set(gang.id, { size: gang.size, members: (here.get(gang.id)?.members ?? gangsGranted.get(gang.id) ?? 0) + 1 });
  }
  const incomplete = [...here].filter(([, { size, members }]) => members < size).map(([id]) => id);
  if (incomplete.length === 0) return false;
  const waits = await membersOf(db, GANGS_WAITING, incomplete);
  return [...waits].some(([key, members]) => members + (gangsGranted.get(key) ?? 0) >= here.get(key)!.size);
}

type WaitingRow = Omit<PlanRequest, 'gang'> & {
  owner: string;
  gangId: string | null;
  gangSize: number | null;
  waitsBecause: string | null;
  submittedAt: number;
};

/** Read the state of one pool; of the line, the first `limit` (null: all), of these users alone if they are named. */
export async function readPool(
  db: Queryable,
  gpuType: string,
  limit: number | null = null,
  only: readonly string[] | null = null,
): Promise<PoolRows> {
  const [{ rows: nodes }, { rows: waiting }] = await Promise.all([
    db.query<NodeRow>(NODES, [gpuType]),
    db.query<WaitingRow>(WAITING, [gpuType, limit, only]),
  ]);
  const asked = [
    ...new Set([...waiting.flatMap(({ nodeLabels }) => Object.keys(nodeLabels)), ...keysOf(waiting.map(({ place }) => place))]),
  ];
  const labels =
    asked.length > 0
      ? (await db.query<{ node: string; labels: Record<string, string> | null }>(NODE_LABELS, [gpuType, asked])).rows
      : [];
  const labelsOf = new Map(labels.map((row) => [row.node, row.labels ?? {}]));
  return {
    shut: nodes.filter((row) => !row.schedulable).map(({ node }) => ({ node, labels: labelsOf.get(node) ?? {} })),
    nodes: nodes
      .filter((row) => row.schedulable)
      .map((row) => ({
        node: row.node,
        zone: row.zone,
        slots: row.slots,
        free: freeOf(row),
        cpuMillis: row.cpu,
        memoryBytes: row.memory,
        labels: labelsOf.get(row.node) ?? {},
      })),
    // A line is long: the rows become the requests, and no copies are made.
    waiting: waiting.map((row) => {
      const { gangId, gangSize, owner } = row;
      return Object.assign(row, { gang: gangId === null ? null : { id: keyOf(gangId, owner), size: gangSize ?? 1 } });
    }),
    gangsGranted: await readGangs(db, waiting),
    total: nodes.filter((row) => row.ready).reduce((sum, row) => sum + row.slots, 0),
    held: nodes.reduce((sum, row) => sum + row.held, 0),
  };
}

/** Free slots, less as many as pods that are not ours take. */
function freeOf(row: NodeRow): number[] {
  const most = row.slots - row.foreign_slots - row.held;
  if (row.free === null || row.free === '[]' || most <= 0) return [];
  return (JSON.parse(row.free) as number[]).slice(0, most);
}

async function readGangs(db: Queryable, waiting: readonly WaitingRow[]): Promise<Map<string, number>> {
  const gangs = new Set(waiting.flatMap(({ gangId, owner }) => (gangId === null ? [] : [keyOf(gangId, owner)])));
  return gangs.size === 0 ? new Map() : membersOf(db, GANGS_GRANTED, [...gangs]);
}

// By the slots that are held, and not by the requests: those are as many as wait.
export const HOLDERS = `
  select r.reservation_id as "reservationId", r.node, r.cpu_millis as "cpuMillis", r.memory_bytes as "memoryBytes", held.slots, v.expires_at as "expiresAt"
    from (select reservation_id, array_agg(slot order by slot) as slots
            from gpu_slots where gpu_type = $1 and reservation_id is not null group by reservation_id) held
    join capacity_requests r on r.reservation_id = held.reservation_id and r.gpu_type = $1 and r.status = 'granted'
    left join reservations v on v.reservation_id = r.reservation_id`;

/** Who holds slots of a type, and until when. */
export async function readHolders(db: Queryable, gpuType: string): Promise<PlanHolder[]> {
  const { rows } = await db.query<Omit<PlanHolder, 'endsAt'> & { expiresAt: Date | null }>(HOLDERS, [gpuType]);
  return rows.map(({ expiresAt, ...row }) => ({ ...row, endsAt: expiresAt?.getTime() ?? null }));
}

export const WRITE_AVAILABILITY = `insert into gpu_availability (gpu_type, total, free, in_use, queued, whole_nodes_free, largest_fit, paused_because, updated_at)
     values ($1, $2, $3, $4, coalesce((select waiting from line_lengths where gpu_type = $1), 0), $5, $6, $7, $8)
     on conflict (gpu_type) do update set total = excluded.total, free = excluded.free, in_use = excluded.in_use, queued = excluded.queued,
       whole_nodes_free = excluded.whole_nodes_free, largest_fit = excluded.largest_fit, paused_because = excluded.paused_because,
       updated_at = excluded.updated_at`;

/** What is left of a pool after a decision. */
export type Left = Pick<PoolRows, 'nodes' | 'total' | 'held'>;

/** Write the availability of a type, from what is left after the decision. Sent: a failure fails the transaction. */
export function writeAvailability(tx: Transaction, gpuType: string, left: Left, pausedBecause: string | null, at: string): void {
  const free = left.nodes.reduce((sum, node) => sum + node.free.length, 0);
  const largest = left.nodes.reduce((most, node) => Math.max(most, node.free.length), 0);
  const whole = left.nodes.filter((node) => node.slots > 0 && node.free.length === node.slots).length;
  tx.send(WRITE_AVAILABILITY, [gpuType, left.total, free, left.held, whole, largest, pausedBecause, at]);
}

export const COUNT_LINE = `update gpu_availability
        set queued = coalesce((select waiting from line_lengths where gpu_type = $1), 0)
      where gpu_type = $1`;

/** Write how many wait, where nothing else was looked at. Sent. */
export function countLine(tx: Transaction, gpuType: string): void {
  tx.send(COUNT_LINE, [gpuType]);
}

export const WRITE_REASONS = `update capacity_requests r set waits_because = w.because
       from unnest($1::text[], $2::text[]) as w(reservation_id, because)
      where r.reservation_id = w.reservation_id and r.status = 'waiting'`;

// Only who waits has a reason; to ask for those who wait as well would let the planner read the whole line.
export const CLEAR_REASONS = `update capacity_requests set waits_because = null
      where gpu_type = $1 and waits_because is not null and reservation_id <> all($2::text[])`;

/**
 * Write why some wait, where that has changed. Nothing is written for those who wait behind others: their place says it.
 * Sent: a failure fails the transaction.
 * @param waiting those who still wait, as far as the line was read; `all` if that is the whole line
 */
export function writeReasons(
  tx: Transaction,
  gpuType: string,
  { waiting, all }: { waiting: PoolRows['waiting']; all: boolean },
  waits: readonly { reservationId: string; because: string }[],
): void {
  const because = new Map(waits.map((wait) => [wait.reservationId, wait.because]));
  const changed = waiting.filter((request) => request.waitsBecause !== (because.get(request.reservationId) ?? null));
  if (changed.length > 0) {
    tx.send(WRITE_REASONS, [
      changed.map((request) => request.reservationId),
      changed.map((request) => because.get(request.reservationId) ?? null),
    ]);
  }
  // Farther back somebody may still tell why it waited when it stood in front, or when its gang was not complete.
  if (!all) tx.send(CLEAR_REASONS, [gpuType, [...because.keys()]]);
}
