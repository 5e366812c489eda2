/** The least policy under which the service works in AWS: docs/aws.md shows it, and a test compares it with the calls that the code makes. */
import { TAG } from './tags.ts';

interface Statement {
  Sid: string;
  Effect: 'Allow';
  Action: string[];
  Resource: string | string[];
  Condition?: Record<string, Record<string, string | string[]>>;
}

/** What the policy is written for; the words in capitals are for the operator to fill in. */
const PLACE = { region: 'REGION', account: 'ACCOUNT', cluster: 'CLUSTER' };
const OURS = { StringEquals: { [`aws:ResourceTag/${TAG.cluster}`]: PLACE.cluster } };
const NEW_IS_OURS = { StringEquals: { [`aws:RequestTag/${TAG.cluster}`]: PLACE.cluster } };
const ec2 = (kind: string, account = PLACE.account) => `arn:aws:ec2:${PLACE.region}:${account}:${kind}/*`;

export const DISKS_POLICY: readonly Statement[] = [
  {
    Sid: 'Look',
    Effect: 'Allow',
    // EC2 knows no conditions on what is only looked at.
    Action: ['ec2:DescribeVolumes', 'ec2:DescribeSnapshots', 'ec2:DescribeVolumesModifications', 'ec2:DescribeInstances'],
    Resource: '*',
  },
  { Sid: 'MakeVolumes', Effect: 'Allow', Action: ['ec2:CreateVolume'], Resource: ec2('volume'), Condition: NEW_IS_OURS },
  {
    Sid: 'StartVolumesFromOurSnapshots',
    Effect: 'Allow',
    Action: ['ec2:CreateVolume'],
    Resource: ec2('snapshot', ''),
    Condition: OURS,
  },
  { Sid: 'TakeSnapshotsOfOurs', Effect: 'Allow', Action: ['ec2:CreateSnapshot'], Resource: ec2('volume'), Condition: OURS },
  {
    Sid: 'MakeSnapshots',
    Effect: 'Allow',
    Action: ['ec2:CreateSnapshot'],
    Resource: ec2('snapshot', ''),
    Condition: NEW_IS_OURS,
  },
  {
    Sid: 'LabelWhatIsMade',
    Effect: 'Allow',
    Action: ['ec2:CreateTags'],
    Resource: [ec2('volume'), ec2('snapshot', '')],
    Condition: { StringEquals: { 'ec2:CreateAction': ['CreateVolume', 'CreateSnapshot'] } },
  },
  {
    Sid: 'LabelOurs',
    Effect: 'Allow',
    Action: ['ec2:CreateTags'],
    Resource: [ec2('volume'), ec2('snapshot', '')],
    Condition: {
      ...OURS,
      'ForAllValues:StringEquals': { 'aws:TagKeys': [TAG.diskName, TAG.record, TAG.name] },
    },
  },
  {
    Sid: 'ChangeAndRemoveOurs',
    Effect: 'Allow',
    Action: ['ec2:DeleteVolume', 'ec2:ModifyVolume', 'ec2:DetachVolume'],
    Resource: ec2('volume'),
    Condition: OURS,
  },
  { Sid: 'DetachFromNodes', Effect: 'Allow', Action: ['ec2:DetachVolume'], Resource: ec2('instance') },
  { Sid: 'RemoveOurSnapshots', Effect: 'Allow', Action: ['ec2:DeleteSnapshot'], Resource: ec2('snapshot', ''), Condition: OURS },
];

/** Beside that, for what is set up: file systems of people, images, and a way to the cluster from outside of it. */
export const MORE_POLICY: readonly Statement[] = [
  {
    Sid: 'FileSystemsLook',
    Effect: 'Allow',
    Action: ['elasticfilesystem:DescribeFileSystems', 'elasticfilesystem:DescribeMountTargets'],
    Resource: '*',
  },
  {
    Sid: 'FileSystemsMake',
    Effect: 'Allow',
    Action: ['elasticfilesystem:CreateFileSystem', 'elasticfilesystem:TagResource'],
    Resource: '*',
    Condition: NEW_IS_OURS,
  },
  {
    Sid: 'FileSystemsReach',
    Effect: 'Allow',
    Action: ['elasticfilesystem:CreateMountTarget'],
    Resource: `arn:aws:elasticfilesystem:${PLACE.region}:${PLACE.account}:file-system/*`,
    Condition: OURS,
  },
  {
    Sid: 'FileSystemsReachBySubnets',
    Effect: 'Allow',
    // What EFS does in the caller's name for a mount target.
    Action: ['ec2:DescribeSubnets', 'ec2:DescribeNetworkInterfaces', 'ec2:CreateNetworkInterface'],
    Resource: '*',
  },
  { Sid: 'ImagesLogin', Effect: 'Allow', Action: ['ecr:GetAuthorizationToken'], Resource: '*' },
  {
    Sid: 'ImagesPush',
    Effect: 'Allow',
    // The first two are ours, the others the builder's.
    Action: [
      'ecr:CreateRepository',
      'ecr:TagResource',
      'ecr:BatchCheckLayerAvailability',
      'ecr:InitiateLayerUpload',
      'ecr:UploadLayerPart',
      'ecr:CompleteLayerUpload',
      'ecr:PutImage',
      'ecr:BatchGetImage',
      'ecr:GetDownloadUrlForLayer',
    ],
    Resource: `arn:aws:ecr:${PLACE.region}:${PLACE.account}:repository/REPOSITORY`,
  },
  {
    Sid: 'ContentsOfDisks',
    Effect: 'Allow',
    Action: ['s3:PutObject', 's3:GetObject', 's3:DeleteObject'],
    Resource: 'arn:aws:s3:::DISK_CONTENTS_BUCKET/*',
  },
  // Without it, what is not there looks like what may not be seen.
  { Sid: 'ContentsBucket', Effect: 'Allow', Action: ['s3:ListBucket'], Resource: 'arn:aws:s3:::DISK_CONTENTS_BUCKET' },
  {
    Sid: 'ClusterFind',
    Effect: 'Allow',
    Action: ['eks:DescribeCluster'],
    Resource: `arn:aws:eks:${PLACE.region}:${PLACE.account}:cluster/${PLACE.cluster}`,
  },
];

/** The policy as IAM takes it. */
export function policyDocument(statements: readonly Statement[]): string {
  return JSON.stringify({ Version: '2012-10-17', Statement: statements }, null, 2);
}
