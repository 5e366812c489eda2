/** What of a node a dev server gets: devices, CPU and memory. Pure. */
import type { StayPolicy } from '../../machines/reservation.context.ts';
import { type GpuType, slotsOf } from '../intake/catalogue.ts';
import type { ServerSpec } from './ports.ts';

/** What of its GPU type a server depends on. */
export type ServerType = Pick<
  GpuType,
  'gpuType' | 'instanceType' | 'resourceName' | 'maxGpus' | 'maxPerNode' | 'cpus' | 'memoryGb' | 'efaCount'
>;

export type Shares = Pick<
  ServerSpec,
  | 'resource'
  | 'efaCount'
  | 'cpuRequestMillis'
  | 'cpuLimitMillis'
  | 'memoryRequestBytes'
  | 'memoryLimitBytes'
  | 'sharedMemoryBytes'
>;

const GIB = 1024 ** 3;
const LARGEST_SHARED_MEMORY = 64 * GIB;

/**
 * The share of a server. What it requests was fixed when it was asked for; limits give GPU servers half as much CPU again as their fair
 * share, and the whole of it in memory, of what the node has to give. CPU types and MIG slices get what they request: nobody can press a neighbour off the node.
 * Whoever has the whole node has its network cards too.
 * @param node what the node has to give; null if that is not known
 */
export function sharesOf(
  type: ServerType,
  gpuCount: number,
  policy: Pick<StayPolicy, 'cpuMillis' | 'memoryBytes'>,
  node: { cpuMillis: number; memoryBytes: number } | null,
): Shares {
  const slots = slotsOf(type, gpuCount);
  const share = slots / type.maxPerNode;
  const exact = type.resourceName === null || type.gpuType.includes('-mig-');
  const cpuLimit = exact ? policy.cpuMillis : Math.min(type.cpus, Math.floor(type.cpus * share * 1.5)) * 1_000;
  const nominalMemory = exact ? policy.memoryBytes : Math.floor(type.memoryGb * share) * GIB;
  // What a node keeps for itself is nobody's share: else servers that all use what they may would press each other off it.
  const memoryLimit = node === null ? nominalMemory : Math.min(nominalMemory, Math.floor(node.memoryBytes * share));
  return {
    resource: type.resourceName === null ? null : { name: type.resourceName, count: slots },
    efaCount: share === 1 ? type.efaCount : 0,
    cpuRequestMillis: policy.cpuMillis,
    cpuLimitMillis: node === null ? cpuLimit : Math.max(policy.cpuMillis, Math.min(cpuLimit, node.cpuMillis)),
    memoryRequestBytes: policy.memoryBytes,
    memoryLimitBytes: Math.max(policy.memoryBytes, memoryLimit),
    sharedMemoryBytes: Math.min(LARGEST_SHARED_MEMORY, Math.floor(policy.memoryBytes / 2)),
  };
}
