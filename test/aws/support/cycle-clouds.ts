/** The clouds in which whole reservations live and end, and what their own lists say is left: EC2 as our stub rules it, or moto with all it has. */
import {
  AttachVolumeCommand,
  DescribeSnapshotsCommand,
  DescribeVolumesCommand,
  DetachVolumeCommand,
  EC2Client,
  RunInstancesCommand,
} from '@aws-sdk/client-ec2';
import type { RealCluster } from '../../support/kubernetes/real-cluster.ts';
import type { Loose } from '../../support/kubernetes/api.ts';
import { Ec2Stub } from '../stub/ec2-stub.ts';
import { BadDay } from './bad-day.ts';
import type { Attaching } from './csi.ts';
import { makeDomain, namesEnvironment } from './domain.ts';

export interface CycleCloud {
  url: string;
  /** Further variables of the service. */
  environment: NodeJS.ProcessEnv;
  /** Fields of every request. */
  asks: Record<string, unknown>;
  attaching: Attaching;
  /** Names, rules and target groups that are left, in words. */
  left(): Promise<string[]>;
  stop(): Promise<void>;
}

async function nodesOf(cluster: RealCluster): Promise<{ name: string; zone: string }[]> {
  const nodes: Loose[] = (await cluster.api.ask('GET', '/api/v1/nodes')).items;
  return nodes.map(({ metadata }) => ({ name: metadata.name, zone: metadata.labels['topology.kubernetes.io/zone'] }));
}

/** A driver is content when somebody else was faster: the service takes off what the cluster does not want any more. */
async function unlessOff(detach: () => Promise<unknown>): Promise<void> {
  try {
    await detach();
  } catch (error) {
    const { name, code } = error as { name?: string; code?: string };
    if (!['InvalidAttachment.NotFound', 'InvalidVolume.NotFound', 'IncorrectState'].includes(code ?? name ?? '')) throw error;
  }
}

export async function stubCloud(cluster: RealCluster): Promise<CycleCloud> {
  const stub = await Ec2Stub.start();
  Object.assign(stub.state.delays, { create: 100, capture: 200, remove: 100, show: 20 });
  for (const { name, zone } of await nodesOf(cluster)) stub.state.addInstance(name, zone);
  return {
    url: stub.url,
    environment: {},
    asks: {},
    attaching: {
      attach: async (volumeId, node) => stub.state.attach(volumeId, node),
      detach: (volumeId, node) => unlessOff(async () => stub.state.detach(volumeId, node)),
    },
    left: async () => [],
    stop: () => stub.stop(),
  };
}

/** With names in its DNS and ways to Jupyter through its load balancer. */
export async function motoCloud(cluster: RealCluster, url: string): Promise<CycleCloud> {
  const domain = await makeDomain(url);
  const instances = new Map<string, string>();
  const inDns = new Map<string, string>();
  for (const { name, zone } of await nodesOf(cluster)) {
    const { Instances = [] } = await domain.ec2.send(
      new RunInstancesCommand({
        ImageId: 'ami-12c6146b',
        MinCount: 1,
        MaxCount: 1,
        InstanceType: 't3.micro',
        Placement: { AvailabilityZone: zone },
      }),
    );
    instances.set(name, Instances[0]!.InstanceId!);
    inDns.set(name, Instances[0]!.PrivateDnsName!);
  }
  // Nodes of EKS are called what their machines are called in DNS, and these are not.
  const way = await BadDay.before(url);
  way.rewrite = (body) =>
    body.startsWith('Action=DescribeInstances&')
      ? [...inDns].reduce((text, [node, name]) => text.replace(`Value.1=${node}&`, `Value.1=${name}&`), body)
      : body;
  const asked = (VolumeId: string, node: string) => ({ VolumeId, InstanceId: instances.get(node)! });
  return {
    url: way.url,
    environment: namesEnvironment(domain),
    asks: { jupyter_enabled: true },
    attaching: {
      attach: async (volumeId, node) => {
        // As a driver does it, each at a device of its own: moto knows them by it.
        await domain.ec2.send(new AttachVolumeCommand({ ...asked(volumeId, node), Device: `/dev/${volumeId}` }));
      },
      detach: (volumeId, node) => unlessOff(() => domain.ec2.send(new DetachVolumeCommand(asked(volumeId, node)))),
    },
    left: () => domain.left(),
    stop: () => way.stop(),
  };
}

/** What was written to disks, as far as it can be told by who held them, and whether snapshots have it. */
export class Writes {
  /** When each volume was let go last, by its id: nobody wrote to it later. */
  readonly #until = new Map<string, number>();
  readonly #sdk: EC2Client;

  constructor(url: string) {
    this.#sdk = new EC2Client({ endpoint: url, region: 'us-east-2' });
  }

  watched({ attach, detach }: Attaching): Attaching {
    return {
      attach: async (volumeId, node) => {
        await attach(volumeId, node);
        this.#until.set(volumeId, Number.POSITIVE_INFINITY);
      },
      detach: async (volumeId, node) => {
        await detach(volumeId, node);
        this.#until.set(volumeId, Date.now());
      },
    };
  }

  /** Volumes of any tag or none, as `id state`. */
  async volumes(): Promise<string[]> {
    const { Volumes = [] } = await this.#sdk.send(new DescribeVolumesCommand({}));
    // Those of instances are theirs.
    const ours = Volumes.filter(({ Tags = [] }) => Tags.some(({ Key }) => Key === 'gpu-dev:cluster'));
    return ours.map(({ VolumeId, State }) => `${VolumeId} ${State}`);
  }

  /** Ids of all snapshots that bear our tag. */
  async snapshots(): Promise<string[]> {
    return (await this.#snapshots()).map(({ SnapshotId }) => SnapshotId!);
  }

  /** Volumes that were written to and have not exactly one snapshot, begun after the last write; in words. */
  async unsaved(): Promise<string[]> {
    const all = await this.#snapshots();
    return [...this.#until].flatMap(([volumeId, until]) => {
      const own = all.filter(({ VolumeId, State }) => VolumeId === volumeId && State === 'completed');
      // EC2 and moto tell whole seconds.
      const later = own.filter(({ StartTime }) => StartTime!.getTime() >= Math.floor(until / 1_000) * 1_000);
      return own.length === 1 && later.length === 1
        ? []
        : [`${volumeId}: ${own.length} snapshots, ${later.length} of the last write`];
    });
  }

  async #snapshots() {
    const { Snapshots = [] } = await this.#sdk.send(new DescribeSnapshotsCommand({ OwnerIds: ['self'] }));
    return Snapshots.filter(({ Tags = [] }) => Tags.some(({ Key }) => Key === 'gpu-dev:cluster'));
  }
}
