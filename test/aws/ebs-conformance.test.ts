/** The suite of every provider's volumes, for EBS: on both clusters, with moto for EC2. */
import {
  AttachVolumeCommand,
  DescribeImagesCommand,
  DetachVolumeCommand,
  EC2Client,
  RunInstancesCommand,
} from '@aws-sdk/client-ec2';
import { afterAll, beforeAll, describe } from 'vitest';
import { Database } from '../../persistence/database.ts';
import { realApiServer, simulated } from '../kubernetes/conformance/clusters.ts';
import { local, type Subject } from '../kubernetes/conformance/subject.ts';
import { volumesConform } from '../kubernetes/conformance/volumes.ts';
import { startMoto } from '../support/moto.ts';
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts';
import { standInCsi } from './support/csi.ts';
import { DisksWithRows, ec2At, GP3 } from './support/ebs.ts';

const [moto, real] = await Promise.all([startMoto(), realApiServer()]);
const NODES = ['h100-1', 'h100-2', 'cpu-x86-1'];

for (const cluster of [simulated, real]) {
  describe.skipIf(moto.missing || cluster.missing)(`disks in EBS on moto and ${cluster.name}`, () => {
    let subject: Subject;
    let database: TestDatabase;
    let db: Database;
    let csi: { stop(): Promise<void> };

    beforeAll(async () => {
      await moto.reset();
      const sdk = new EC2Client({ endpoint: moto.url, region: 'us-east-2' });
      const { Images = [] } = await sdk.send(new DescribeImagesCommand({}));
      const instances = new Map<string, string>();
      for (const [index, node] of NODES.entries()) {
        const Placement = { AvailabilityZone: `us-east-2${'abc'[index % 2]}` };
        const { Instances = [] } = await sdk.send(
          new RunInstancesCommand({ ImageId: Images[0]?.ImageId ?? '', MinCount: 1, MaxCount: 1, Placement }),
        );
        instances.set(node, Instances[0]?.InstanceId ?? '');
      }
      const opened = await cluster.open();
      database = await createTestDatabase();
      db = new Database(database.config);
      const ec2 = ec2At(moto.url);
      subject = {
        ...local,
        ...opened,
        name: 'aws',
        snapshots: 'ebs',
        volumes: (client) => new DisksWithRows({ client, db, ec2, volumeType: GP3, zone: 'us-east-2a' }),
      };
      const InstanceId = (node: string) => instances.get(node) ?? '';
      csi = standInCsi(opened.client, {
        async attach(VolumeId, node) {
          await sdk.send(new AttachVolumeCommand({ VolumeId, InstanceId: InstanceId(node), Device: `/dev/${VolumeId}` }));
        },
        async detach(VolumeId, node) {
          await sdk.send(new DetachVolumeCommand({ VolumeId, InstanceId: InstanceId(node) }));
        },
      });
    });
    afterAll(async () => {
      await csi?.stop();
      await Promise.all([subject?.close(), db?.close()]);
      await database?.drop();
    });

    volumesConform(() => subject);
  });
}
