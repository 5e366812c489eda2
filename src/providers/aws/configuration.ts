/** The environment variables of the provider for AWS. */
import { z } from 'zod';
import { AwsRegion, type IdentityEnvironment } from '../../identity/configuration.ts';
import type { AwsSettings } from './client.ts';
import type { VolumeType } from './ec2.ts';

const words = z
  .string()
  .default('')
  .transform((text) => text.split(/[\s,]+/).filter((part) => part !== ''));

/** The variables, for the schema of the whole environment. */
export const AwsEnvironment = {
  /** Where disks, names and images are: in AWS, or on the cluster alone. */
  CLOUD_PROVIDER: z.enum(['local', 'aws']).default('local'),
  REGION: AwsRegion.optional(),
  AWS_DEFAULT_REGION: AwsRegion.optional(),
  EKS_CLUSTER_NAME: z
    .string()
    .regex(/^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$/, 'must be the name of an EKS cluster')
    .optional(),
  EBS_VOLUME_TYPE: z.enum(['gp3', 'gp2', 'io1', 'io2', 'st1', 'sc1']).default('gp3'),
  EBS_IOPS: z.coerce.number().int().min(100).max(256_000).optional(),
  EBS_THROUGHPUT: z.coerce.number().int().min(125).max(2_000).optional(),
  EBS_KMS_KEY_ID: z.string().min(1).max(2_048).optional(),
  DISK_CONTENTS_BUCKET: z
    .string()
    .regex(/^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/, 'must be the name of a bucket')
    .optional(),
  EFS_SECURITY_GROUP_ID: z
    .string()
    .regex(/^sg-[0-9a-f]+$/, 'must be a security group such as sg-0abc')
    .optional(),
  EFS_SUBNET_IDS: words.pipe(z.array(z.string().regex(/^subnet-[0-9a-f]+$/, 'must be subnets such as subnet-0abc'))),
  ECR_REPOSITORY_URL: z
    .string()
    .regex(/^\d{12}\.dkr\.ecr\.[a-z0-9-]+\.amazonaws\.com(\.cn)?\/[a-z0-9][a-z0-9._/-]*$/, 'must be a repository of ECR')
    .optional(),
  /** Where ECR caches images of Docker Hub: `ACCOUNT.dkr.ecr.REGION.amazonaws.com/PREFIX`. */
  ECR_PULL_THROUGH_CACHE_DOCKERHUB: z
    .string()
    .regex(/^[a-z0-9][a-z0-9.-]*(\/[a-z0-9._-]+)+$/, 'must be a registry and a prefix')
    .optional(),
};

/** Where AWS is stands in the variables of identity, whose login asks it as well. */
type Place = Pick<typeof IdentityEnvironment, 'AWS_REGION' | 'AWS_ENDPOINT_URL'>;
type Variables = z.infer<z.ZodObject<typeof AwsEnvironment & Place>>;

/** What the provider for AWS is set to. */
export interface AwsProviderSettings {
  calls: AwsSettings;
  /** Whether EKS_CLUSTER_NAME named it: without, the cluster is reached in the usual ways alone. */
  eksCluster: string | null;
  volumeType: VolumeType;
  contentsBucket: string | null;
  files: { securityGroup: string; subnets: string[] } | null;
  repository: string | null;
  dockerHubCache: string | null;
}

/**
 * What the variables say.
 * @param given variables that are set at all: a region that nobody chose is none
 * @returns null where there is no AWS
 */
export function awsOf(env: Variables, given: NodeJS.ProcessEnv): AwsProviderSettings | null {
  if (env.CLOUD_PROVIDER !== 'aws') return null;
  const region = (given.AWS_REGION === undefined ? undefined : env.AWS_REGION) ?? env.REGION ?? env.AWS_DEFAULT_REGION;
  return {
    calls: { region: region ?? '', endpoint: env.AWS_ENDPOINT_URL, cluster: env.EKS_CLUSTER_NAME ?? 'gpu-dev' },
    eksCluster: env.EKS_CLUSTER_NAME ?? null,
    volumeType: {
      type: env.EBS_VOLUME_TYPE,
      iops: env.EBS_IOPS ?? null,
      throughput: env.EBS_THROUGHPUT ?? null,
      keyId: env.EBS_KMS_KEY_ID ?? null,
    },
    contentsBucket: env.DISK_CONTENTS_BUCKET ?? null,
    files:
      env.EFS_SECURITY_GROUP_ID === undefined || env.EFS_SUBNET_IDS.length === 0
        ? null
        : { securityGroup: env.EFS_SECURITY_GROUP_ID, subnets: env.EFS_SUBNET_IDS },
    repository: env.ECR_REPOSITORY_URL ?? null,
    dockerHubCache: env.ECR_PULL_THROUGH_CACHE_DOCKERHUB ?? null,
  };
}
