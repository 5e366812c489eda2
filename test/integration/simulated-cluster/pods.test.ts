import { CoreV1Api, type V1Pod } from '@kubernetes/client-node';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { call, gpuPod, podBody, QUICK, type Running, startCluster, until } from './support.ts';

const namespace = 'gpu-dev';

let cluster: Running;
let core: CoreV1Api;
beforeAll(async () => {
  cluster = await startCluster({ ...QUICK, evictionSpeed: 10_000 });
  core = cluster.config.makeApiClient(CoreV1Api);
});
afterAll(() => cluster.close());

const read = (name: string): Promise<V1Pod | undefined> => core.readNamespacedPod({ namespace, name }).catch(() => undefined);
const gone = (name: string) => until(`${name} is gone`, async () => (await read(name)) === undefined);
const condition = (pod: V1Pod | undefined, type: string) => pod?.status?.conditions?.find((each) => each.type === type);

async function ready(body: object): Promise<V1Pod> {
  const { metadata } = await core.createNamespacedPod({ namespace, body });
  return until(`${metadata?.name} is ready`, async () => {
    const pod = await read(metadata?.name ?? '');
    return condition(pod, 'Ready')?.status === 'True' && pod;
  });
}

const befall = (name: string, what: string, body: object = {}) =>
  call(cluster.url, 'POST', `/simulation/pods/${namespace}/${name}/${what}`, body);
const node = (name: string, what: string) => call(cluster.url, 'POST', `/simulation/nodes/${name}/${what}`);
const reasons = async (name: string): Promise<string[]> => {
  const { items } = await core.listNamespacedEvent({ namespace, fieldSelector: `involvedObject.name=${name}` });
  return items
    .sort((a, b) => Number(a.metadata.resourceVersion) - Number(b.metadata.resourceVersion))
    .map((event) => event.reason ?? '');
};

