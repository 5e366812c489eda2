/** Names and ways to Jupyter, as the settings want them. */
import { type Names, NO_ZONE, type Routes } from '../../../actors/reservation/name-ports.ts';
import type { FoundNames } from '../../rebuild/ports.ts';
import type { NameReality } from '../joint-reality.ts';
import type { KubernetesClient } from '../kubernetes/client.ts';
import { Ec2 } from './ec2.ts';
import { AwsError } from './errors.ts';
import { instanceOf } from './instances.ts';
import { JupyterRoutes } from './jupyter-routes.ts';
import { LoadBalancing } from './load-balancer.ts';
import { AwsNameReality } from './name-reality.ts';
import type { NameSettings } from './name-settings.ts';
import { standingNames } from './name-remains.ts';
import { Route53Names } from './names.ts';
import { triedInVain } from './rights.ts';
import { type Change, Route53 } from './route53.ts';
import { TAG } from './tags.ts';

/** What serves names; null for what is not configured. */
export interface NameProviders {
  names: Names | null;
  routes: Routes | null;
  /** What stands there, to compare the database with; null where nothing does. */
  reality: NameReality | null;
  /** What stands there for each reservation; null where nothing does. */
  standing: (() => Promise<Map<string, FoundNames>>) | null;
  /** What is missing for it to work, in words for the operator. @throws if that cannot be told now */
  findObstacles(): Promise<string[]>;
}

/** A record for all names stands in the zone already: whoever runs the service made it. */
const WILDCARD: Names = { zone: NO_ZONE, publish: async () => {}, withdraw: async () => {} };

/** Nothing of the SDK is loaded before it is used. */
export function nameProviders(settings: NameSettings, client: KubernetesClient): NameProviders {
  const { domain, zone, balancer, aws } = settings;
  if (domain === null) return { names: null, routes: null, reality: null, standing: null, findObstacles: async () => [] };
  if (aws === null) return { names: WILDCARD, routes: null, reality: null, standing: null, findObstacles: async () => [] };
  const { cluster } = aws;
  const route53 = zone === null ? null : new Route53(aws);
  const balancing = balancer === null ? null : new LoadBalancing(aws);
  const ec2 = new Ec2(aws);
  const names = route53 === null ? null : new Route53Names({ route53, zone: zone!, cluster, target: balancer?.dns ?? null });
  const routes =
    balancing === null || balancer === null
      ? null
      : new JupyterRoutes({
          balancing,
          cluster,
          vpc: balancer.vpc,
          places: balancer.places,
          through: balancer,
          instanceOf: (node) => instanceOf(client, ec2, node),
        });
  const reality = new AwsNameReality({
    cluster,
    dns: route53 === null || names === null ? null : { route53, names },
    ways: balancing === null || routes === null ? null : { balancing, routes },
  });
  return {
    names: names ?? WILDCARD,
    routes,
    reality,
    standing: () => standingNames(reality, names?.zone ?? null, routes),
    findObstacles: async () => [
      ...(route53 === null ? [] : await ofZone(route53, zone!, domain)),
      ...(balancing === null || balancer === null ? [] : await ofBalancer(balancing, balancer, reality, cluster)),
    ],
  };
}

async function ofZone(route53: Route53, zone: string, domain: string): Promise<string[]> {
  return named('HOSTED_ZONE_ID', async () => {
    const name = await route53.nameOf(zone);
    await route53.from(zone, domain, 1);
    if (domain === name || domain.endsWith(`.${name}`))
      return triedInVain('route53:ChangeResourceRecordSets', () => route53.change(zone, [noSuchRecord(domain)]), PAGE);
    return [`The hosted zone ${zone} (HOSTED_ZONE_ID) is ${name}, and ${domain} (DOMAIN_NAME) is not in it`];
  });
}

const PAGE = 'aws-routes.md';
const NOBODY = 'gpu-dev-none';

/** Its deletion is refused, since nobody ever made it. */
const noSuchRecord = (domain: string): Change => ({
  action: 'DELETE',
  record: { Name: `${NOBODY}.${domain}`, Type: 'TXT', TTL: 60, ResourceRecords: [{ Value: '"a trial of rights"' }] },
});

async function ofBalancer(
  balancing: LoadBalancing,
  balancer: NonNullable<NameSettings['balancer']>,
  reality: AwsNameReality,
  cluster: string,
): Promise<string[]> {
  const isAlb = balancer.kind === 'alb';
  return named(isAlb ? 'JUPYTER_ALB_LISTENER_ARN' : 'JUPYTER_ALB_ARN', async () => {
    if (isAlb) await balancing.rules(balancer.listener);
    else await balancing.listeners(balancer.loadBalancer);
    await balancing.targetGroup(NOBODY);
    return triedWays(balancing, balancer, reality, cluster);
  });
}

/** What makes and changes ways, tried without effect: in a VPC and over a target group that cannot be, and on a target that is not there. */
async function triedWays(
  balancing: LoadBalancing,
  balancer: NonNullable<NameSettings['balancer']>,
  reality: AwsNameReality,
  cluster: string,
): Promise<string[]> {
  const tags = { [TAG.cluster]: cluster };
  const tried = (action: string, call: () => Promise<unknown>) => triedInVain(`elasticloadbalancing:${action}`, call, PAGE);
  const from = balancer.kind === 'alb' ? balancer.listener : balancer.loadBalancer;
  const targetGroup = `${from.split(':').slice(0, 5).join(':')}:targetgroup/${NOBODY}/0000000000000000`;
  const [place] = balancer.places;
  const inNoVpc = { Name: NOBODY, Protocol: 'TCP' as const, Port: 1, VpcId: 'vpc-00000000000000000' };
  const missing = await tried('CreateTargetGroup', () => balancing.createTargetGroup(inNoVpc, tags));
  if (balancer.kind === 'alb') {
    const rule = { listener: balancer.listener, priority: place, host: `${NOBODY}.invalid`, targetGroup };
    missing.push(...(await tried('CreateRule', () => balancing.createRule(rule, tags))));
  } else {
    const listener = { loadBalancer: balancer.loadBalancer, port: place, targetGroup };
    missing.push(...(await tried('CreateListener', () => balancing.createListener(listener, tags))));
  }
  // What is bound to our tags can only be tried on something that bears them.
  const [ours] = (await reality.list('TargetGroup')) ?? [];
  if (ours === undefined) return missing;
  const nowhere = [{ id: 'i-00000000000000000', port: 1 }];
  return [...missing, ...(await tried('DeregisterTargets', () => balancing.deregister(ours.name, nowhere)))];
}

/** What AWS refuses for good is an obstacle; whatever else goes wrong may pass. */
async function named(variable: string, work: () => Promise<string[]>): Promise<string[]> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof AwsError && ['denied', 'missing', 'refused'].includes(error.failure))
      return [`AWS does not serve ${variable}: ${error.message}`];
    throw error;
  }
}
