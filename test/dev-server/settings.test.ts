import { describe, expect, it } from 'vitest';
import { readConfig } from '../../src/config.ts';
import { POD_DEFAULTS, podOf } from '../../src/providers/kubernetes/pod-spec.ts';
import { serverSpec } from '../integration/providers/support/specs.ts';

const read = (environment: Record<string, string>) => readConfig({ POSTGRES_HOST: 'db', ...environment });

describe('settings of dev servers', () => {
  it('name a shared volume, with a folder of their own for each person', () => {
    const claim = read({ GPU_DEV_SHARED_VOLUME: 'pvc:team' });
    const nfs = read({ GPU_DEV_SHARED_VOLUME: 'nfs:files.example:/export/dev' });
    expect(claim.sharedVolume).toEqual({ claim: 'team' });
    expect(nfs.sharedVolume).toEqual({ nfs: { server: 'files.example', path: '/export/dev' } });
    const { spec } = podOf(serverSpec({ owner: 'ada@example.com' }), { ...POD_DEFAULTS, sharedVolume: claim.sharedVolume });
    const { volumeMounts = [], env = [] } = spec!.containers[0]!;
    expect(volumeMounts.filter(({ name }) => name === 'shared')).toEqual([
      { name: 'shared', mountPath: '/shared', subPath: 'shared' },
      {
        name: 'shared',
        mountPath: '/shared-personal',
        subPath: expect.stringMatching(/^personal\/ada-example\.com-[0-9a-f]{16}$/),
      },
    ]);
    expect(env.find(({ name }) => name === 'CCACHE_DIR')?.value).toBe('/shared/ccache');
    expect(spec!.volumes?.at(-1)).toEqual({ name: 'shared', persistentVolumeClaim: { claimName: 'team' } });
  });

  it('give two people whose names look alike two folders', () => {
    const folderOf = (owner: string) =>
      podOf(serverSpec({ owner }), { ...POD_DEFAULTS, sharedVolume: { claim: 'team' } }).spec!.containers[0]!.volumeMounts!.find(
        ({ mountPath }) => mountPath === '/shared-personal',
      )!.subPath!;
    const [known = ''] = folderOf('ada@x').split('/').slice(1);
    const owners = ['ada', 'ada@x', 'ada+x', 'ada-x', known, `${'a'.repeat(63)}b`, `${'a'.repeat(63)}c`];
    expect(new Set(owners.map(folderOf)).size).toBe(owners.length);
    expect(folderOf('ada')).toBe('personal/ada');
  });

  it('name ranges of addresses', () => {
    const { network } = read({ GPU_DEV_ACCESS_FROM: '198.51.100.0/24, 2001:db8::/32', GPU_DEV_EGRESS_ALLOW: '10.1.0.0/16' });
    expect(network).toEqual({ accessFrom: ['198.51.100.0/24', '2001:db8::/32'], egressAllow: ['10.1.0.0/16'], egressDeny: [] });
  });

  it.for([
    { GPU_DEV_SHARED_VOLUME: '/mnt' },
    { GPU_DEV_SNAPSHOTS: 'none' },
    { GPU_DEV_COPY_IMAGE: 'debian:latest' },
    { GPU_DEV_SHARED_VOLUME: 'nfs:files' },
    { GPU_DEV_ACCESS_FROM: 'everywhere' },
    { GPU_DEV_EGRESS_DENY: '10.0.0.1' },
    { GPU_DEV_PRIORITY_CLASS: 'High One' },
  ])('that make no sense are named at the start: %o', (environment) => {
    expect(() => read(environment)).toThrow(new RegExp(Object.keys(environment)[0]!));
  });
});
