/** Node rows, and the slots that exist because of them. Written by the tracker. */
import type { Database, Transaction } from './database.ts';

export interface NodeRow {
  node: string;
  uid: string;
  gpuType: string;
  ready: boolean;
  schedulable: boolean;
  reason: string | null;
  slots: number;
  foreignSlots: number;
  cpuMillis: number;
  memoryBytes: number;
  foreignCpu: number;
  foreignMemory: number;
  address: string | null;
  zone: string | null;
  labels: Record<string, string>;
}

export const UPSERT = `
  insert into nodes (node, uid, gpu_type, ready, schedulable, reason, slots, foreign_slots, cpu_millis, memory_bytes, foreign_cpu, foreign_memory,
                     address, zone, labels, updated_at)
  select n.node, n.uid, n."gpuType", n.ready, n.schedulable, n.reason, n.slots, n."foreignSlots", n."cpuMillis", n."memoryBytes", n."foreignCpu",
         n."foreignMemory", n.address, n.zone, n.labels, now()
    from jsonb_to_recordset($1::jsonb) as n(node text, uid text, "gpuType" text, ready bool, schedulable bool, reason text, slots int,
         "foreignSlots" int, "cpuMillis" bigint, "memoryBytes" bigint, "foreignCpu" bigint, "foreignMemory" bigint, address text, zone text, labels jsonb)
  on conflict (node) do update set
     uid = excluded.uid, gpu_type = excluded.gpu_type, ready = excluded.ready, schedulable = excluded.schedulable, reason = excluded.reason,
     slots = excluded.slots, foreign_slots = excluded.foreign_slots, cpu_millis = excluded.cpu_millis, memory_bytes = excluded.memory_bytes,
     foreign_cpu = excluded.foreign_cpu, foreign_memory = excluded.foreign_memory, address = excluded.address, zone = excluded.zone,
     labels = excluded.labels, updated_at = excluded.updated_at`;

export const ADD_SLOTS = `
  insert into gpu_slots (gpu_type, node, slot)
  select n."gpuType", n.node, s.slot
    from jsonb_to_recordset($1::jsonb) as n(node text, "gpuType" text, slots int)
    cross join lateral generate_series(0, n.slots - 1) as s(slot)
  on conflict (node, slot) do nothing`;

export const DROP_SLOTS = `
  delete from gpu_slots s using jsonb_to_recordset($1::jsonb) as n(node text, slots int)
   where s.node = n.node and s.slot >= n.slots and s.reservation_id is null`;

/** Write nodes as seen now; slots follow their number. A slot that is held stays until it is free. */
export async function writeNodes(tx: Transaction, rows: readonly NodeRow[]): Promise<void> {
  if (rows.length === 0) return;
  const json = JSON.stringify(rows);
  await tx.query(UPSERT, [json]);
  await tx.query(ADD_SLOTS, [json]);
  await tx.query(DROP_SLOTS, [json]);
}

export const HOLDERS_ON = `select distinct reservation_id as "reservationId", generation from gpu_slots where node = $1 and reservation_id is not null`;

/** Who holds slots on a node: they are told when it is lost. */
export async function holdersOn(tx: Transaction, node: string): Promise<{ reservationId: string; generation: number }[]> {
  const { rows } = await tx.query<{ reservationId: string; generation: number }>(HOLDERS_ON, [node]);
  return rows;
}

export const REMOVE_NODES = 'delete from nodes where node = any($1::text[])';

export const REMOVE_FREE_SLOTS = 'delete from gpu_slots where node = any($1::text[]) and reservation_id is null';

/** Remove nodes whose objects are deleted, and their free slots. */
export async function removeNodes(tx: Transaction, nodes: readonly string[]): Promise<void> {
  await tx.query(REMOVE_NODES, [nodes]);
  await tx.query(REMOVE_FREE_SLOTS, [nodes]);
}

const AGE = `select coalesce(until < now() - make_interval(secs => $1), true) as old from leases where name = 'tracker' for update`;
const NEW_TERM = `update leases set token = token + 1, holder = '', until = now() where name = 'tracker'`;
const CLOSE_NODES = 'update nodes set schedulable = false, reason = $1, forgotten_at = now() where schedulable';

/**
 * What the rows say of nodes counts for nothing any more: nothing is given on them until a tracker has looked at the cluster anew. What runs there
 * runs on, and is extended: that nobody has looked says nothing against a node. Whoever tracks begins again.
 * @param reason in words for people
 */
export async function forgetNodes(tx: Transaction, reason: string): Promise<void> {
  await tx.query(NEW_TERM, []);
  await tx.query(CLOSE_NODES, [reason]);
}

/**
 * {@link forgetNodes}, if nobody has looked at the cluster for so long: the database may be a backup, older than what runs.
 * @returns whether it was so
 */
export async function forgetOldNodes(db: Database, { seconds, reason }: { seconds: number; reason: string }): Promise<boolean> {
  return db.withTransaction(async (tx) => {
    const { rows } = await tx.query<{ old: boolean }>(AGE, [seconds]);
    if (rows[0]?.old !== true) return false;
    await forgetNodes(tx, reason);
    return true;
  });
}
