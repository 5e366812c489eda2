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
import { Route53 } from './route53.ts';

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
      ...(balancing === null || balancer === null ? [] : await ofBalancer(balancing, balancer)),
    ],
  };
}

async function ofZone(route53: Route53, zone: string, domain: string): Promise<string[]> {
  return named('HOSTED_ZONE_ID', async () => {
    const name = await route53.nameOf(zone);
    await route53.from(zone, domain, 1);
    if (domain === name || domain.endsWith(`.${name}`)) return [];
    return [`The hosted zone ${zone} (HOSTED_ZONE_ID) is ${name}, and ${domain} (DOMAIN_NAME) is not in it`];
  });
}

async function ofBalancer(balancing: LoadBalancing, balancer: NonNullable<NameSettings['balancer']>): Promise<string[]> {
  const isAlb = balancer.kind === 'alb';
  return named(isAlb ? 'JUPYTER_ALB_LISTENER_ARN' : 'JUPYTER_ALB_ARN', async () => {
    if (isAlb) await balancing.rules(balancer.listener);
    else await balancing.listeners(balancer.loadBalancer);
    await balancing.targetGroup('gpu-dev-none');
    return [];
  });
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
