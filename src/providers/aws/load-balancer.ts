/** What we ask of Elastic Load Balancing (v2), and how its answers read. */
import type * as Sdk from '@aws-sdk/client-elastic-load-balancing-v2';
import { type AwsSettings, AwsService } from './client.ts';
import { AwsError } from './errors.ts';
import { allOf } from './pages.ts';
import { readTags, type Tags, writeTags } from './tags.ts';

export interface TargetGroupView {
  arn: string;
  name: string;
}

export interface RuleView {
  arn: string;
  /** null: the default rule of the listener. */
  priority: number | null;
  hosts: string[];
  targetGroups: string[];
}

/** A listener of a load balancer. */
export interface ListenerView {
  arn: string;
  port: number;
  targetGroups: string[];
}

export interface Target {
  id: string;
  port: number;
}

const READ = { repeatable: true } as const;
const PAGE = 400;
/** Of how many objects one call gives the tags. */
const TAGS_AT_ONCE = 20;

export class LoadBalancing {
  readonly service: AwsService<typeof Sdk, Sdk.ElasticLoadBalancingV2Client>;

  constructor(settings: AwsSettings) {
    this.service = new AwsService(
      settings,
      () => import('@aws-sdk/client-elastic-load-balancing-v2'),
      (sdk, config) => new sdk.ElasticLoadBalancingV2Client(config),
    );
  }

  /** The target group of this name; null only if there is none. @throws AwsError */
  async targetGroup(name: string): Promise<TargetGroupView | null> {
    try {
      const { TargetGroups } = await this.service.call(
        `looking at target group ${name}`,
        ({ client, sdk }, abortSignal) => client.send(new sdk.DescribeTargetGroupsCommand({ Names: [name] }), { abortSignal }),
        READ,
      );
      const found = TargetGroups?.find(({ TargetGroupName }) => TargetGroupName === name);
      if (found?.TargetGroupArn === undefined) throw new AwsError(`looking at target group ${name}`, 'unknown', NO_ANSWER);
      return { arn: found.TargetGroupArn, name };
    } catch (error) {
      if (error instanceof AwsError && error.failure === 'missing') return null;
      throw error;
    }
  }

  /** All target groups of the account. */
  targetGroups(): Promise<TargetGroupView[]> {
    return allOf(async (Marker) => {
      const page = await this.service.call(
        'listing target groups',
        ({ client, sdk }, abortSignal) =>
          client.send(new sdk.DescribeTargetGroupsCommand({ PageSize: PAGE, Marker }), { abortSignal }),
        READ,
      );
      const items = (page.TargetGroups ?? []).flatMap(({ TargetGroupArn: arn, TargetGroupName: name }) =>
        arn === undefined || name === undefined ? [] : [{ arn, name }],
      );
      return { items, next: page.NextMarker };
    });
  }

  /** @throws AwsError */
  async createTargetGroup(
    request: Omit<Sdk.CreateTargetGroupCommandInput, 'Tags'>,
    tags: Record<string, string>,
  ): Promise<string> {
    const { TargetGroups } = await this.service.call(
      `creating target group ${request.Name}`,
      ({ client, sdk }, abortSignal) =>
        client.send(new sdk.CreateTargetGroupCommand({ ...request, Tags: writeTags(tags) }), { abortSignal }),
      // One of the same name and settings is given as if it were new.
      { repeatable: true },
    );
    return TargetGroups?.[0]?.TargetGroupArn ?? '';
  }

