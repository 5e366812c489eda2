import { CoreV1Api, makeInformer, type V1Pod, Watch } from '@kubernetes/client-node';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { call, gpuPod, podBody, QUICK, type Running, startCluster, until } from './support.ts';

const MERGE = 'application/merge-patch+json';
const MAPS = '/api/v1/namespaces/default/configmaps';

let cluster: Running;
let core: CoreV1Api;
beforeAll(async () => {
  cluster = await startCluster({ ...QUICK, bookmarkMs: 20 });
  core = cluster.config.makeApiClient(CoreV1Api);
});
afterAll(() => cluster.close());

interface Seen {
  type: string;
  name: string;
  // biome-ignore lint/suspicious/noExplicitAny: objects of any kind.
  object: any;
}

async function watch(
  path: string,
  query: Record<string, string | boolean>,
): Promise<{ seen: Seen[]; ended(): boolean; stop(): void }> {
  const seen: Seen[] = [];
  let ended = false;
  const controller = await new Watch(cluster.config).watch(
    path,
    query,
    (type, object) => seen.push({ type, name: object.metadata?.name, object }),
    () => {
      ended = true;
    },
  );
  return { seen, ended: () => ended, stop: () => controller.abort() };
}

describe('watching', () => {
  it('shows what was there, then every change in order with rising versions', async () => {
    await call(cluster.url, 'POST', MAPS, { metadata: { name: 'w1' } });
    const { seen, stop } = await watch(MAPS, {});
    await until('the first object', () => seen.length >= 1);
    await call(cluster.url, 'POST', MAPS, { metadata: { name: 'w2' } });
    await call(cluster.url, 'PATCH', `${MAPS}/w2`, { data: { a: '1' } }, MERGE);
    await call(cluster.url, 'DELETE', `${MAPS}/w2`);
    await until('the deletion', () => seen.some((event) => event.type === 'DELETED'));
    stop();
    expect(seen.filter((event) => event.name.startsWith('w')).map((event) => `${event.type} ${event.name}`)).toEqual([
      'ADDED w1',
      'ADDED w2',
      'MODIFIED w2',
      'DELETED w2',
    ]);
    const versions = seen.slice(-3).map((event) => Number(event.object.metadata.resourceVersion));
    expect(versions).toEqual([...versions].sort((a, b) => a - b));
  });

  it('goes on from a version without gaps', async () => {
    const list = await core.listNamespacedConfigMap({ namespace: 'default' });
    await call(cluster.url, 'POST', MAPS, { metadata: { name: 'gap-1' } });
    await call(cluster.url, 'POST', MAPS, { metadata: { name: 'gap-2' } });
    const { seen, stop } = await watch(MAPS, { resourceVersion: list.metadata?.resourceVersion ?? '' });
    await until('both', () => seen.length >= 2);
    stop();
    expect(seen.map((event) => event.name)).toEqual(['gap-1', 'gap-2']);
  });

  it('shows an object as added when it begins to match a selector and deleted when it stops', async () => {
    await call(cluster.url, 'POST', MAPS, { metadata: { name: 'sel', labels: { on: 'no' } } });
    const { seen, stop } = await watch(MAPS, { labelSelector: 'on=yes' });
    const label = (on: string) => call(cluster.url, 'PATCH', `${MAPS}/sel`, { metadata: { labels: { on } } }, MERGE);
    await label('yes');
    await label('no');
    await until('both', () => seen.length >= 2);
    stop();
    expect(seen.map((event) => event.type)).toEqual(['ADDED', 'DELETED']);
  });

  it('sends bookmarks to those who ask, and ends when its time is up', async () => {
    const { seen, ended } = await watch(MAPS, { allowWatchBookmarks: true, timeoutSeconds: '1', resourceVersion: '0' });
    const bookmark = await until('a bookmark', () => seen.find((event) => event.type === 'BOOKMARK'));
    expect(Number(bookmark.object.metadata.resourceVersion)).toBeGreaterThan(0);
    await until('the end', ended);
  });

  it('answers 410 for a version that is gone', async () => {
    const list = await core.listNamespacedConfigMap({ namespace: 'default' });
    await call(cluster.url, 'POST', MAPS, { metadata: { name: 'after' } });
    await call(cluster.url, 'POST', '/simulation/faults', { kind: 'expire-watches' });
    const { seen, ended } = await watch(MAPS, { resourceVersion: list.metadata?.resourceVersion ?? '' });
    await until('the end', ended);
    expect(seen[0]).toMatchObject({ type: 'ERROR', object: { kind: 'Status', code: 410, reason: 'Expired' } });
  });

  it('feeds an informer of client-node, through cut watches and lost history', async () => {
    const namespace = 'gpu-dev';
    const informer = makeInformer(cluster.config, `/api/v1/namespaces/${namespace}/pods`, () =>
      core.listNamespacedPod({ namespace }),
    );
    const log: string[] = [];
    for (const verb of ['add', 'delete'] as const) informer.on(verb, (pod: V1Pod) => log.push(`${verb} ${pod.metadata?.name}`));
    informer.on('error', () => void informer.start());
    await informer.start();
    await core.createNamespacedPod({ namespace, body: gpuPod('i1', 'h100', 1) });
    await until('the first pod', () => log.includes('add i1'));
    await until(
      'it is ready',
      async () => (await core.readNamespacedPod({ namespace, name: 'i1' })).status?.containerStatuses?.[0]?.ready,
    );
    await call(cluster.url, 'POST', '/simulation/faults', { kind: 'cut-watches' });
    await core.createNamespacedPod({ namespace, body: podBody('i2') });
    await until('the second pod after a cut', () => log.includes('add i2'));
    await core.deleteNamespacedPod({ namespace, name: 'i1', gracePeriodSeconds: 0 });
    await call(cluster.url, 'POST', '/simulation/faults', { kind: 'expire-watches' });
    await core.createNamespacedPod({ namespace, body: podBody('i3') });
    await until('the third pod after 410', () => log.includes('add i3'));
    await until('the deletion', () => log.includes('delete i1'));
    await informer.stop();
    expect(log).toEqual(expect.arrayContaining(['add i1', 'add i2', 'delete i1', 'add i3']));
  });
});
