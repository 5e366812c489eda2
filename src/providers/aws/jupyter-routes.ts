/**
 * Ways to Jupyter through a load balancer: a target group of each server, named after its whole reservation id, and what leads to it: a rule by
 * host name on a listener of an ALB, or a listener of its own on an NLB. Whatever is done here is found again by its name and its tags, so that
 * whoever comes after a crash adopts it or takes it away.
 */
import { createHash } from 'node:crypto';
import { TerminalError } from '../../../actors/errors.ts';
import { PlaceTakenError, type PublishedRoute, type RouteObjects, type Routes } from '../../../actors/reservation/name-ports.ts';
import { PORTS } from '../kubernetes/layout.ts';
import { AwsError } from './errors.ts';
import type { LoadBalancing, TargetGroupView } from './load-balancer.ts';
import { bearsTags, TAG } from './tags.ts';

export interface JupyterRoutesOptions {
  balancing: LoadBalancing;
  /** Id of the EC2 instance of a node. @throws if it cannot be told now */
  instanceOf: (node: string) => Promise<string>;
  cluster: string;
  vpc: string;
  places: readonly [number, number];
  /** A listener of an ALB, whose rules lead by host name; or an NLB, which gets a listener of its own for each. */
  through: { kind: 'alb'; listener: string } | { kind: 'nlb'; loadBalancer: string };
}

/** Codes by which the load balancer says that there is no room for more. */
const QUOTA =
  /^TooMany(TargetGroups|Rules|Listeners|UniqueTargetGroupsPerLoadBalancer|Targets|RegistrationsForTargetId)|^TargetGroupAssociationLimit/;
const TAKEN = /^(PriorityInUse|DuplicateListener)/;
const IN_USE = /^ResourceInUse/;

/** Name of the target group of a reservation: 32 characters at most, and no two alike. */
export function targetGroupName(cluster: string, reservationId: string): string {
  const hash = createHash('sha256').update(`${cluster}/${reservationId}`).digest('hex');
  return `gpu-dev-${hash.slice(0, 24)}`;
}

/** A rule of the listener, or a listener of the load balancer. */
export interface Way {
  arn: string;
  /** null: what leads where nothing else does. */
  place: number | null;
  targetGroups: string[];
}

export class JupyterRoutes implements Routes {
  readonly loadBalancer: string;
  readonly places: readonly [number, number];
  readonly #options: JupyterRoutesOptions;

  constructor(options: JupyterRoutesOptions) {
    this.#options = options;
    this.places = options.places;
    this.loadBalancer = options.through.kind === 'alb' ? options.through.listener : options.through.loadBalancer;
  }

