/** A file system for each person, in EFS as moto plays it. */
import {
  CreateFileSystemCommand,
  DeleteFileSystemCommand,
  DeleteMountTargetCommand,
  DescribeFileSystemsCommand,
  DescribeMountTargetsCommand,
  EFSClient,
} from '@aws-sdk/client-efs';
import { CreateSecurityGroupCommand, CreateSubnetCommand, CreateVpcCommand, EC2Client } from '@aws-sdk/client-ec2';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Database } from '../../persistence/database.ts';
import { UserFilesystems } from '../../src/providers/aws/efs.ts';
import { startMoto } from '../support/moto.ts';
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts';
import { type Front, startFront } from './support/front.ts';
import { CLUSTER, persist } from './support/ebs.ts';

const moto = await startMoto();

describe.skipIf(moto.missing)('a file system of one person', () => {
  let database: TestDatabase;
  let db: Database;
  let efs: EFSClient;
  let subnets: string[];
  let securityGroup = '';
  /** Before moto: throttles as many calls as it is told to. */
  let front: Front;
  let throttled = 0;

  beforeAll(async () => {
    database = await createTestDatabase();
    db = new Database(database.config);
    efs = new EFSClient({ endpoint: moto.url, region: 'us-east-2' });
    const ec2 = new EC2Client({ endpoint: moto.url, region: 'us-east-2' });
    const { Vpc } = await ec2.send(new CreateVpcCommand({ CidrBlock: '10.9.0.0/16' }));
    const group = { GroupName: 'files', Description: 'files', VpcId: Vpc?.VpcId };
    securityGroup = (await ec2.send(new CreateSecurityGroupCommand(group))).GroupId ?? '';
    const made = await Promise.all(
      ['a', 'b'].map((zone, index) =>
        ec2.send(
          new CreateSubnetCommand({ VpcId: Vpc?.VpcId, CidrBlock: `10.9.${index}.0/24`, AvailabilityZone: `us-east-2${zone}` }),
        ),
      ),
    );
    subnets = made.map(({ Subnet }) => Subnet?.SubnetId ?? '');
    front = await startFront(moto.url, () => {
      if (throttled === 0) return null;
      throttled -= 1;
      const headers = { 'x-amzn-errortype': 'ThrottlingException' };
      return { status: 429, headers, body: { ErrorCode: 'ThrottlingException', Message: 'Rate exceeded' } };
    });
  });
  afterAll(async () => {
    await front?.stop();
    await db?.close();
    await database?.drop();
  });

  const filesystems = (maxAttempts = 4) =>
    new UserFilesystems(
      {
        region: 'us-east-2',
        endpoint: front.url,
        cluster: CLUSTER,
        maxAttempts,
      },
      { db, subnets, securityGroup },
    );
  const all = async () => (await efs.send(new DescribeFileSystemsCommand({}))).FileSystems ?? [];

  it('is made once, encrypted, with a way to it from every subnet, whoever asks at the same time', async () => {
    const addresses = await Promise.all(
      [filesystems(), filesystems(), filesystems()].map((each) => persist(() => each.ensure('ada'))),
    );
    expect(new Set(addresses).size).toBe(1);
    const [found, ...others] = await all();
    expect(others).toEqual([]);
    expect(addresses[0]).toBe(`${found?.FileSystemId}.efs.us-east-2.amazonaws.com`);
    expect(found?.Encrypted).toBe(true);
    const { MountTargets = [] } = await efs.send(new DescribeMountTargetsCommand({ FileSystemId: found?.FileSystemId }));
    expect(MountTargets.map(({ SubnetId }) => SubnetId).sort()).toEqual([...subnets].sort());
  });

  it('a start says so when the right to look at them is missing', async () => {
    expect(await filesystems().findObstacles()).toEqual([]);
    const type = 'AccessDeniedException';
    const refusing = await startFront(moto.url, () => ({ status: 403, headers: { 'x-amzn-errortype': type }, body: {} }));
    const settings = { region: 'us-east-2', endpoint: refusing.url, cluster: CLUSTER };
    const denied = new UserFilesystems(settings, { db, subnets, securityGroup });
    expect(await denied.findObstacles()).toEqual([
      'May not elasticfilesystem:DescribeFileSystems in AWS (see docs/aws.md for the policy)',
      'May not elasticfilesystem:DescribeMountTargets in AWS (see docs/aws.md for the policy)',
    ]);
    await refusing.stop();
  });

  it('D20: is the one on record, however many others bear its tags, older or newer', async () => {
    const address = await persist(() => filesystems().ensure('grace'));
    const [mine] = (await all()).filter(({ FileSystemId }) => address.startsWith(`${FileSystemId}.`));
    await efs.send(new CreateFileSystemCommand({ CreationToken: 'another', Tags: mine?.Tags }));
    expect(await persist(() => filesystems().ensure('grace'))).toBe(address);
    await expect(db.query(`insert into user_filesystems values ('eve', $1)`, [mine?.FileSystemId])).rejects.toThrow(
      /duplicate key/,
    );
  });

  it('D21: throttling is no absence: nothing is made in the place of one that exists', async () => {
    const address = await persist(() => filesystems().ensure('linus'));
    const before = (await all()).length;
    await db.query(`delete from user_filesystems where user_id = 'linus'`);
    throttled = 3;
    await expect(filesystems(1).ensure('linus')).rejects.toThrow(/ThrottlingException/);
    expect(await persist(() => filesystems(6).ensure('linus'))).toBe(address);
    expect(await all()).toHaveLength(before);
  });

  it('that is on record and gone from EFS is never replaced by an empty one', async () => {
    const address = await persist(() => filesystems().ensure('edsger'));
    const FileSystemId = address.split('.')[0] ?? '';
    const { MountTargets = [] } = await efs.send(new DescribeMountTargetsCommand({ FileSystemId }));
    for (const { MountTargetId } of MountTargets) await efs.send(new DeleteMountTargetCommand({ MountTargetId }));
    await efs.send(new DeleteFileSystemCommand({ FileSystemId }));
    await expect(filesystems().ensure('edsger')).rejects.toThrow(/is gone from EFS; an operator must look/);
  });
});
