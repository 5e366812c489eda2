/** ClusterEvents: everything once, then every change, whatever happens to the connection. */
import { afterEach, describe, expect, it } from 'vitest';
import type { ClusterChanges, ClusterEvents, NodeView, PodView } from '../../../actors/gpu-pool/ports.ts';
import { serverSpec } from '../../integration/providers/support/specs.ts';
import { until } from '../../integration/providers/support/wait.ts';
import type { Subject } from './subject.ts';

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

export function eventsConform(subject: () => Subject): void {
  const feeds: ClusterEvents[] = [];
  afterEach(async () => {
    await Promise.all(feeds.splice(0).map((feed) => feed.stop()));
  });

  async function feed(options: { pageSize?: number; idleTimeoutMs?: number } = {}) {
    const { client, proxy } = await subject().faulty();
    const errors: string[] = [];
    const onError = (what: string, error: unknown) => errors.push(`${what}: ${String(error)}`);
    const events = subject().events(client, { onError, ...options });
    feeds.push(events);
    const mirror = new Mirror();
    await events.start(mirror);
    return { events, mirror, proxy, errors };
  }

  const core = () => subject().client.core;
  const servers = () => subject().servers(subject().client);
  const namespace = () => subject().client.namespace;
  const removeNow = (name: string) => core().deleteNamespacedPod({ namespace: namespace(), name, gracePeriodSeconds: 0 });

  describe('the feed', () => {
    it('delivers all nodes and pods, page by page, and then what changes', async () => {
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

    it('goes on after its connections were cut, without a new list and without losing a change', async () => {
      const { mirror, proxy } = await feed();
      proxy.cut();
      const { name } = await servers().create(serverSpec());
      await until('the pod that came meanwhile', () => mirror.named(name)?.ready);
      proxy.cut();
      await removeNow(name);
      await until('the deletion that came meanwhile', () => mirror.deleted.includes(name));
      expect(mirror.syncs).toBe(1);
    });

    it('lists again when its place is forgotten (410), and tells of the deletions that it missed', async () => {
      const { name } = await servers().create(serverSpec());
      const { mirror, proxy, errors } = await feed();
      expect(mirror.named(name)).toBeDefined();
      await proxy.refuse();
      await removeNow(name);
      await until('the pod is gone', async () => {
        const { items } = await core().listNamespacedPod({ namespace: namespace() });
        return !items.some(({ metadata }) => metadata?.name === name);
      });
      const next = await servers().create(serverSpec());
      await subject().forget();
      await proxy.mend();
      await until('the deletion that was missed', () => mirror.deleted.includes(name));
      await until('the pod that was missed', () => mirror.named(next.name));
      await until('a new complete list', () => mirror.syncs >= 2);
      expect(errors.length).toBeGreaterThan(0);
      await removeNow(next.name);
    });

    it('notices a connection that went silent', async () => {
      const { mirror, proxy } = await feed({ idleTimeoutMs: 500 });
      proxy.swallow();
      const { name } = await servers().create(serverSpec());
      const before = proxy.connections;
      await until('a new connection', () => proxy.connections > before);
      await proxy.mend();
      proxy.cut();
      await until('the pod that came meanwhile', () => mirror.named(name)?.ready);
      await removeNow(name);
    });

    it('waits for an API server that is not there yet', async () => {
      const { client, proxy } = await subject().faulty();
      await proxy.refuse();
      const events = subject().events(client, {});
      feeds.push(events);
      const mirror = new Mirror();
      const started = events.start(mirror);
      expect(events.lastContact()).toBeNull();
      await new Promise((resolve) => setImmediate(resolve));
      expect(mirror.syncs).toBe(0);
      await proxy.mend();
      await started;
      expect(mirror.nodes.size).toBe(3);
    });

    it('can be stopped before the API server ever answered', async () => {
      const { client, proxy } = await subject().faulty();
      await proxy.refuse();
      const events = subject().events(client, {});
      const started = events.start(new Mirror());
      started.catch(() => undefined);
      await events.stop();
      await expect(started).rejects.toThrow(/stopped/);
    });

    it('lists again when its receiver throws, so that no change is lost', async () => {
      const { client } = await subject().faulty();
      const events = subject().events(client, {});
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

    it('knows a cordoned node, and a node that is no more', async () => {
      const { mirror } = await feed();
      await subject().befall('nodes/h100-2/cordon');
      await until('the cordon', () => mirror.nodes.get('h100-2')?.cordoned);
      await subject().befall('nodes/h100-2/uncordon');
      await until('its end', () => mirror.nodes.get('h100-2')?.cordoned === false);
      await core().deleteNode({ name: 'cpu-x86-1' });
      await until('the deletion', () => !mirror.nodes.has('cpu-x86-1'));
    });

    it('says why a server died', async () => {
      const { mirror } = await feed();
      const { name } = await servers().create(serverSpec());
      await until('ready', () => mirror.named(name)?.ready);
      await subject().befall(`pods/${name}/oom`);
      await until('the out-of-memory kill', () => mirror.named(name)?.ooms.some(({ container }) => container === 'gpu-dev'));
      const other = await servers().create(serverSpec());
      await until('ready', () => mirror.named(other.name)?.ready);
      await subject().befall(`pods/${other.name}/fail`);
      await until('the death', () => mirror.named(other.name)?.death);
      await removeNow(name);
      await removeNow(other.name);
    });
  });
}
