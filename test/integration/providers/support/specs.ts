/** Server specs for tests. */
import type { VolumeRequest } from '../../../../actors/disk/ports.ts';
import { v7 } from 'uuid';
import { Secret } from '../../../../actors/secret.ts';
import type { ServerSpec } from '../../../../actors/reservation/ports.ts';

export const KEY = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g someone@example';

/** One h100 GPU on node h100-1 for a user with one key; `change` says what is different. */
export function serverSpec(change: Partial<ServerSpec> = {}): ServerSpec {
  return {
    reservationId: v7(),
    generation: 1,
    owner: 'ada@example.com',
    name: 'brave_otter',
    gpuType: 'h100',
    gpuCount: 1,
    instanceType: 'p5.48xlarge',
    resource: { name: 'nvidia.com/gpu', count: 1 },
    efaCount: 0,
    node: 'h100-1',
    nodeAddress: '192.0.2.7',
    zone: 'us-east-2a',
    cpuRequestMillis: 20_000,
    cpuLimitMillis: 36_000,
    memoryRequestBytes: 230 * 2 ** 30,
    memoryLimitBytes: 256 * 2 ** 30,
    sharedMemoryBytes: 64 * 2 ** 30,
    image: null,
    preserveEntrypoint: false,
    recreateEnv: true,
    command: null,
    nodeLabels: {},
    claim: null,
    environment: new Secret({}),
    authorizedKeys: [KEY],
    jupyterToken: new Secret('token-of-jupyter'),
    sshPort: null,
    gang: null,
    ...change,
  };
}

/** What is asked for a new disk of ten gigabytes. */
export function volumeRequest(change: Partial<VolumeRequest> = {}): VolumeRequest {
  return {
    diskId: v7(),
    owner: 'ada@example.com',
    sizeGb: 10,
    snapshotId: null,
    expectVolume: false,
    node: 'h100-1',
    zone: null,
    ...change,
  };
}
