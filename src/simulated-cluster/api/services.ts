import { type FieldProblem, invalid } from '../errors.ts';
import { resourceById } from '../resources.ts';
import { keyOf } from '../store.ts';
import type { KubeObject, Loose } from '../types.ts';
import { bad } from '../validation.ts';
import type { World } from '../world.ts';

const FIRST_PORT = 30000;
const LAST_PORT = 32767;

/** Gives a Service its cluster address and node ports, keeping those it had. 422 for a port that is taken or out of range. */
export function allocateService(world: World, service: KubeObject, previous: KubeObject | undefined): void {
  const { spec } = service;
  spec.sessionAffinity ??= 'None';
  spec.internalTrafficPolicy ??= 'Cluster';
  if (spec.type === 'ExternalName') return;
  spec.clusterIP ??= previous?.spec.clusterIP ?? freeAddress(world);
  spec.clusterIPs = [spec.clusterIP];
  spec.ipFamilies ??= ['IPv4'];
  spec.ipFamilyPolicy ??= 'SingleStack';
  const exposed = spec.type === 'NodePort' || spec.type === 'LoadBalancer';
  if (exposed) spec.externalTrafficPolicy ??= 'Cluster';
  const problems: FieldProblem[] = [];
  const taken = new Set<number>();
  (spec.ports ?? []).forEach((port: Loose, index: number) => {
    port.protocol ??= 'TCP';
    port.targetPort ??= port.port;
    if (!exposed) {
      delete port.nodePort;
      return;
    }
    const before = (previous?.spec.ports ?? []).find((each: Loose) => each.port === port.port && each.protocol === port.protocol);
    port.nodePort ??= before?.nodePort;
    if (!port.nodePort) return;
    const at = `spec.ports[${index}].nodePort`;
    const { nodePort } = port;
    if (!Number.isInteger(nodePort) || nodePort < FIRST_PORT || nodePort > LAST_PORT) {
      problems.push(
        bad(at, nodePort, `provided port is not in the valid range. The range of valid ports is ${FIRST_PORT}-${LAST_PORT}`),
      );
    } else if (taken.has(nodePort) || heldByAnother(world, nodePort, keyOf(service))) {
      problems.push(bad(at, nodePort, 'provided port is already allocated'));
    }
    taken.add(nodePort);
  });
  if (problems.length > 0) throw invalid(resourceById('services'), service.metadata.name, problems);
  if (!exposed) return;
  for (const port of spec.ports ?? []) {
    if (port.nodePort) continue;
    port.nodePort = freePort(world, service, taken);
    taken.add(port.nodePort);
  }
}

function heldByAnother(world: World, port: number, key: string): boolean {
  return [...world.store.indexes.servicesWithNodePort(port)].some((holder) => holder !== key);
}

function freePort(world: World, service: KubeObject, taken: Set<number>): number {
  const count = LAST_PORT - FIRST_PORT + 1;
  const start = world.store.random.integer(count);
  for (let step = 0; step < count; step++) {
    const port = FIRST_PORT + ((start + step) % count);
    if (!taken.has(port) && !heldByAnother(world, port, keyOf(service))) return port;
  }
  const full = bad('spec.ports[0].nodePort', 0, 'failed to allocate a nodePort: range is full');
  throw invalid(resourceById('services'), service.metadata.name, [full]);
}

function freeAddress(world: World): string {
  for (;;) {
    const address = `10.${96 + world.store.random.integer(16)}.${world.store.random.integer(256)}.${1 + world.store.random.integer(254)}`;
    if (world.store.indexes.servicesWithClusterIp(address).size === 0) return address;
  }
}
