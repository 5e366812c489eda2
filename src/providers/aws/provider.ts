/** What stands in AWS: made once, of the settings. Nothing of the SDK is loaded before the first call. */
import type { ImageBuilder } from '../../../actors/image/ports.ts';
import type { Store } from '../../../persistence/database.ts';
import type { KubernetesClient } from '../kubernetes/client.ts';
import type { AwsProviderSettings } from './configuration.ts';
import { ContentsBucket } from './contents-bucket.ts';
import { EbsListing } from './ebs-listing.ts';
import { EbsDiskRemains } from './ebs-remains.ts';
import { EbsVolumes } from './ebs-volumes.ts';
import { Ec2 } from './ec2.ts';
import { EcrBuilder, findEcrObstacles, throughCache } from './ecr.ts';
import { UserFilesystems } from './efs.ts';
import { findMissingEc2Rights } from './rights.ts';
import { StaticClaims } from './static-claims.ts';

export interface AwsProvider {
  ec2: Ec2;
  volumes: EbsVolumes;
  cloudDisks: EbsListing;
  diskRemains: EbsDiskRemains;
  /** Address of a person's own file system; left out: there are none. */
  personalFiles?: (owner: string) => Promise<string>;
  /** The name by which nodes pull an image. */
  imageName: (image: string) => string;
  /** Builds whose images go to ECR, over a builder that pushes there with {@link ECR_SECRET}; left out: they go elsewhere. */
  builderOver?: (builder: (repository: string) => ImageBuilder) => ImageBuilder;
  /** Where it is kept what is on disks; left out: in the database. */
  contents?: ContentsBucket;
  /** What is missing for it to work, in words for the operator. @throws AwsError if AWS does not say */
  findObstacles(): Promise<string[]>;
}

export function awsProvider(settings: AwsProviderSettings, { client, db }: { client: KubernetesClient; db: Store }): AwsProvider {
  const ec2 = new Ec2(settings.calls);
  const { volumeType, files, repository, calls, contentsBucket } = settings;
  const contents = contentsBucket === null ? null : new ContentsBucket(calls, contentsBucket);
  const filesystems = files === null ? null : new UserFilesystems(calls, { db, ...files });
  return {
    ec2,
    volumes: new EbsVolumes({ client, db, ec2, volumeType }),
    cloudDisks: new EbsListing(ec2),
    diskRemains: new EbsDiskRemains(db, ec2, new StaticClaims(client)),
    imageName: (image) => throughCache(image, settings.dockerHubCache),
    ...(filesystems === null ? {} : { personalFiles: (owner: string) => filesystems.ensure(owner) }),
    ...(repository === null
      ? {}
      : {
          builderOver: (builder: (to: string) => ImageBuilder) =>
            new EcrBuilder({ settings: calls, client, repository, builder: builder(repository) }),
        }),
    ...(contents === null ? {} : { contents }),
    findObstacles: async () => [
      ...(await findMissingEc2Rights(ec2, volumeType)),
      ...((await filesystems?.findObstacles()) ?? []),
      ...(repository === null ? [] : await findEcrObstacles(calls, repository)),
      ...((await contents?.findObstacles()) ?? []),
    ],
  };
}
