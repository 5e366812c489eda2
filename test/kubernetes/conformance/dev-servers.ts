/** DevServers: created once, adopted by whoever comes again, and gone only by proof. */
import { describe, expect, it } from 'vitest';
import { TerminalError } from '../../../actors/errors.ts';
import { Secret } from '../../../actors/secret.ts';
import { accessSecretName, environmentSecretName, podName, sshServiceName } from '../../../src/providers/kubernetes/objects.ts';
import { KEY, serverSpec } from '../../integration/providers/support/specs.ts';
import { until } from '../../integration/providers/support/wait.ts';
import { serversOf } from './servers.ts';
import type { Subject } from './subject.ts';

export function devServersConform(subject: () => Subject): void {
  const { core, servers, namespace, running, gone } = serversOf(subject);
  const pods = async () => (await core().listNamespacedPod({ namespace: namespace() })).items;

  describe('creating a server', () => {
    it('gives a running pod on its node, with keys, variables and an ssh port', async () => {
      const spec = serverSpec({ environment: new Secret({ HF_HOME: '/workspace/hf', OMP_NUM_THREADS: '3' }) });
      const made = await running(spec);
      expect(made.name).toBe(`gpu-dev-${spec.reservationId}-1`);
      const { connection } = made;
      expect(connection).toMatchObject({ host: '192.0.2.7', podName: made.name, node: 'h100-1' });
      expect(connection.port).toBeGreaterThanOrEqual(30000);
      expect(connection.sshCommand).toBe(`ssh -p ${connection.port} dev@192.0.2.7`);
      const pod = await core().readNamespacedPod({ namespace: namespace(), name: made.name });
      expect(pod.spec?.nodeName).toBe('h100-1');
      expect(pod.metadata?.uid).toBe(made.uid);
      const secret = await core().readNamespacedSecret({ namespace: namespace(), name: accessSecretName(spec) });
      expect(Buffer.from(secret.data?.authorized_keys ?? '', 'base64').toString()).toBe(`${KEY}\n`);
      const own = await core().readNamespacedSecret({ namespace: namespace(), name: environmentSecretName(spec) });
      expect(Object.keys(own.data ?? {}).sort()).toEqual(['HF_HOME', 'OMP_NUM_THREADS']);
      await gone(spec);
    });

    it('twice gives one pod, one service and the same connection', async () => {
      const spec = serverSpec();
      const first = await servers().create(spec);
      expect(await servers().create(spec)).toEqual(first);
      expect((await pods()).filter(({ metadata }) => metadata?.name === first.name)).toHaveLength(1);
      await gone(spec);
    });

    it('twice at the same moment gives one pod', async () => {
      const spec = serverSpec();
      const [left, right] = await Promise.all([servers().create(spec), servers().create(spec)]);
      expect(left).toEqual(right);
      await gone(spec);
    });

    it('adopts a pod whose creator died before it made the service', async () => {
      const spec = serverSpec();
      const { uid } = await servers().create(spec);
      const labelSelector = `gpu-dev.io/reservation=${spec.reservationId}`;
      await core().deleteNamespacedService({ namespace: namespace(), name: sshServiceName(spec) });
      await core().deleteNamespacedSecret({ namespace: namespace(), name: accessSecretName(spec) });
      const again = await servers().create(spec);
      expect(again.uid).toBe(uid);
      const services = await core().listNamespacedService({ namespace: namespace(), labelSelector });
      expect(services.items.map(({ metadata }) => metadata?.ownerReferences?.[0]?.uid)).toEqual([uid]);
      await gone(spec);
    });

    it('asks the cluster for the address of the node when nobody knows it', async () => {
      const spec = serverSpec({ nodeAddress: null });
      const { connection } = await servers().create(spec);
      expect(connection.host).toMatch(/^10\.0\./);
      await gone(spec);
    });

    it('neither adopts nor deletes a foreign pod of the same name', async () => {
      const spec = serverSpec();
      const foreign = { metadata: { name: podName(spec) }, spec: { containers: [{ name: 'main', image: 'busybox' }] } };
      const { metadata } = await core().createNamespacedPod({ namespace: namespace(), body: foreign });
      await expect(servers().create(spec)).rejects.toThrow(TerminalError);
      await expect(servers().remove(spec, { force: true })).rejects.toThrow(/does not bear our labels/);
      const still = await core().readNamespacedPod({ namespace: namespace(), name: podName(spec) });
      expect(still.metadata?.uid).toBe(metadata?.uid);
      expect(still.metadata?.deletionTimestamp).toBeUndefined();
      await core().deleteNamespacedPod({ namespace: namespace(), name: podName(spec), gracePeriodSeconds: 0 });
    });

    it('of another life of the same reservation is another pod', async () => {
      const spec = serverSpec();
      const first = await servers().create(spec);
      const second = await servers().create({ ...spec, generation: 2 });
      expect(second.uid).not.toBe(first.uid);
      await servers().removeAccess({ reservationId: spec.reservationId, generation: 1 });
      const left = await core().listNamespacedService({
        namespace: namespace(),
        labelSelector: `gpu-dev.io/reservation=${spec.reservationId}`,
      });
      expect(left.items.map((service) => service.metadata?.name)).toEqual([`${second.name}-ssh`]);
      await gone(spec);
      await gone({ ...spec, generation: 2 });
    });

    it('uses the connections that are there', async () => {
      const { client, proxy } = await subject().faulty();
      const far = subject().servers(client);
      const specs = Array.from({ length: 10 }, () => serverSpec());
      for (const spec of specs) await far.create(spec);
      // As many as one create makes calls at the same time, and not one for each of the fifty calls.
      expect(proxy.connections).toBeLessThanOrEqual(5);
      await Promise.all(specs.map((spec) => servers().remove(spec, { force: true })));
    });

    it('that the cluster will never accept is a terminal error in its words', async () => {
      const spec = serverSpec({ cpuLimitMillis: 1, memoryRequestBytes: -1, reservationId: 'NOT/A/NAME' });
      await expect(servers().create(spec)).rejects.toThrow(TerminalError);
    });
  });

  describe('removing a server', () => {
    it('is proven by the API server saying that there is no such pod', async () => {
      const spec = serverSpec();
      await running(spec);
      expect(await servers().exists(spec)).toBe(true);
      expect(await servers().remove(spec, { force: false })).toBe('terminating');
      await until('it is gone', async () => (await servers().remove(spec, { force: false })) === 'gone');
      expect((await pods()).some(({ metadata }) => metadata?.name === podName(spec))).toBe(false);
      expect(await servers().remove(spec, { force: true })).toBe('gone');
      expect(await servers().exists(spec)).toBe(false);
    });

    it('takes its secrets and services with it, and removeAccess does the same without waiting', async () => {
      const spec = serverSpec({ environment: new Secret({ A: '1' }) });
      await servers().create(spec);
      const labelSelector = `gpu-dev.io/reservation=${spec.reservationId}`;
      const around = async () => {
        const lists = await Promise.all([
          core().listNamespacedService({ namespace: namespace(), labelSelector }),
          core().listNamespacedSecret({ namespace: namespace(), labelSelector }),
          core().listNamespacedConfigMap({ namespace: namespace(), labelSelector }),
          subject().client.networking.listNamespacedNetworkPolicy({ namespace: namespace(), labelSelector }),
        ]);
        return lists.reduce((sum, { items }) => sum + items.length, 0);
      };
      // Service, both Secrets, scripts, policy.
      expect(await around()).toBe(5);
      await servers().removeAccess(spec);
      expect(await around()).toBe(0);
      await servers().removeAccess(spec);
      await servers().create(spec);
      expect(await around()).toBe(5);
      await gone(spec);
      await until('the garbage collector took what the pod owned', async () => (await around()) === 0);
    });

    it('is not claimed while the API server does not answer', async () => {
      const { client, proxy } = await subject().faulty({ requestTimeoutMs: 300 });
      const far = subject().servers(client);
      const spec = serverSpec();
      const began = performance.now();
      proxy.swallow();
      await expect(far.remove(spec, { force: false })).rejects.toThrow(/no answer/);
      await expect(far.exists(spec)).rejects.toThrow(/no answer/);
      // A black hole swallows handshakes too; the limit of a call holds for them as well.
      expect(performance.now() - began).toBeLessThan(5_000);
      await proxy.mend();
      await proxy.refuse();
      await expect(far.remove(spec, { force: false })).rejects.toThrow(/no answer/);
      await proxy.mend();
      expect(await far.remove(spec, { force: false })).toBe('gone');
    });
  });
}
