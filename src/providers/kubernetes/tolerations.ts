/** What all pods of ours bear with: the mark of nodes with GPUs, and for a short while a node that is lost. */
import type { V1Toleration } from '@kubernetes/client-node';
import { GPU_TAINT } from './node-view.ts';

/** @param lostNodeSeconds how long a pod stays on a node that does not answer */
export function tolerations(lostNodeSeconds: number): V1Toleration[] {
  return [
    { key: GPU_TAINT, operator: 'Exists', effect: 'NoSchedule' },
    ...['node.kubernetes.io/not-ready', 'node.kubernetes.io/unreachable'].map((key) => ({
      key,
      operator: 'Exists',
      effect: 'NoExecute',
      // Left out, the cluster waits five minutes.
      tolerationSeconds: lostNodeSeconds,
    })),
  ];
}
