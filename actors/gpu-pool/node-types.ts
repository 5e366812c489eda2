/** GPU types as the tracker needs them, and of which type each node on record is. */
import type { NodeRow } from '../../persistence/gpu-nodes.ts';
import type { Queryable, Transaction } from '../../persistence/database.ts';

/** A type of the catalogue. One that is no longer offered still has nodes, with servers on them. */
export interface OfferedType {
  gpuType: string;
  /** Kubernetes resource of its slots; null on CPU types. */
  resourceName: string | null;
  maxPerNode: number;
  offered: boolean;
}

export const NODE_TYPES = `select gpu_type as "gpuType", resource_name as "resourceName", max_per_node as "maxPerNode", is_active as offered
       from gpu_types order by gpu_type`;

/** All types, also those that are not offered. */
export async function readNodeTypes(db: Queryable): Promise<Map<string, OfferedType>> {
  const { rows } = await db.query<OfferedType>(NODE_TYPES, []);
  return new Map(rows.map((row) => [row.gpuType, row]));
}

export const RECORDED_TYPES = 'select node, gpu_type as "gpuType" from nodes';

/** Names of the nodes on record, each with its type. */
export async function readRecordedTypes(db: Queryable): Promise<Map<string, string>> {
  const { rows } = await db.query<{ node: string; gpuType: string }>(RECORDED_TYPES, []);
  return new Map(rows.map(({ node, gpuType }) => [node, gpuType]));
}

export const MOVE_SLOTS = `update gpu_slots s set gpu_type = n.gpu_type from nodes n
      where n.node = any($1::text[]) and s.node = n.node and s.gpu_type <> n.gpu_type`;

/** Slots follow their node to another type. One that is held keeps its holder. */
export async function moveSlots(tx: Transaction, rows: readonly NodeRow[]): Promise<void> {
  await tx.query(MOVE_SLOTS, [rows.map((row) => row.node)]);
}
