/**
 * Whole reservations with disks in EBS, through the service as a process, over a real API server and an EC2 that rules as EC2 does: a third
 * cancelled, a third with the service killed -9. What is left is asked of EC2 and of the API server.
 *
 * GPU_DEV_CYCLES=100 for the long one; GPU_DEV_CYCLES_ON=moto has it all on moto, with names and ways to Jupyter.
 */
import { afterAll, beforeAll, expect } from 'vitest';
import { reservationsEndClean } from '../kubernetes/support/cycles.ts';
import type { ServiceScene } from '../kubernetes/support/service-scene.ts';
import type { Loose } from '../support/kubernetes/api.ts';
import { realCluster } from '../support/kubernetes/real-cluster.ts';
import { startMoto } from '../support/moto.ts';
import { standInCsi } from './support/csi.ts';
import { type CycleCloud, motoCloud, stubCloud, Writes } from './support/cycle-clouds.ts';
import { awsEnvironment, CLUSTER } from './support/ebs.ts';

const cycles = Number(process.env.GPU_DEV_CYCLES ?? 4);
const seed = Number(process.env.GPU_DEV_CYCLES_SEED ?? Date.now() % 100_000);

const cluster = await realCluster({ own: true, fleet: { h100: 2, 'cpu-x86': 1 } });
const moto = process.env.GPU_DEV_CYCLES_ON === 'moto' ? await startMoto() : null;
let cloud: CycleCloud;
let writes: Writes;
let csi: { stop(): Promise<void> } | undefined;

beforeAll(async () => {
  if (cluster.missing) return;
  cloud = moto === null ? await stubCloud(cluster) : await motoCloud(cluster, moto.url);
  writes = new Writes(cloud.url);
  csi = standInCsi(cluster.client, writes.watched(cloud.attaching));
});
afterAll(async () => {
  await csi?.stop();
  await cloud?.stop();
});

async function expectNothing(scene: ServiceScene): Promise<void> {
  await scene.until('EBS has no volume', async () => (await writes.volumes()).length === 0);
  expect(await cluster.list('persistentvolumeclaims')).toEqual([]);
  const backing: Loose[] = (await cluster.api.ask('GET', '/api/v1/persistentvolumes')).items;
  expect(backing.map(({ metadata }) => metadata.name)).toEqual([]);
  const { rows } = await scene.db.query<{ id: string }>(
    `select e.ebs_snapshot_id as id from disk_snapshots s join ebs_snapshots e using (snapshot_id) where s.status = 'complete'`,
  );
  expect((await writes.snapshots()).sort()).toEqual(rows.map(({ id }) => id).sort());
  expect(await writes.unsaved()).toEqual([]);
  await scene.until('no name, rule or target group is left', async () => (await cloud.left()).length === 0);
  const { rows: locks } = await scene.db.query(`select disk_name, reservation_id from disks where in_use or state <> 'idle'`);
  expect(locks).toEqual([]);
}

reservationsEndClean(cluster, {
  cycles,
  seed,
  what: ` with disks in EBS${moto === null ? '' : ', names and ways to Jupyter on moto'}`,
  environment: () => ({
    ...awsEnvironment(cloud.url, CLUSTER),
    ...cloud.environment,
  }),
  asks: () => cloud.asks,
  expectNothing,
});
