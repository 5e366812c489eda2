/**
 * The comparison of disks with EBS at 5,000 volumes and 20,000 snapshots: calls, seconds, memory. Postgres is embedded, EC2 the tests' stub, in a
 * process of its own. Run: node bench/ebs-reality.ts
 */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { v7 } from 'uuid';
import { sweepCloud } from '../actors/reality/cloud-disks.ts';
import { Database } from '../persistence/database.ts';
import { EbsListing } from '../src/providers/aws/ebs-listing.ts';
import { Ec2 } from '../src/providers/aws/ec2.ts';
import { BenchServer } from './support/server.ts';
import { Ec2Stub } from '../test/aws/stub/ec2-stub.ts';

const VOLUMES = 5_000;
const SNAPSHOTS = 20_000;
const CLUSTER = 'bench';

interface Made {
  url: string;
  volumes: { id: string; diskId: string }[];
  snapshots: { id: string; volumeId: string; diskId: string; snapshotId: string }[];
}

/** EC2 with so many volumes, four snapshots each. */
async function serveEc2(): Promise<void> {
  const stub = await Ec2Stub.start();
  const made: Made = { url: stub.url, volumes: [], snapshots: [] };
  const asked = { zone: 'us-east-2a', sizeGb: 200, snapshotId: null, type: 'gp3', encrypted: true, token: '' };
  for (let index = 0; index < VOLUMES; index += 1) {
    const diskId = v7();
    const facts = {
      'gpu-dev:cluster': CLUSTER,
      'gpu-dev:disk': diskId,
      'gpu-dev:owner': 'ada',
      'gpu-dev:disk-name': `d${index}`,
    };
    const volume = stub.state.createVolume({ ...asked, tags: new Map(Object.entries(facts)) });
    volume.createdAt -= 3_600_000;
    made.volumes.push({ id: volume.id, diskId });
    for (let round = 1; round <= SNAPSHOTS / VOLUMES; round += 1) {
      const snapshotId = `snap-${diskId}-${round}`;
      const snapshot = stub.state.createSnapshot(volume.id, new Map([...volume.tags, ['gpu-dev:snapshot', snapshotId]]));
      snapshot.startedAt -= 3_600_000;
      made.snapshots.push({ id: snapshot.id, volumeId: volume.id, diskId, snapshotId });
    }
  }
  process.send?.(made);
}

async function record(db: Database, { volumes, snapshots }: Made): Promise<void> {
  await db.query(
    `insert into disks (disk_id, disk_name, user_id, size_gb, created_at)
     select n."diskId", 'd' || (row_number() over () - 1), 'ada', 200, now() from jsonb_to_recordset($1::jsonb) as n("diskId" uuid)`,
    [JSON.stringify(volumes)],
  );
  await db.query(
    `insert into ebs_volumes (disk_id, generation, volume_id, zone, size_gb, state, created_at)
     select n."diskId", 1, n.id, 'us-east-2a', 200, 'live', now() - interval '1 hour'
       from jsonb_to_recordset($1::jsonb) as n(id text, "diskId" uuid)`,
    [JSON.stringify(volumes)],
  );
  await db.query(
    `insert into ebs_snapshots (snapshot_id, disk_id, volume_id, ebs_snapshot_id, created_at)
     select n."snapshotId", n."diskId", n."volumeId", n.id, now() - interval '1 hour'
       from jsonb_to_recordset($1::jsonb) as n(id text, "diskId" uuid, "volumeId" text, "snapshotId" text)`,
    [JSON.stringify(snapshots)],
  );
}

async function main(): Promise<void> {
  process.env.AWS_ACCESS_KEY_ID = 'bench';
  process.env.AWS_SECRET_ACCESS_KEY = 'bench';
  const child = fork(fileURLToPath(import.meta.url), ['ec2']);
  const [made] = (await once(child, 'message')) as [Made];
  const server = await BenchServer.start();
  const db = new Database(server.at(await server.create()));
  try {
    await record(db, made);
    const ec2 = new Ec2({ region: 'us-east-2', endpoint: made.url, cluster: CLUSTER });
    for (const name of ['first', 'again'] as const) {
      globalThis.gc?.();
      const processor = process.cpuUsage();
      const before = { rss: process.memoryUsage().rss, sent: ec2.service.sent, at: performance.now() };
      let most = before.rss;
      const watch = setInterval(() => (most = Math.max(most, process.memoryUsage().rss)), 20);
      const { lines, unanswered } = await sweepCloud(
        {
          db,
          cloud: new EbsListing(ec2),
          clock: { now: () => null },
          lease: null,
          isOver: () => false,
          onError: () => {},
          post: async () => {},
        },
        { dryRun: false },
      );
      clearInterval(watch);
      const seconds = ((performance.now() - before.at) / 1_000).toFixed(1);
      const megabytes = Math.round((most - before.rss) / 2 ** 20);
      const calls = ec2.service.sent - before.sent;
      const used = process.cpuUsage(processor);
      const processorSeconds = ((used.user + used.system) / 1e6).toFixed(1);
      process.stdout.write(
        `${JSON.stringify({ name, calls, seconds, processorSeconds, megabytes, rss: Math.round(most / 2 ** 20), findings: lines.length, unanswered })}\n`,
      );
    }
  } finally {
    await db.close();
    await server.stop();
    child.kill();
  }
}

await (process.argv[2] === 'ec2' ? serveEc2() : main());
