// Ways to Jupyter through a load balancer, on moto; what moto never does is put in front of it.
import {
  CreateRuleCommand,
  CreateTargetGroupCommand,
  DeleteRuleCommand,
  DescribeTagsCommand,
  DescribeTargetGroupsCommand,
} from '@aws-sdk/client-elastic-load-balancing-v2';
import { DescribeInstancesCommand, TerminateInstancesCommand } from '@aws-sdk/client-ec2';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { TerminalError } from '../../actors/errors.ts';
import { PlaceTakenError, type PublishedRoute } from '../../actors/reservation/name-ports.ts';
import { Ec2 } from '../../src/providers/aws/ec2.ts';
import { instanceOf } from '../../src/providers/aws/instances.ts';
import { targetGroupName } from '../../src/providers/aws/jupyter-routes.ts';
import { nameProviders } from '../../src/providers/aws/name-providers.ts';
import { startCluster } from '../integration/providers/support/cluster.ts';
import { startMoto } from '../support/moto.ts';
import { BadDay } from './support/bad-day.ts';
import { CLUSTER, type Domain, domainPorts, makeDomain } from './support/domain.ts';

const moto = await startMoto();

const idOf = (number: number) => `00000000-0000-7000-8000-${String(number).padStart(12, '0')}`;
const routeOf = (number: number, fields: Partial<PublishedRoute> = {}): PublishedRoute => ({
  reservationId: idOf(number),
  generation: 1,
  fqdn: `box-${number}.dev.test`,
  node: 'n1',
  port: 31_000 + number,
  place: 1_000 + number,
  ...fields,
});
const nameOf = (number: number) => targetGroupName(CLUSTER, idOf(number));

