/** The ledger: one row a GPU slot, one holder at most; and the queue beside it. Written only inside the pool's turns, except for nodes. */
import type { PoolMessage } from '../../machines/gpu-pool.events.ts';
import type { Transaction } from '../../persistence/database.ts';
import { storableJson } from '../../persistence/storable.ts';
import type { PlannedGrant } from './planner.ts';

// The tracker's changes to nodes and slots and the pools' turns are kept apart until the transaction ends: pools share, the tracker is alone.
// One lock and not the rows': a batch takes pools in the order of their mail and the tracker nodes in the order of their names, so row locks
// would wait for each other in a circle. Taken before the first slot is touched; what is read after it stays true.

export const SHARE_SLOTS = `select pg_advisory_xact_lock_shared(hashtext('gpu-dev slots')::bigint)`;

/** For a pool: what it reads from now on is so that no node and no slot comes or goes until the transaction ends. Sent. */
export function shareSlots(tx: Transaction): void {
  tx.send(SHARE_SLOTS, []);
}

export const LOCK_SLOTS = `select pg_advisory_xact_lock(hashtext('gpu-dev slots')::bigint)`;

/** For the tracker: no pool plans, grants or takes back until the transaction ends. */
export async function lockSlots(tx: Transaction): Promise<void> {
  await tx.query(LOCK_SLOTS, []);
}

export type Requested = Extract<PoolMessage, { type: 'capacity.requested' }>;

export const ADD_REQUESTS = `
  insert into capacity_requests (reservation_id, gpu_type, owner, generation, slots, cpu_millis, memory_bytes, duration_hours, node_labels,
                                 gang_id, gang_size, submitted_at, status, place)
  select n.reservation_id, n.gpu_type, n.owner, n.generation, n.slots, n.cpu_millis, n.memory_bytes, n.duration_hours, n.node_labels,
         n.gang_id, n.gang_size, n.submitted_at, 'waiting', (select volume_place from disks where disk_id = n.disk_id)
    from jsonb_to_recordset($1::jsonb) as n(
           reservation_id text, gpu_type text, owner text, generation int, slots int, cpu_millis bigint, memory_bytes bigint,
           duration_hours double precision, node_labels jsonb, gang_id text, gang_size int, submitted_at timestamptz, disk_id uuid)
   order by n.reservation_id
  on conflict (reservation_id) do nothing`;

/** Put requests into the queues of their types, at the place of their submission, with the place of their disk's volume if that is known. A repeated request of the same life changes nothing. Sent. */
export function addRequests(tx: Transaction, requests: readonly { gpuType: string; event: Requested }[]): void {
  const rows = requests.map(({ gpuType, event }) => ({
    reservation_id: event.reservationId,
    gpu_type: gpuType,
    owner: event.owner,
    generation: event.generation,
    slots: event.slots,
    cpu_millis: event.cpuMillis,
    memory_bytes: event.memoryBytes,
    duration_hours: event.durationHours,
    node_labels: event.nodeLabels,
    gang_id: event.gang?.id ?? null,
    gang_size: event.gang?.size ?? null,
    submitted_at: event.submittedAt,
    disk_id: event.diskId ?? null,
  }));
  tx.send(ADD_REQUESTS, [storableJson(rows)]);
}

// All of them or none: somebody may have changed the ledger by hand. In the order of the slots, so that two who do that cannot wait for each
// other in a circle.
export const GRANT_SLOTS = `
  with wanted as (
    select * from unnest($1::text[], $2::int[], $3::text[], $4::int[]) as g(node, slot, reservation_id, generation)),
  held as materialized (
    select s.node, s.slot from gpu_slots s join wanted w on s.node = w.node and s.slot = w.slot
     where s.reservation_id is null order by s.node, s.slot for update of s)
  update gpu_slots s set reservation_id = w.reservation_id, generation = w.generation, held_since = $5
    from wanted w
   where s.node = w.node and s.slot = w.slot and s.reservation_id is null
     and (select count(*) from held) = (select count(*) from wanted)`;