  publish(route: PublishedRoute): Promise<RouteObjects> {
    return withinQuota(async () => {
      const instance = await this.#options.instanceOf(route.node);
      const target = { id: instance, port: route.port };
      const group = await this.#ensureGroup(route);
      if (group.fresh) await this.#options.balancing.register(group.arn, target);
      else await this.#pointTo(group.arn, target);
      const rule = (group.fresh ? null : await this.#adoptWay(route, group.arn)) ?? (await this.#makeWay(route, group.arn));
      const url = this.#options.through.kind === 'alb' ? `https://${route.fqdn}/` : `http://${route.fqdn}:${route.place}/`;
      return { url, targetGroup: group.arn, rule };
    });
  }

  /**
   * A target group in use cannot be deleted: when it is gone, so is all that led to it.
   * @param rule what is on record to lead there
   * @throws Error naming what leads there and does not bear this reservation's tags: that stays
   */
  async withdraw({ reservationId, rule }: { reservationId: string; rule?: string | null }): Promise<void> {
    const { balancing } = this.#options;
    const group = await this.#groupOf(reservationId);
    if (group === null || !group.ours) return;
    if (rule != null && (await this.#ownOf(reservationId, [rule])).length === 1) await this.removeWay(rule);
    try {
      await balancing.deleteTargetGroup(group.arn);
    } catch (error) {
      if (!isCode(error, IN_USE)) throw error;
      const leading = (await this.#waysTo(group.arn)).map(({ arn }) => arn);
      const own = await this.#ownOf(reservationId, leading);
      for (const way of own) await this.removeWay(way);
      const foreign = leading.filter((way) => !own.includes(way));
      if (foreign.length > 0)
        throw new Error(`${foreign.join(', ')} is not ours and leads to the target group ${group.name}; an operator must look`);
      await balancing.deleteTargetGroup(group.arn);
    }
  }

  /** @throws AwsError */
  removeWay(arn: string): Promise<void> {
    const { balancing, through } = this.#options;
    return through.kind === 'alb' ? balancing.deleteRule(arn) : balancing.deleteListener(arn);
  }

  /** Those of these rules or listeners that are this reservation's by their own tags: a recorded id may be another's by now. */
  async #ownOf(reservationId: string, ways: readonly string[]): Promise<string[]> {
    const { balancing, cluster } = this.#options;
    if (ways.length === 0) return [];
    const tags = await balancing.tags(ways);
    return ways.filter((arn) => bearsTags(tags.get(arn) ?? {}, { [TAG.cluster]: cluster, [TAG.reservation]: reservationId }));
  }

  /** The target group with the name of this reservation's, and whether it is; null if there is none. */
  async #groupOf(reservationId: string): Promise<(TargetGroupView & { ours: boolean }) | null> {
    const { balancing, cluster } = this.#options;
    const group = await balancing.targetGroup(targetGroupName(cluster, reservationId));
    if (group === null) return null;
    const tags = (await balancing.tags([group.arn])).get(group.arn) ?? {};
    return { ...group, ours: bearsTags(tags, { [TAG.cluster]: cluster, [TAG.reservation]: reservationId }) };
  }

  /** @throws TerminalError if it is a stranger's */
  async #adopt(reservationId: string): Promise<TargetGroupView | null> {
    const group = await this.#groupOf(reservationId);
    if (group?.ours === false) throw new TerminalError(`The target group ${group.name} is somebody else's`);
    return group;
  }

  /** `fresh` if nothing can lead to it yet, nor it anywhere. */
  async #ensureGroup({ reservationId, generation, fqdn }: PublishedRoute): Promise<{ arn: string; fresh: boolean }> {
    const found = await this.#adopt(reservationId);
    if (found !== null) return { arn: found.arn, fresh: false };
    const { balancing, cluster, vpc, through } = this.#options;
    const request = {
      Name: targetGroupName(cluster, reservationId),
      // Each target says its own port.
      Port: PORTS.jupyter,
      VpcId: vpc,
      TargetType: 'instance' as const,
      HealthCheckIntervalSeconds: 30,
      ...(through.kind === 'alb'
        ? { Protocol: 'HTTP' as const, HealthCheckPath: '/', Matcher: { HttpCode: '200,301,302' } }
        : { Protocol: 'TCP' as const }),
    };
    try {
      return { arn: await balancing.createTargetGroup(request, this.#tags(reservationId, generation, fqdn)), fresh: true };
    } catch (error) {
      if (!isCode(error, /^DuplicateTargetGroupName/)) throw error;
      // Ours, from a call whose answer was lost; or a stranger's, which is said.
      const now = await this.#adopt(reservationId);
      if (now === null) throw error;
      return { arn: now.arn, fresh: false };
    }
  }

  async #pointTo(arn: string, target: { id: string; port: number }): Promise<void> {
    const { balancing } = this.#options;
    const now = await balancing.targets(arn);
    const isIt = ({ id, port }: { id: string; port: number }) => id === target.id && port === target.port;
    if (!now.some(isIt)) await balancing.register(arn, target);
    const others = now.filter((other) => !isIt(other));
    if (others.length === 0) return;
    await balancing.deregister(arn, others);
    // Whoever moved it at the same time may have taken this one for an earlier one.
    if (!(await balancing.targets(arn)).some(isIt)) await balancing.register(arn, target);
  }

  /** What of ours leads to the target group already, if it does so at this place; at others it is removed. */
  async #adoptWay({ reservationId, place }: PublishedRoute, targetGroup: string): Promise<string | null> {
    let adopted: string | null = null;
    const leading = await this.#waysTo(targetGroup);
    const own = await this.#ownOf(
      reservationId,
      leading.map(({ arn }) => arn),
    );
    for (const way of leading) {
      if (!own.includes(way.arn)) continue;
      if (way.place === place && adopted === null) adopted = way.arn;
      else await this.removeWay(way.arn);
    }
    return adopted;
  }

  /** @throws PlaceTakenError */
  async #makeWay({ reservationId, generation, fqdn, place }: PublishedRoute, targetGroup: string): Promise<string> {
    const { balancing, through } = this.#options;
    const tags = this.#tags(reservationId, generation, fqdn);
    try {
      if (through.kind === 'alb')
        return await balancing.createRule({ listener: through.listener, priority: place, host: fqdn, targetGroup }, tags);
      return await balancing.createListener({ loadBalancer: through.loadBalancer, port: place, targetGroup }, tags);
    } catch (error) {
      if (!isCode(error, TAKEN)) throw error;
      // By ourselves, in a call whose answer was lost; or by somebody else.
      const now = await this.ways();
      const made = now.find((way) => way.place === place && way.targetGroups.includes(targetGroup));
      if (made !== undefined) return made.arn;
      throw new PlaceTakenError(now.flatMap((way) => (way.place === null ? [] : [way.place])));
    }
  }

  async #waysTo(targetGroup: string): Promise<Way[]> {
    return (await this.ways()).filter((way) => way.targetGroups.includes(targetGroup));
  }

  /** Everything that leads anywhere from where we publish, whosever it is. @throws AwsError */
  async ways(): Promise<Way[]> {
    const { balancing, through } = this.#options;
    if (through.kind === 'alb')
      return (await balancing.rules(through.listener)).map(({ arn, priority, targetGroups }) => ({
        arn,
        place: priority,
        targetGroups,
      }));
    return (await balancing.listeners(through.loadBalancer)).map(({ arn, port, targetGroups }) => ({
      arn,
      place: port,
      targetGroups,
    }));
  }

  #tags(reservationId: string, generation: number, fqdn: string): Record<string, string> {
    const { cluster } = this.#options;
    return {
      [TAG.cluster]: cluster,
      [TAG.reservation]: reservationId,
      [TAG.generation]: String(generation),
      [TAG.name]: fqdn,
    };
  }
}

function isCode(error: unknown, code: RegExp): boolean {
  return error instanceof AwsError && code.test(error.code);
}

/** @throws TerminalError in words for the user if a quota is used up */
async function withinQuota<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!isCode(error, QUOTA)) throw error;
    throw new TerminalError(
      `The load balancer has no room for another way to Jupyter (${(error as AwsError).code}): use the port of the node, or ask an operator to raise the quota`,
      { cause: error },
    );
  }
}
