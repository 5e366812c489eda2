import { v7 } from 'uuid';
import { beforeAll, describe, expect, it } from 'vitest';
import { PROFILING_LABEL, type ServerSpec } from '../../actors/reservation/ports.ts';
import { Secret } from '../../actors/secret.ts';
import { KubernetesDevServers } from '../../src/providers/kubernetes/dev-servers.ts';
import { runInside } from '../../src/providers/kubernetes/exec.ts';
import { accessSecretName, podName, scriptsName } from '../../src/providers/kubernetes/objects.ts';
import { POD_DEFAULTS, podOf } from '../../src/providers/kubernetes/pod-spec.ts';
import { KEY, serverSpec } from '../integration/providers/support/specs.ts';
import { until } from '../integration/providers/support/wait.ts';
import type { Loose } from '../support/kubernetes/api.ts';
import { realCluster } from '../support/kubernetes/real-cluster.ts';

const cluster = await realCluster();

/** Every kind of which a dev server has some, and the pod itself. */
const KINDS = ['pods', 'services', 'secrets', 'configmaps', 'apis/networking.k8s.io/v1:networkpolicies'];

describe.skipIf(cluster.missing)('a dev server on a real API server', () => {
  let servers: KubernetesDevServers;
  beforeAll(() => {
    servers = new KubernetesDevServers({ client: cluster.client });
  });
  /** All that bears the reservation's id. */
  async function objectsOf({ reservationId }: ServerSpec): Promise<Loose[]> {
    const lists = await Promise.all(KINDS.map((kind) => cluster.list(kind)));
    return lists.flat().filter(({ metadata }) => metadata.labels?.['gpu-dev.io/reservation'] === reservationId);
  }
  const removed = (spec: ServerSpec) =>
    until('gone', async () => (await servers.remove(spec, { force: true })) === 'gone', 30_000);
  const running = async (spec: ServerSpec) => {
    const made = await servers.create(spec);
    await until('the pod is ready', async () => {
      const pod = await cluster.client.core.readNamespacedPod({ namespace: cluster.namespace, name: made.name });
      return pod.status?.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True');
    });
    return made;
  };

  it('N6: all that is made for it belongs to its pod: whoever deletes that one object deletes all', async () => {
    const spec = serverSpec({ environment: new Secret({ A: '1' }), gang: { id: v7(), index: 0, size: 2 } });
    const { uid } = await running(spec);
    await servers.startJupyter(spec, spec.jupyterToken);
    const objects = await objectsOf(spec);
    const around = objects.filter(({ kind, metadata }) => kind !== 'Pod' && metadata.uid !== uid);
    // Services for ssh, Jupyter and the gang; both Secrets; the scripts; both policies.
    expect(around).toHaveLength(8);
    for (const { metadata } of around) {
      expect(metadata.ownerReferences).toMatchObject([{ kind: 'Pod', name: podName(spec), uid }]);
      expect(metadata.labels).toMatchObject({ 'app.kubernetes.io/managed-by': 'gpu-dev', 'gpu-dev.io/generation': '1' });
    }
    await cluster.api.ask('DELETE', `${cluster.path('pods')}/${podName(spec)}?gracePeriodSeconds=0`);
    await until('nothing is left', async () => (await objectsOf(spec)).length === 0, 30_000);
  });

  it('R16: twenty at once have twenty ports, each picked by the API server', async () => {
    const specs = Array.from({ length: 20 }, () => serverSpec());
    const made = await Promise.all(specs.map((spec) => servers.create(spec)));
    const ports = made.map(({ connection }) => connection.port);
    expect(new Set(ports).size).toBe(20);
    expect(Math.min(...ports)).toBeGreaterThanOrEqual(30_000);
    await Promise.all(specs.map(removed));
  });

  it('R16: a port that could not be had is asked for again, and the server keeps what it has', async () => {
    const { proxy, client } = await cluster.faulty();
    const far = new KubernetesDevServers({ client });
    const spec = serverSpec();
    const message = 'failed to allocate a nodePort: range is full';
    proxy.fault({ verb: 'POST', path: /\/services$/, times: 1 }, { status: 422, message });
    await expect(far.create(spec)).rejects.toThrow(/Every node port .* is taken/);
    const { uid, connection } = await far.create(spec);
    expect(connection.port).toBeGreaterThanOrEqual(30_000);
    expect((await objectsOf(spec)).filter(({ metadata }) => metadata.uid === uid)).toHaveLength(1);
    await removed(spec);
  });

  it('T15: does not start as long as its walls do not stand', async () => {
    const { proxy, client } = await cluster.faulty();
    const far = new KubernetesDevServers({ client });
    const spec = serverSpec();
    proxy.fault({ verb: 'POST', path: /networkpolicies$/ }, { status: 403, message: 'networkpolicies is forbidden' });
    await expect(far.create(spec)).rejects.toThrow(/networkpolicies/);
    // The pod is there, and what it would mount is not.
    const read = cluster.api.call('GET', `${cluster.path('secrets')}/${accessSecretName(spec)}`);
    expect((await read).status).toBe(404);
    await proxy.mend();
    await far.create(spec);
    expect((await objectsOf(spec)).filter(({ metadata }) => metadata.name === podName(spec))).toHaveLength(2);
    await removed(spec);
  });

  it('N15: keys that were added and removed are in its Secret, and its node is made to look', async () => {
    const spec = serverSpec();
    const { name } = await running(spec);
    const marks = new Set<string>();
    for (const keys of [[KEY, KEY.replace('someone', 'bob')], [KEY]]) {
      await servers.setKeys(spec, keys);
      const pod = await cluster.api.ask('GET', `${cluster.path('pods')}/${name}`);
      marks.add(pod.metadata.annotations['gpu-dev.io/keys']);
    }
    expect(marks.size).toBe(2);
    expect([...marks]).not.toContain(undefined);
    await cluster.befall(`pods/${name}/oom`);
    await until('it came back', async () => {
      const pod = await cluster.client.core.readNamespacedPod({ namespace: cluster.namespace, name });
      const [main] = pod.status?.containerStatuses ?? [];
      return main?.restartCount === 1 && main.ready;
    });
    const { stdout } = await runInside(cluster.client, name, ['cat', '/etc/gpu-dev/access/authorized_keys']);
    expect(stdout).toBe(`${KEY}\n`);
    // Another try to create it, as after a crash, brings no removed key back.
    await servers.create({ ...spec, authorizedKeys: [KEY, KEY.replace('someone', 'bob')] });
    const secret = await cluster.api.ask('GET', `${cluster.path('secrets')}/${accessSecretName(spec)}`);
    expect(Buffer.from(secret.data.authorized_keys, 'base64').toString()).toBe(`${KEY}\n`);
    await removed(spec);
  });

  it('B1: its scripts cannot be changed while it runs', async () => {
    const spec = serverSpec();
    await servers.create(spec);
    const path = `${cluster.path('configmaps')}/${scriptsName(spec)}`;
    const change = { data: { 'start.sh': 'exit 0' } };
    const { status } = await cluster.api.call('PATCH', path, change, 'application/merge-patch+json');
    expect(status).toBe(422);
    await removed(spec);
  });

  it.for<[string, Partial<ServerSpec>]>([
    ['a plain one', {}],
    ['with its own entry point', { preserveEntrypoint: true, image: 'mine:1', command: 'serve' }],
    ['to profile', { nodeLabels: { [PROFILING_LABEL]: 'true' } }],
    ['to profile, with its own entry point', { nodeLabels: { [PROFILING_LABEL]: 'true' }, preserveEntrypoint: true }],
    ['of a whole node', { gpuCount: 8, resource: { name: 'nvidia.com/gpu', count: 8 }, efaCount: 32 }],
    ['of a slice', { gpuType: 'h100-mig-1g', resource: { name: 'nvidia.com/mig-1g.10gb', count: 1 } }],
    ['without GPUs', { gpuType: 'cpu-x86', gpuCount: 0, resource: null }],
    ['of a gang, with a disk', { gang: { id: v7(), index: 1, size: 6 }, claim: `disk-${v7()}` }],
    ['with a name that is hardly one', { name: '___', owner: '@@' }],
  ])('its pod is one that the API server takes: %s', async ([, change]) => {
    const settings = {
      ...POD_DEFAULTS,
      namespace: cluster.namespace,
      sharedVolume: { nfs: { server: 'files', path: '/export' } },
    };
    const body = podOf(serverSpec(change), settings);
    const made = await cluster.api.ask('POST', `${cluster.path('pods')}?dryRun=All`, body);
    const [main] = made.spec.containers;
    expect(main.securityContext).toMatchObject({ capabilities: { drop: ['ALL'] } });
    expect(made.spec.securityContext.seccompProfile).toEqual({ type: 'RuntimeDefault' });
  });
});
