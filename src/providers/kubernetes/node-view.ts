/** A node as the tracker wants it: pure, from the object of the API. */
import type { V1Node } from '@kubernetes/client-node';
import type { NodeView } from '../../../actors/gpu-pool/ports.ts';
import { bytes, millis, quantity } from './quantities.ts';

/** The only taint that dev servers tolerate. */
export const GPU_TAINT = 'nvidia.com/gpu';
const ZONE_LABELS = ['topology.kubernetes.io/zone', 'failure-domain.beta.kubernetes.io/zone'];

export function nodeView(node: V1Node): NodeView {
  const { metadata = {}, spec = {}, status = {} } = node;
  const labels = metadata.labels ?? {};
  const allocatable = status.allocatable ?? {};
  return {
    name: metadata.name ?? '',
    uid: metadata.uid ?? '',
    gpuType: labels.GpuType ?? null,
    ready: (status.conditions ?? []).some(({ type, status: value }) => type === 'Ready' && value === 'True'),
    cordoned: spec.unschedulable === true,
    foreignTaints: (spec.taints ?? [])
      .filter(({ key, effect }) => key !== GPU_TAINT && (effect === 'NoSchedule' || effect === 'NoExecute'))
      // A cordon shows as a taint too; it has its own field.
      .filter(({ key }) => key !== 'node.kubernetes.io/unschedulable')
      .map(({ key }) => key),
    resources: extended(allocatable),
    cpuMillis: millis(allocatable.cpu),
    memoryBytes: bytes(allocatable.memory),
    address: nodeAddress(node),
    zone: ZONE_LABELS.map((label) => labels[label]).find((zone) => zone !== undefined) ?? null,
    labels,
  };
}

/** Where the node's ports answer: its public address if it has one. */
export function nodeAddress(node: V1Node): string | null {
  const addresses = node.status?.addresses ?? [];
  const of = (kind: string) => addresses.find(({ type, address }) => type === kind && address !== '')?.address;
  return of('ExternalIP') ?? of('ExternalDNS') ?? of('InternalIP') ?? of('InternalDNS') ?? of('Hostname') ?? null;
}

/** Resources with a domain in their name: devices, counted in whole numbers. */
export function extended(amounts: Record<string, string>): Record<string, number> {
  return Object.fromEntries(
    Object.entries(amounts)
      .filter(([name]) => name.includes('/'))
      .map(([name, amount]) => [name, quantity(amount)]),
  );
}
