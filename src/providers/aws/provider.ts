/** What stands in AWS: made once, of the settings. Nothing of the SDK is loaded before the first call. */
import type { Store } from '../../../persistence/database.ts';
import type { KubernetesClient } from '../kubernetes/client.ts';
import type { AwsProviderSettings } from './configuration.ts';
import { EbsListing } from './ebs-listing.ts';
import { EbsVolumes } from './ebs-volumes.ts';
import { Ec2 } from './ec2.ts';
import { findMissingEc2Rights } from './rights.ts';

export interface AwsProvider {
  ec2: Ec2;
  volumes: EbsVolumes;
  cloudDisks: EbsListing;
  /** What is missing for it to work, in words for the operator. @throws AwsError if AWS does not say */
  findObstacles(): Promise<string[]>;
}

export function awsProvider(settings: AwsProviderSettings, { client, db }: { client: KubernetesClient; db: Store }): AwsProvider {
  const ec2 = new Ec2(settings.calls);
  const { volumeType } = settings;
  return {
    ec2,
    volumes: new EbsVolumes({ client, db, ec2, volumeType }),
    cloudDisks: new EbsListing(ec2),
    findObstacles: () => findMissingEc2Rights(ec2, volumeType),
  };
}
