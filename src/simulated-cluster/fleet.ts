import type { FleetEntry, Settings } from './settings.ts';
import { timestamp } from './quantities.ts';
import type { KubeObject, Loose } from './types.ts';

/** What one machine of a GPU type has. */
interface Machine {
  instanceType: string;
  gpus: number;
  gpuResource?: string;
  cpu: number;
  memoryGi: number;
  arch?: 'amd64' | 'arm64';
  efa?: number;
  nodes?: number;
}

const H100 = { instanceType: 'p5.48xlarge', cpu: 192, memoryGi: 2048 };
const B200 = { instanceType: 'p6-b200.48xlarge', cpu: 192, memoryGi: 2048 };

const MACHINES: Record<string, Machine> = {
  t4: { instanceType: 'g4dn.12xlarge', gpus: 4, cpu: 48, memoryGi: 192 },
  't4-small': { instanceType: 'g4dn.2xlarge', gpus: 1, cpu: 8, memoryGi: 32 },
  l4: { instanceType: 'g6.12xlarge', gpus: 4, cpu: 48, memoryGi: 192, efa: 1 },
  a10g: { instanceType: 'g5.12xlarge', gpus: 4, cpu: 48, memoryGi: 192, efa: 1 },
  g5g: { instanceType: 'g5g.2xlarge', gpus: 2, cpu: 8, memoryGi: 32, arch: 'arm64' },
  rtxpro6000: { instanceType: 'g7e.24xlarge', gpus: 4, cpu: 96, memoryGi: 1024, efa: 2 },
  a100: { instanceType: 'p4d.24xlarge', gpus: 8, cpu: 96, memoryGi: 1152, efa: 4 },
  h100: { ...H100, gpus: 8, efa: 32, nodes: 2 },
  h200: { instanceType: 'p5e.48xlarge', gpus: 8, cpu: 192, memoryGi: 2048, efa: 32 },
  b200: { ...B200, gpus: 8, efa: 8 },
  b300: { instanceType: 'p6-b300.48xlarge', gpus: 8, cpu: 192, memoryGi: 2048, efa: 8 },
  'h100-mig-1g': { ...H100, gpus: 16, gpuResource: 'nvidia.com/mig-1g.10gb' },
  'h100-mig-2g': { ...H100, gpus: 8, gpuResource: 'nvidia.com/mig-2g.20gb' },
  'h100-mig-3g': { ...H100, gpus: 8, gpuResource: 'nvidia.com/mig-3g.40gb' },
  'b200-mig-1g': { ...B200, gpus: 4, gpuResource: 'nvidia.com/mig-1g.23gb' },
  'b200-mig-2g': { ...B200, gpus: 2, gpuResource: 'nvidia.com/mig-2g.45gb' },
  'b200-mig-3g': { ...B200, gpus: 2, gpuResource: 'nvidia.com/mig-3g.90gb' },
  'cpu-arm': { instanceType: 'c7g.8xlarge', gpus: 0, cpu: 32, memoryGi: 64, arch: 'arm64' },
  'cpu-x86': { instanceType: 'c7i.8xlarge', gpus: 0, cpu: 32, memoryGi: 64 },
  'cpu-spot': { instanceType: 'c6id.2xlarge', gpus: 0, cpu: 8, memoryGi: 16 },
  'cpu-small': { instanceType: 'T1_TRN', gpus: 0, cpu: 8, memoryGi: 16 },
  'cpu-large': { instanceType: 'T1_TRN', gpus: 0, cpu: 32, memoryGi: 64 },
};

/** The GPU types the standard fleet has. */
export const STANDARD_TYPES: readonly string[] = Object.keys(MACHINES);

/** The node objects of a fleet; uid and versions are filled in by the store. */
export function fleetNodes(settings: Settings, now: number): KubeObject[] {
  const fleet = settings.fleet ?? Object.fromEntries(Object.entries(MACHINES).map(([type, { nodes }]) => [type, nodes ?? 1]));
  const nodes: KubeObject[] = [];
  for (const [type, wanted] of Object.entries(fleet)) {
    const entry: FleetEntry = typeof wanted === 'number' ? { nodes: wanted } : wanted;
    const machine = machineFor(type, entry);
    for (let index = 1; index <= entry.nodes; index++) nodes.push(node(type, machine, index, nodes.length + 1, now));
  }
  return nodes;
}

