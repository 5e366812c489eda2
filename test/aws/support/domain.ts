/** A domain and a load balancer on an emulator of AWS, and what stands there, by their own lists. */
import {
  CreateListenerCommand,
  CreateLoadBalancerCommand,
  DescribeListenersCommand,
  DescribeTargetHealthCommand,
  DescribeRulesCommand,
  DescribeTargetGroupsCommand,
  ElasticLoadBalancingV2Client,
} from '@aws-sdk/client-elastic-load-balancing-v2';
import { CreateSubnetCommand, CreateVpcCommand, EC2Client, RunInstancesCommand } from '@aws-sdk/client-ec2';
import { CreateHostedZoneCommand, ListResourceRecordSetsCommand, Route53Client } from '@aws-sdk/client-route-53';
import type { AwsSettings } from '../../../src/providers/aws/client.ts';
import { JupyterRoutes } from '../../../src/providers/aws/jupyter-routes.ts';
import { LoadBalancing } from '../../../src/providers/aws/load-balancer.ts';
import { AwsNameReality } from '../../../src/providers/aws/name-reality.ts';
import { Route53Names } from '../../../src/providers/aws/names.ts';
import { Route53 } from '../../../src/providers/aws/route53.ts';

export const DOMAIN = 'dev.test';
export const CLUSTER = 'prod';
process.env['AWS_ACCESS_KEY_ID'] ??= 'test';
process.env['AWS_SECRET_ACCESS_KEY'] ??= 'test';

/** What a service is told of that domain. */
export const namesEnvironment = ({ zone, vpc, listener }: Pick<Domain, 'zone' | 'vpc' | 'listener'>): Record<string, string> => ({
  DOMAIN_NAME: DOMAIN,
  HOSTED_ZONE_ID: zone,
  JUPYTER_ALB_LISTENER_ARN: listener,
  JUPYTER_ALB_DNS: 'jupyter.elb.amazonaws.com',
  JUPYTER_ALB_VPC_ID: vpc,
});

export interface Domain {
  zone: string;
  /** Where it is, if it is not where all else is. */
  dnsUrl: string | null;
  vpc: string;
  listener: string;
  network: string;
  /** Instances of nodes: the first node that is asked for gets the first. */
  instances: string[];
  ec2: EC2Client;
  balancing: ElasticLoadBalancingV2Client;
  /** Records of servers, as `name TYPE value`. */
  records(): Promise<string[]>;
  /** Rules but for the default one, as `priority host`. */
  rules(): Promise<string[]>;
  /** Target groups, as `name → instance:port`. */
  groups(): Promise<string[]>;
  /** Ports of the listeners of the NLB. */
  ports(): Promise<number[]>;
  /** All that is left of names and ways, in words. */
  left(): Promise<string[]>;
}

/**
 * Make a zone, a VPC, an ALB with a listener, an NLB without one, and three instances.
 * @param dns another Route 53, with a zone: moto refuses to make a record again that was there before
 */
