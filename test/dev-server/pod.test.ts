import { describe, expect, it } from 'vitest';
import { PROFILING_LABEL, type ServerSpec } from '../../actors/reservation/ports.ts';
import { LIMITS } from '../../machines/reservation.effects.ts';
import { HOME, PORTS } from '../../src/providers/kubernetes/layout.ts';
import { POD_DEFAULTS, podOf } from '../../src/providers/kubernetes/pod-spec.ts';
import { SCRIPTS, SCRIPTS_VERSION, scriptsData, versionOf } from '../../src/providers/kubernetes/scripts.ts';
import { serverSpec } from '../integration/providers/support/specs.ts';
import { projectFiles } from '../repository/files.ts';

const build = (change: Partial<ServerSpec> = {}) => podOf(serverSpec(change), POD_DEFAULTS);
const main = (change: Partial<ServerSpec> = {}) => build(change).spec!.containers[0]!;
const profiling = { nodeLabels: { [PROFILING_LABEL]: 'true' } };

describe('the rights of a dev server', () => {
  it('Q20: to profile come with a node that allows it, and only there: a hard need, no wish', () => {
    const { spec } = build(profiling);
    expect(spec?.nodeSelector).toEqual({ GpuType: 'h100', [PROFILING_LABEL]: 'true' });
    expect(spec?.affinity?.nodeAffinity?.preferredDuringSchedulingIgnoredDuringExecution).toBeUndefined();
    expect(main(profiling).securityContext?.capabilities?.add).toContain('SYS_ADMIN');
  });

  it.for([
    {},
    { preserveEntrypoint: true },
    { resource: null, gpuType: 'cpu-x86' },
    { efaCount: 32, gpuCount: 8 },
    { nodeLabels: { [PROFILING_LABEL]: 'false' } },
    { nodeLabels: { nsight: 'true' } },
    { gang: { id: 'g', index: 0, size: 2 } },
  ])('T12: are the least that sshd, sudo and a package manager need, never SYS_ADMIN: %o', (change) => {
    const { securityContext } = main(change);
    expect(securityContext?.privileged).toBeUndefined();
    expect(securityContext?.capabilities?.drop).toEqual(['ALL']);
    const gained = ['SYS_ADMIN', 'NET_ADMIN', 'NET_RAW', 'SYS_PTRACE', 'SYS_MODULE', 'MKNOD', 'DAC_READ_SEARCH', 'SYS_RESOURCE'];
    expect(securityContext?.capabilities?.add?.filter((each) => gained.includes(each))).toEqual([]);
    expect(securityContext?.capabilities?.add?.includes('IPC_LOCK')).toBe('efaCount' in change);
    const { spec } = build(change);
    expect(spec?.securityContext).toEqual({ seccompProfile: { type: 'RuntimeDefault' } });
    expect(spec?.automountServiceAccountToken).toBe(false);
    expect([spec?.hostNetwork, spec?.hostPID, spec?.hostIPC]).toEqual([undefined, undefined, undefined]);
  });

  it('to gain more are there where somebody logs in and may use sudo, and nowhere else', () => {
    expect(main().securityContext?.allowPrivilegeEscalation).toBe(true);
    expect(main({ preserveEntrypoint: true }).securityContext?.allowPrivilegeEscalation).toBe(false);
    // The API server takes the two together for a mistake.
    expect(main({ preserveEntrypoint: true, ...profiling }).securityContext?.allowPrivilegeEscalation).toBe(true);
  });
});

describe('a dev server is ready', () => {
  it.for([
    ['the standard image', {}],
    ['an image of their own', { image: 'mine:1' }],
    ['an image that was built', { image: 'registry/built:abc' }],
  ] as const)('S1: with %s, when its ssh port answers, and not before', ([, change]) => {
    const { command, startupProbe, readinessProbe, livenessProbe } = main(change);
    expect(command).toEqual(['/bin/sh', '/etc/gpu-dev/scripts/start.sh']);
    for (const probe of [startupProbe, readinessProbe, livenessProbe]) expect(probe?.tcpSocket).toEqual({ port: PORTS.ssh });
    // Started late is not dead: liveness waits for the first answer, as long as the state itself does.
    expect(startupProbe!.periodSeconds! * startupProbe!.failureThreshold! * 1000).toBe(LIMITS.readyProbe);
  });

  it.for([
    ['an image of their own', { image: 'mine:1' }],
    ['an image that was built', { image: 'registry/built:abc' }],
    ['a command', { image: 'mine:1', command: 'serve' }],
  ] as const)('S37: with the entry point of %s, when its container runs', ([, change]) => {
    const { command, startupProbe, readinessProbe, livenessProbe } = main({ ...change, preserveEntrypoint: true });
    expect([command, startupProbe, readinessProbe, livenessProbe]).toEqual([undefined, undefined, undefined, undefined]);
  });

  it('D22: and no node has to change owners on a disk first', () => {
    const { securityContext } = build({ claim: 'disk-1' }).spec!;
    expect(securityContext).not.toHaveProperty('fsGroup');
    expect(SCRIPTS['start.sh']).not.toMatch(/chown -R [^\n]*"\$home"(?!\/)/);
  });
});

