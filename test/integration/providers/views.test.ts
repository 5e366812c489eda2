import type { V1ContainerStatus, V1Node, V1Pod } from '@kubernetes/client-node';
import { describe, expect, test } from 'vitest';
import { backoff } from '../../../src/providers/kubernetes/informers.ts';
import { nodeView } from '../../../src/providers/kubernetes/node-view.ts';
import { podView } from '../../../src/providers/kubernetes/pod-view.ts';
import { bytes, millis, quantity } from '../../../src/providers/kubernetes/quantities.ts';

test.each([
  ['250m', 0.25],
  ['2', 2],
  ['1.5', 1.5],
  ['16Gi', 16 * 2 ** 30],
  ['1e3', 1000],
  ['2k', 2000],
  ['12E', 12e18],
  ['nonsense', 0],
  ['', 0],
  [undefined, 0],
])('the quantity %s is %d', (text, value) => {
  expect(quantity(text)).toBe(value);
});

test('cores are thousandths, memory is bytes', () => {
  expect([millis('1.5'), millis('36'), bytes('128974848'), bytes('129e6'), bytes('123Mi')]).toEqual([
    1500, 36_000, 128_974_848, 129_000_000, 128_974_848,
  ]);
});

describe('a node', () => {
  const node = (change: { spec?: V1Node['spec']; status?: V1Node['status']; labels?: Record<string, string> } = {}): V1Node => ({
    metadata: {
      name: 'n1',
      uid: 'u1',
      labels: { GpuType: 'h100', 'topology.kubernetes.io/zone': 'us-east-2a', ...change.labels },
    },
    spec: { taints: [{ key: 'nvidia.com/gpu', effect: 'NoSchedule' }], ...change.spec },
    status: {
      conditions: [{ type: 'Ready', status: 'True' }],
      allocatable: { cpu: '190', memory: '2000Gi', 'nvidia.com/gpu': '8', 'vpc.amazonaws.com/efa': '32', pods: '110' },
      addresses: [{ type: 'InternalIP', address: '10.0.0.1' }],
      ...change.status,
    },
  });

  test('is described by what matters', () => {
    expect(nodeView(node())).toMatchObject({
      name: 'n1',
      gpuType: 'h100',
      ready: true,
      cordoned: false,
      foreignTaints: [],
      resources: { 'nvidia.com/gpu': 8, 'vpc.amazonaws.com/efa': 32 },
      cpuMillis: 190_000,
      memoryBytes: 2000 * 2 ** 30,
      address: '10.0.0.1',
      zone: 'us-east-2a',
    });
  });

  test.each([
    ['without a Ready condition', node({ status: { conditions: [] } }), { ready: false }],
    ['of unknown readiness', node({ status: { conditions: [{ type: 'Ready', status: 'Unknown' }] } }), { ready: false }],
    [
      'that is cordoned',
      node({ spec: { unschedulable: true, taints: [{ key: 'node.kubernetes.io/unschedulable', effect: 'NoSchedule' }] } }),
      { cordoned: true, foreignTaints: [] },
    ],
    [
      'with a foreign taint',
      node({
        spec: {
          taints: [
            { key: 'team', effect: 'NoExecute' },
            { key: 'soft', effect: 'PreferNoSchedule' },
          ],
        },
      }),
      { foreignTaints: ['team'] },
    ],
    [
      'with a public address',
      node({
        status: {
          addresses: [
            { type: 'InternalIP', address: '10.0.0.1' },
            { type: 'ExternalIP', address: '198.51.100.4' },
          ],
        },
      }),
      { address: '198.51.100.4' },
    ],
    [
      'that is none of ours',
      { metadata: { name: 'x' } },
      { gpuType: null, ready: false, cpuMillis: 0, address: null, zone: null },
    ],
  ])('%s', (_name, given, view) => {
    expect(nodeView(given as V1Node)).toMatchObject(view);
  });
});

