/** The whole in a few numbers: GPUs by type, and reservations by what they do. */
import type { Queryable } from './database.ts';

export interface TypeUsage {
  gpu_type: string;
  /** False of types that have CPUs only: their slots are whole nodes. */
  has_gpus: boolean;
  max_per_node: number;
  total: number;
  free: number;
  in_use: number;
  /** Slots that those who wait for capacity ask for. */
  wanted: number;
}

const USAGE = `
  select t.gpu_type, t.max_gpus > 0 as has_gpus, t.max_per_node, coalesce(a.total, 0) as total, coalesce(a.free, 0) as free,
         coalesce(a.in_use, 0) as in_use,
         (select coalesce(sum(c.slots), 0)::int from capacity_requests c where c.gpu_type = t.gpu_type and c.status = 'waiting') as wanted
    from gpu_types t left join gpu_availability a using (gpu_type)
   where t.is_active order by t.gpu_type`;

/** What there is of each active type. */
export async function readUsage(db: Queryable): Promise<TypeUsage[]> {
  return (await db.query<TypeUsage>(USAGE, [])).rows;
}

const COUNTS = `
  select status::text as status, count(*)::int as count from reservations
   where status in ('queued', 'building', 'provisioning', 'running', 'extending', 'snapshotting') group by status`;

/** How many reservations are in each state that is no end. */
export async function countLive(db: Queryable): Promise<ReadonlyMap<string, number>> {
  const { rows } = await db.query<{ status: string; count: number }>(COUNTS, []);
  return new Map(rows.map(({ status, count }) => [status, count]));
}
