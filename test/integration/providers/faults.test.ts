import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { TerminalError } from '../../../actors/errors.ts';
import { KubernetesDevServers } from '../../../src/providers/kubernetes/dev-servers.ts';
import { KubernetesError } from '../../../src/providers/kubernetes/errors.ts';
import { podName } from '../../../src/providers/kubernetes/objects.ts';
import { LocalVolumes } from '../../../src/providers/local/volumes.ts';
import { startCluster, type TestCluster } from './support/cluster.ts';
import { serverSpec } from './support/specs.ts';
import { until } from './support/wait.ts';

const namespace = 'gpu-dev';
let cluster: TestCluster;
let servers: KubernetesDevServers;

beforeAll(async () => {
  cluster = await startCluster();
  servers = new KubernetesDevServers({ client: cluster.client });
});
afterEach(() => cluster.simulate('/simulation/faults', undefined, 'DELETE'));
afterAll(() => cluster?.stop());

const fault = (body: Record<string, unknown>) => cluster.simulate('/simulation/faults', body);
const failure = (promise: Promise<unknown>) =>
  promise.then(
    () => null,
    (error: unknown) => error as KubernetesError,
  );

describe('an answer that was lost on the way', () => {
  test.each(['pods', 'services', 'secrets'])(
    'to the creation of %s leaves nothing double when we try again',
    async (resource) => {
      const spec = serverSpec();
      await fault({ kind: 'drop', when: 'after', verb: 'POST', path: `/${resource}$`, count: 1 });
      expect(await failure(servers.create(spec))).toMatchObject({ name: 'KubernetesError', status: null });
      const made = await servers.create(spec);
      const labelSelector = `gpu-dev.io/reservation=${spec.reservationId}`;
      const { core } = cluster.client;
      const [pods, services, secrets] = await Promise.all([
        core.listNamespacedPod({ namespace, labelSelector }),
        core.listNamespacedService({ namespace, labelSelector }),
        core.listNamespacedSecret({ namespace, labelSelector }),
      ]);
      expect([pods.items.length, services.items.length, secrets.items.length]).toEqual([1, 1, 1]);
      expect(made.connection.port).toBe(services.items[0]?.spec?.ports?.[0]?.nodePort);
      await until('gone', async () => (await servers.remove(spec, { force: true })) === 'gone');
    },
  );

  test('to a deletion is not taken for the proof of an end', async () => {
    const spec = serverSpec();
    await servers.create(spec);
    await fault({ kind: 'drop', when: 'after', verb: 'DELETE', path: '/pods/', count: 1 });
    expect(await failure(servers.remove(spec, { force: false }))).toMatchObject({ status: null });
    await until('gone', async () => (await servers.remove(spec, { force: false })) === 'gone');
  });
});

describe('a refusal keeps its meaning', () => {
  test.each([
    [500, 'InternalError', 'etcd is away'],
    [503, 'ServiceUnavailable', 'shutting down'],
    [429, 'TooManyRequests', 'slow down'],
    [401, 'Unauthorized', 'token expired'],
    [403, 'Forbidden', 'pods "x" is forbidden: exceeded quota: team, requested: pods=1'],
    [403, 'Forbidden', 'pods is forbidden: User "gpu-dev" cannot create resource "pods" in API group ""'],
    [404, 'NotFound', 'namespaces "gpu-dev" not found'],
  ])('%i %s may pass: %s', async (status, reason, message) => {
    await fault({ kind: 'error', status, reason, message, verb: 'POST', path: '/pods$', count: 1 });
    const error = await failure(servers.create(serverSpec()));
    expect(error).toBeInstanceOf(KubernetesError);
    expect(error).toMatchObject({ status, reason });
  });

  test.each([
    [403, 'Forbidden', 'pods "x" is forbidden: violates PodSecurity "restricted:latest"'],
    [422, 'Invalid', 'Pod "x" is invalid: spec.containers[0].image: Required value'],
    [400, 'BadRequest', 'admission webhook "images.example" denied the request: unsigned image'],
  ])('%i %s never passes: %s', async (status, reason, message) => {
    await fault({ kind: 'error', status, reason, message, verb: 'POST', path: '/pods$', count: 1 });
    const error = await failure(servers.create(serverSpec()));
    expect(error).toBeInstanceOf(TerminalError);
    expect(error?.message).toContain(message);
  });

  test('and a server that cannot be looked at is neither gone nor here', async () => {
    const spec = serverSpec();
    for (const status of [500, 403, 401]) {
      await fault({
        kind: 'error',
        status,
        message: 'cannot get resource "pods"',
        verb: 'GET',
        path: `/pods/${podName(spec)}`,
        count: 1,
      });
      expect(await failure(servers.remove(spec, { force: true }))).toMatchObject({ status });
    }
    expect(await servers.remove(spec, { force: true })).toBe('gone');
  });

  test('and so it is with volumes: an error is not a missing claim, nor a detached one', async () => {
    const volumes = new LocalVolumes({ client: cluster.client });
    const disk = {
      diskId: serverSpec().reservationId,
      owner: 'ada',
      sizeGb: 1,
      snapshotId: null,
      expectVolume: false,
      node: 'h100-1',
      zone: null,
    };
    await volumes.ensure(disk);
    for (const path of ['/persistentvolumeclaims/', '/pods']) {
      await fault({ kind: 'error', status: 500, verb: 'GET', path, count: 1 });
      expect(await failure(volumes.detach(disk.diskId))).toMatchObject({ status: 500 });
    }
    expect(await volumes.detach(disk.diskId)).toBe('detached');
  });
});
