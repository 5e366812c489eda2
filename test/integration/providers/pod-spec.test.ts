import { describe, expect, test } from 'vitest';
import { Secret } from '../../../actors/secret.ts';
import { hostLabel, labelValue, podName, serverOf } from '../../../src/providers/kubernetes/objects.ts';
import { POD_DEFAULTS, podOf } from '../../../src/providers/kubernetes/pod-spec.ts';
import { serverSpec } from './support/specs.ts';

const GIB = 2 ** 30;
const build = (change: Parameters<typeof serverSpec>[0] = {}) => podOf(serverSpec(change), POD_DEFAULTS);
const main = (change: Parameters<typeof serverSpec>[0] = {}) => build(change).spec!.containers[0]!;
const variables = (change: Parameters<typeof serverSpec>[0] = {}) =>
  Object.fromEntries((main(change).env ?? []).map(({ name, value }) => [name, value]));

/** type, what the ledger grants, and what the pod must ask for. */
const TYPES = [
  ['h100', { name: 'nvidia.com/gpu', count: 1 }, 0, 36_000, { 'nvidia.com/gpu': '1' }],
  [
    'b200',
    { name: 'nvidia.com/gpu', count: 8 },
    8,
    192_000,
    { 'nvidia.com/gpu': '8', 'vpc.amazonaws.com/efa': '8', 'hugepages-2Mi': '5120Mi' },
  ],
  [
    'a100',
    { name: 'nvidia.com/gpu', count: 8 },
    4,
    96_000,
    { 'nvidia.com/gpu': '8', 'vpc.amazonaws.com/efa': '4', 'hugepages-2Mi': '5120Mi' },
  ],
  ['t4-small', { name: 'nvidia.com/gpu', count: 1 }, 0, 8000, { 'nvidia.com/gpu': '1' }],
  ['h100-mig-1g', { name: 'nvidia.com/mig-1g.10gb', count: 1 }, 0, 3000, { 'nvidia.com/mig-1g.10gb': '1' }],
  ['b200-mig-3g', { name: 'nvidia.com/mig-3g.90gb', count: 2 }, 0, 20_000, { 'nvidia.com/mig-3g.90gb': '2' }],
  ['cpu-x86', null, 0, 27_200, {}],
] as const;

describe.each(TYPES)('the pod of %s', (gpuType, resource, efaCount, cpuLimitMillis, devices) => {
  const change = { gpuType, resource, efaCount, cpuLimitMillis, node: `${gpuType}-1` };

  test('asks for its devices in requests and limits alike', () => {
    const { requests = {}, limits = {} } = main(change).resources ?? {};
    const { cpu, memory, ...asked } = requests;
    expect(asked).toEqual(devices);
    expect(limits).toEqual({ cpu: `${cpuLimitMillis}m`, memory: String(256 * GIB), ...devices });
    expect([cpu, memory]).toEqual(['20000m', String(230 * GIB)]);
  });

  test('runs on the granted node of its type or nowhere', () => {
    const { nodeSelector, affinity } = build(change).spec!;
    expect(nodeSelector).toEqual({ GpuType: gpuType });
    expect(affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution?.nodeSelectorTerms).toEqual([
      { matchExpressions: [{ key: 'kubernetes.io/hostname', operator: 'In', values: [`${gpuType}-1`] }] },
    ]);
  });

  test('has threads for its share of the cores, and GPU variables only with GPUs', () => {
    const found = variables(change);
    expect(found.OMP_NUM_THREADS).toBe(String(Math.floor(cpuLimitMillis / 1000)));
    expect(found.MAKEFLAGS).toBe(`-j${Math.floor(cpuLimitMillis / 1000)}`);
    expect(found.NVIDIA_DRIVER_CAPABILITIES).toBe(resource === null ? undefined : 'compute,utility');
    expect(found.FI_PROVIDER).toBe(efaCount > 0 ? 'efa' : undefined);
  });
});

