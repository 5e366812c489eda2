/** What stands in Route 53 and on the load balancer and is ours by its own word: with what others have there we have nothing to do. */
import type { FoundObject, NameKind, Subject } from '../../../actors/reality/ports.ts';
import type { NameReality } from '../joint-reality.ts';
import type { JupyterRoutes } from './jupyter-routes.ts';
import type { LoadBalancing } from './load-balancer.ts';
import type { Route53Names } from './names.ts';
import type { Route53 } from './route53.ts';
import { TAG, type Tags } from './tags.ts';
import { clusterLabel, namedBy, readOwnership } from './zone-records.ts';

export interface AwsNameRealityOptions {
  cluster: string;
  /** null: no records are made. */
  dns: { route53: Route53; names: Route53Names } | null;
  /** null: there is no load balancer. */
  ways: { balancing: LoadBalancing; routes: JupyterRoutes } | null;
}

/** Names of our target groups begin so. */
const PREFIX = 'gpu-dev-';

export class AwsNameReality implements NameReality {
  readonly #options: AwsNameRealityOptions;

  constructor(options: AwsNameRealityOptions) {
    this.#options = options;
  }

  async list(kind: NameKind): Promise<FoundObject[] | null> {
    switch (kind) {
      case 'NameRecord':
        return this.#records();
      case 'TargetGroup':
        return this.#groups();
      case 'JupyterRule':
        return this.#rules();
    }
  }

  /** Each takes away only what is this reservation's, whatever stands there by now. */
  async remove({ kind, name, uid, subject }: FoundObject & { kind: NameKind }): Promise<'removed' | 'changed' | 'gone'> {
    const { dns, ways } = this.#options;
    if (subject.of !== 'server') return 'changed';
    const { reservationId } = subject.server;
    if (kind === 'NameRecord') await dns?.names.withdraw({ reservationId, fqdn: name });
    else if (kind === 'TargetGroup') await ways?.routes.withdraw({ reservationId });
    else if (!(await this.#rules())?.some((rule) => rule.uid === uid && isOf(rule, reservationId))) return 'gone';
    else await ways?.routes.removeWay(name);
    return 'removed';
  }

  async isGone(kind: NameKind, name: string): Promise<boolean> {
    const { dns, ways } = this.#options;
    if (kind === 'NameRecord') {
      if (dns === null) throw new Error(`Nobody here knows of ${name}`);
      // One without the other leads nowhere, or is nobody's: both are made anew.
      const { own, word } = await dns.names.standing(name);
      return own.length === 0 || word === null;
    }
    if (ways === null) throw new Error(`Nobody here knows of ${name}`);
    const there = kind === 'TargetGroup' ? await ways.balancing.targetGroups() : await ways.routes.ways();
    return !there.some(({ arn }) => arn === name);
  }

  async #records(): Promise<FoundObject[] | null> {
    const { dns, cluster } = this.#options;
    if (dns === null) return null;
    const found: FoundObject[] = [];
    for await (const page of dns.route53.all(dns.names.zone))
      for (const record of page) {
        const name = namedBy(record);
        const owner = name === null ? null : readOwnership(record);
        if (name === null || owner === null || owner.cluster !== clusterLabel(cluster)) continue;
        const { reservationId, generation } = owner;
        found.push(
          foundOf('NameRecord', name, `${dns.names.zone}/${name}/${reservationId}`, record.values[0]!, {
            reservationId,
            generation,
          }),
        );
      }
    return found;
  }

  async #groups(): Promise<FoundObject[] | null> {
    const { ways } = this.#options;
    if (ways === null) return null;
    const groups = (await ways.balancing.targetGroups()).filter(({ name }) => name.startsWith(PREFIX));
    return this.#ofUs('TargetGroup', groups);
  }

  async #rules(): Promise<FoundObject[] | null> {
    const { ways } = this.#options;
    if (ways === null) return null;
    return this.#ofUs(
      'JupyterRule',
      (await ways.routes.ways()).filter(({ place }) => place !== null),
    );
  }

  async #ofUs(kind: NameKind, things: readonly { arn: string }[]): Promise<FoundObject[]> {
    const { ways, cluster } = this.#options;
    const tags = await ways!.balancing.tags(things.map(({ arn }) => arn));
    return things.flatMap(({ arn }) => {
      const found = tags.get(arn) ?? {};
      return found[TAG.cluster] === cluster ? [foundOf(kind, arn, arn, arn, serverIn(found))] : [];
    });
  }
}

function serverIn(tags: Tags): { reservationId: string; generation: number } | null {
  const reservationId = tags[TAG.reservation];
  const generation = Number(tags[TAG.generation]);
  return reservationId === undefined || !Number.isInteger(generation) ? null : { reservationId, generation };
}

function foundOf(
  kind: NameKind,
  name: string,
  uid: string,
  resourceVersion: string,
  server: { reservationId: string; generation: number } | null,
): FoundObject {
  const subject: Subject = server === null ? { of: 'nobody' } : { of: 'server', server };
  return { kind, name, uid, resourceVersion, terminating: false, subject, cared: false };
}

const isOf = ({ subject }: FoundObject, reservationId: string): boolean =>
  subject.of === 'server' && subject.server.reservationId === reservationId;
