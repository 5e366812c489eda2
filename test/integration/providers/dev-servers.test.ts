import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { TerminalError } from '../../../actors/errors.ts';
import { Secret } from '../../../actors/secret.ts';
import { KubernetesDevServers } from '../../../src/providers/kubernetes/dev-servers.ts';
import { runInside } from '../../../src/providers/kubernetes/exec.ts';
import { accessSecretName, environmentSecretName, podName, sshServiceName } from '../../../src/providers/kubernetes/objects.ts';
import { startCluster, type TestCluster } from './support/cluster.ts';
import { KEY, serverSpec } from './support/specs.ts';
import { until } from './support/wait.ts';

const namespace = 'gpu-dev';
let cluster: TestCluster;
let servers: KubernetesDevServers;

beforeAll(async () => {
  cluster = await startCluster();
  servers = new KubernetesDevServers({ client: cluster.client });
});
afterAll(() => cluster?.stop());

const core = () => cluster.client.core;
const pods = async () => (await core().listNamespacedPod({ namespace })).items;

async function running(spec: ReturnType<typeof serverSpec>) {
  const made = await servers.create(spec);
  await until('the pod is ready', async () => {
    const pod = await core().readNamespacedPod({ namespace, name: made.name });
    return pod.status?.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True');
  });
  return made;
}

async function gone(spec: ReturnType<typeof serverSpec>) {
  await until('the server is gone', async () => (await servers.remove(spec, { force: true })) === 'gone');
}

describe('creating a server', () => {
  test('gives a running pod on its node, with keys, variables and an ssh port', async () => {
    const spec = serverSpec({ environment: new Secret({ HF_HOME: '/workspace/hf', OMP_NUM_THREADS: '3' }) });
    const made = await running(spec);
    expect(made.name).toBe(`gpu-dev-${spec.reservationId}-1`);
    const { connection } = made;
    expect(connection).toMatchObject({ host: '192.0.2.7', podName: made.name, node: 'h100-1' });
    expect(connection.port).toBeGreaterThanOrEqual(30000);
    expect(connection.sshCommand).toBe(`ssh -p ${connection.port} dev@192.0.2.7`);
    const pod = await core().readNamespacedPod({ namespace, name: made.name });
    expect(pod.spec?.nodeName).toBe('h100-1');
    expect(pod.metadata?.uid).toBe(made.uid);
    const secret = await core().readNamespacedSecret({ namespace, name: accessSecretName(spec) });
    expect(Buffer.from(secret.data?.authorized_keys ?? '', 'base64').toString()).toBe(`${KEY}\n`);
    const own = await core().readNamespacedSecret({ namespace, name: environmentSecretName(spec) });
    expect(Object.keys(own.data ?? {}).sort()).toEqual(['HF_HOME', 'OMP_NUM_THREADS']);
    await gone(spec);
  });

  test('twice gives one pod, one service and the same connection', async () => {
    const spec = serverSpec();
    const first = await servers.create(spec);
    expect(await servers.create(spec)).toEqual(first);
    expect((await pods()).filter(({ metadata }) => metadata?.name === first.name)).toHaveLength(1);
    await gone(spec);
  });

  test('twice at the same moment gives one pod', async () => {
    const spec = serverSpec();
    const [left, right] = await Promise.all([servers.create(spec), servers.create(spec)]);
    expect(left).toEqual(right);
    await gone(spec);
  });

  test('adopts a pod whose creator died before it made the service', async () => {
    const spec = serverSpec();
    const { uid } = await servers.create(spec);
    const labelSelector = `gpu-dev.io/reservation=${spec.reservationId}`;
    await core().deleteNamespacedService({ namespace, name: sshServiceName(spec) });
    await core().deleteNamespacedSecret({ namespace, name: accessSecretName(spec) });
    const again = await servers.create(spec);
    expect(again.uid).toBe(uid);
    const services = await core().listNamespacedService({ namespace, labelSelector });
    expect(services.items.map(({ metadata }) => metadata?.ownerReferences?.[0]?.uid)).toEqual([uid]);
    await gone(spec);
  });

  test('asks the cluster for the address of the node when nobody knows it', async () => {
    const spec = serverSpec({ nodeAddress: null });
    const { connection } = await servers.create(spec);
    expect(connection.host).toMatch(/^10\.0\./);
    await gone(spec);
  });

  test('neither adopts nor deletes a foreign pod of the same name', async () => {
    const spec = serverSpec();
    const foreign = { metadata: { name: podName(spec) }, spec: { containers: [{ name: 'main', image: 'busybox' }] } };
    const { metadata } = await core().createNamespacedPod({ namespace, body: foreign });
    await expect(servers.create(spec)).rejects.toThrow(TerminalError);
    await expect(servers.remove(spec, { force: true })).rejects.toThrow(/does not bear our labels/);
    const still = await core().readNamespacedPod({ namespace, name: podName(spec) });
    expect(still.metadata?.uid).toBe(metadata?.uid);
    expect(still.metadata?.deletionTimestamp).toBeUndefined();
    await core().deleteNamespacedPod({ namespace, name: podName(spec), gracePeriodSeconds: 0 });
  });

  test('of another life of the same reservation is another pod', async () => {
    const spec = serverSpec();
    const first = await servers.create(spec);
    const second = await servers.create({ ...spec, generation: 2 });
    expect(second.uid).not.toBe(first.uid);
    await servers.removeAccess({ reservationId: spec.reservationId, generation: 1 });
    const left = await core().listNamespacedService({ namespace, labelSelector: `gpu-dev.io/reservation=${spec.reservationId}` });
    expect(left.items.map((service) => service.metadata?.name)).toEqual([`${second.name}-ssh`]);
    await gone(spec);
    await gone({ ...spec, generation: 2 });
  });

  test('uses the connections that are there', async () => {
    const { client, wire } = await cluster.wired();
    const far = new KubernetesDevServers({ client });
    const specs = Array.from({ length: 10 }, () => serverSpec());
    for (const spec of specs) await far.create(spec);
    // As many as one create makes calls at the same time, and not one for each of the fifty calls.
    expect(wire.accepted).toBeLessThanOrEqual(5);
    await Promise.all(specs.map((spec) => servers.remove(spec, { force: true })));
  });

  test('that the cluster will never accept is a terminal error in its words', async () => {
    const spec = serverSpec({ cpuLimitMillis: 1, memoryRequestBytes: -1, reservationId: 'NOT/A/NAME' });
    await expect(servers.create(spec)).rejects.toThrow(TerminalError);
  });
});