describe.skipIf(moto.missing)('a way to Jupyter', () => {
  let domain: Domain;
  let day: BadDay;
  beforeEach(async () => {
    await moto.reset();
    domain = await makeDomain(moto.url);
    day = await BadDay.before(moto.url);
  });
  afterEach(() => day?.stop());

  it('N1: is a target group and a rule, found again by whoever comes, and nothing of it is left', async () => {
    const { routes } = domainPorts(domain, day.url);
    const made = await routes.publish(routeOf(1));
    expect(made.url).toBe('https://box-1.dev.test/');
    expect(await domain.rules()).toEqual(['1001 box-1.dev.test']);
    expect(await domain.groups()).toEqual([`${nameOf(1)} → ${domain.instances[0]}:31001`]);
    // A second process adopts it, and a third takes it away without knowing any of its ids.
    expect(await domainPorts(domain, day.url).routes.publish(routeOf(1))).toEqual(made);
    const { TagDescriptions } = await domain.balancing.send(
      new DescribeTagsCommand({ ResourceArns: [made.targetGroup, made.rule] }),
    );
    for (const { Tags } of TagDescriptions ?? [])
      expect(Object.fromEntries((Tags ?? []).map(({ Key, Value }) => [Key, Value]))).toMatchObject({
        'gpu-dev:cluster': CLUSTER,
        'gpu-dev:reservation': idOf(1),
      });
    const third = domainPorts(domain, day.url).routes;
    await third.withdraw({ reservationId: idOf(1) });
    await third.withdraw({ reservationId: idOf(1) });
    expect(await domain.left()).toEqual([]);
  });

  it('follows its server to another node, another port and another place, and leads nowhere else', async () => {
    const { routes } = domainPorts(domain, day.url);
    await routes.publish(routeOf(1));
    await routes.publish(routeOf(1, { node: 'n2', port: 31_500 }));
    expect(await domain.groups()).toEqual([`${nameOf(1)} → ${domain.instances[1]}:31500`]);
    await routes.publish(routeOf(1, { node: 'n2', port: 31_500, place: 1_002 }));
    expect(await domain.rules()).toEqual(['1002 box-1.dev.test']);
    await routes.withdraw({ reservationId: idOf(1) });
    expect(await domain.left()).toEqual([]);
  });

  it('leads to the machine that its node says it is, else to the one of its name in DNS, and nowhere if that is not one', async () => {
    const cluster = await startCluster();
    try {
      const ec2 = new Ec2({ region: 'us-east-2', endpoint: day.url, cluster: CLUSTER });
      const { Reservations = [] } = await domain.ec2.send(new DescribeInstancesCommand({}));
      const [first, second] = Reservations.flatMap(({ Instances = [] }) => Instances);
      const { core } = cluster.client;
      await core.createNode({
        body: { metadata: { name: 'says-so' }, spec: { providerID: `aws:///us-east-2a/${first!.InstanceId}` } },
      });
      await core.createNode({ body: { metadata: { name: second!.PrivateDnsName! } } });
      await core.createNode({ body: { metadata: { name: 'is-no-machine' }, spec: { providerID: 'kind://docker/x/y' } } });
      expect(await instanceOf(cluster.client, ec2, 'says-so')).toBe(first!.InstanceId);
      expect(day.calls).toEqual([]);
      expect(await instanceOf(cluster.client, ec2, second!.PrivateDnsName!)).toBe(second!.InstanceId);
      await expect(instanceOf(cluster.client, ec2, 'is-no-machine')).rejects.toThrow(/EC2 knows 0 instances of the name/);
      // One that is over is no target, whatever name it had.
      await domain.ec2.send(new TerminateInstancesCommand({ InstanceIds: [second!.InstanceId!] }));
      await expect(instanceOf(cluster.client, ec2, second!.PrivateDnsName!)).rejects.toThrow(/EC2 knows 0/);
      await expect(instanceOf(cluster.client, ec2, 'no-such-node')).rejects.toThrow(/404/);
    } finally {
      await cluster.stop();
    }
  });

  it('through an NLB is a listener of its own for TCP, at a port from the same pool', async () => {
    const { routes } = domainPorts(domain, day.url, { through: 'nlb', places: [10_000, 10_010] });
    const made = await routes.publish(routeOf(1, { place: 10_001 }));
    expect(made.url).toBe('http://box-1.dev.test:10001/');
    expect(await domain.ports()).toEqual([10_001]);
    const { TargetGroups } = await domain.balancing.send(new DescribeTargetGroupsCommand({}));
    expect(TargetGroups).toMatchObject([{ Protocol: 'TCP', TargetType: 'instance' }]);
    await routes.publish(routeOf(1, { place: 10_001 }));
    await routes.withdraw({ reservationId: idOf(1) });
    expect(await domain.ports()).toEqual([]);
    expect(await domain.left()).toEqual([]);
  });

  it('N12: takes no place that is somebody else, and says which are taken', async () => {
    const { routes } = domainPorts(domain, day.url);
    const fixed = [{ Type: 'fixed-response' as const, FixedResponseConfig: { StatusCode: '404' } }];
    const foreign = { ListenerArn: domain.listener, Priority: 1_001, Actions: fixed };
    const Conditions = [{ Field: 'host-header', HostHeaderConfig: { Values: ['shop.dev.test'] } }];
    await domain.balancing.send(new CreateRuleCommand({ ...foreign, Conditions }));
    const refused = await routes.publish(routeOf(1)).catch((error: unknown) => error);
    expect(refused).toBeInstanceOf(PlaceTakenError);
    expect((refused as PlaceTakenError).taken).toEqual([1_001]);
    await routes.publish(routeOf(1, { place: 1_002 }));
    await routes.withdraw({ reservationId: idOf(1) });
    expect(await domain.rules()).toEqual(['1001 shop.dev.test']);
  });

  it('is never made over a target group that is not ours, nor does its end take that away', async () => {
    const { routes } = domainPorts(domain, day.url);
    const foreign = { Name: nameOf(1), Protocol: 'HTTP' as const, Port: 80, VpcId: domain.vpc };
    await domain.balancing.send(new CreateTargetGroupCommand(foreign));
    await expect(routes.publish(routeOf(1))).rejects.toThrow(TerminalError);
    await routes.withdraw({ reservationId: idOf(1) });
    expect(await domain.groups()).toEqual([`${nameOf(1)} → `]);
  });

  it('T16: is taken away only if it says itself that it is ours: a rule on record that is another is not, nor what others lead to it', async () => {
    const { routes } = domainPorts(domain, day.url);
    const made = await routes.publish(routeOf(1));
    const lead = async (Priority: number, host: string, TargetGroupArn: string) => {
      const Conditions = [{ Field: 'host-header', HostHeaderConfig: { Values: [host] } }];
      const Actions = [{ Type: 'forward' as const, TargetGroupArn }];
      const rule = { ListenerArn: domain.listener, Priority, Conditions, Actions };
      return (await domain.balancing.send(new CreateRuleCommand(rule))).Rules![0]!.RuleArn!;
    };
    // The record names another's rule, and our own is found by where it leads.
    const other = await routes.publish(routeOf(2));
    await routes.withdraw({ reservationId: idOf(1), rule: other.rule });
    expect(await domain.rules()).toEqual(['1002 box-2.dev.test']);
    // Somebody led a rule of theirs to our target group: it is no way of ours, and stays when the server moves and ends.
    const theirs = await lead(9, 'shop.dev.test', other.targetGroup);
    expect((await routes.publish(routeOf(2, { place: 1_003 }))).rule).not.toBe(theirs);
    expect(await domain.rules()).toEqual(['1003 box-2.dev.test', '9 shop.dev.test']);
    await expect(routes.withdraw({ reservationId: idOf(2) })).rejects.toThrow(`${theirs} is not ours`);
    expect(await domain.rules()).toEqual(['9 shop.dev.test']);
    await domain.balancing.send(new DeleteRuleCommand({ RuleArn: theirs }));
    await routes.withdraw({ reservationId: idOf(2) });
    expect([made.rule === other.rule, await domain.left()]).toEqual([false, []]);
  });

  it.each(['TooManyTargetGroups', 'TooManyRules', 'TooManyUniqueTargetGroupsPerLoadBalancer'])(
    'N1: where the quota is used up (%s) the user is told, and nothing is left behind',
    async (code) => {
      const { routes } = domainPorts(domain, day.url);
      day.fate = (action) =>
        action === (code === 'TooManyTargetGroups' ? 'CreateTargetGroup' : 'CreateRule') ? { code } : 'done';
      const refused = await routes.publish(routeOf(1)).catch((error: unknown) => error);
      expect(refused).toBeInstanceOf(TerminalError);
      expect((refused as Error).message).toMatch(/no room .* use the port of the node/);
      await routes.withdraw({ reservationId: idOf(1) });
      expect(await domain.left()).toEqual([]);
    },
  );

  it('a start tries what names and ways need, has no effect by it, and names each right that is missing', async () => {
    const { routes } = domainPorts(domain, day.url);
    await routes.publish(routeOf(1));
    const before = await domain.left();
    const aws = { region: 'us-east-2', endpoint: day.url, cluster: CLUSTER, maxAttempts: 1 };
    const common = { dns: 'lb.test', vpc: domain.vpc, places: [1_000, 1_999] as [number, number] };
    const alb = { ...common, kind: 'alb' as const, listener: domain.listener };
    const nlb = { ...common, kind: 'nlb' as const, loadBalancer: domain.network };
    const start = (balancer: typeof alb | typeof nlb) =>
      nameProviders({ domain: 'dev.test', zone: domain.zone, balancer, aws }, null as never).findObstacles();
    expect([await start(alb), await start(nlb)]).toEqual([[], []]);
    expect([await domain.left(), await domain.ports()]).toEqual([before, []]);
    const denied = ['CreateTargetGroup', 'CreateRule', 'CreateListener', 'DeregisterTargets'];
    day.fate = (action) => (denied.includes(action) || /^POST .*rrset/.test(action) ? { code: 'AccessDenied' } : 'done');
    const words = (right: string) => `May not ${right} in AWS (see docs/aws-routes.md for the policy)`;
    const ways = (...actions: string[]) => actions.map((action) => words(`elasticloadbalancing:${action}`));
    const names = words('route53:ChangeResourceRecordSets');
    expect(await start(alb)).toEqual([names, ...ways('CreateTargetGroup', 'CreateRule', 'DeregisterTargets')]);
    expect(await start(nlb)).toEqual([names, ...ways('CreateTargetGroup', 'CreateListener', 'DeregisterTargets')]);
    day.fate = (action) => (action === 'CreateRule' ? 'failed' : 'done');
    await expect(start(alb)).rejects.toThrow(/500/);
  });

  it.each(['throttled', 'failed', 'unanswered'] as const)('is made once, whatever is %s', async (fate) => {
    day.fate = (_action, number) => (number % 2 === 1 ? fate : 'done');
    const { routes } = domainPorts(domain, day.url, { aws: { budgetMs: 20_000 } });
    await Promise.all([1, 2].map((number) => routes.publish(routeOf(number))));
    expect(await domain.rules()).toEqual(['1001 box-1.dev.test', '1002 box-2.dev.test']);
    expect(await domain.groups()).toHaveLength(2);
    await Promise.all([1, 2].map((number) => routes.withdraw({ reservationId: idOf(number) })));
    expect(await domain.left()).toEqual([]);
  });
});
