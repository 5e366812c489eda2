/** What the service must be allowed to do beside what every cluster asks of it, and how a start finds out what is missing. */
import type * as Sdk from '@aws-sdk/client-ec2';
import type { Right } from '../kubernetes/permissions.ts';
import type { VolumeType } from './ec2.ts';
import type { Ec2 } from './ec2.ts';
import { AwsError } from './errors.ts';
import { TAG, writeTags } from './tags.ts';

/** On the cluster: PersistentVolumes that lead to volumes in EBS, and who holds them. The manifests of deploy/aws grant exactly this. */
export const EBS_RIGHTS: readonly Right[] = [
  { group: '', resource: 'persistentvolumes', verbs: ['get', 'create', 'delete'], scope: 'cluster' },
  { group: 'storage.k8s.io', resource: 'volumeattachments', verbs: ['list'], scope: 'cluster' },
  { group: 'storage.k8s.io', resource: 'csidrivers', verbs: ['get'], scope: 'cluster' },
  { group: '', resource: 'nodes', verbs: ['get'], scope: 'cluster' },
];

type Service = { client: Sdk.EC2Client; sdk: typeof Sdk };
type Trial = { action: string; send: (service: Service, abortSignal: AbortSignal) => Promise<unknown> };

/**
 * Try every call to EC2 that disks need, without doing it. Those that are allowed for volumes of ours alone need one to be tried on.
 * @returns rights that are missing, in words for the operator
 * @throws AwsError if EC2 does not say
 */
export async function findMissingEc2Rights(ec2: Ec2, volumeType: VolumeType): Promise<string[]> {
  const { cluster, region } = ec2.service.settings;
  const tags = { [TAG.cluster]: cluster };
  const DryRun = true;
  const first: Trial[] = [
    {
      action: 'DescribeVolumes',
      send: ({ client, sdk }, abortSignal) => client.send(new sdk.DescribeVolumesCommand({ DryRun }), { abortSignal }),
    },
    {
      action: 'DescribeSnapshots',
      send: ({ client, sdk }, abortSignal) =>
        client.send(new sdk.DescribeSnapshotsCommand({ DryRun, OwnerIds: ['self'] }), { abortSignal }),
    },
    {
      action: 'DescribeVolumesModifications',
      send: ({ client, sdk }, abortSignal) =>
        client.send(new sdk.DescribeVolumesModificationsCommand({ DryRun }), { abortSignal }),
    },
    {
      action: 'DescribeInstances',
      send: ({ client, sdk }, abortSignal) => client.send(new sdk.DescribeInstancesCommand({ DryRun }), { abortSignal }),
    },
    {
      action: 'CreateVolume',
      send: ({ client, sdk }, abortSignal) =>
        client.send(
          new sdk.CreateVolumeCommand({
            DryRun,
            AvailabilityZone: `${region}a`,
            Size: 1,
            VolumeType: volumeType.type as Sdk.VolumeType,
            Encrypted: true,
            TagSpecifications: [{ ResourceType: 'volume', Tags: writeTags(tags) }],
          }),
          { abortSignal },
        ),
    },
  ];
  const missing = await tried(ec2, first);
  if (missing.includes('DescribeVolumes') || missing.includes('DescribeSnapshots')) return missing.map(inWords);
  const [volume] = await ec2.volumes(tags);
  const [snapshot] = await ec2.snapshots(tags);
  const second = [
    ...(volume === undefined ? [] : onVolume(volume.id, tags)),
    ...(snapshot === undefined ? [] : onSnapshot(snapshot.id)),
  ];
  return [...new Set([...missing, ...(await tried(ec2, second))])].map(inWords);
}

function onVolume(VolumeId: string, tags: Record<string, string>): Trial[] {
  const DryRun = true;
  return [
    {
      action: 'CreateSnapshot',
      send: ({ client, sdk }, abortSignal) =>
        client.send(
          new sdk.CreateSnapshotCommand({
            DryRun,
            VolumeId,
            TagSpecifications: [{ ResourceType: 'snapshot', Tags: writeTags(tags) }],
          }),
          { abortSignal },
        ),
    },
    {
      action: 'DeleteVolume',
      send: ({ client, sdk }, abortSignal) => client.send(new sdk.DeleteVolumeCommand({ DryRun, VolumeId }), { abortSignal }),
    },
    {
      action: 'DetachVolume',
      send: ({ client, sdk }, abortSignal) => client.send(new sdk.DetachVolumeCommand({ DryRun, VolumeId }), { abortSignal }),
    },
    {
      action: 'ModifyVolume',
      send: ({ client, sdk }, abortSignal) =>
        client.send(new sdk.ModifyVolumeCommand({ DryRun, VolumeId, Size: 1 }), { abortSignal }),
    },
    labelling(VolumeId),
  ];
}

/** The tags that the policy lets what exists be given, and no other. */
function labelling(id: string): Trial {
  const Tags = writeTags({ [TAG.diskName]: '', [TAG.record]: '' });
  return {
    action: 'CreateTags',
    send: ({ client, sdk }, abortSignal) =>
      client.send(new sdk.CreateTagsCommand({ DryRun: true, Resources: [id], Tags }), { abortSignal }),
  };
}

function onSnapshot(SnapshotId: string): Trial[] {
  return [
    labelling(SnapshotId),
    {
      action: 'DeleteSnapshot',
      send: ({ client, sdk }, abortSignal) =>
        client.send(new sdk.DeleteSnapshotCommand({ DryRun: true, SnapshotId }), { abortSignal }),
    },
  ];
}

/** EC2 answers a trial with an error in any case: one that says that it would have been done, or why not. */
async function tried(ec2: Ec2, trials: readonly Trial[]): Promise<string[]> {
  const missing: string[] = [];
  for (const { action, send } of trials) {
    try {
      await ec2.service.call(`trying ${action}`, send, { repeatable: true });
    } catch (error) {
      if (!(error instanceof AwsError) || error.failure === 'unknown' || error.failure === 'throttled') throw error;
      if (error.failure === 'denied') missing.push(action);
    }
  }
  return missing;
}

const inWords = (action: string): string => mayNot(`ec2:${action}`);
const mayNot = (right: string, page = 'aws.md'): string => `May not ${right} in AWS (see docs/${page} for the policy)`;

/**
 * Make a call that changes nothing, where a service has no trials.
 * @returns the right in words for the operator if it is missing, else nothing @throws AwsError if AWS does not say
 */
export async function unlessDenied(right: string, call: () => Promise<unknown>): Promise<string[]> {
  try {
    await call();
    return [];
  } catch (error) {
    if (error instanceof AwsError && error.failure === 'denied') return [mayNot(right)];
    throw error;
  }
}

/**
 * Make a call that can have no effect, since what it is about cannot be: whatever AWS says but that it is not allowed proves the right. Only for
 * rights that ask nothing of what is changed: of something that is not there, no tag is ours, and AWS says "denied" to whoever has the right.
 * @returns the right in words for the operator if it is missing, else nothing @throws AwsError if AWS does not say
 */
export async function triedInVain(right: string, call: () => Promise<unknown>, page?: string): Promise<string[]> {
  try {
    await call();
  } catch (error) {
    if (!(error instanceof AwsError) || error.failure === 'unknown' || error.failure === 'throttled') throw error;
    if (error.failure === 'denied') return [mayNot(right, page)];
  }
  return [];
}
