/** Chooses the providers that the configuration names. */
import { homedir } from 'node:os';
import { join } from 'node:path';
import type pino from 'pino';
import { ClusterGuard } from '../../actors/reality/cluster-guard.ts';
import { Secret } from '../../actors/secret.ts';
import { issueToken } from '../../persistence/build-contexts.ts';
import type { Database } from '../../persistence/database.ts';
import type { Config } from '../config.ts';
import type { Providers } from '../service.ts';
import { nameProviders } from './aws/name-providers.ts';
import { ECR_SECRET } from './aws/ecr.ts';
import type { EksAccess } from './aws/eks.ts';
import { awsProvider } from './aws/provider.ts';
import { EBS_RIGHTS } from './aws/rights.ts';
import { KubernetesEvents } from './kubernetes/cluster-events.ts';
import { createClient, guarded } from './kubernetes/client.ts';
import { KubernetesDevServers } from './kubernetes/dev-servers.ts';
import { readIdentity } from './kubernetes/identity.ts';
import { nodeGone } from './kubernetes/nodes.ts';
import { findMissingObjects } from './kubernetes/named-objects.ts';
import { findMissingRights } from './kubernetes/permissions.ts';
import { KubernetesReality } from './kubernetes/reality.ts';
import { ServerRemains } from './kubernetes/remains.ts';
import { JointReality } from './joint-reality.ts';
import { JobBuilder } from './local/builds.ts';
import { GithubKeys } from './local/github-keys.ts';
import { LocalKeys } from './local/keys.ts';
import { findSnapshotObstacles } from './local/snapshot-kind.ts';
import { LocalDiskRemains } from './local/remains.ts';
import { LocalVolumes } from './local/volumes.ts';
import { JointRemains } from './joint-remains.ts';

/**
 * Providers on the cluster that the configuration names.
 * @param access to a cluster that was found elsewhere; null: the usual ways
 */
export function providersFrom(config: Config, db: Database, log: pino.Logger, access: EksAccess | null = null): Providers {
  const bare = createClient({
    namespace: config.namespace,
    ...(config.kubeconfig === undefined ? {} : { kubeconfig: config.kubeconfig }),
    ...(access === null ? {} : { access }),
  });
  const guard = new ClusterGuard({
    db,
    read: () => readIdentity(bare),
    onDoubt: (doubt) => (doubt === null ? log.warn('the cluster is believed again') : log.error(doubt)),
  });
  const client = guarded(bare, guard);
  const aws = config.aws === null ? null : awsProvider(config.aws, { client, db });
  const keys =
    config.cluster === 'simulated'
      ? new LocalKeys({ home: config.home, sshFolder: join(homedir(), '.ssh'), note: (text) => log.info(text) })
      : new GithubKeys({ baseUrl: config.githubUrl });
  const naming = nameProviders(config.names, client);
  const builder = (registry: { repository?: string; registrySecret?: string } = {}) =>
    new JobBuilder({
      client,
      ...config.builds,
      ...registry,
      // As long as a build may take, and some more to find a place.
      grant: async (build) => new Secret(await issueToken(db, build, 3_600)),
    });
  return {
    names: naming.names,
    routes: naming.routes,
    servers: new KubernetesDevServers({
      client,
      pods: {
        ...(config.defaultImage === undefined ? {} : { defaultImage: config.defaultImage }),
        ...(aws === null ? {} : { imageName: aws.imageName }),
        priorityClass: config.priorityClass,
        sharedVolume: config.sharedVolume,
      },
      network: config.network,
      personalFiles: aws?.personalFiles,
    }),
    keys,
    volumes:
      aws?.volumes ??
      new LocalVolumes({
        client,
        ...(config.storageClass === null ? {} : { storageClass: config.storageClass }),
        snapshots: config.snapshots,
        copies: { image: config.copyImage, priorityClass: config.priorityClass },
      }),
    builder: aws?.builderOver?.((repository) => builder({ repository, registrySecret: ECR_SECRET })) ?? builder(),
    guard,
    reality: new JointReality(new KubernetesReality({ client }), naming.reality),
    cloudDisks: aws?.cloudDisks ?? null,
    remains: new JointRemains(new ServerRemains(client), aws?.diskRemains ?? new LocalDiskRemains(client), naming.standing),
    contents: aws?.contents ?? null,
    confirmNodeGone: (node) => nodeGone(client, node),
    // The simulated cluster lets everybody do everything, and does not answer such questions.
    findObstacles: async () => [
      ...(config.cluster === 'simulated' ? [] : await findMissingRights(bare, aws === null ? [] : EBS_RIGHTS)),
      ...(await findMissingObjects(bare, {
        priorityClass: config.priorityClass,
        // With ECR the service makes the Secret itself, and disks in EBS are of no class.
        registrySecret: aws?.builderOver === undefined ? config.builds.registrySecret : null,
        sharedVolume: config.sharedVolume,
        storageClass: aws === null ? config.storageClass : null,
      })),
      ...(aws === null ? await findSnapshotObstacles(bare, config.snapshots) : await aws.findObstacles()),
      ...(await naming.findObstacles()),
    ],
    connectEvents: () =>
      new KubernetesEvents({
        client,
        onError: (what, error, retryInMs) => log.warn({ err: error, what, retryInMs }, 'the cluster feed failed and goes on'),
      }),
  };
}