describe('what is on a disk', () => {
  it('D25: is read from the disk itself: nothing of a node, and no copy, stands between people and their data', () => {
    const change = { claim: 'disk-1' };
    const { volumes = [], initContainers = [] } = build(change).spec!;
    const sources = volumes.map(({ name, ...source }) => [name, Object.keys(source)[0]]);
    expect(sources.filter(([, source]) => source === 'hostPath' || source === 'ephemeral')).toEqual([]);
    expect(sources.filter(([, source]) => source === 'persistentVolumeClaim')).toEqual([['home', 'persistentVolumeClaim']]);
    expect(main(change).volumeMounts?.filter(({ mountPath }) => mountPath.startsWith(HOME))).toEqual([
      { name: 'home', mountPath: HOME },
    ]);
    // Nobody fills or empties the home before or beside its server.
    expect(initContainers).toEqual([]);
    for (const [name, script] of Object.entries(SCRIPTS))
      expect([name, script.match(/^.*\b(rsync|tar|cp -[a-z]*[ar]|rclone)\b.*$/gm) ?? []]).toEqual([name, []]);
  });
});

describe('what runs inside', () => {
  it('B1: is named by its content: new scripts reach new servers, and never change under one that runs', () => {
    expect(build().metadata?.labels?.['gpu-dev.io/scripts']).toBe(SCRIPTS_VERSION);
    expect(scriptsData()).toMatchObject({ immutable: true, labels: { 'gpu-dev.io/scripts': SCRIPTS_VERSION } });
    expect(versionOf({ ...SCRIPTS, 'start.sh': `${SCRIPTS['start.sh']}# changed\n` })).not.toBe(SCRIPTS_VERSION);
    const { volumes } = build({ generation: 2 }).spec!;
    expect(volumes?.find(({ name }) => name === 'scripts')?.configMap?.name).toMatch(/-2-scripts$/);
  });

  it('B9: every call into a pod names its container', () => {
    const code = projectFiles('.ts').filter(({ path }) => path.startsWith('src/providers/'));
    const execs = code.flatMap(({ text }) => text.match(/new Exec\([^;]*?\.exec\([^;]*?\)/gs) ?? []);
    expect(execs.length).toBeGreaterThan(0);
    for (const call of execs) expect(call).toMatch(/\b(MAIN_CONTAINER|container)\b/);
    const logs = code.flatMap(({ text }) => text.match(/readNamespacedPodLog\([^;]*?\)/gs) ?? []);
    for (const call of logs) expect(call).toMatch(/container/);
  });

  it('B2: an image that is long in coming and a server that is long in answering have a time limit each', () => {
    expect([LIMITS.podPending, LIMITS.imagePull, LIMITS.readyProbe].map((each) => each / 60_000)).toEqual([10, 30, 5]);
  });
});

describe('ports', () => {
  it('N13: are in one list, each once; those of nodes come from the API server and stand nowhere', () => {
    const ports = Object.values(PORTS);
    expect(new Set(ports).size).toBe(ports.length);
    const fixed = projectFiles('.ts', '.yaml', '.yml', '.tf')
      .filter(({ path }) => /^(src|actors|deploy)\//.test(path) && !path.startsWith('src/simulated-cluster/'))
      .flatMap(({ path, text }) => [...text.matchAll(/nodePort['"]?:\s*\d+/g)].map(([found]) => `${path}: ${found}`));
    expect(fixed).toEqual([]);
  });

  it('lead the members of a gang to their first', () => {
    const gang = { id: '0190aaaa-0000-7000-8000-000000000000', index: 1, size: 2 };
    const found = Object.fromEntries((main({ gang }).env ?? []).map(({ name, value }) => [name, value]));
    expect(found).toMatchObject({
      MASTER_ADDR: `gang-${gang.id}.gpu-dev.svc`,
      MASTER_PORT: '29500',
      NODE_RANK: '1',
      NNODES: '2',
    });
  });
});