  /** @throws AwsError */
  async deleteTargetGroup(arn: string): Promise<void> {
    await this.#gone(`deleting target group ${arn}`, ({ client, sdk }, abortSignal) =>
      client.send(new sdk.DeleteTargetGroupCommand({ TargetGroupArn: arn }), { abortSignal }),
    );
  }

  /** All rules of a listener, the default one included. */
  rules(listener: string): Promise<RuleView[]> {
    return allOf(async (Marker) => {
      const page = await this.service.call(
        'listing rules',
        ({ client, sdk }, abortSignal) =>
          client.send(new sdk.DescribeRulesCommand({ ListenerArn: listener, PageSize: PAGE, Marker }), { abortSignal }),
        READ,
      );
      return { items: (page.Rules ?? []).map(ruleView), next: page.NextMarker };
    });
  }

  /** @throws AwsError */
  async createRule(
    request: { listener: string; priority: number; host: string; targetGroup: string },
    tags: Record<string, string>,
  ): Promise<string> {
    const { listener, priority, host, targetGroup } = request;
    const { Rules } = await this.service.call(
      `creating the rule for ${host}`,
      ({ client, sdk }, abortSignal) =>
        client.send(
          new sdk.CreateRuleCommand({
            ListenerArn: listener,
            Priority: priority,
            Conditions: [{ Field: 'host-header', HostHeaderConfig: { Values: [host] } }],
            Actions: [{ Type: 'forward', TargetGroupArn: targetGroup }],
            Tags: writeTags(tags),
          }),
          { abortSignal },
        ),
      // Two of one priority cannot be: whoever asks looks whether the one that is there is his.
      { repeatable: true },
    );
    return Rules?.[0]?.RuleArn ?? '';
  }

  /** @throws AwsError */
  async deleteRule(arn: string): Promise<void> {
    await this.#gone(`deleting rule ${arn}`, ({ client, sdk }, abortSignal) =>
      client.send(new sdk.DeleteRuleCommand({ RuleArn: arn }), { abortSignal }),
    );
  }

  /** All listeners of a load balancer. */
  listeners(loadBalancer: string): Promise<ListenerView[]> {
    return allOf(async (Marker) => {
      const page = await this.service.call(
        'listing listeners',
        ({ client, sdk }, abortSignal) =>
          client.send(new sdk.DescribeListenersCommand({ LoadBalancerArn: loadBalancer, Marker }), { abortSignal }),
        READ,
      );
      const items = (page.Listeners ?? []).map(({ ListenerArn = '', Port = 0, DefaultActions }) => ({
        arn: ListenerArn,
        port: Port,
        targetGroups: groupsOf(DefaultActions),
      }));
      return { items, next: page.NextMarker };
    });
  }

  /** A TCP listener that leads to one target group. @throws AwsError */
  async createListener(
    request: { loadBalancer: string; port: number; targetGroup: string },
    tags: Record<string, string>,
  ): Promise<string> {
    const { Listeners } = await this.service.call(
      `creating the listener at port ${request.port}`,
      ({ client, sdk }, abortSignal) =>
        client.send(
          new sdk.CreateListenerCommand({
            LoadBalancerArn: request.loadBalancer,
            Port: request.port,
            Protocol: 'TCP',
            DefaultActions: [{ Type: 'forward', TargetGroupArn: request.targetGroup }],
            Tags: writeTags(tags),
          }),
          { abortSignal },
        ),
      { repeatable: true },
    );
    return Listeners?.[0]?.ListenerArn ?? '';
  }

  /** @throws AwsError */
  async deleteListener(arn: string): Promise<void> {
    await this.#gone(`deleting listener ${arn}`, ({ client, sdk }, abortSignal) =>
      client.send(new sdk.DeleteListenerCommand({ ListenerArn: arn }), { abortSignal }),
    );
  }

  /** Where a target group leads; those that are leaving left out. @throws AwsError */
  async targets(arn: string): Promise<Target[]> {
    const { TargetHealthDescriptions = [] } = await this.service.call(
      `looking at the targets of ${arn}`,
      ({ client, sdk }, abortSignal) =>
        client.send(new sdk.DescribeTargetHealthCommand({ TargetGroupArn: arn }), { abortSignal }),
      READ,
    );
    return TargetHealthDescriptions.flatMap(({ Target, TargetHealth }) =>
      Target?.Id === undefined || TargetHealth?.State === 'draining' ? [] : [{ id: Target.Id, port: Target.Port ?? 0 }],
    );
  }

  /** @throws AwsError */
  async register(arn: string, { id, port }: Target): Promise<void> {
    await this.service.call(
      `adding ${id}:${port} to ${arn}`,
      ({ client, sdk }, abortSignal) =>
        client.send(new sdk.RegisterTargetsCommand({ TargetGroupArn: arn, Targets: [{ Id: id, Port: port }] }), { abortSignal }),
      { repeatable: true },
    );
  }

  /** @throws AwsError */
  async deregister(arn: string, targets: readonly Target[]): Promise<void> {
    if (targets.length === 0) return;
    const Targets = targets.map(({ id, port }) => ({ Id: id, Port: port }));
    await this.service.call(
      `removing ${targets.length} targets of ${arn}`,
      ({ client, sdk }, abortSignal) =>
        client.send(new sdk.DeregisterTargetsCommand({ TargetGroupArn: arn, Targets }), { abortSignal }),
      { repeatable: true },
    );
  }

  /** Tags by object; those that are gone meanwhile have none. @throws AwsError */
  async tags(arns: readonly string[]): Promise<Map<string, Tags>> {
    const all = new Map<string, Tags>();
    for (let at = 0; at < arns.length; at += TAGS_AT_ONCE) {
      const some = arns.slice(at, at + TAGS_AT_ONCE);
      for (const [arn, tags] of await this.#tagsOf(some)) all.set(arn, tags);
    }
    return all;
  }

  async #tagsOf(arns: readonly string[]): Promise<[string, Tags][]> {
    try {
      const { TagDescriptions = [] } = await this.service.call(
        'reading tags',
        ({ client, sdk }, abortSignal) => client.send(new sdk.DescribeTagsCommand({ ResourceArns: [...arns] }), { abortSignal }),
        READ,
      );
      return TagDescriptions.map(({ ResourceArn = '', Tags }) => [ResourceArn, readTags(Tags)]);
    } catch (error) {
      if (!(error instanceof AwsError) || error.failure !== 'missing') throw error;
      // One of them has gone: of the others each alone.
      if (arns.length === 1) return [];
      return (await Promise.all(arns.map((arn) => this.#tagsOf([arn])))).flat();
    }
  }

  /** A deletion of what is gone already has come true. */
  async #gone(
    doing: string,
    work: Parameters<AwsService<typeof Sdk, Sdk.ElasticLoadBalancingV2Client>['call']>[1],
  ): Promise<void> {
    try {
      await this.service.call(doing, work, { repeatable: true });
    } catch (error) {
      if (!(error instanceof AwsError) || error.failure !== 'missing') throw error;
    }
  }
}

const NO_ANSWER = { code: 'NoAnswer', status: 200, detail: 'the answer does not speak of it' };

function ruleView({ RuleArn = '', Priority, IsDefault, Conditions = [], Actions }: Sdk.Rule): RuleView {
  return {
    arn: RuleArn,
    priority: IsDefault === true || Priority === undefined || Priority === 'default' ? null : Number(Priority),
    hosts: Conditions.flatMap(({ Field, Values, HostHeaderConfig }) =>
      Field === 'host-header' ? (HostHeaderConfig?.Values ?? Values ?? []) : [],
    ),
    targetGroups: groupsOf(Actions),
  };
}

function groupsOf(actions: readonly Sdk.Action[] | undefined): string[] {
  return (actions ?? []).flatMap(({ TargetGroupArn, ForwardConfig }) => [
    ...(TargetGroupArn === undefined ? [] : [TargetGroupArn]),
    ...(ForwardConfig?.TargetGroups ?? []).flatMap(({ TargetGroupArn: arn }) => (arn === undefined ? [] : [arn])),
  ]);
}
