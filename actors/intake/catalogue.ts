/** The catalogue of GPU types: what exists, and what one may ask of it. */
import type { Queryable } from '../../persistence/database.ts';
import { Problem } from '../problem.ts';

export interface GpuType {
  gpuType: string;
  instanceType: string;
  resourceName: string | null;
  maxGpus: number;
  maxPerNode: number;
  maxGangNodes: number;
  cpus: number;
  memoryGb: number;
  cpuShare: number;
  memoryShare: number;
  efaCount: number;
  maxHours: number;
  maxTotalHours: number;
  /** Maintenance that is announced or in force; null or left out if there is none. */
  maintenance?: TypeMaintenance | null;
}

export interface TypeMaintenance {
  reason: string;
  /** ISO 8601; null: nobody knows yet. */
  until: string | null;
  /** Users whom it does not concern. */
  allowed: string[];
  /** As of the reading. */
  inForce: boolean;
}

export const READ_CATALOGUE = `select t.gpu_type as "gpuType", instance_type as "instanceType", resource_name as "resourceName", max_gpus as "maxGpus",
            max_per_node as "maxPerNode", max_gang_nodes as "maxGangNodes", cpus, memory_gb as "memoryGb", cpu_share as "cpuShare",
            memory_share as "memoryShare", efa_count as "efaCount", max_hours as "maxHours", max_total_hours as "maxTotalHours",
            case when m.gpu_type is not null then jsonb_build_object('reason', m.reason, 'allowed', m.allowed_users, 'until', m.until_at,
              'inForce', m.from_at <= now() and coalesce(m.until_at > now(), true)) end as maintenance
       from gpu_types t left join maintenance m using (gpu_type) where is_active order by t.gpu_type`;

/** All active types. A handful of rows, read for each request: the catalogue may change at any time. */
export async function readCatalogue(db: Queryable): Promise<Map<string, GpuType>> {
  const { rows } = await db.query<GpuType>(READ_CATALOGUE);
  return new Map(rows.map((row) => [row.gpuType, row]));
}

export type Catalogue = ReadonlyMap<string, GpuType>;

export const CATALOGUE_VERSION = 'select version from catalogue_version';

/** The catalogue as last read of one database, read again when it has changed. */
export class KnownCatalogue {
  #version: number | null = null;
  #types: Catalogue = new Map();

  /** As last read, however long ago; read if it never was. What is made of it counts only if it {@link isCurrent}. */
  async last(db: Queryable): Promise<{ types: Catalogue; version: number | null }> {
    if (this.#version === null) await this.read(db);
    return { types: this.#types, version: this.#version };
  }

  /** Whether this version is still the present one. If not, it is read again the next time. */
  async isCurrent(db: Queryable, version: number | null): Promise<boolean> {
    const isCurrent = version !== null && (await versionOf(db)) === version;
    if (!isCurrent && this.#version === version) this.#version = null;
    return isCurrent;
  }

  async read(db: Queryable): Promise<Catalogue> {
    const version = await versionOf(db);
    if (version !== null && version === this.#version) return this.#types;
    // Should it change between the two statements, the version that is remembered is too old, and the next call reads again.
    this.#types = await readCatalogue(db);
    this.#version = version;
    return this.#types;
  }
}

async function versionOf(db: Queryable): Promise<number | null> {
  const { rows } = await db.query<{ version: number }>(CATALOGUE_VERSION, []);
  return rows[0]?.version ?? null;
}

/**
 * Nobody whom maintenance concerns gets into the line while it lasts.
 * @throws Problem with the reason, and until when
 */
export function refuseMaintenance({ gpuType, maintenance }: GpuType, owner: string): void {
  if (maintenance == null || !maintenance.inForce || maintenance.allowed.includes(owner)) return;
  const { reason } = maintenance;
  const until = maintenance.until === null ? null : new Date(maintenance.until).toISOString();
  throw new Problem(
    'GPU_TYPE_MAINTENANCE',
    `${gpuType} is under maintenance${until === null ? '' : ` until ${until}`}: ${reason}`,
    { field: 'gpu_type', details: { reason, until } },
  );
}

/** Slots of the ledger that a request takes: its GPUs, or the one slot of a CPU node. */
export function slotsOf(type: Pick<GpuType, 'maxGpus'>, gpuCount: number): number {
  return type.maxGpus === 0 ? 1 : gpuCount;
}

/** CPU and memory that the dev server requests: its share of the node. */
export function shareOf(type: GpuType, slots: number): { cpuMillis: number; memoryBytes: number } {
  return {
    cpuMillis: Math.floor(type.cpus * type.cpuShare * slots) * 1_000 || Math.floor(type.cpus * type.cpuShare * slots * 1_000),
    memoryBytes: Math.max(1, Math.floor(type.memoryGb * type.memoryShare * slots)) * 1024 ** 3,
  };
}

/** GPU counts that fit on one node of the type. */
export function countsOf(type: GpuType): number[] {
  if (type.maxGpus === 0) return [0];
  return [1, 2, 4, 8, 16].filter((count) => count <= type.maxGpus);
}
