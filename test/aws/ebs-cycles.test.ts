/**
 * Whole reservations with disks in EBS, through the service as a process, over a real API server and an EC2 that rules as EC2 does: a third
 * cancelled, a third with the service killed -9. What is left is asked of EC2 and of the API server.
 */
import { afterAll, beforeAll, expect } from 'vitest';
import { reservationsEndClean } from '../kubernetes/support/cycles.ts';
import type { ServiceScene } from '../kubernetes/support/service-scene.ts';
import type { Loose } from '../support/kubernetes/api.ts';
import { realCluster } from '../support/kubernetes/real-cluster.ts';
import { Ec2Stub } from './stub/ec2-stub.ts';
import { standInCsi } from './support/csi.ts';
import { CLUSTER } from './support/ebs.ts';

/** GPU_DEV_CYCLES=100 for the long one. */
const cycles = Number(process.env.GPU_DEV_CYCLES ?? 6);
const seed = Number(process.env.GPU_DEV_CYCLES_SEED ?? Date.now() % 100_000);

const cluster = await realCluster({ own: true, fleet: { h100: 2, 'cpu-x86': 1 } });
let stub: Ec2Stub;
let csi: { stop(): Promise<void> } | undefined;
/** What was last written to each disk. */
const written = new Map<string, string>();

beforeAll(async () => {
  stub = await Ec2Stub.start();
  Object.assign(stub.state.delays, { create: 100, capture: 200, remove: 100, show: 20 });
  if (cluster.missing) return;
  const nodes: Loose[] = (await cluster.api.ask('GET', '/api/v1/nodes')).items;
  for (const { metadata } of nodes) stub.state.addInstance(metadata.name, metadata.labels['topology.kubernetes.io/zone']);
  csi = standInCsi(cluster.client, {
    async attach(volumeId, node) {
      stub.state.attach(volumeId, node);
      const volume = stub.state.volume(volumeId);
      volume.content = `written at attachment ${written.size} to ${volumeId}`;
      written.set(volume.tags.get('gpu-dev:disk') ?? '', volume.content);
    },
    async detach(volumeId, node) {
      stub.state.detach(volumeId, node);
    },
  });
});
afterAll(async () => {
  await csi?.stop();
  await stub?.stop();
});

async function expectNothing(scene: ServiceScene): Promise<void> {
  const volumes = () => [...stub.state.volumes.values()].map(({ id, state }) => `${id} ${state}`);
  await scene.until('EBS has no volume', async () => {
    stub.state.settle();
    return volumes().length === 0;
  });
  expect(await cluster.list('persistentvolumeclaims')).toEqual([]);
  const backing: Loose[] = (await cluster.api.ask('GET', '/api/v1/persistentvolumes')).items;
  expect(backing.map(({ metadata }) => metadata.name)).toEqual([]);
  const { rows } = await scene.db.query<{ disk: string; id: string }>(
    `select s.disk_id as disk, e.ebs_snapshot_id as id
       from disk_snapshots s join ebs_snapshots e using (snapshot_id) where s.status = 'complete'`,
  );
  expect([...stub.state.snapshots.keys()].sort()).toEqual(rows.map(({ id }) => id).sort());
  const saved = new Map(rows.map(({ disk, id }) => [disk, stub.state.snapshots.get(id)?.content]));
  expect(Object.fromEntries([...saved].filter(([disk]) => written.has(disk)))).toEqual(Object.fromEntries(written));
}

reservationsEndClean(cluster, {
  cycles,
  seed,
  what: ' with disks in EBS',
  environment: () => ({
    CLOUD_PROVIDER: 'aws',
    AWS_REGION: 'us-east-2',
    AWS_ENDPOINT_URL: stub.url,
    AWS_ACCESS_KEY_ID: 'test',
    AWS_SECRET_ACCESS_KEY: 'test',
    EKS_CLUSTER_NAME: CLUSTER,
  }),
  expectNothing,
});
