import { BatchV1Api, CoreV1Api, CustomObjectsApi } from '@kubernetes/client-node';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { call, gpuPod, QUICK, type Running, startCluster, until } from './support.ts';

const namespace = 'gpu-dev';
const GROUP = { group: 'snapshot.storage.k8s.io', version: 'v1', namespace, plural: 'volumesnapshots' };

let cluster: Running;
let core: CoreV1Api;
let batch: BatchV1Api;
let custom: CustomObjectsApi;
beforeAll(async () => {
  cluster = await startCluster(QUICK);
  core = cluster.config.makeApiClient(CoreV1Api);
  batch = cluster.config.makeApiClient(BatchV1Api);
  custom = cluster.config.makeApiClient(CustomObjectsApi);
});
afterAll(() => cluster.close());

const claim = (name: string, more: object = {}) => ({
  metadata: { name },
  spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '200Gi' } }, ...more },
});
const withDisk = (name: string, claimName: string, type = 'h100'): object => {
  const body = gpuPod(name, type, 1) as { spec: { volumes: object[]; containers: { volumeMounts: object[] }[] } };
  body.spec.volumes = [{ name: 'home', persistentVolumeClaim: { claimName } }];
  for (const container of body.spec.containers) container.volumeMounts = [{ name: 'home', mountPath: '/home/dev' }];
  return body;
};
const bound = (name: string) =>
  until(`claim ${name} is bound`, async () => {
    const each = await core.readNamespacedPersistentVolumeClaim({ namespace, name });
    return each.status?.phase === 'Bound' && each;
  });
const running = (name: string) =>
  until(`pod ${name} runs`, async () => (await core.readNamespacedPod({ namespace, name })).status?.phase === 'Running');
const status = async (path: string) => (await call(cluster.url, 'GET', path)).status;
// biome-ignore lint/suspicious/noExplicitAny: custom objects have no types.
const snapshot = (name: string): Promise<any> => custom.getNamespacedCustomObject({ ...GROUP, name });

describe('disks', () => {
  it('are bound soon after they are claimed', async () => {
    await core.createNamespacedPersistentVolumeClaim({ namespace, body: claim('soon') });
    const made = await bound('soon');
    expect(made.spec?.storageClassName).toBe('standard');
    const volume = await core.readPersistentVolume({ name: made.spec?.volumeName ?? '' });
    expect(volume).toMatchObject({
      spec: { capacity: { storage: '200Gi' }, claimRef: { name: 'soon' } },
      status: { phase: 'Bound' },
    });
  });

  it('of a class that waits are bound with their first pod', async () => {
    await core.createNamespacedPersistentVolumeClaim({ namespace, body: claim('later', { storageClassName: 'gp3' }) });
    await core.createNamespacedPod({ namespace, body: withDisk('consumer', 'later') });
    await running('consumer');
    await bound('later');
  });

  it('hold a pod back until they exist, and stay as long as a pod uses them', async () => {
    await core.createNamespacedPod({ namespace, body: withDisk('early', 'wanted') });
    await until('the scheduler says why', async () => {
      const pod = await core.readNamespacedPod({ namespace, name: 'early' });
      return pod.status?.conditions?.[0]?.message === 'persistentvolumeclaim "wanted" not found';
    });
    await core.createNamespacedPersistentVolumeClaim({ namespace, body: claim('wanted') });
    await running('early');
    await core.deleteNamespacedPersistentVolumeClaim({ namespace, name: 'wanted' });
    expect(
      (await core.readNamespacedPersistentVolumeClaim({ namespace, name: 'wanted' })).metadata?.deletionTimestamp,
    ).toBeDefined();
    const volume = (await core.readNamespacedPersistentVolumeClaim({ namespace, name: 'wanted' })).spec?.volumeName ?? '';
    await core.deleteNamespacedPod({ namespace, name: 'early' });
    await until(
      'the claim is gone',
      async () => (await status(`/api/v1/namespaces/${namespace}/persistentvolumeclaims/wanted`)) === 404,
    );
    await until('its volume is gone', async () => (await status(`/api/v1/persistentvolumes/${volume}`)) === 404);
  });

  it('attached to one node cannot be attached to another', async () => {
    await core.createNamespacedPersistentVolumeClaim({ namespace, body: claim('shared') });
    await core.createNamespacedPod({ namespace, body: withDisk('holder', 'shared', 'a100') });
    await running('holder');
    await core.createNamespacedPod({ namespace, body: withDisk('rival', 'shared', 'b200') });
    await until('the refusal', async () => {
      const { items } = await core.listNamespacedEvent({
        namespace,
        fieldSelector: 'involvedObject.name=rival,reason=FailedAttachVolume',
      });
      return items[0]?.message?.startsWith('Multi-Attach error');
    });
    await core.deleteNamespacedPod({ namespace, name: 'holder' });
    await running('rival');
  });

  it('grow when asked to, and never shrink', async () => {
    await core.createNamespacedPersistentVolumeClaim({ namespace, body: claim('growing') });
    await bound('growing');
    const path = `/api/v1/namespaces/${namespace}/persistentvolumeclaims/growing`;
    const resize = (storage: string) =>
      call(cluster.url, 'PATCH', path, { spec: { resources: { requests: { storage } } } }, 'application/merge-patch+json');
    expect((await resize('300Gi')).status).toBe(200);
    await until('it grew', async () => (await call(cluster.url, 'GET', path)).body.status.capacity.storage === '300Gi');
    expect((await resize('100Gi')).status).toBe(422);
  });
});

