import { afterAll, beforeAll, expect, it } from 'vitest';
import { NotYet } from '../../../actors/errors.ts';
import { KubernetesDevServers } from '../../../src/providers/kubernetes/dev-servers.ts';
import { startCluster, type TestCluster } from './support/cluster.ts';
import { serverSpec } from './support/specs.ts';

/** Ports of nodes that a cluster gives to services, by default. */
const PORTS = 2_768;
const EACH = 100;

let cluster: TestCluster;
beforeAll(async () => {
  cluster = await startCluster();
});
afterAll(() => cluster.stop());

it('a server waits for a port of a node where all are taken, and has one when another ends', async () => {
  const { core, namespace } = cluster.client;
  for (let taken = 0; taken < PORTS; taken += EACH) {
    const ports = Array.from({ length: Math.min(EACH, PORTS - taken) }, (_, index) => ({
      name: `p-${index}`,
      port: 1_000 + index,
    }));
    const body = { metadata: { name: `filler-${taken}` }, spec: { type: 'NodePort', ports } };
    await core.createNamespacedService({ namespace, body });
  }
  const servers = new KubernetesDevServers({ client: cluster.client });
  const spec = serverSpec();
  const refused = await servers.create(spec).catch((error: unknown) => error);
  expect(refused).toBeInstanceOf(NotYet);
  expect((refused as NotYet).message).toContain('node port');
  await core.deleteNamespacedService({ namespace, name: 'filler-0' });
  expect((await servers.create(spec)).connection.port).toBeGreaterThanOrEqual(30_000);
});