export async function makeDomain(endpoint: string, dns: { url: string; zone: string } | null = null): Promise<Domain> {
  const common = { region: 'us-east-2', endpoint };
  const route53 = new Route53Client({ ...common, endpoint: dns?.url ?? endpoint });
  const ec2 = new EC2Client(common);
  const balancing = new ElasticLoadBalancingV2Client(common);
  const newZone = async () => {
    const made = await route53.send(new CreateHostedZoneCommand({ Name: DOMAIN, CallerReference: crypto.randomUUID() }));
    return made.HostedZone!.Id!.replace('/hostedzone/', '');
  };
  const zone = dns?.zone ?? (await newZone());
  const vpc = (await ec2.send(new CreateVpcCommand({ CidrBlock: '10.0.0.0/16' }))).Vpc!.VpcId!;
  const subnets: string[] = [];
  for (const [index, AvailabilityZone] of ['us-east-2a', 'us-east-2b'].entries()) {
    const { Subnet } = await ec2.send(new CreateSubnetCommand({ VpcId: vpc, CidrBlock: `10.0.${index}.0/24`, AvailabilityZone }));
    subnets.push(Subnet!.SubnetId!);
  }
  const balancer = async (Type: 'application' | 'network') =>
    (await balancing.send(new CreateLoadBalancerCommand({ Name: `jupyter-${Type}`, Type, Subnets: subnets }))).LoadBalancers![0]!
      .LoadBalancerArn!;
  const alb = await balancer('application');
  const network = await balancer('network');
  const DefaultActions = [{ Type: 'fixed-response' as const, FixedResponseConfig: { StatusCode: '404' } }];
  const { Listeners } = await balancing.send(
    new CreateListenerCommand({ LoadBalancerArn: alb, Port: 80, Protocol: 'HTTP', DefaultActions }),
  );
  const listener = Listeners![0]!.ListenerArn!;
  const { Instances } = await ec2.send(
    new RunInstancesCommand({
      ImageId: 'ami-12c6146b',
      MinCount: 3,
      MaxCount: 3,
      InstanceType: 't3.micro',
      SubnetId: subnets[0]!,
    }),
  );
  const domain: Domain = {
    zone,
    dnsUrl: dns?.url ?? null,
    vpc,
    listener,
    network,
    instances: Instances!.map(({ InstanceId }) => InstanceId!),
    ec2,
    balancing,
    records: async () => {
      const found: string[] = [];
      let from = {};
      for (;;) {
        const page = await route53.send(new ListResourceRecordSetsCommand({ HostedZoneId: zone, ...from }));
        for (const { Name = '', Type, ResourceRecords = [] } of page.ResourceRecordSets ?? [])
          if (Type !== 'NS' && Type !== 'SOA') found.push(`${Name.replace(/\.$/, '')} ${Type} ${ResourceRecords[0]?.Value}`);
        if (page.IsTruncated !== true) return found.sort();
        from = { StartRecordName: page.NextRecordName, StartRecordType: page.NextRecordType };
      }
    },
    rules: async () => {
      const { Rules = [] } = await balancing.send(new DescribeRulesCommand({ ListenerArn: listener, PageSize: 400 }));
      return Rules.flatMap(({ IsDefault, Priority, Conditions }) =>
        IsDefault === true || Priority === 'default' ? [] : [`${Priority} ${Conditions?.[0]?.HostHeaderConfig?.Values?.[0]}`],
      ).sort();
    },
    groups: async () => {
      const { TargetGroups = [] } = await balancing.send(new DescribeTargetGroupsCommand({ PageSize: 400 }));
      const found = TargetGroups.map(async ({ TargetGroupArn, TargetGroupName }) => {
        const health = await balancing
          .send(new DescribeTargetHealthCommand({ TargetGroupArn }))
          .catch((error: Error) => (/NotFound/.test(error.name) ? { TargetHealthDescriptions: [] } : Promise.reject(error)));
        const targets = (health.TargetHealthDescriptions ?? []).map(({ Target }) => `${Target?.Id}:${Target?.Port}`);
        return `${TargetGroupName} → ${targets.join(', ')}`;
      });
      return (await Promise.all(found)).sort();
    },
    ports: async () => {
      const { Listeners: all = [] } = await balancing.send(new DescribeListenersCommand({ LoadBalancerArn: network }));
      return all.map(({ Port }) => Port!).sort();
    },
    left: async () => [...(await domain.records()), ...(await domain.rules()), ...(await domain.groups())],
  };
  return domain;
}

export interface DomainPorts {
  names: Route53Names;
  routes: JupyterRoutes;
  reality: AwsNameReality;
}

/** The ports of a process to that domain, through `endpoint`. */
export function domainPorts(
  { zone, dnsUrl, vpc, listener, network, instances }: Omit<Domain, 'records'>,
  endpoint: string,
  options: { aws?: Partial<AwsSettings>; through?: 'alb' | 'nlb'; target?: string | null; places?: [number, number] } = {},
): DomainPorts {
  const aws: AwsSettings = { region: 'us-east-2', endpoint, cluster: CLUSTER, attemptMs: 5_000, ...options.aws };
  const through =
    options.through === 'nlb' ? ({ kind: 'nlb', loadBalancer: network } as const) : ({ kind: 'alb', listener } as const);
  const nodes: string[] = [];
  const route53 = new Route53({ ...aws, endpoint: dnsUrl ?? endpoint });
  const balancing = new LoadBalancing(aws);
  const names = new Route53Names({ route53, zone, cluster: CLUSTER, target: options.target ?? null, gatherMs: 5, gapMs: 5 });
  const routes = new JupyterRoutes({
    balancing,
    cluster: CLUSTER,
    vpc,
    places: options.places ?? [1_000, 1_999],
    through,
    instanceOf: async (node) => {
      if (!nodes.includes(node)) nodes.push(node);
      return instances[nodes.indexOf(node) % instances.length]!;
    },
  });
  return {
    names,
    routes,
    reality: new AwsNameReality({ cluster: CLUSTER, dns: { route53, names }, ways: { balancing, routes } }),
  };
}
