/** Nodes and pods that nobody runs: objects of a large cluster, as an API server shows them. */

export interface Node {
  metadata: { name: string; labels: Record<string, string> };
  status: Record<string, unknown>;
}

/** A node of eight GPUs. */
export function nodeOf(index: number): Node {
  const name = `large-${index}`;
  const amounts = { 'nvidia.com/gpu': '8', cpu: '192', memory: '2048Gi', pods: '110' };
  return {
    metadata: { name, labels: { GpuType: 'h100', NodeType: 'gpu', 'kubernetes.io/hostname': name } },
    status: {
      capacity: amounts,
      allocatable: amounts,
      conditions: [{ type: 'Ready', status: 'True', reason: 'KubeletReady', message: 'ready' }],
    },
  };
}

/** Somebody else's pod on that node, which takes a GPU and some memory of it. */
export function podOn(node: string, index: number) {
  const resources = { requests: { cpu: '2', memory: '8Gi' }, limits: index % 10 === 0 ? { 'nvidia.com/gpu': '1' } : {} };
  return {
    metadata: { name: `busy-${index}`, labels: { team: `team-${index % 20}` }, annotations: { note: 'x'.repeat(400) } },
    spec: {
      nodeName: node,
      containers: [
        { name: 'main', image: 'registry.example.org/somebody/tool:1.0', resources, env: [{ name: 'MODE', value: 'train' }] },
      ],
    },
  };
}

/** Do `work` for each, some at a time. */
export async function eachAtOnce<T>(items: readonly T[], lanes: number, work: (item: T) => Promise<unknown>): Promise<void> {
  let next = 0;
  const lane = async () => {
    while (next < items.length) await work(items[next++]!);
  };
  await Promise.all(Array.from({ length: lanes }, lane));
}