/** Requests whose slots were granted in the statement before. */
export const GRANT_REQUESTS = `
  update capacity_requests r set status = 'granted', node = g.node, granted_at = $4, waits_because = null
    from unnest($1::text[], $2::int[], $3::text[]) as g(reservation_id, generation, node)
   where r.reservation_id = g.reservation_id and r.generation = g.generation and r.status = 'waiting'
     and exists (select 1 from gpu_slots s where s.reservation_id = g.reservation_id and s.generation = g.generation)`;

/**
 * Give slots to waiting requests.
 * @returns false if one of the slots is not free, and nothing was given: somebody changed the ledger by hand, and there must be a new plan
 * @throws if a request does not wait: the whole turn is rolled back, and nothing was promised
 */
export async function grantSlots(tx: Transaction, grants: readonly PlannedGrant[], at: string): Promise<boolean> {
  if (grants.length === 0) return true;
  const wanted = grants.flatMap(({ slots, ...grant }) => slots.map((slot) => ({ ...grant, slot })));
  const [slots, requests] = await Promise.all([
    tx.query(GRANT_SLOTS, [
      wanted.map(({ node }) => node),
      wanted.map(({ slot }) => slot),
      wanted.map(({ reservationId }) => reservationId),
      wanted.map(({ generation }) => generation),
      at,
    ]),
    tx.query(GRANT_REQUESTS, [
      grants.map(({ reservationId }) => reservationId),
      grants.map(({ generation }) => generation),
      grants.map(({ node }) => node),
      at,
    ]),
  ]);
  if (slots.rowCount === 0 && requests.rowCount === 0) return false;
  if (slots.rowCount === wanted.length && requests.rowCount === grants.length) return true;
  const whom = grants.map(({ reservationId, node }) => `${reservationId} on ${node}`).join(', ');
  throw new Error(`The ledger refuses what was planned (${whom}): ${slots.rowCount} of ${wanted.length} slots are free`);
}

export const DROP_REQUEST = 'delete from capacity_requests where reservation_id = $1 and ($2::int is null or generation <= $2)';

export const FREE_SLOTS = `
  update gpu_slots set reservation_id = null, generation = null, held_since = null where reservation_id = $1
  returning node, exists (select 1 from nodes n where n.node = gpu_slots.node) as known`;

export const DROP_NODELESS_SLOTS = `
  delete from gpu_slots s
   where s.node = any($1::text[]) and s.reservation_id is null and not exists (select 1 from nodes n where n.node = s.node)`;

/**
 * Take back what a reservation holds or waits for. A return of an earlier life leaves a later one alone.
 * @param generation null takes back whatever life it is.
 */
export async function releaseSlots(tx: Transaction, reservationId: string, generation: number | null): Promise<void> {
  // First of all: the count of a node's promises is a row, and the tracker, which is alone with the slots, writes it too.
  shareSlots(tx);
  const { rowCount } = await tx.query(DROP_REQUEST, [reservationId, generation]);
  if (rowCount === 0) return;
  const { rows } = await tx.query<{ node: string; known: boolean }>(FREE_SLOTS, [reservationId]);
  const nodeless = rows.filter(({ known }) => !known).map(({ node }) => node);
  if (nodeless.length > 0) await tx.query(DROP_NODELESS_SLOTS, [nodeless]);
}

export const ENDED_REQUESTS = `select r.reservation_id from capacity_requests r join actors a on a.actor = 'reservation/' || r.reservation_id
      where r.gpu_type = $1 and a.status = 'done'
        and not exists (select 1 from mailbox m where m.actor = 'gpu-pool/' || $1 and m.event->>'reservationId' = r.reservation_id)`;

/** Take back slots and places of reservations whose actors have ended: proof is our own database. @returns their ids. */
export async function releaseEnded(tx: Transaction, gpuType: string): Promise<string[]> {
  const { rows } = await tx.query<{ reservation_id: string }>(ENDED_REQUESTS, [gpuType]);
  for (const row of rows) await releaseSlots(tx, row.reservation_id, null);
  return rows.map((row) => row.reservation_id);
}
