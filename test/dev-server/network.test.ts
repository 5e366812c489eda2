import { BlockList, isIPv6 } from 'node:net';
import type { V1NetworkPolicyPeer } from '@kubernetes/client-node';
import { describe, expect, it } from 'vitest';
import { NETWORK_DEFAULTS, networkRules, type NetworkSettings } from '../../src/providers/kubernetes/network-policy.ts';

const ALONE = { owner: 'ada@example.com', gang: null };
const rules = (settings: Partial<NetworkSettings> = {}, spec: Parameters<typeof networkRules>[0] = ALONE) =>
  networkRules(spec, { ...NETWORK_DEFAULTS, ...settings });

/** Whether one of the blocks holds the address. */
function holds(peers: V1NetworkPolicyPeer[], address: string): boolean {
  const family = isIPv6(address) ? 'ipv6' : 'ipv4';
  const within = (range: string): boolean => {
    const [base = '', bits] = range.split('/');
    if (isIPv6(base) !== (family === 'ipv6')) return false;
    const list = new BlockList();
    list.addSubnet(base, Number(bits), family);
    return list.check(address, family);
  };
  return peers.some(({ ipBlock }) => ipBlock !== undefined && within(ipBlock.cidr) && !(ipBlock.except ?? []).some(within));
}
/** Whether a server may call an address, on a port other than that of names. */
const reaches = (address: string, settings: Partial<NetworkSettings> = {}) =>
  rules(settings)
    .egress.filter(({ ports }) => ports === undefined)
    .some(({ to }) => holds(to ?? [], address));

describe('T15: the network of a dev server', () => {
  it.for(['140.82.121.4', '1.1.1.1', '2606:4700::1111'])('leads to the internet: %s', (address) => {
    expect(reaches(address)).toBe(true);
  });

  it.for([
    ['the credentials of a node', '169.254.169.254'],
    ['those of a pod', '169.254.170.23'],
    ['those of a node, by IPv6', 'fd00:ec2::254'],
    ['the API server, the control plane and its database', '10.96.0.1'],
    ['another dev server', '10.0.48.17'],
    ['a node', '172.31.4.4'],
    ['something in the house', '192.168.1.10'],
    ['a cluster with shared addresses', '100.64.3.3'],
    ['a neighbour on the link', 'fe80::1'],
  ] as const)('does not lead to %s', ([, address]) => {
    expect(reaches(address)).toBe(false);
  });

  it('leads to private ranges that are allowed, and not to public ones that are denied', () => {
    expect(reaches('10.20.0.9', { egressAllow: ['10.20.0.0/24'] })).toBe(true);
    expect(reaches('10.20.1.9', { egressAllow: ['10.20.0.0/24'] })).toBe(false);
    expect(reaches('203.0.113.9', { egressDeny: ['203.0.113.0/24'] })).toBe(false);
    expect(reaches('2001:db8::9', { egressDeny: ['2001:db8::/32'] })).toBe(false);
  });

  it('asks for names where the cluster answers them, on that port alone', () => {
    const [dns] = rules().egress;
    expect(dns?.ports).toEqual([
      { protocol: 'UDP', port: 53 },
      { protocol: 'TCP', port: 53 },
    ]);
    expect(dns?.to?.[0]).toEqual({ namespaceSelector: {}, podSelector: { matchLabels: { 'k8s-app': 'kube-dns' } } });
  });

  it('lets people in by ssh alone, from anywhere or from where the settings say', () => {
    expect(rules().ingress).toEqual([{ ports: [{ protocol: 'TCP', port: 22 }] }]);
    expect(rules({ accessFrom: ['198.51.100.0/24'] }).ingress).toEqual([
      { ports: [{ protocol: 'TCP', port: 22 }], _from: [{ ipBlock: { cidr: '198.51.100.0/24' } }] },
    ]);
  });

  it('joins the members of a gang, of one owner, and nobody else', () => {
    const { ingress, egress } = rules({}, { owner: 'ada@example.com', gang: { id: 'g-1', index: 0, size: 2 } });
    const siblings = { podSelector: { matchLabels: { 'gpu-dev.io/gang': 'g-1', 'gpu-dev.io/owner': 'ada-example.com' } } };
    expect(ingress[1]).toEqual({ _from: [siblings] });
    expect(egress[2]).toEqual({ to: [siblings] });
    expect([rules().ingress.length, rules().egress.length]).toEqual([1, 2]);
  });
});