describe('disk snapshots', () => {
  it('become ready after their time, and a new disk made from one has its files', async () => {
    await core.createNamespacedPersistentVolumeClaim({ namespace, body: claim('source') });
    await bound('source');
    await custom.createNamespacedCustomObject({
      ...GROUP,
      body: {
        apiVersion: 'snapshot.storage.k8s.io/v1',
        kind: 'VolumeSnapshot',
        metadata: { name: 'snap' },
        spec: { source: { persistentVolumeClaimName: 'source' } },
      },
    });
    const made = await until('it is ready', async () => {
      const each = await snapshot('snap');
      return each.status?.readyToUse === true && each;
    });
    expect(made.status).toMatchObject({
      restoreSize: '200Gi',
      creationTime: expect.any(String),
      boundVolumeSnapshotContentName: expect.stringMatching(/^snapcontent-/),
    });
    await core.createNamespacedPersistentVolumeClaim({
      namespace,
      body: claim('restored', { dataSource: { apiGroup: 'snapshot.storage.k8s.io', kind: 'VolumeSnapshot', name: 'snap' } }),
    });
    await bound('restored');
    const content = `/apis/snapshot.storage.k8s.io/v1/volumesnapshotcontents/${made.status.boundVolumeSnapshotContentName}`;
    expect(await status(content)).toBe(200);
    await custom.deleteNamespacedCustomObject({ ...GROUP, name: 'snap' });
    await until('its content is gone', async () => (await status(content)) === 404);
  });

  it('of a claim that is not there say so, and go on when it comes', async () => {
    await call(cluster.url, 'POST', `/apis/${GROUP.group}/v1/namespaces/${namespace}/volumesnapshots`, {
      metadata: { name: 'hopeful' },
      spec: { source: { persistentVolumeClaimName: 'coming' } },
    });
    await until('the error', async () => (await snapshot('hopeful')).status?.error?.message.includes('"coming" not found'));
    await core.createNamespacedPersistentVolumeClaim({ namespace, body: claim('coming') });
    const made = await until('it is ready', async () => {
      const each = await snapshot('hopeful');
      return each.status?.readyToUse === true && each;
    });
    expect(made.status.error).toBeUndefined();
  });

  it('take merge patches but no strategic ones, as custom resources do', async () => {
    const path = `/apis/${GROUP.group}/v1/namespaces/${namespace}/volumesnapshots`;
    await call(cluster.url, 'POST', path, {
      metadata: { name: 'patched' },
      spec: { source: { persistentVolumeClaimName: 'source' } },
    });
    const patch = { metadata: { labels: { a: 'b' } } };
    expect((await call(cluster.url, 'PATCH', `${path}/patched`, patch, 'application/strategic-merge-patch+json')).status).toBe(
      415,
    );
    expect(
      (await call(cluster.url, 'PATCH', `${path}/patched`, patch, 'application/merge-patch+json')).body.metadata.labels,
    ).toEqual({ a: 'b' });
  });
});

describe('jobs', () => {
  const job = (name: string, spec: object = {}, annotations: Record<string, string> = {}) => ({
    metadata: { name, annotations },
    spec: { template: { spec: { restartPolicy: 'Never', containers: [{ name: 'main', image: 'build:1' }] } }, ...spec },
  });
  const ended = (name: string) =>
    until(`job ${name} ends`, async () => {
      const each = await batch.readNamespacedJob({ namespace, name });
      return each.status?.conditions?.find((one) => (one.type === 'Complete' || one.type === 'Failed') && one.status === 'True');
    });

  it('make a pod that runs to completion, and are collected with it', async () => {
    await batch.createNamespacedJob({ namespace, body: job('fine') });
    expect((await ended('fine')).type).toBe('Complete');
    const { items } = await core.listNamespacedPod({ namespace, labelSelector: 'job-name=fine' });
    expect(items.map((pod) => pod.status?.phase)).toEqual(['Succeeded']);
    await batch.deleteNamespacedJob({ namespace, name: 'fine', propagationPolicy: 'Background' });
    await until(
      'its pod is gone',
      async () => (await core.listNamespacedPod({ namespace, labelSelector: 'job-name=fine' })).items.length === 0,
    );
  });

  it('fail when told so, after as many retries as they allow', async () => {
    await batch.createNamespacedJob({
      namespace,
      body: job(
        'bad',
        { backoffLimit: 1 },
        { 'simulation.gpu-dev/job-outcome': 'fail', 'simulation.gpu-dev/log': 'compile error' },
      ),
    });
    expect(await ended('bad')).toMatchObject({ type: 'Failed', reason: 'BackoffLimitExceeded' });
    const { items } = await core.listNamespacedPod({ namespace, labelSelector: 'job-name=bad' });
    expect(items).toHaveLength(2);
    const log = await core.readNamespacedPodLog({ namespace, name: items[0]?.metadata?.name ?? '' });
    expect(log).toContain('compile error');
  });

  it('end by their deadline when they hang, and are removed after their time to live', async () => {
    await batch.createNamespacedJob({
      namespace,
      body: job('stuck', { activeDeadlineSeconds: 1, ttlSecondsAfterFinished: 0 }, { 'simulation.gpu-dev/job-outcome': 'hang' }),
    });
    await until('it is removed', async () => (await status(`/apis/batch/v1/namespaces/${namespace}/jobs/stuck`)) === 404);
    const { items } = await core.listNamespacedEvent({ namespace, fieldSelector: 'involvedObject.name=stuck' });
    expect(items.map((event) => event.reason)).toContain('DeadlineExceeded');
  });
});
