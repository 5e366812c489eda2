/** Disks in EBS for a test: a database, a cluster or none, and an EC2. */
import type { VolumeRequest, Volumes } from '../../../actors/disk/ports.ts';
import { NotYet } from '../../../actors/errors.ts';
import { Database } from '../../../persistence/database.ts';
import { EbsVolumes } from '../../../src/providers/aws/ebs-volumes.ts';
import { Ec2 } from '../../../src/providers/aws/ec2.ts';
import type { AwsSettings } from '../../../src/providers/aws/client.ts';
import type { KubernetesClient } from '../../../src/providers/kubernetes/client.ts';
import { startCluster, type TestCluster } from '../../integration/providers/support/cluster.ts';
import { createTestDatabase } from '../../support/postgres.ts';
import { until } from '../../integration/providers/support/wait.ts';
import { PATIENCE_MS } from '../../support/patience.ts';

// The SDK looks for credentials here first.
process.env.AWS_ACCESS_KEY_ID ??= 'test';
process.env.AWS_SECRET_ACCESS_KEY ??= 'test';

export const GP3 = { type: 'gp3', iops: null, throughput: null, keyId: null };
export const CLUSTER = 'test-cluster';

export function ec2At(url: string, settings: Partial<AwsSettings> = {}): Ec2 {
  return new Ec2({ region: 'us-east-2', endpoint: url, cluster: CLUSTER, ...settings });
}

/** A database and a simulated cluster, for the tests of one file. */
export interface EbsScene {
  cluster: TestCluster;
  db: Database;
  stop(): Promise<void>;
}

export async function startEbsScene(): Promise<EbsScene> {
  const [cluster, database] = await Promise.all([startCluster(), createTestDatabase()]);
  const db = new Database(database.config);
  return {
    cluster,
    db,
    stop: async () => {
      await db.close();
      await Promise.all([cluster.stop(), database.drop()]);
    },
  };
}

/** What a service is told of an AWS that answers here. */
export const awsEnvironment = (url: string, cluster: string): Record<string, string> => ({
  CLOUD_PROVIDER: 'aws',
  AWS_REGION: 'us-east-2',
  AWS_ENDPOINT_URL: url,
  AWS_ACCESS_KEY_ID: 'test',
  AWS_SECRET_ACCESS_KEY: 'test',
  EKS_CLUSTER_NAME: cluster,
});

/** Volumes whose disks get their row first, as the disk actor gives it. */
export class DisksWithRows extends EbsVolumes {
  readonly #db: Database;
  readonly #zone: string | null;
  /** @param options `zone`: where a grant that names none is */
  constructor(options: ConstructorParameters<typeof EbsVolumes>[0] & { db: Database; zone?: string }) {
    super(options);
    this.#db = options.db;
    this.#zone = options.zone ?? null;
  }
  override async ensure(request: VolumeRequest): ReturnType<EbsVolumes['ensure']> {
    await giveRow(this.#db, request);
    return super.ensure({ ...request, zone: request.zone ?? this.#zone });
  }
}

export async function giveRow(db: Database, { diskId, owner, sizeGb }: Pick<VolumeRequest, 'diskId' | 'owner' | 'sizeGb'>) {
  await db.query(
    `insert into disks (disk_id, disk_name, user_id, size_gb, created_at) values ($1, $2, $3, $4, now()) on conflict do nothing`,
    [diskId, `disk-${diskId}`, owner, sizeGb],
  );
}

/** What a handler does with NotYet: it comes again. */
export async function persist<T>(work: () => Promise<T>, patience = PATIENCE_MS): Promise<T> {
  const done = await until(
    'the provider is done',
    async () => {
      try {
        return { value: await work() };
      } catch (error) {
        if (error instanceof NotYet) return null;
        throw error;
      }
    },
    patience,
  );
  return done.value;
}

/** The snapshot of that id, complete or failed. */
export function captured(volumes: Volumes, diskId: string, snapshotId: string) {
  return persist(async () => {
    const progress = await volumes.snapshot(diskId, snapshotId);
    if (progress.state === 'pending') throw new NotYet(0, 'pending');
    return progress;
  });
}

export type { KubernetesClient };