function machineFor(type: string, entry: FleetEntry): Machine {
  const base = MACHINES[type] ?? { instanceType: type, gpus: type.startsWith('cpu') ? 0 : 8, cpu: 96, memoryGi: 1024 };
  const given = Object.fromEntries(Object.entries(entry).filter(([key, value]) => key !== 'nodes' && value !== undefined));
  return { ...base, ...given };
}

function node(type: string, machine: Machine, index: number, ordinal: number, now: number): KubeObject {
  const name = `${type}-${index}`;
  const gpu = machine.gpus > 0;
  const at = timestamp(now);
  const amounts = (cpu: number, memoryGi: number): Loose => ({
    cpu: cpu % 1 === 0 ? String(cpu) : `${Math.round(cpu * 1000)}m`,
    'ephemeral-storage': '4000Gi',
    ...(machine.efa ? { 'hugepages-2Mi': '10256Mi' } : {}),
    memory: `${Math.floor(memoryGi * 1024)}Mi`,
    ...(gpu ? { [machine.gpuResource ?? 'nvidia.com/gpu']: String(machine.gpus) } : {}),
    pods: '110',
    ...(machine.efa ? { 'vpc.amazonaws.com/efa': String(machine.efa) } : {}),
  });
  const condition = (kind: string, status: string, reason: string, message: string): Loose => ({
    type: kind,
    status,
    lastHeartbeatTime: at,
    lastTransitionTime: at,
    reason,
    message,
  });
  const zone = `us-east-2${'abc'[(index - 1) % 3]}`;
  return {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: {
      name,
      uid: '',
      resourceVersion: '',
      creationTimestamp: at,
      labels: {
        GpuType: type,
        NodeType: gpu ? 'gpu' : 'cpu',
        'beta.kubernetes.io/arch': machine.arch ?? 'amd64',
        'kubernetes.io/arch': machine.arch ?? 'amd64',
        'kubernetes.io/hostname': name,
        'kubernetes.io/os': 'linux',
        'node.kubernetes.io/instance-type': machine.instanceType,
        'topology.kubernetes.io/region': 'us-east-2',
        'topology.kubernetes.io/zone': zone,
      },
    },
    spec: {
      providerID: `simulated:///${zone}/${name}`,
      ...(gpu ? { taints: [{ key: 'nvidia.com/gpu', value: 'present', effect: 'NoSchedule' }] } : {}),
    },
    status: {
      addresses: [
        { type: 'InternalIP', address: `10.0.${Math.floor(ordinal / 250)}.${(ordinal % 250) + 1}` },
        { type: 'Hostname', address: name },
      ],
      capacity: amounts(machine.cpu, machine.memoryGi),
      // What the system and the kubelet keep for themselves: a twentieth.
      allocatable: amounts(Math.round(machine.cpu * 950) / 1000, machine.memoryGi * 0.95),
      conditions: [
        condition('MemoryPressure', 'False', 'KubeletHasSufficientMemory', 'kubelet has sufficient memory available'),
        condition('DiskPressure', 'False', 'KubeletHasNoDiskPressure', 'kubelet has no disk pressure'),
        condition('PIDPressure', 'False', 'KubeletHasSufficientPID', 'kubelet has sufficient PID available'),
        condition('Ready', 'True', 'KubeletReady', 'kubelet is posting ready status'),
      ],
      daemonEndpoints: { kubeletEndpoint: { Port: 10250 } },
      nodeInfo: {
        architecture: machine.arch ?? 'amd64',
        bootID: '',
        containerRuntimeVersion: 'simulated://1.0',
        kernelVersion: '6.1.0',
        kubeProxyVersion: 'v1.32.0',
        kubeletVersion: 'v1.32.0',
        machineID: '',
        operatingSystem: 'linux',
        osImage: 'Simulated Linux',
        systemUUID: '',
      },
      images: [],
    },
  };
}
