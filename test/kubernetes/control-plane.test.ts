import { describe, expect, it } from 'vitest';
import { runInside } from '../../src/providers/kubernetes/exec.ts';
import { realCluster } from '../support/kubernetes/real-cluster.ts';
import { until } from '../integration/providers/support/wait.ts';

const cluster = await realCluster();

describe.skipIf(cluster.missing || !cluster.standIns)('the cluster that tests are given', () => {
  const pod = (name: string, more: object = {}, container: object = {}) => ({
    metadata: { name },
    spec: { containers: [{ name: 'gpu-dev', image: 'tool:1', ...container }], automountServiceAccountToken: false, ...more },
  });
  const read = (kind: string, name: string) => cluster.api.call('GET', `${cluster.path(kind)}/${name}`);
  const phase = async (name: string) => (await read('pods', name)).body.status?.phase;
  const running = (name: string) => until(`${name} runs`, async () => (await phase(name)) === 'Running');

  it('schedules a pod for GPUs, runs it, answers exec and logs inside it, and lets it go with its grace', async () => {
    const gpus = { resources: { limits: { 'nvidia.com/gpu': '4' } } };
    const tolerations = [{ key: 'nvidia.com/gpu', operator: 'Exists' }];
    await cluster.api.ask('POST', cluster.path('pods'), pod('trainer', { nodeSelector: { GpuType: 'h100' }, tolerations }, gpus));
    await running('trainer');
    expect((await read('pods', 'trainer')).body.spec.nodeName).toMatch(/^h100-/);
    expect(await runInside(cluster.client, 'trainer', ['sh', '-c', 'echo hello; exit 3'])).toMatchObject({
      stdout: 'hello\n',
      exitCode: 3,
    });
    const { namespace, client } = cluster;
    const log = await client.core.readNamespacedPodLog({ namespace, name: 'trainer', container: 'gpu-dev' });
    expect(log).toContain('simulated container gpu-dev started');
    const deleted = await cluster.api.ask('DELETE', `${cluster.path('pods')}/trainer`);
    expect(deleted.metadata.deletionGracePeriodSeconds).toBe(30);
    await until('it is gone', async () => (await read('pods', 'trainer')).status === 404);
  });

  it('leaves a pod pending that fits nowhere, and says why', async () => {
    const gpus = { resources: { limits: { 'nvidia.com/gpu': '9' } } };
    await cluster.api.ask('POST', cluster.path('pods'), pod('too-large', {}, gpus));
    const message = await until('the scheduler said why', async () => {
      const { body } = await read('pods', 'too-large');
      return body.status?.conditions?.find(({ type }: { type: string }) => type === 'PodScheduled')?.message;
    });
    expect(message).toMatch(/Insufficient nvidia.com\/gpu/);
    await cluster.api.ask('DELETE', `${cluster.path('pods')}/too-large`);
  });

  it('gives a claim its volume, attaches it where its pod runs, protects it while in use, grows it and takes a snapshot', async () => {
    const claim = (name: string, storage: string) => ({
      metadata: { name },
      spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage } } },
    });
    await cluster.api.ask('POST', cluster.path('persistentvolumeclaims'), claim('data', '1Gi'));
    const bound = await until('it is bound', async () => {
      const { body } = await read('persistentvolumeclaims', 'data');
      return body.status.phase === 'Bound' ? body : null;
    });
    const volumes = [{ name: 'data', persistentVolumeClaim: { claimName: 'data' } }];
    const mounts = { volumeMounts: [{ name: 'data', mountPath: '/data' }] };
    await cluster.api.ask('POST', cluster.path('pods'), pod('user', { volumes }, mounts));
    await running('user');
    const attachments = async () =>
      (await cluster.api.ask('GET', '/apis/storage.k8s.io/v1/volumeattachments')).items.filter(
        ({ spec }: { spec: { source: { persistentVolumeName: string } } }) =>
          spec.source.persistentVolumeName === bound.spec.volumeName,
      );
    expect(await attachments()).toHaveLength(1);

    const larger = { spec: { resources: { requests: { storage: '2Gi' } } } };
    await cluster.api.ask('PATCH', `${cluster.path('persistentvolumeclaims')}/data`, larger, 'application/merge-patch+json');
    await until(
      'it has grown',
      async () => (await read('persistentvolumeclaims', 'data')).body.status.capacity.storage === '2Gi',
    );
    const snapshots = cluster.path('apis/snapshot.storage.k8s.io/v1:volumesnapshots');
    await cluster.api.ask('POST', snapshots, {
      apiVersion: 'snapshot.storage.k8s.io/v1',
      kind: 'VolumeSnapshot',
      metadata: { name: 'copy' },
      spec: { source: { persistentVolumeClaimName: 'data' } },
    });
    await until(
      'the snapshot is ready',
      async () => (await cluster.api.ask('GET', `${snapshots}/copy`)).status?.restoreSize === '2Gi',
    );

    await cluster.api.ask('DELETE', `${cluster.path('persistentvolumeclaims')}/data`);
    expect((await read('persistentvolumeclaims', 'data')).body.metadata.deletionTimestamp).toBeDefined();
    await cluster.api.ask('DELETE', `${cluster.path('pods')}/user`);
    await until('the claim went after its user', async () => (await read('persistentvolumeclaims', 'data')).status === 404);
    await until('nothing is attached', async () => (await attachments()).length === 0);
  });

  it('runs a Job to its end, and deletes what an object owned when that goes', async () => {
    const template = { spec: { restartPolicy: 'Never', containers: [{ name: 'main', image: 'tool:1' }] } };
    const jobs = cluster.path('apis/batch/v1:jobs');
    await cluster.api.ask('POST', jobs, { metadata: { name: 'work' }, spec: { template, backoffLimit: 0 } });
    await until('it succeeded', async () => (await cluster.api.ask('GET', `${jobs}/work`)).status.succeeded === 1);
    await cluster.api.ask('DELETE', `${jobs}/work?propagationPolicy=Background`);
    await until('its pod is gone', async () =>
      (await cluster.list('pods')).every(({ metadata }) => metadata.labels?.['job-name'] !== 'work'),
    );
  });

  it('lets a service account do what its role allows, and nothing else', async () => {
    await cluster.api.ask('POST', cluster.path('serviceaccounts'), { metadata: { name: 'reader' } });
    const rbac = 'apis/rbac.authorization.k8s.io/v1';
    await cluster.api.ask('POST', cluster.path(`${rbac}:roles`), {
      metadata: { name: 'reader' },
      rules: [{ apiGroups: [''], resources: ['pods'], verbs: ['list'] }],
    });
    await cluster.api.ask('POST', cluster.path(`${rbac}:rolebindings`), {
      metadata: { name: 'reader' },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name: 'reader' },
      subjects: [{ kind: 'ServiceAccount', name: 'reader', namespace: cluster.namespace }],
    });
    const reader = cluster.as(await cluster.tokenFor('reader'));
    expect((await reader.call('GET', cluster.path('pods'))).status).toBe(200);
    expect((await reader.call('GET', cluster.path('secrets'))).body).toMatchObject({ code: 403, reason: 'Forbidden' });
    reader.close();
  });
});
