import { describe, expect, it } from 'vitest';
import { type Cluster, createCluster } from '../../../src/simulated-cluster/cluster.ts';
import type { SettingsInput } from '../../../src/simulated-cluster/settings.ts';
import type { ApiRequest, Commit, KubeObject } from '../../../src/simulated-cluster/types.ts';
import { gpuPod, podBody } from './support.ts';

const START = Date.parse('2026-01-01T00:00:00Z');
const PODS = '/api/v1/namespaces/gpu-dev/pods';

function at(cluster: Cluster, now: number, method: ApiRequest['method'], path: string, body?: unknown, contentType?: string) {
  return cluster.handle({ method, path, body, ...(contentType === undefined ? {} : { contentType }) }, now);
}

/** Lets virtual time pass, from one thing that happens to the next. */
function run(cluster: Cluster, to: number): void {
  for (let next = cluster.nextWakeup(); next !== undefined && next <= to; next = cluster.nextWakeup()) cluster.tick(next);
  cluster.tick(to);
}

const pod = (cluster: Cluster, name: string): KubeObject | undefined => cluster.world.get('pods', `gpu-dev/${name}`);

function story(seed: number, settings: SettingsInput = {}): string[] {
  const cluster = createCluster({ now: START, seed, settings });
  const log: string[] = [];
  cluster.subscribe((commit) => log.push(JSON.stringify(commit)));
  for (let index = 0; index < 6; index++) at(cluster, START + index * 7, 'POST', PODS, gpuPod(`p${index}`, 'h100', 4));
  at(cluster, START + 100, 'POST', '/apis/batch/v1/namespaces/gpu-dev/jobs', {
    metadata: { name: 'j' },
    spec: { template: { spec: { restartPolicy: 'Never', containers: [{ name: 'm', image: 'b' }] } } },
  });
  at(cluster, START + 120, 'POST', '/api/v1/namespaces/gpu-dev/services', {
    metadata: { name: 's' },
    spec: { type: 'NodePort', ports: [{ port: 22 }] },
  });
  run(cluster, START + 1500);
  at(cluster, START + 1500, 'DELETE', `${PODS}/p0`);
  run(cluster, START + 60_000);
  return log;
}

