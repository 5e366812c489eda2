/** Names and ways that stand for each reservation, by their own word: for a database that is built anew. */
import type { FoundNames } from '../../rebuild/ports.ts';
import type { JupyterRoutes } from './jupyter-routes.ts';
import type { AwsNameReality } from './name-reality.ts';

/**
 * A way is one that leads to one target group, both by their tags this reservation's; of two nothing is said, and publishing settles it.
 * @throws AwsError if a list did not come to its end
 */
export async function standingNames(
  reality: AwsNameReality,
  zone: string | null,
  routes: JupyterRoutes | null,
): Promise<Map<string, FoundNames>> {
  const found = new Map<string, FoundNames>();
  const of = (id: string): FoundNames => {
    const known = found.get(id) ?? { fqdn: null, zone: null, way: null };
    found.set(id, known);
    return known;
  };
  for (const { name, subject } of (await reality.list('NameRecord')) ?? [])
    if (subject.of === 'server' && zone !== null) Object.assign(of(subject.server.reservationId), { fqdn: name, zone });
  const groups = (await reality.list('TargetGroup')) ?? [];
  if (routes === null || groups.length === 0) return found;
  const rules = new Map(((await reality.list('JupyterRule')) ?? []).map((rule) => [rule.name, rule]));
  const ways = await routes.ways();
  for (const { name: targetGroup, subject } of groups) {
    if (subject.of !== 'server') continue;
    const { reservationId } = subject.server;
    const leading = ways.filter((way) => way.targetGroups.includes(targetGroup));
    const [way] = leading;
    const owner = way === undefined ? undefined : rules.get(way.arn)?.subject;
    if (way === undefined || way.place === null || leading.length > 1) continue;
    if (owner?.of !== 'server' || owner.server.reservationId !== reservationId) continue;
    const { loadBalancer } = routes;
    of(reservationId).way = { loadBalancer, place: way.place, rule: way.arn, targetGroup };
  }
  return found;
}
