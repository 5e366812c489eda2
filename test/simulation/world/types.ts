/** The GPU types of the simulated world, as the migrations offer them. */
import type { GpuTypeRow } from '../store/schema.ts';

function type(gpuType: string, gpus: number, perNode: number, gangNodes: number, cpus: number, memoryGb: number): GpuTypeRow {
  const cpu = gpus === 0;
  return {
    gpuType,
    instanceType: `${gpuType}.node`,
    resourceName: cpu ? null : 'nvidia.com/gpu',
    maxGpus: gpus,
    maxPerNode: perNode,
    maxGangNodes: gangNodes,
    cpus,
    memoryGb,
    cpuShare: cpu ? 0.85 : 0.9 / perNode,
    memoryShare: cpu ? 0.8 : 0.9 / perNode,
    efaCount: 0,
    maxHours: cpu ? 720 : 24,
    maxTotalHours: cpu ? 720 : 48,
    isActive: true,
  };
}

export const GPU_TYPES = [type('t4', 4, 4, 1, 48, 192), type('a100', 8, 8, 6, 96, 1152), type('cpu-small', 0, 1, 1, 8, 16)];
