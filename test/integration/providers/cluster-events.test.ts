import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { ClusterChanges, NodeView, PodView } from '../../../actors/gpu-pool/ports.ts';
import { KubernetesEvents } from '../../../src/providers/kubernetes/cluster-events.ts';
import { KubernetesDevServers } from '../../../src/providers/kubernetes/dev-servers.ts';
import { startCluster, type TestCluster } from './support/cluster.ts';
import { serverSpec } from './support/specs.ts';
import { until } from './support/wait.ts';

const namespace = 'gpu-dev';
let cluster: TestCluster;
const feeds: KubernetesEvents[] = [];

beforeAll(async () => {
  // So few remembered changes that a watch which was away for a moment is too old.
  cluster = await startCluster({ eventLogLimit: 40, bookmarkMs: 200 });
});
afterEach(async () => {
  await Promise.all(feeds.splice(0).map((feed) => feed.stop()));
});
afterAll(() => cluster?.stop());

/** What a tracker would know from the feed alone. */
class Mirror implements ClusterChanges {
  readonly nodes = new Map<string, NodeView>();
  readonly pods = new Map<string, PodView>();
  readonly deleted: string[] = [];
  syncs = 0;
  nodeChanged(node: NodeView): void {
    this.nodes.set(node.name, node);
  }
  nodeDeleted({ name }: { name: string }): void {
    this.nodes.delete(name);
  }
  podChanged(pod: PodView): void {
    this.pods.set(pod.uid, pod);
  }
  podDeleted(pod: PodView): void {
    this.pods.delete(pod.uid);
    this.deleted.push(pod.name);
  }
  synced(): void {
    this.syncs += 1;
  }
  named(name: string): PodView | undefined {
    return [...this.pods.values()].find((pod) => pod.name === name);
  }
}

async function feed(options: { pageSize?: number; idleTimeoutMs?: number } = {}) {
  const { client, wire } = await cluster.wired();
  const errors: string[] = [];
  const onError = (what: string, error: unknown) => errors.push(`${what}: ${String(error)}`);
  const events = new KubernetesEvents({ client, onError, ...options });
  feeds.push(events);
  const mirror = new Mirror();
  await events.start(mirror);
  return { events, mirror, wire, errors };
}

const core = () => cluster.client.core;
const servers = () => new KubernetesDevServers({ client: cluster.client });
const removeNow = (name: string) => core().deleteNamespacedPod({ namespace, name, gracePeriodSeconds: 0 });

/** More changes than the cluster remembers. */
async function churn(): Promise<void> {
  for (let number = 0; number < 45; number += 1) {
    const body = { metadata: { name: `churn-${number}` }, data: {} };
    await core().createNamespacedConfigMap({ namespace, body });
    await core().deleteNamespacedConfigMap({ namespace, name: body.metadata.name });
  }
}