describe('pods', () => {
  it('are scheduled, pulled, created, started and made ready, with the events of each step', async () => {
    const pod = await ready(gpuPod('life', 'a100', 8, { labels: { app: 'x' } }));
    expect(pod.spec?.nodeName).toBe('a100-1');
    expect(pod.status).toMatchObject({
      phase: 'Running',
      podIP: expect.any(String),
      hostIP: expect.any(String),
      containerStatuses: [{ ready: true, restartCount: 0 }],
    });
    expect(await reasons('life')).toEqual(['Scheduled', 'Pulling', 'Pulled', 'Created', 'Started']);
  });

  it('run their init containers first, one after the other', async () => {
    const pod = await ready(
      podBody('inits', {
        initContainers: [
          { name: 'one', image: 'i:1' },
          { name: 'two', image: 'i:1' },
        ],
      }),
    );
    expect(pod.status?.initContainerStatuses?.map((each) => each.state?.terminated?.reason)).toEqual(['Completed', 'Completed']);
  });

  it('stay Terminating for their grace and are gone after it; grace 0 removes them at once', async () => {
    await ready(podBody('slow-end'));
    const deleted = (await core.deleteNamespacedPod({ namespace, name: 'slow-end', gracePeriodSeconds: 30 })) as unknown as V1Pod;
    expect(deleted.metadata?.deletionTimestamp).toBeDefined();
    expect(deleted.metadata?.deletionGracePeriodSeconds).toBe(30);
    await gone('slow-end');
    expect(await reasons('slow-end')).toContain('Killing');
    await ready(podBody('fast-end'));
    await core.deleteNamespacedPod({ namespace, name: 'fast-end', gracePeriodSeconds: 0 });
    expect(await read('fast-end')).toBeUndefined();
  });

  it('with a finalizer wait for it to be taken off', async () => {
    await ready(podBody('held', {}, { finalizers: ['gpu-dev.example/keep'] }));
    await core.deleteNamespacedPod({ namespace, name: 'held' });
    await until(
      'the containers are stopped',
      async () => (await read('held'))?.status?.containerStatuses?.[0]?.state?.terminated !== undefined,
    );
    expect((await read('held'))?.metadata?.deletionTimestamp).toBeDefined();
    await call(
      cluster.url,
      'PATCH',
      `/api/v1/namespaces/${namespace}/pods/held`,
      { metadata: { finalizers: null } },
      'application/merge-patch+json',
    );
    await gone('held');
  });

  it('are restarted after an OOM when their policy says so, with the reason in lastState', async () => {
    await ready(podBody('oom', { restartPolicy: 'OnFailure' }));
    expect((await befall('oom', 'oom')).status).toBe(200);
    const pod = await until('the restart', async () => {
      const each = await read('oom');
      return each?.status?.containerStatuses?.[0]?.restartCount === 1 && condition(each, 'Ready')?.status === 'True' && each;
    });
    expect(pod.status?.containerStatuses?.[0]?.lastState?.terminated).toMatchObject({ reason: 'OOMKilled', exitCode: 137 });
  });

  it('fail for good with restartPolicy Never', async () => {
    await ready(podBody('once', { restartPolicy: 'Never' }));
    await befall('once', 'kill', { exitCode: 3 });
    const pod = await until('it failed', async () => {
      const each = await read('once');
      return each?.status?.phase === 'Failed' && each;
    });
    expect(pod.status?.containerStatuses?.[0]?.state?.terminated).toMatchObject({ reason: 'Error', exitCode: 3 });
  });

  it('fall into CrashLoopBackOff when they crash again and again', async () => {
    await core.createNamespacedPod({
      namespace,
      body: podBody('crash', {}, { annotations: { 'simulation.gpu-dev/crash-after-ms': '1' } }),
    });
    await until(
      'the back-off',
      async () => (await read('crash'))?.status?.containerStatuses?.[0]?.state?.waiting?.reason === 'CrashLoopBackOff',
    );
  });

  it('never become ready, or never get their image, when told so', async () => {
    await core.createNamespacedPod({
      namespace,
      body: podBody('unready', {}, { annotations: { 'simulation.gpu-dev/never-ready': 'true' } }),
    });
    await core.createNamespacedPod({
      namespace,
      body: podBody('no-image', {}, { annotations: { 'simulation.gpu-dev/pull-error': 'not found' } }),
    });
    await until(
      'the image is refused',
      async () => (await read('no-image'))?.status?.containerStatuses?.[0]?.state?.waiting?.reason === 'ImagePullBackOff',
    );
    const pod = await until('it runs', async () => {
      const each = await read('unready');
      return each?.status?.phase === 'Running' && each;
    });
    expect(condition(pod, 'Ready')?.status).toBe('False');
  });

  it('evicted by their node are Failed with a DisruptionTarget condition', async () => {
    await ready(gpuPod('evicted', 'l4', 1));
    await befall('evicted', 'evict');
    const pod = await until('it failed', async () => {
      const each = await read('evicted');
      return each?.status?.phase === 'Failed' && each;
    });
    expect(pod.status?.reason).toBe('Evicted');
    expect(condition(pod, 'DisruptionTarget')).toMatchObject({ status: 'True', reason: 'TerminationByKubelet' });
  });

  it('become unready and ready again on call', async () => {
    await ready(podBody('flaky'));
    await befall('flaky', 'unready');
    await until('it is unready', async () => condition(await read('flaky'), 'Ready')?.status === 'False');
    await befall('flaky', 'ready');
    await until('it is ready', async () => condition(await read('flaky'), 'Ready')?.status === 'True');
  });

  it('of a lost node stay until the node is back', async () => {
    await ready(gpuPod('away', 'h200', 1));
    await node('h200-1', 'lose');
    const pod = await until('it is marked for deletion', async () => {
      const each = await read('away');
      return each?.metadata?.deletionTimestamp !== undefined && each;
    });
    expect(condition(pod, 'DisruptionTarget')?.reason).toBe('DeletionByTaintManager');
    const lost = await core.readNode({ name: 'h200-1' });
    expect(lost.status?.conditions?.find((each) => each.type === 'Ready')?.status).toBe('Unknown');
    expect(lost.spec?.taints?.map((taint) => taint.key)).toContain('node.kubernetes.io/unreachable');
    expect(await read('away')).toBeDefined();
    await node('h200-1', 'recover');
    await gone('away');
    await ready(gpuPod('back', 'h200', 1));
  });

  it('of a node whose object is deleted are removed', async () => {
    await ready(gpuPod('orphan', 'b300', 1));
    await node('b300-1', 'lose');
    await core.deleteNode({ name: 'b300-1' });
    await gone('orphan');
  });

  it('leave a drained node with their grace', async () => {
    await ready(gpuPod('drained', 'a10g', 1));
    await node('a10g-1', 'drain');
    await gone('drained');
    expect((await core.readNode({ name: 'a10g-1' })).spec?.unschedulable).toBe(true);
    await node('a10g-1', 'uncordon');
    await ready(gpuPod('drained', 'a10g', 1));
  });

  it('are not evicted against their disruption budget', async () => {
    await ready(podBody('guarded', {}, { labels: { budget: 'yes' } }));
    await call(cluster.url, 'POST', `/apis/policy/v1/namespaces/${namespace}/poddisruptionbudgets`, {
      metadata: { name: 'budget' },
      spec: { minAvailable: 1, selector: { matchLabels: { budget: 'yes' } } },
    });
    const refused = await call(cluster.url, 'POST', `/api/v1/namespaces/${namespace}/pods/guarded/eviction`, {
      apiVersion: 'policy/v1',
      kind: 'Eviction',
      metadata: { name: 'guarded' },
    });
    expect(refused.body).toMatchObject({ code: 429, reason: 'TooManyRequests' });
  });
});

