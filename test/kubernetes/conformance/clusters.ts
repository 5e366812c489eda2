// The clusters that the conformance suite knows.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createClient } from '../../../src/providers/kubernetes/client.ts';
import { FaultProxy } from '../../support/kubernetes/fault-proxy.ts';
import { realCluster } from '../../support/kubernetes/real-cluster.ts';
import { startCluster } from '../../integration/providers/support/cluster.ts';
import type { ClusterUnderTest, OpenCluster } from './subject.ts';

/** So few remembered changes that a little work makes it forget. */
const MEMORY = 40;

const simulatedCluster = (name: string, settings: Record<string, unknown>): ClusterUnderTest => ({
  name,
  missing: '',
  async open(): Promise<OpenCluster> {
    const cluster = await startCluster({ eventLogLimit: MEMORY, bookmarkMs: 200, ...settings });
    const folder = await mkdtemp(join(tmpdir(), 'gpu-dev-conformance-'));
    const { client } = cluster;
    const proxies: FaultProxy[] = [];
    return {
      client,
      async faulty(options = {}) {
        const proxy = await FaultProxy.to({ server: client.config.getCurrentCluster()?.server ?? '' });
        const file = join(folder, `kubeconfig-${proxies.push(proxy)}`);
        const config = JSON.parse(client.config.exportConfig()) as { clusters: { cluster: { server: string } }[] };
        for (const each of config.clusters) each.cluster.server = proxy.url;
        await writeFile(file, JSON.stringify(config));
        return { proxy, client: createClient({ kubeconfig: file, ...options }) };
      },
      befall: async (what) => {
        await cluster.simulate(`/simulation/${what.replace(/^pods\//, `pods/${client.namespace}/`)}`);
      },
      async forget() {
        const { core, namespace } = client;
        for (let count = 0; count < MEMORY; count += 1) {
          const name = `forgotten-${count}`;
          await core.createNamespacedConfigMap({ namespace, body: { metadata: { name }, data: {} } });
          await core.deleteNamespacedConfigMap({ namespace, name });
        }
      },
      async close() {
        await Promise.all(proxies.map((proxy) => proxy.close()));
        await cluster.stop();
        await rm(folder, { recursive: true });
      },
    };
  },
});

export const simulated = simulatedCluster('the simulated cluster', {});
export const simulatedWithoutSnapshots = simulatedCluster('the simulated cluster without VolumeSnapshots', {
  volumeSnapshots: false,
});

/** To be called at the top of a test file. It is one of its own: nodes are cordoned and the API server is restarted. */
export async function realApiServer({ snapshots = true } = {}): Promise<ClusterUnderTest> {
  const cluster = await realCluster({ own: true, fleet: { h100: 2, 'cpu-x86': 1 }, snapshots });
  return {
    name: snapshots ? 'a real API server' : 'a real API server without VolumeSnapshots',
    missing: cluster.missing,
    open: async () => ({
      client: cluster.client,
      faulty: (options) => cluster.faulty(options),
      async befall(what) {
        const [subject, node, act] = what.split('/');
        if (subject !== 'nodes') await cluster.befall(what);
        else
          await cluster.api.ask(
            'PATCH',
            `/api/v1/nodes/${node}`,
            { spec: { unschedulable: act === 'cordon' } },
            'application/merge-patch+json',
          );
      },
      // Its memory of changes is its own: one that starts has none from before.
      forget: () => cluster.befall('api-server/restart'),
      close: async () => undefined,
    }),
  };
}
