// What stands in DNS and on the load balancer is compared with what reservations have asked for: by moto's lists, in both directions.
import { CreateRuleCommand, DeleteRuleCommand, DeleteTargetGroupCommand } from '@aws-sdk/client-elastic-load-balancing-v2';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { serveDomain } from '../../persistence/names.ts';
import { JointReality } from '../../src/providers/joint-reality.ts';
import { KubernetesReality } from '../../src/providers/kubernetes/reality.ts';
import { Comparisons, GRACE_MS, lineOf } from '../integration/reality/scene.ts';
import { type Scene, startScene } from '../old-failures/scene.ts';
import { startMoto } from '../support/moto.ts';
import type { World } from '../support/world.ts';
import { Route53Stub, ZONE } from './stub/route53-stub.ts';
import { type Domain, type DomainPorts, domainPorts, makeDomain } from './support/domain.ts';

const moto = await startMoto();

describe.skipIf(moto.missing)('names and ways, and what reservations know of them', () => {
  let scene: Scene;
  let world: World;
  let dns: Route53Stub;
  let domain: Domain;
  let late: DomainPorts;
  let comparisons: Comparisons;
  beforeAll(async () => {
    dns = await Route53Stub.start();
    domain = await makeDomain(moto.url, { url: dns.url, zone: ZONE });
    late = domainPorts(domain, moto.url);
    scene = await startScene({ fleet: { t4: 3 }, ports: (base) => ({ ...base, ...domainPorts(domain, moto.url) }) });
    world = scene.world;
    await serveDomain(world.db, 'dev.test');
    comparisons = new Comparisons(world.db, world.client, {
      reality: new JointReality(new KubernetesReality({ client: world.client }), late.reality),
      post: async (messages) => {
        await world.kernel.post(messages);
        world.kernel.wake();
      },
    });
  });
  afterAll(async () => {
    await scene?.stop();
    await dns?.stop();
  });

  const count = async (sql: string, id: string) => (await world.db.query(sql, [id])).rowCount ?? 0;
  const published = (id: string) =>
    world.until(`${id} is published with its way`, async () => {
      const names = await count('select 1 from domain_mappings where reservation_id = $1 and published_at is not null', id);
      return (
        names + (await count('select 1 from alb_target_groups where reservation_id = $1 and published_at is not null', id)) === 2
      );
    });
  const gone = () => world.until('nothing is left', async () => (await domain.left()).length === 0);
  const publishLate = async (reservationId: string, name: string, place: number) => {
    const fqdn = `${name}.dev.test`;
    await late.names.publish({ reservationId, generation: 1, fqdn, host: '10.0.0.9', port: 30_999 });
    return late.routes.publish({ reservationId, generation: 1, fqdn, node: 'n', port: 31_999, place });
  };

  it('N1 N2: what a late process made for a reservation that has ended is removed after a grace', async () => {
    const id = await scene.running({ name: 'ghost' });
    await scene.cancel(id);
    await scene.checkEnd();
    const made = await publishLate(id, 'late-ghost', 1_500);
    const first = await comparisons.compare();
    for (const name of ['late-ghost.dev.test', made.targetGroup, made.rule])
      expect(lineOf(first, name), name).toEqual({ verdict: 'ended', action: 'waits' });
    expect(await domain.left()).toHaveLength(4);
    comparisons.pass(GRACE_MS + 1_000);
    const second = await comparisons.compare();
    for (const name of ['late-ghost.dev.test', made.rule])
      expect(lineOf(second, name), name).toEqual({ verdict: 'ended', action: 'removed' });
    expect(await domain.left()).toEqual([]);
    comparisons.pass(60_000);
    expect((await comparisons.compare()).findings).toEqual([]);
  });

  it('what is not ours, or of an id that nobody knows, is never removed', async () => {
    const fixed = [{ Type: 'fixed-response' as const, FixedResponseConfig: { StatusCode: '404' } }];
    const Conditions = [{ Field: 'host-header', HostHeaderConfig: { Values: ['shop.dev.test'] } }];
    const rule = await domain.balancing.send(
      new CreateRuleCommand({ ListenerArn: domain.listener, Priority: 7, Conditions, Actions: fixed }),
    );
    const foreign = { name: 'shop.dev.test', type: 'A', ttl: 60, values: ['10.1.1.1'] };
    const word = `"heritage=gpu-dev,cluster=other,reservation=${crypto.randomUUID()},life=1,port=1"`;
    const other = { name: '_gpu-dev.theirs.dev.test', type: 'TXT', ttl: 60, values: [word] };
    dns.put(foreign);
    dns.put(other);
    const stranger = crypto.randomUUID() as string;
    const made = await publishLate(stranger, 'unknown', 1_501);
    await comparisons.compare();
    comparisons.pass(GRACE_MS * 2);
    const report = await comparisons.compare();
    expect(report.findings.map(({ name, verdict, action }) => [name, verdict, action]).sort()).toEqual(
      ['unknown.dev.test', made.rule, made.targetGroup].sort().map((name) => [name, 'unknown', 'reported']),
    );
    await late.names.withdraw({ reservationId: stranger, fqdn: 'unknown.dev.test' });
    await late.routes.withdraw({ reservationId: stranger });
    expect(await domain.left()).toEqual([`_gpu-dev.theirs.dev.test TXT ${word}`, 'shop.dev.test A 10.1.1.1', '7 shop.dev.test']);
    dns.records.clear();
    await domain.balancing.send(new DeleteRuleCommand({ RuleArn: rule.Rules![0]!.RuleArn }));
  });

  it('what a running server has published and somebody took away is made again', async () => {
    const id = await scene.running({ name: 'robbed', jupyter_enabled: true });
    await published(id);
    expect((await comparisons.compare()).findings).toEqual([]);
    const { rows } = await world.db.query<{ rule: string; target_group: string }>(
      'select jupyter_rule_arn as rule, jupyter_target_group_arn as target_group from alb_target_groups where reservation_id = $1',
      [id],
    );
    const { rule, target_group: TargetGroupArn } = rows[0]!;
    await late.names.withdraw({ reservationId: id, fqdn: 'robbed.dev.test' });
    await domain.balancing.send(new DeleteRuleCommand({ RuleArn: rule }));
    await domain.balancing.send(new DeleteTargetGroupCommand({ TargetGroupArn }));
    expect(await domain.left()).toEqual([]);
    const report = await comparisons.compare();
    for (const name of ['robbed.dev.test', rule, TargetGroupArn])
      expect(lineOf(report, name), name).toEqual({ verdict: 'missing', action: 'told' });
    await world.until('the way is back', async () => (await domain.rules()).length + (await domain.groups()).length === 2);
    await published(id);
    await scene.cancel(id);
    await gone();
    await scene.checkEnd();
  });

  it('N4: a Jupyter that is made reachable again at another port has its target registered there, and nowhere else', async () => {
    const id = await scene.running({ name: 'moved', jupyter_enabled: true });
    await published(id);
    const { core, namespace } = world.client;
    const portOf = async () => (await core.readNamespacedService({ namespace, name: jupyter })).spec?.ports?.[0]?.nodePort ?? 0;
    const jupyter = (await core.listNamespacedService({ namespace })).items
      .map(({ metadata }) => metadata!.name!)
      .find((name) => name.includes(id) && name.endsWith('jupyter'))!;
    const before = await portOf();
    await core.deleteNamespacedService({ namespace, name: jupyter });
    // Somebody else is faster: its port is gone for good.
    const thief = { metadata: { name: 'thief' }, spec: { type: 'NodePort', ports: [{ port: 80, nodePort: before }] } };
    await core.createNamespacedService({ namespace, body: thief });
    expect(lineOf(await comparisons.compare(), jupyter)).toEqual({ verdict: 'missing', action: 'told' });
    await world.until('its target is the new port', async () => {
      const port = await portOf().catch(() => before);
      const [group = ''] = await domain.groups();
      return port !== before && group.endsWith(`:${port}`) && !group.includes(`:${before}`);
    });
    await core.deleteNamespacedService({ namespace, name: 'thief' });
    await scene.cancel(id);
    await gone();
    await scene.checkEnd();
  });

  it('a way made while Jupyter is off is removed after a grace', async () => {
    const id = await scene.running({ name: 'quiet' });
    await world.until('its name stands', async () => (await domain.records()).length === 2);
    const made = await late.routes.publish({
      ...{ reservationId: id, generation: 1, fqdn: 'quiet.dev.test', node: 'n', port: 31_999, place: 1_502 },
    });
    await comparisons.compare();
    comparisons.pass(GRACE_MS + 1_000);
    const report = await comparisons.compare();
    expect(lineOf(report, made.rule)).toEqual({ verdict: 'ended', action: 'removed' });
    expect(lineOf(report, 'quiet.dev.test')).toBeUndefined();
    expect(await domain.rules()).toEqual([]);
    await scene.cancel(id);
    await gone();
    await scene.checkEnd();
  });

  it('N2: a name that was given up for good is free once it is proven gone', async () => {
    const id = await scene.running({ name: 'stuck' });
    await world.until('its name stands', async () => (await domain.records()).length === 2);
    await world.kernel.stop(1_000);
    // Whoever was to withdraw it has failed for good: only the row is left of it.
    await world.db.query("update actors set status = 'done', state = 'cancelled' where actor = $1", [`reservation/${id}`]);
    await world.db.query('update domain_mappings set freed_at = now() where reservation_id = $1', [id]);
    await comparisons.compare();
    expect(await count('select 1 from domain_mappings where reservation_id = $1', id)).toBe(1);
    comparisons.pass(GRACE_MS + 1_000);
    await comparisons.compare();
    expect(await domain.left()).toEqual([]);
    comparisons.pass(60_000);
    await comparisons.compare();
    expect(await count('select 1 from domain_mappings where reservation_id = $1', id)).toBe(0);
  });
});