describe('the feed', () => {
  test('delivers all nodes and pods, page by page, and then what changes', async () => {
    const spec = serverSpec({ nodeLabels: {} });
    const { name } = await servers().create(spec);
    const { mirror, events } = await feed({ pageSize: 1 });
    expect([...mirror.nodes.keys()].sort()).toEqual(['cpu-x86-1', 'h100-1', 'h100-2']);
    expect(mirror.nodes.get('h100-1')).toMatchObject({ gpuType: 'h100', ready: true, cordoned: false, foreignTaints: [] });
    expect(mirror.nodes.get('h100-1')?.resources['nvidia.com/gpu']).toBe(8);
    expect(mirror.syncs).toBe(1);
    expect(mirror.named(name)?.server).toEqual({ reservationId: spec.reservationId, generation: 1 });
    await until('the pod is ready', () => mirror.named(name)?.ready);
    expect(mirror.named(name)).toMatchObject({
      node: 'h100-1',
      started: true,
      cpuMillis: 20_000,
      resources: { 'nvidia.com/gpu': 1 },
    });
    expect(Date.now() - (events.lastContact() ?? 0)).toBeLessThan(5000);
    await removeNow(name);
    await until('the deletion arrives', () => mirror.deleted.includes(name));
  });

  test('goes on after its connections were cut, without a new list and without losing a change', async () => {
    const { mirror, wire } = await feed();
    wire.cut();
    const { name } = await servers().create(serverSpec());
    await until('the pod that came meanwhile', () => mirror.named(name)?.ready);
    wire.cut();
    await removeNow(name);
    await until('the deletion that came meanwhile', () => mirror.deleted.includes(name));
    expect(mirror.syncs).toBe(1);
  });

  test('lists again when its place is forgotten (410), and tells of the deletions that it missed', async () => {
    const { name } = await servers().create(serverSpec());
    const { mirror, wire, errors } = await feed();
    expect(mirror.named(name)).toBeDefined();
    wire.refuse();
    await removeNow(name);
    await until('the pod is gone', async () => {
      const { items } = await core().listNamespacedPod({ namespace });
      return !items.some(({ metadata }) => metadata?.name === name);
    });
    const next = await servers().create(serverSpec());
    await churn();
    wire.mend();
    await until('the deletion that was missed', () => mirror.deleted.includes(name));
    await until('the pod that was missed', () => mirror.named(next.name));
    await until('a new complete list', () => mirror.syncs >= 2);
    expect(errors.length).toBeGreaterThan(0);
    await removeNow(next.name);
  });

  test('notices a connection that went silent', async () => {
    const { mirror, wire } = await feed({ idleTimeoutMs: 500 });
    wire.swallow();
    const { name } = await servers().create(serverSpec());
    const before = wire.accepted;
    await until('a new connection', () => wire.accepted > before);
    wire.mend();
    wire.cut();
    await until('the pod that came meanwhile', () => mirror.named(name)?.ready);
    await removeNow(name);
  });

  test('waits for an API server that is not there yet', async () => {
    const { client, wire } = await cluster.wired();
    wire.refuse();
    const events = new KubernetesEvents({ client });
    feeds.push(events);
    const mirror = new Mirror();
    const started = events.start(mirror);
    expect(events.lastContact()).toBeNull();
    await new Promise((resolve) => setImmediate(resolve));
    expect(mirror.syncs).toBe(0);
    wire.mend();
    await started;
    expect(mirror.nodes.size).toBe(3);
  });

  test('can be stopped before the API server ever answered', async () => {
    const { client, wire } = await cluster.wired();
    wire.refuse();
    const events = new KubernetesEvents({ client });
    const started = events.start(new Mirror());
    started.catch(() => undefined);
    await events.stop();
    await expect(started).rejects.toThrow(/stopped/);
  });

  test('lists again when its receiver throws, so that no change is lost', async () => {
    const { client } = await cluster.wired();
    const events = new KubernetesEvents({ client });
    feeds.push(events);
    const mirror = new Mirror();
    let throws = false;
    const seen = mirror.podChanged.bind(mirror);
    mirror.podChanged = (pod) => {
      if (throws) {
        throws = false;
        throw new Error('the receiver failed');
      }
      seen(pod);
    };
    await events.start(mirror);
    throws = true;
    const { name } = await servers().create(serverSpec());
    await until('the pod all the same', () => mirror.named(name)?.ready);
    expect(mirror.syncs).toBeGreaterThanOrEqual(2);
    await removeNow(name);
  });

  test('knows a cordoned node, and a node that is no more', async () => {
    const { mirror } = await feed();
    await cluster.simulate('/simulation/nodes/h100-2/cordon');
    await until('the cordon', () => mirror.nodes.get('h100-2')?.cordoned);
    await cluster.simulate('/simulation/nodes/h100-2/uncordon');
    await until('its end', () => mirror.nodes.get('h100-2')?.cordoned === false);
    await core().deleteNode({ name: 'cpu-x86-1' });
    await until('the deletion', () => !mirror.nodes.has('cpu-x86-1'));
  });

  test('says why a server died', async () => {
    const { mirror } = await feed();
    const { name } = await servers().create(serverSpec());
    await until('ready', () => mirror.named(name)?.ready);
    await cluster.simulate(`/simulation/pods/${namespace}/${name}/oom`);
    await until('the out-of-memory kill', () => mirror.named(name)?.ooms.some(({ container }) => container === 'gpu-dev'));
    const other = await servers().create(serverSpec());
    await until('ready', () => mirror.named(other.name)?.ready);
    await cluster.simulate(`/simulation/pods/${namespace}/${other.name}/fail`);
    await until('the death', () => mirror.named(other.name)?.death);
    await removeNow(name);
    await removeNow(other.name);
  });
});