describe('any pod', () => {
  test('is given no token, no host, and waits briefly on a node that is lost', () => {
    const { spec } = build();
    expect(spec).toMatchObject({
      automountServiceAccountToken: false,
      enableServiceLinks: false,
      terminationGracePeriodSeconds: 30,
      restartPolicy: 'OnFailure',
    });
    expect([spec?.hostNetwork, spec?.hostPID, spec?.hostIPC, spec?.serviceAccountName]).toEqual(Array(4).fill(undefined));
    expect(spec?.tolerations).toEqual([
      { key: 'nvidia.com/gpu', operator: 'Exists', effect: 'NoSchedule' },
      { key: 'node.kubernetes.io/not-ready', operator: 'Exists', effect: 'NoExecute', tolerationSeconds: 30 },
      { key: 'node.kubernetes.io/unreachable', operator: 'Exists', effect: 'NoExecute', tolerationSeconds: 30 },
    ]);
  });

  test('has a priority if the settings say so', () => {
    expect(build().spec?.priorityClassName).toBeUndefined();
    expect(podOf(serverSpec(), { ...POD_DEFAULTS, priorityClass: 'gpu-dev' }).spec?.priorityClassName).toBe('gpu-dev');
  });

  test('has a home, a workspace and a memory volume of its share; the home is the disk if there is one', () => {
    const volumes = build().spec!.volumes!;
    expect(volumes.find(({ name }) => name === 'home')?.emptyDir).toEqual({ sizeLimit: '500Gi' });
    expect(volumes.find(({ name }) => name === 'shm')?.emptyDir).toEqual({ medium: 'Memory', sizeLimit: String(64 * GIB) });
    const withDisk = build({ claim: 'disk-1' });
    expect(withDisk.spec!.volumes!.find(({ name }) => name === 'home')?.persistentVolumeClaim).toEqual({ claimName: 'disk-1' });
    expect(withDisk.metadata?.labels?.['gpu-dev.io/claim']).toBe('disk-1');
    expect(main().volumeMounts?.map(({ mountPath }) => mountPath)).toEqual([
      '/home/dev',
      '/workspace',
      '/dev/shm',
      '/var/lib/gpu-dev',
      '/etc/gpu-dev/access',
      '/etc/gpu-dev/scripts',
    ]);
  });

  test('is ready when ssh answers; with its own entry point, when its container runs', () => {
    expect(main().readinessProbe?.tcpSocket?.port).toBe(22);
    expect(main().livenessProbe?.tcpSocket?.port).toBe(22);
    const own = main({ preserveEntrypoint: true, image: 'mine:1', command: 'serve "$HOME"' });
    expect(own).toMatchObject({
      image: 'mine:1',
      args: ['/bin/sh', '-c', 'serve "$HOME"'],
      securityContext: { allowPrivilegeEscalation: false },
    });
    expect([own.command, own.readinessProbe, own.livenessProbe, own.startupProbe, own.securityContext?.runAsUser]).toEqual(
      Array(5).fill(undefined),
    );
  });

  test('holds no secret: neither values of variables nor tokens nor keys', () => {
    const text = JSON.stringify(
      build({
        environment: new Secret({ HF_TOKEN: 'hf_secret' }),
        jupyterToken: new Secret('jt_secret'),
        authorizedKeys: ['ssh-x key_text'],
      }),
    );
    expect(text).not.toMatch(/hf_secret|jt_secret|key_text/);
    expect(main({ environment: new Secret({ HF_TOKEN: 'x' }) }).envFrom?.[0]?.secretRef?.name).toMatch(/-env$/);
    expect(main().envFrom).toBeUndefined();
  });

  test("lets the user's variable win over a default of ours, and never over a fact", () => {
    const found = variables({ environment: new Secret({ OMP_NUM_THREADS: '3', GPU_TYPE: 'tpu' }) });
    expect('OMP_NUM_THREADS' in found).toBe(false);
    expect(found.GPU_TYPE).toBe('h100');
  });

  test('bears what is needed to write its row again', () => {
    const spec = serverSpec({ gang: { id: 'g', index: 1, size: 2 }, owner: 'Ada Lovelace <ada@example.com>' });
    const { metadata } = podOf(spec, POD_DEFAULTS);
    const { environment: _e, jupyterToken: _j, authorizedKeys: _k, ...facts } = spec;
    expect(JSON.parse(metadata?.annotations?.['gpu-dev.io/spec'] ?? '')).toMatchObject(facts);
    expect(metadata?.annotations?.['gpu-dev.io/owner']).toBe(spec.owner);
    expect(serverOf(metadata)).toEqual({ reservationId: spec.reservationId, generation: 1 });
    expect(metadata?.labels).toMatchObject({ 'gpu-dev.io/owner': 'Ada-Lovelace-ada-example.com', 'gpu-dev.io/gang-index': '1' });
  });

  test('is the same for the same spec', () => {
    const spec = serverSpec();
    expect(podOf(spec, POD_DEFAULTS)).toEqual(podOf(structuredCloneOf(spec), POD_DEFAULTS));
    expect(podName(spec)).toBe(`gpu-dev-${spec.reservationId}-1`);
    expect(build({ name: 'brave_otter' }).spec?.hostname).toBe('brave-otter');
  });

  test('keeps a value as it stands that Kubernetes would expand', () => {
    expect(variables({ command: 'echo $(HOME) $(date)' }).GPU_DEV_COMMAND).toBe('echo $$(HOME) $$(date)');
  });
});

const structuredCloneOf = (spec: ReturnType<typeof serverSpec>) => ({ ...spec });

test.each([
  ['ada@example.com', 'ada-example.com'],
  ['__x__', 'x'],
  ['é', ''],
  ['a'.repeat(70), 'a'.repeat(63)],
])('the label value of %s is legal', (text, value) => {
  expect(labelValue(text)).toBe(value);
});

test('a host label has only what a host name may', () => {
  expect(hostLabel('Brave_Otter!')).toBe('brave-otter');
});
