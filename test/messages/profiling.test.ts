import { describe, expect, it } from 'vitest';
import { parseCreate } from '../../actors/intake/create.ts';
import type { GpuType } from '../../actors/intake/catalogue.ts';
import { PROFILING_LABEL } from '../../actors/reservation/ports.ts';

const H100: GpuType = {
  gpuType: 'h100',
  instanceType: 'p5.48xlarge',
  resourceName: 'nvidia.com/gpu',
  maxGpus: 8,
  maxPerNode: 8,
  maxGangNodes: 6,
  cpus: 192,
  memoryGb: 2048,
  cpuShare: 0.9 / 8,
  memoryShare: 0.9 / 8,
  efaCount: 32,
  maxHours: 24,
  maxTotalHours: 48,
};
const labelsOf = (fields: object) =>
  parseCreate({ user_id: 'ada', gpu_type: 'h100', ...fields }, new Map([['h100', H100]])).request.nodeLabels;

describe('Q20: who asks to profile', () => {
  it.for([
    { profiling: true },
    { profiling: 'true' },
    { node_labels: { nsight: 'true' } },
    { node_labels: { [PROFILING_LABEL]: 'true' } },
    { profiling: true, node_labels: { nsight: 'true' } },
  ])('by %o needs a node that allows it, and no other will do', (fields) => {
    expect(labelsOf(fields)).toEqual({ [PROFILING_LABEL]: 'true' });
  });

  it.for([{}, { profiling: false }, { node_labels: { nsight: 'false' } }, { profiling: false, node_labels: { nsight: 'true' } }])(
    'does not by %o',
    (fields) => {
      expect(labelsOf(fields)).toEqual({});
    },
  );

  it('keeps the other labels asked for', () => {
    expect(labelsOf({ profiling: true, node_labels: { rack: 'r7' } })).toEqual({ rack: 'r7', [PROFILING_LABEL]: 'true' });
  });
});