describe('removing a server', () => {
  test('is proven by the API server saying that there is no such pod', async () => {
    const spec = serverSpec();
    await running(spec);
    expect(await servers.exists(spec)).toBe(true);
    expect(await servers.remove(spec, { force: false })).toBe('terminating');
    await until('it is gone', async () => (await servers.remove(spec, { force: false })) === 'gone');
    expect((await pods()).some(({ metadata }) => metadata?.name === podName(spec))).toBe(false);
    expect(await servers.remove(spec, { force: true })).toBe('gone');
    expect(await servers.exists(spec)).toBe(false);
  });

  test('takes its secrets and services with it, and removeAccess does the same without waiting', async () => {
    const spec = serverSpec({ environment: new Secret({ A: '1' }) });
    await servers.create(spec);
    const labelSelector = `gpu-dev.io/reservation=${spec.reservationId}`;
    const around = async () => {
      const lists = await Promise.all([
        core().listNamespacedService({ namespace, labelSelector }),
        core().listNamespacedSecret({ namespace, labelSelector }),
        core().listNamespacedConfigMap({ namespace, labelSelector }),
        cluster.client.networking.listNamespacedNetworkPolicy({ namespace, labelSelector }),
      ]);
      return lists.reduce((sum, { items }) => sum + items.length, 0);
    };
    // Service, both Secrets, scripts, policy.
    expect(await around()).toBe(5);
    await servers.removeAccess(spec);
    expect(await around()).toBe(0);
    await servers.removeAccess(spec);
    await servers.create(spec);
    expect(await around()).toBe(5);
    await gone(spec);
    await until('the garbage collector took what the pod owned', async () => (await around()) === 0);
  });

  test('is not claimed while the API server does not answer', async () => {
    const { client, wire } = await cluster.wired({ requestTimeoutMs: 300 });
    const far = new KubernetesDevServers({ client });
    const spec = serverSpec();
    wire.swallow();
    await expect(far.remove(spec, { force: false })).rejects.toThrow(/no answer/);
    await expect(far.exists(spec)).rejects.toThrow(/no answer/);
    wire.mend();
    wire.refuse();
    await expect(far.remove(spec, { force: false })).rejects.toThrow(/no answer/);
    wire.mend();
    expect(await far.remove(spec, { force: false })).toBe('gone');
  });
});

