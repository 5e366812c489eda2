/** The database is dropped while servers run on AWS: tags, records in DNS, rules and target groups bring all back, and nothing is made twice. */
import {
  AttachVolumeCommand,
  CreateSnapshotCommand,
  CreateVolumeCommand,
  DescribeSnapshotsCommand,
  DescribeVolumesCommand,
  DetachVolumeCommand,
} from '@aws-sdk/client-ec2';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { v7 } from 'uuid';
import { requestRun } from '../../../persistence/reality.ts';
import { createClient } from '../../../src/providers/kubernetes/client.ts';
import { standInCsi } from '../../aws/support/csi.ts';
import { CLUSTER, type Domain, makeDomain, namesEnvironment } from '../../aws/support/domain.ts';
import { awsEnvironment } from '../../aws/support/ebs.ts';
import { startMoto } from '../../support/moto.ts';
import { Loss } from './scene.ts';

const [RUNS, ENDS] = [1, 2].map((n) => `0198f000-0000-7000-8000-0000000000a${n}`) as [string, string];
const CLAIMED = '0198f000-0000-7000-8000-0000000000d1';
const moto = await startMoto();

describe.skipIf(moto.missing)('a database that was dropped, on AWS', () => {
  let loss: Loss;
  let domain: Domain;
  let csi: { stop(): Promise<void> };

  beforeAll(async () => {
    domain = await makeDomain(moto.url);
    loss = await Loss.start(
      { h100: 1 },
      {
        ...awsEnvironment(moto.url, CLUSTER),
        ...namesEnvironment(domain),
      },
    );
    const [InstanceId] = domain.instances;
    await fetch(`${loss.scene.clusterUrl}/api/v1/nodes/h100-1`, {
      method: 'PATCH',
      headers: { 'content-type': 'application/merge-patch+json' },
      body: JSON.stringify({ spec: { providerID: `aws:///us-east-2a/${InstanceId}` } }),
    });
    csi = standInCsi(createClient({ kubeconfig: `${loss.scene.folder}/kubeconfig` }), {
      attach: async (VolumeId) => {
        await domain.ec2.send(new AttachVolumeCommand({ VolumeId, InstanceId, Device: '/dev/sdf' }));
      },
      detach: async (VolumeId) => {
        await domain.ec2.send(new DetachVolumeCommand({ VolumeId, InstanceId })).catch(() => {});
      },
    });
    await loss.serve();
  });
  afterAll(async () => {
    await csi?.stop();
    await loss?.stop();
  });

  const ours = { Filters: [{ Name: 'tag:gpu-dev:cluster', Values: [CLUSTER] }] };
  const volumes = async () =>
    ((await domain.ec2.send(new DescribeVolumesCommand(ours))).Volumes ?? []).map(({ VolumeId }) => VolumeId!).sort();
  const snapshots = async () =>
    ((await domain.ec2.send(new DescribeSnapshotsCommand({ ...ours, OwnerIds: ['self'] }))).Snapshots ?? []).map(
      ({ SnapshotId, Tags = [] }) => ({ id: SnapshotId!, record: Tags.find(({ Key }) => Key === 'gpu-dev:record')?.Value }),
    );
  const standing = async () => ({
    volumes: await volumes(),
    snapshots: (await snapshots()).map(({ id }) => id).sort(),
    records: await domain.records(),
    rules: await domain.rules(),
    groups: await domain.groups(),
  });
  const disk = (name: string) => loss.row('select * from disks where disk_name = $1', [name]);

  it('is built anew with its volumes, snapshots, names and ways; what two claim and what others copied stays as it is', async () => {
    const { scene } = loss;
    const create = (id: string, fields: object) =>
      scene.send({
        action: 'create_reservation',
        reservation_id: id,
        user_id: 'ada',
        gpu_type: 'h100',
        gpu_count: 1,
        duration_hours: 4,
        ...fields,
      });
    await create(ENDS, { disk_name: 'rest', disk_size_gb: 30 });
    await scene.reaches(ENDS, 'running');
    await scene.send({ action: 'cancel', reservation_id: ENDS });
    await scene.reaches(ENDS, 'cancelled');
    // Its volume is deleted after its user has been told.
    await scene.until('its disk rests', async () => (await disk('rest'))?.state === 'idle');
    await create(RUNS, { disk_name: 'work', disk_size_gb: 20, name: 'box', jupyter_enabled: true });
    await scene.reaches(RUNS, 'running');
    const published = () =>
      loss.row(
        `select m.fqdn, g.place, g.jupyter_rule_arn from domain_mappings m join alb_target_groups g using (reservation_id)
                 where reservation_id = $1 and m.published_at is not null and g.published_at is not null`,
        [RUNS],
      );
    await scene.until('it has its name and its way', async () => (await published()) !== null);
    const way = await published();
    await scene.until('its record tells of Jupyter', async () =>
      (await loss.pods()).some(({ metadata }) => metadata.annotations['gpu-dev.io/record']?.includes('"jupyter":{"port":')),
    );
    await scene.until('the snapshot bears its record', async () => (await snapshots())[0]?.record !== undefined);
    await scene.until('the volume of the one that ended is gone', async () => (await volumes()).length === 1);
    const was = {
      runs: (await scene.reservation(RUNS))!,
      work: await disk('work'),
      rest: await disk('rest'),
      all: await standing(),
    };

    await loss.lose();
    // Somebody has copied tags, and two volumes claim to be one disk.
    const tags = (more: Record<string, string>) =>
      Object.entries({ 'gpu-dev:cluster': CLUSTER, 'gpu-dev:owner': 'ada', 'gpu-dev:disk-name': 'torn', ...more }).map(
        ([Key, Value]) => ({ Key, Value }),
      );
    const planted: string[] = [];
    for (let n = 0; n < 2; n++) {
      const Tags = tags({ 'gpu-dev:disk': CLAIMED, 'gpu-dev:generation': '1' });
      const made = await domain.ec2.send(
        new CreateVolumeCommand({
          AvailabilityZone: 'us-east-2a',
          Size: 1,
          TagSpecifications: [{ ResourceType: 'volume', Tags }],
        }),
      );
      planted.push(made.VolumeId!);
    }
    const copy = await domain.ec2.send(
      new CreateSnapshotCommand({
        VolumeId: was.all.volumes[0],
        TagSpecifications: [
          { ResourceType: 'snapshot', Tags: tags({ 'gpu-dev:disk': was.work.disk_id, 'gpu-dev:disk-name': 'work' }) },
        ],
      }),
    );
    await loss.serve();
    await scene.until('the fleet is known', async () => (await scene.db.query('select 1 from nodes')).rowCount === 1);
    const before = await standing();
    const dry = await loss.rebuild('--dry-run');
    expect(dry.back.map(({ kind, name }) => `${kind} ${name}`).sort()).toEqual([
      'disk rest',
      'disk work',
      'server box',
      'user ada',
    ]);
    expect(dry.left.map(({ id }) => id).sort()).toEqual([CLAIMED, copy.SnapshotId].sort());
    expect(dry.left.find(({ id }) => id === CLAIMED)?.why).toMatch(/Two volumes claim/);
    const done = await loss.rebuild();
    expect(done.back).toEqual(dry.back);
    expect(await loss.rebuild()).toMatchObject({ back: [], known: { servers: 1, disks: 2 } });

    const now = (await scene.reservation(RUNS))!;
    for (const column of 'status name node_port expires_at jupyter_url jupyter_port jupyter_state'.split(' '))
      expect(now[column], column).toEqual(was.runs[column]);
    for (const name of ['work', 'rest'] as const) {
      const back = await disk(name);
      for (const column of 'disk_id size_gb state reservation_id latest_snapshot_id volume_claim snapshot_count created_at'.split(
        ' ',
      ))
        expect(back[column], `${name} ${column}`).toEqual(was[name][column]);
    }
    await scene.until(
      'name and way are on record as they were',
      async () => JSON.stringify(await published()) === JSON.stringify(way),
    );
    // Nor does a comparison find anything of it that nobody knows.
    await requestRun(scene.db, { id: v7(), dryRun: false, by: 'a test' });
    const report = await scene.until('database and world were compared', async () => {
      const run = await loss.row(`select report from reality_runs where asked_by = 'a test' and ended_at is not null`);
      return run === null ? null : run.report;
    });
    expect(report).toMatchObject({ findings: [], unanswered: [] });
    expect(await standing()).toEqual(before);

    // It ends as it would have: saved once, and nothing of it is left.
    await scene.send({ action: 'cancel', reservation_id: RUNS });
    await scene.reaches(RUNS, 'cancelled');
    await scene.until('its volume, its name and its way are gone', async () => {
      const left = await standing();
      return left.volumes.join() === planted.sort().join() && (await domain.left()).length === 0;
    });
    expect((await snapshots()).length).toBe(3);
    // The disk that rested starts from its snapshot, by a volume of the next number.
    await create(`${ENDS.slice(0, -1)}9`, { disk_name: 'rest' });
    await scene.reaches(`${ENDS.slice(0, -1)}9`, 'running');
    const { rows } = await scene.db.query(
      `select v.generation, v.from_snapshot = s.ebs_snapshot_id as "from" from ebs_volumes v
      join ebs_snapshots s using (disk_id) where v.disk_id = $1 and v.state = 'live'`,
      [was.rest.disk_id],
    );
    expect(rows).toEqual([{ generation: 2, from: true }]);
    expect((await loss.admin('verify')).code).toBe(0);
  }, 240_000);
});