describe('the pure core', () => {
  it('gives the same commits for the same seed and calls, and other ones for another seed', () => {
    expect(story(7)).toEqual(story(7));
    expect(story(7)).not.toEqual(story(8));
  });

  it('keeps what it stores apart from what its callers sent, and the versions of an object from each other', () => {
    const cluster = createCluster({ now: START, seed: 1 });
    const sent = podBody('p') as { spec: { containers: { image?: string }[] } };
    at(cluster, START, 'POST', PODS, sent);
    run(cluster, START + 5000);
    const before = pod(cluster, 'p');
    const text = JSON.stringify(before);
    const patch = { metadata: { finalizers: ['a/b'] }, spec: { containers: structuredClone(before?.spec.containers) } };
    at(cluster, START + 5000, 'PATCH', `${PODS}/p`, patch, 'application/merge-patch+json');
    const after = JSON.stringify(pod(cluster, 'p'));
    for (const container of sent.spec.containers) container.image = 'other';
    patch.metadata.finalizers.push('c/d');
    patch.spec.containers[0].image = 'other';
    expect([JSON.stringify(before), JSON.stringify(pod(cluster, 'p'))]).toEqual([text, after]);
    expect(pod(cluster, 'p')?.metadata.finalizers).toEqual(['a/b']);
    // What did not change is the same, not only equal: what was worked out for it need not be worked out again.
    expect(pod(cluster, 'p')?.spec).toBe(before?.spec);
  });

  it('comes to the same objects whether time passes in steps or at once', () => {
    const stepped = createCluster({ now: START, seed: 1 });
    const jumped = createCluster({ now: START, seed: 1 });
    for (const cluster of [stepped, jumped]) at(cluster, START, 'POST', PODS, gpuPod('p', 'a100', 2));
    run(stepped, START + 5000);
    jumped.tick(START + 5000);
    expect(pod(jumped, 'p')).toEqual(pod(stepped, 'p'));
    expect(pod(jumped, 'p')?.status.phase).toBe('Running');
  });

  it('takes a pod from Pending to ready with the delays of its settings', () => {
    const cluster = createCluster({ now: START, settings: { delays: { schedule: 10, pull: 100, start: 20, ready: 30 } } });
    at(cluster, START, 'POST', PODS, podBody('p'));
    run(cluster, START + 9);
    expect(pod(cluster, 'p')?.spec.nodeName).toBeUndefined();
    run(cluster, START + 10);
    expect(pod(cluster, 'p')?.spec.nodeName).toMatch(/^cpu-/);
    run(cluster, START + 129);
    expect(pod(cluster, 'p')?.status.phase).toBe('Pending');
    run(cluster, START + 130);
    expect(pod(cluster, 'p')?.status).toMatchObject({ phase: 'Running', containerStatuses: [{ ready: false }] });
    run(cluster, START + 160);
    expect(pod(cluster, 'p')?.status).toMatchObject({ containerStatuses: [{ ready: true }] });
  });

  it('never gives out more GPUs than a node has, and gives freed ones to the next pod', () => {
    const cluster = createCluster({ now: START, settings: { fleet: { h100: 2 } } });
    for (let index = 0; index < 5; index++) at(cluster, START + index, 'POST', PODS, gpuPod(`p${index}`, 'h100', 4));
    run(cluster, START + 2000);
    const bound = (): string[] =>
      [0, 1, 2, 3, 4].filter((index) => pod(cluster, `p${index}`)?.spec.nodeName).map((index) => `p${index}`);
    expect(bound()).toEqual(['p0', 'p1', 'p2', 'p3']);
    expect(pod(cluster, 'p4')?.status.conditions[0]).toMatchObject({
      type: 'PodScheduled',
      status: 'False',
      reason: 'Unschedulable',
      message: expect.stringContaining('0/2 nodes are available: 2 Insufficient nvidia.com/gpu'),
    });
    const events = [...cluster.world.store.values('events')].filter((event) => event.involvedObject.name === 'p4');
    expect(events.map((event) => event.reason)).toEqual(['FailedScheduling']);
    at(cluster, START + 2000, 'DELETE', `${PODS}/p1`);
    run(cluster, START + 2500);
    expect(pod(cluster, 'p4')?.spec.nodeName).toBeDefined();
  });

  it('honours node selectors, required affinity by hostname, taints and cordons', () => {
    const cluster = createCluster({ now: START, settings: { fleet: { h100: 3, 'cpu-x86': 1 } } });
    const affinity = (name: string) => ({
      nodeAffinity: {
        requiredDuringSchedulingIgnoredDuringExecution: {
          nodeSelectorTerms: [{ matchExpressions: [{ key: 'kubernetes.io/hostname', operator: 'In', values: [name] }] }],
        },
      },
    });
    const tolerations = [{ key: 'nvidia.com/gpu', operator: 'Exists', effect: 'NoSchedule' }];
    at(cluster, START, 'POST', PODS, podBody('pinned', { affinity: affinity('h100-3'), tolerations }));
    at(cluster, START, 'POST', PODS, podBody('tainted-out', { nodeSelector: { GpuType: 'h100' } }));
    at(cluster, START, 'POST', PODS, podBody('anywhere'));
    run(cluster, START + 100);
    expect(pod(cluster, 'pinned')?.spec.nodeName).toBe('h100-3');
    expect(pod(cluster, 'anywhere')?.spec.nodeName).toBe('cpu-x86-1');
    expect(pod(cluster, 'tainted-out')?.status.conditions[0].message).toContain(
      '3 node(s) had untolerated taint {nvidia.com/gpu: present}',
    );
    at(cluster, START + 100, 'PATCH', '/api/v1/nodes/h100-3', { spec: { unschedulable: true } }, 'application/merge-patch+json');
    at(cluster, START + 100, 'POST', PODS, podBody('late', { affinity: affinity('h100-3'), tolerations }));
    run(cluster, START + 200);
    expect(pod(cluster, 'late')?.spec.nodeName).toBeUndefined();
    at(cluster, START + 200, 'PATCH', '/api/v1/nodes/h100-3', { spec: { unschedulable: null } }, 'application/merge-patch+json');
    run(cluster, START + 300);
    expect(pod(cluster, 'late')?.spec.nodeName).toBe('h100-3');
  });

  it('is rebuilt from its commits and goes on where it was', () => {
    const commits: Commit[] = [];
    const first = createCluster({ now: START, seed: 5 });
    first.subscribe((commit) => commits.push(JSON.parse(JSON.stringify(commit)) as Commit));
    at(first, START, 'POST', PODS, gpuPod('p', 'h100', 8));
    at(first, START, 'POST', PODS, gpuPod('q', 'h100', 8));
    at(first, START + 1, 'POST', PODS, gpuPod('r', 'h100', 8));
    run(first, START + 150);
    const second = createCluster({
      now: START,
      seed: 5,
      restore(store) {
        for (const commit of commits) store.replay(commit);
        return true;
      },
    });
    expect(second.world.store.version).toBe(first.world.store.version);
    run(first, START + 5000);
    run(second, START + 5000);
    expect(pod(second, 'p')).toEqual(pod(first, 'p'));
    expect(pod(second, 'p')?.status.phase).toBe('Running');
    expect(pod(second, 'r')?.spec.nodeName).toBeUndefined();
  });

  it('has the whole fleet, and another one when settings say so', () => {
    const types = [...createCluster({ now: START }).world.store.values('nodes')].map((node) => node.metadata.labels?.GpuType);
    expect(types.filter((type) => type === 'h100')).toHaveLength(2);
    const expected =
      't4 t4-small l4 a10g g5g rtxpro6000 a100 h100 h200 b200 b300 cpu-arm cpu-x86 cpu-spot cpu-small cpu-large'.split(' ');
    const slices = ['h100', 'b200'].flatMap((type) => ['1g', '2g', '3g'].map((slice) => `${type}-mig-${slice}`));
    expect(new Set(types)).toEqual(new Set([...expected, ...slices]));
    const other = createCluster({
      now: START,
      settings: { fleet: { h100: 5, tiny: { nodes: 1, gpus: 2, cpu: 4, memoryGi: 8 } } },
    });
    expect(other.world.store.count('nodes')).toBe(6);
    expect(other.world.get('nodes', 'tiny-1')?.status.capacity).toMatchObject({ 'nvidia.com/gpu': '2', cpu: '4' });
  });

  it('keeps pace with 1,000 nodes and hundreds of pods at once', () => {
    const cluster = createCluster({ now: START, settings: { fleet: { h100: 500, 'cpu-x86': 500 } } });
    const began = performance.now();
    for (let index = 0; index < 400; index++) at(cluster, START + index, 'POST', PODS, gpuPod(`p-${index}`, 'h100', 1));
    run(cluster, START + 5000);
    expect([...cluster.world.store.values('pods')].filter((each) => each.status.phase === 'Running')).toHaveLength(400);
    // About half a second; a scan of everything at every write would take minutes.
    expect(performance.now() - began).toBeLessThan(10_000);
  });
});