describe('inside a server', () => {
  const KEY_B = KEY.replace('someone', 'another');

  test('the keys become exactly those that are set', async () => {
    const spec = serverSpec();
    const { name } = await running(spec);
    await servers.setKeys(spec, [KEY, KEY_B]);
    await servers.setKeys(spec, [KEY_B]);
    const { stdout } = await until('the mounted keys follow', async () => {
      const read = await runInside(cluster.client, name, ['cat', '/etc/gpu-dev/access/authorized_keys']);
      return read.stdout === `${KEY_B}\n` ? read : null;
    });
    expect(stdout).toBe(`${KEY_B}\n`);
    const secret = await core().readNamespacedSecret({ namespace, name: accessSecretName(spec) });
    expect(Object.keys(secret.data ?? {}).sort()).toEqual(['authorized_keys', 'jupyter_token']);
    await gone(spec);
    await servers.removeAccess(spec);
    await expect(servers.setKeys(spec, [KEY])).rejects.toThrow(TerminalError);
  });

  test('a notice replaces those that it makes obsolete, and an extension takes them away', async () => {
    const spec = serverSpec();
    const { name } = await running(spec);
    const files = async () => {
      const { stdout } = await runInside(cluster.client, name, ['ls', '/home/dev']);
      return stdout
        .split('\n')
        .filter((file) => file.endsWith('.txt'))
        .sort();
    };
    const post = (about: 'warning' | 'final' | 'extended' | 'oom', minutesLeft = 0) =>
      servers.post(spec, { about, minutesLeft, endsAt: null, text: `about ${about} $HOME 'quoted'` });
    await post('warning', 30);
    expect(await files()).toEqual(['WARN_EXPIRES_IN_30MIN.txt']);
    await post('oom');
    await post('warning', 15);
    expect(await files()).toEqual(['OOM_DETECTED.txt', 'WARN_EXPIRES_IN_15MIN.txt']);
    await post('final');
    await post('final');
    expect(await files()).toEqual(['EXPIRED_NOTICE.txt', 'OOM_DETECTED.txt']);
    const { stdout } = await runInside(cluster.client, name, ['cat', '/home/dev/EXPIRED_NOTICE.txt']);
    expect(stdout).toBe("about final $HOME 'quoted'\n");
    await post('extended');
    expect(await files()).toEqual(['OOM_DETECTED.txt']);
    await gone(spec);
    await expect(post('oom')).rejects.toThrow(TerminalError);
  });

  test('that does not run yet may be tried again', async () => {
    const spec = serverSpec({ gpuType: 'h200' });
    await servers.create(spec);
    const error: unknown = await servers.post(spec, { about: 'oom', minutesLeft: 0, endsAt: null, text: 'x' }).catch((it) => it);
    expect(error).toBeInstanceOf(Error);
    expect(error).not.toBeInstanceOf(TerminalError);
    await gone(spec);
  });

  test('Jupyter starts with a URL that bears no token, twice is once, and stops', async () => {
    const spec = serverSpec();
    await running(spec);
    const token = new Secret('very-secret-token');
    const first = await servers.startJupyter(spec, token);
    expect(await servers.startJupyter(spec, token)).toEqual(first);
    expect(first.url).toBe(`http://10.0.0.2:${first.port}/`.replace('10.0.0.2', new URL(first.url).hostname));
    expect(first.url).not.toContain('secret');
    await servers.stopJupyter(spec);
    await servers.stopJupyter(spec);
    const labelSelector = `gpu-dev.io/reservation=${spec.reservationId}`;
    const services = await core().listNamespacedService({ namespace, labelSelector });
    expect(services.items.map(({ metadata }) => metadata?.name)).toEqual([sshServiceName(spec)]);
    await gone(spec);
    await servers.stopJupyter(spec);
  });
});
