/** Who may reach a dev server, and whom it may reach: nothing, but for what is listed here. */
import { isIPv6 } from 'node:net';
import type { V1NetworkPolicy, V1NetworkPolicyEgressRule, V1NetworkPolicyIngressRule } from '@kubernetes/client-node';
import type { ServerRef, ServerSpec } from '../../../actors/reservation/ports.ts';
import type { KubernetesClient } from './client.ts';
import { PORTS } from './layout.ts';
import { jupyterPolicyName, LABEL, labelValue, policyName } from './objects.ts';
import { createOrAdopt, ownedMetadata, type PodIdentity } from './owned.ts';

export interface NetworkSettings {
  /** Ranges from which people reach ssh and Jupyter; empty: from anywhere. */
  accessFrom: readonly string[];
  /** Private ranges that servers may reach all the same: a registry, a proxy, a file server that users mount. */
  egressAllow: readonly string[];
  /** Public ranges that they may not reach: a public address of the API server, or pods with addresses outside of the private ranges. */
  egressDeny: readonly string[];
}

export const NETWORK_DEFAULTS: NetworkSettings = { accessFrom: [], egressAllow: [], egressDeny: [] };

/**
 * No part of the internet: private ranges, in which are the cluster's own pods, services and nodes, the control plane and other dev servers;
 * and link-local ones, in which clouds keep the credentials of a node.
 */
const PRIVATE = [
  '10.0.0.0/8',
  '100.64.0.0/10',
  '127.0.0.0/8',
  '169.254.0.0/16',
  '172.16.0.0/12',
  '192.168.0.0/16',
  'fc00::/7',
  'fe80::/10',
] as const;
/** Where clusters that cache names on each node answer. */
const NODE_LOCAL_DNS = '169.254.20.10/32';

const isV6 = (range: string): boolean => isIPv6(range.split('/')[0] ?? '');
const tcp = (port: number) => [{ protocol: 'TCP', port }];
const blocks = (ranges: readonly string[]) => ranges.map((cidr) => ({ ipBlock: { cidr } }));

type Rules = { ingress: V1NetworkPolicyIngressRule[]; egress: V1NetworkPolicyEgressRule[] };

function fromPeople({ accessFrom }: NetworkSettings, port: number): V1NetworkPolicyIngressRule {
  return { ports: tcp(port), ...(accessFrom.length === 0 ? {} : { _from: blocks(accessFrom) }) };
}

/** The rules of a server: a pure function of its spec. */
export function networkRules(spec: Pick<ServerSpec, 'owner' | 'gang'>, settings: NetworkSettings): Rules {
  const denied = [...PRIVATE, ...settings.egressDeny];
  const internet = (['0.0.0.0/0', '::/0'] as const).map((cidr) => ({
    ipBlock: { cidr, except: denied.filter((range) => isV6(range) === isV6(cidr)) },
  }));
  const dns = { namespaceSelector: {}, podSelector: { matchLabels: { 'k8s-app': 'kube-dns' } } };
  const rules: Rules = {
    ingress: [fromPeople(settings, PORTS.ssh)],
    egress: [
      {
        to: [dns, { ipBlock: { cidr: NODE_LOCAL_DNS } }],
        ports: [
          { protocol: 'UDP', port: 53 },
          { protocol: 'TCP', port: 53 },
        ],
      },
      { to: [...internet, ...blocks(settings.egressAllow)] },
    ],
  };
  if (spec.gang !== null) {
    // The owner too: whoever else names the gang is none of it.
    const siblings = { matchLabels: { [LABEL.gang]: labelValue(spec.gang.id), [LABEL.owner]: labelValue(spec.owner) } };
    rules.ingress.push({ _from: [{ podSelector: siblings }] });
    rules.egress.push({ to: [{ podSelector: siblings }] });
  }
  return rules;
}

function selecting(server: ServerRef) {
  return { matchLabels: { [LABEL.reservation]: server.reservationId, [LABEL.generation]: String(server.generation) } };
}

/** Make the server's NetworkPolicy. Whatever lets the pod start must wait for it: no server runs without one. */
export async function ensurePolicy(
  client: KubernetesClient,
  spec: ServerSpec,
  pod: PodIdentity,
  settings: NetworkSettings,
): Promise<void> {
  await ensure(client, spec, pod, policyName(spec), {
    podSelector: selecting(spec),
    policyTypes: ['Ingress', 'Egress'],
    ...networkRules(spec, settings),
  });
}

/** Open Jupyter's port. Policies add up, so that this one may come and go by itself. */
export async function ensureJupyterPolicy(
  client: KubernetesClient,
  server: ServerRef,
  pod: PodIdentity,
  settings: NetworkSettings,
): Promise<void> {
  await ensure(client, server, pod, jupyterPolicyName(server), {
    podSelector: selecting(server),
    policyTypes: ['Ingress'],
    ingress: [fromPeople(settings, PORTS.jupyter)],
  });
}

async function ensure(
  client: KubernetesClient,
  server: ServerRef,
  pod: PodIdentity,
  name: string,
  spec: V1NetworkPolicy['spec'],
): Promise<void> {
  const { namespace, networking } = client;
  const body: V1NetworkPolicy = { metadata: ownedMetadata(client, server, pod, name), ...(spec === undefined ? {} : { spec }) };
  await createOrAdopt(server, pod, {
    ...policyCalls(client, name),
    create: () => networking.createNamespacedNetworkPolicy({ namespace, body }),
  });
}

/** The calls that read and remove a NetworkPolicy. */
export function policyCalls({ namespace, networking }: KubernetesClient, name: string) {
  return {
    what: `NetworkPolicy ${name}`,
    read: () => networking.readNamespacedNetworkPolicy({ namespace, name }),
    remove: (uid: string) => networking.deleteNamespacedNetworkPolicy({ namespace, name, body: { preconditions: { uid } } }),
  };
}