describe('a pod', () => {
  const status = (change: Partial<V1ContainerStatus>): V1ContainerStatus => ({
    name: 'gpu-dev',
    ready: false,
    restartCount: 0,
    image: 'i',
    imageID: 'i',
    ...change,
  });
  const pod = (
    change: { metadata?: V1Pod['metadata']; spec?: Partial<NonNullable<V1Pod['spec']>>; status?: V1Pod['status'] } = {},
  ): V1Pod => ({
    metadata: {
      name: 'p',
      uid: 'u',
      namespace: 'gpu-dev',
      resourceVersion: '7',
      labels: {
        app: 'gpu-dev-pod',
        'app.kubernetes.io/managed-by': 'gpu-dev',
        'gpu-dev.io/reservation': 'r1',
        'gpu-dev.io/generation': '2',
      },
      ...change.metadata,
    },
    spec: {
      nodeName: 'n1',
      containers: [{ name: 'gpu-dev', resources: { requests: { cpu: '2', memory: '1Gi' }, limits: { 'nvidia.com/gpu': '2' } } }],
      ...change.spec,
    },
    status: { phase: 'Running', ...change.status },
  });
  const view = (change: Parameters<typeof pod>[0] = {}) => podView(pod(change), 'gpu-dev');

  test('of ours says whose it is, by its labels in our namespace only', () => {
    expect(view().server).toEqual({ reservationId: 'r1', generation: 2 });
    expect(view({ metadata: { namespace: 'elsewhere' } }).server).toBeNull();
    expect(view({ metadata: { labels: { app: 'gpu-dev-pod' } } }).server).toBeNull();
  });

  test('takes what its containers request, or its largest init container, and sidecars always', () => {
    expect(view()).toMatchObject({ cpuMillis: 2000, memoryBytes: 2 ** 30, resources: { 'nvidia.com/gpu': 2 } });
    const initContainers = [
      { name: 'big', resources: { requests: { cpu: '8', memory: '512Mi' } } },
      { name: 'side', restartPolicy: 'Always', resources: { requests: { cpu: '500m' } } },
    ];
    expect(view({ spec: { initContainers } })).toMatchObject({ cpuMillis: 8000, memoryBytes: 2 ** 30 });
    expect(view({ spec: { initContainers: initContainers.slice(1) } })).toMatchObject({ cpuMillis: 2500 });
    expect(view({ spec: { overhead: { cpu: '250m' } } })).toMatchObject({ cpuMillis: 2250 });
  });

  test('waits for a node, then for its image, then for its probe', () => {
    const unbound = view({
      spec: { nodeName: undefined as never },
      status: {
        phase: 'Pending',
        conditions: [{ type: 'PodScheduled', status: 'False', reason: 'Unschedulable', message: '0/3 nodes' }],
      },
    });
    expect(unbound).toMatchObject({ node: null, unschedulable: '0/3 nodes', started: false });
    const pulling = view({
      status: { phase: 'Pending', containerStatuses: [status({ state: { waiting: { reason: 'ContainerCreating' } } })] },
    });
    expect(pulling).toMatchObject({ started: false, unreadyReason: null });
    const failing = view({
      status: {
        phase: 'Pending',
        containerStatuses: [status({ state: { waiting: { reason: 'ImagePullBackOff', message: 'no such image' } } })],
      },
    });
    expect(failing).toMatchObject({ unreadyReason: 'gpu-dev: ImagePullBackOff (no such image)' });
    const probing = view({
      status: { phase: 'Running', containerStatuses: [status({ started: false, state: { running: {} } })] },
    });
    expect(probing).toMatchObject({
      started: true,
      ready: false,
      unreadyReason: 'the server does not answer its probe yet',
    });
    const ready = view({ status: { phase: 'Running', conditions: [{ type: 'Ready', status: 'True' }] } });
    expect(ready).toMatchObject({ ready: true, unreadyReason: null, death: null });
  });

  test.each([
    ['Failed', { phase: 'Failed', reason: 'Evicted', message: 'low on memory' }, /evicted this server: low on memory/],
    ['Succeeded', { phase: 'Succeeded' }, /ended by itself/],
    ['node lost', { phase: 'Running', reason: 'NodeLost' }, /stopped answering/],
    ['node shutdown', { phase: 'Failed', reason: 'Terminated' }, /shut down/],
    [
      'disruption',
      {
        phase: 'Running',
        conditions: [{ type: 'DisruptionTarget', status: 'True', reason: 'DeletionByTaintManager', message: 'taint' }],
      },
      /lost or closed: taint/,
    ],
    [
      'evicted for what it filled',
      {
        phase: 'Failed',
        reason: 'Evicted',
        conditions: [
          {
            type: 'DisruptionTarget',
            status: 'True',
            reason: 'TerminationByKubelet',
            message: 'volume "workspace" exceeds 500Gi',
          },
        ],
      },
      /node evicted this server: volume "workspace" exceeds 500Gi/,
    ],
    [
      'unknown disruption',
      { phase: 'Running', conditions: [{ type: 'DisruptionTarget', status: 'True', reason: 'New' }] },
      /evicted/,
    ],
    [
      'out of memory',
      { phase: 'Failed', containerStatuses: [status({ state: { terminated: { exitCode: 137, reason: 'OOMKilled' } } })] },
      /ran out of memory/,
    ],
    ['exit code', { phase: 'Failed', containerStatuses: [status({ state: { terminated: { exitCode: 3 } } })] }, /code 3/],
  ])('that is dead says why: %s', (_name, given, reason) => {
    expect(view({ status: given as V1Pod['status'] & object }).death).toMatch(reason);
  });

  const broken = (restartCount: number, reason: string, message: string) =>
    view({
      status: {
        phase: 'Running',
        containerStatuses: [
          status({
            restartCount,
            state: { waiting: { reason: 'CrashLoopBackOff', message: 'back-off 10s' } },
            lastState: { terminated: { exitCode: 1, reason, message } },
          }),
        ],
      },
    }).death;

  test('S37: that can never start says so at once, in words of its image', () => {
    const runtime = 'failed to create containerd task: exec: "/bin/sh": stat /bin/sh: no such file or directory: unknown';
    expect(broken(0, 'StartError', runtime)).toMatch(/needs \/bin\/sh/);
    expect(broken(0, 'StartError', 'nvidia-container-cli: device error')).toBeNull();
    const script = 'E: Unable to fetch\n[gpu-dev] cannot start: this image has no sshd, and none could be installed\n';
    expect(broken(1, 'Error', script)).toBeNull();
    expect(broken(3, 'Error', script)).toBe('The server cannot start: this image has no sshd, and none could be installed');
  });

  test('that lives is not dead because it is asked to end', () => {
    expect(view({ metadata: { deletionTimestamp: '2026-01-01T00:00:00Z' as never } })).toMatchObject({
      terminating: true,
      death: null,
    });
  });

  test('remembers its out-of-memory kills, with text or Date times', () => {
    const killed = { exitCode: 137, reason: 'OOMKilled' };
    const by = (finishedAt: unknown) =>
      view({
        status: {
          phase: 'Running',
          containerStatuses: [
            status({
              restartCount: 2,
              state: { running: {} },
              lastState: { terminated: { ...killed, finishedAt: finishedAt as Date } },
            }),
          ],
        },
      }).ooms;
    const seen = [{ container: 'gpu-dev', restarts: 2, at: '2026-01-01T00:00:00.000Z' }];
    expect(by('2026-01-01T00:00:00.000Z')).toEqual(seen);
    expect(by(new Date('2026-01-01T00:00:00Z'))).toEqual(seen);
  });
});

test('retries wait from 0.2 s to 10 s, never in step', () => {
  const waits = Array.from({ length: 12 }, (_, failures) => backoff(failures, () => 0.999));
  expect(waits[0]).toBe(200);
  expect(waits[11]).toBeLessThanOrEqual(10_000);
  expect(waits[11]).toBeGreaterThan(9000);
  expect(backoff(6, () => 0)).toBe(5000);
});