describe('owners', () => {
  it('take what they own with them, unless it is to be orphaned', async () => {
    const maps = `/api/v1/namespaces/${namespace}/configmaps`;
    const owner = async (name: string) => (await call(cluster.url, 'POST', maps, { metadata: { name } })).body;
    const owned = (name: string, { metadata }: { metadata: { name: string; uid: string } }) =>
      call(cluster.url, 'POST', maps, {
        metadata: { name, ownerReferences: [{ apiVersion: 'v1', kind: 'ConfigMap', name: metadata.name, uid: metadata.uid }] },
      });
    const status = async (name: string) => (await call(cluster.url, 'GET', `${maps}/${name}`)).status;
    await owned('child', await owner('parent'));
    await owned('kept', await owner('lenient'));
    await call(cluster.url, 'DELETE', `${maps}/parent`);
    await call(cluster.url, 'DELETE', `${maps}/lenient?propagationPolicy=Orphan`);
    await until('the child is collected', async () => (await status('child')) === 404);
    expect((await call(cluster.url, 'GET', `${maps}/kept`)).body.metadata.ownerReferences).toBeUndefined();
    await owned('stray', { metadata: { name: 'never', uid: '11111111-1111-4111-8111-111111111111' } });
    await until('an object of an owner that never was', async () => (await status('stray')) === 404);
  });

  it('that are namespaces take everything in them', async () => {
    await call(cluster.url, 'POST', '/api/v1/namespaces', { metadata: { name: 'short' } });
    await call(cluster.url, 'POST', '/api/v1/namespaces/short/pods', podBody('p'));
    await call(cluster.url, 'DELETE', '/api/v1/namespaces/short');
    await until('it is gone', async () => (await call(cluster.url, 'GET', '/api/v1/namespaces/short')).status === 404);
    expect((await call(cluster.url, 'GET', '/api/v1/namespaces/short/pods')).body.items).toEqual([]);
  });
});
