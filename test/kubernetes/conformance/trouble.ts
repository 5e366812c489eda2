/** What refusals, lost answers and slow ones mean to a provider: never that something is missing, and never anything double. */
import { beforeAll, describe, expect, it } from 'vitest';
import { TerminalError } from '../../../actors/errors.ts';
import type { KubernetesClient } from '../../../src/providers/kubernetes/client.ts';
import { KubernetesError } from '../../../src/providers/kubernetes/errors.ts';
import { podName } from '../../../src/providers/kubernetes/objects.ts';
import { createRandom, seedState } from '../../../src/simulated-cluster/random.ts';
import { serverSpec } from '../../integration/providers/support/specs.ts';
import { until } from '../../integration/providers/support/wait.ts';
import type { FaultProxy } from '../../support/kubernetes/fault-proxy.ts';
import type { Subject } from './subject.ts';

const KINDS = ['pods', 'services', 'secrets', 'configmaps', 'networkpolicies'] as const;

export function troubleConforms(subject: () => Subject): void {
  let proxy: FaultProxy;
  let client: KubernetesClient;
  beforeAll(async () => {
    ({ proxy, client } = await subject().faulty({ requestTimeoutMs: 1_000 }));
  });
  const servers = () => subject().servers(client);
  const failure = (promise: Promise<unknown>) =>
    promise.then(
      () => null,
      (error: unknown) => error as KubernetesError,
    );
  /** How many objects of each kind bear the reservation's label. */
  const counts = async (reservationId: string) => {
    const { core, networking, namespace } = subject().client;
    const call = { namespace, labelSelector: `gpu-dev.io/reservation=${reservationId}` };
    const lists = await Promise.all([
      core.listNamespacedPod(call),
      core.listNamespacedService(call),
      core.listNamespacedSecret(call),
      core.listNamespacedConfigMap(call),
      networking.listNamespacedNetworkPolicy(call),
    ]);
    return lists.map(({ items }) => items.length);
  };
  const removed = (spec: ReturnType<typeof serverSpec>) =>
    until('gone', async () => (await servers().remove(spec, { force: true })) === 'gone');

  describe('an answer that was lost on the way', () => {
    it.each(KINDS)('to the creation of %s leaves nothing double when we try again', async (kind) => {
      const spec = serverSpec();
      const rule = proxy.fault({ verb: 'POST', path: new RegExp(`/${kind}$`), times: 1 }, { lose: 'answer' });
      expect(await failure(servers().create(spec))).toMatchObject({ name: 'KubernetesError', status: null });
      expect(rule.met).toBe(1);
      const made = await servers().create(spec);
      expect(await counts(spec.reservationId)).toEqual([1, 1, 1, 1, 1]);
      expect(await servers().create(spec)).toEqual(made);
      await removed(spec);
    });

    it('to a deletion is not taken for the proof of an end', async () => {
      const spec = serverSpec();
      await servers().create(spec);
      proxy.fault({ verb: 'DELETE', path: /\/pods\//, times: 1 }, { lose: 'answer' });
      expect(await failure(servers().remove(spec, { force: false }))).toMatchObject({ status: null });
      await until('gone', async () => (await servers().remove(spec, { force: false })) === 'gone');
    });
  });

  describe('a refusal keeps its meaning', () => {
    it.each([
      [500, 'InternalError', 'etcd is away'],
      [503, 'ServiceUnavailable', 'shutting down'],
      [429, 'TooManyRequests', 'slow down'],
      [401, 'Unauthorized', 'token expired'],
      [403, 'Forbidden', 'pods "x" is forbidden: exceeded quota: team, requested: pods=1'],
      [403, 'Forbidden', 'pods is forbidden: User "gpu-dev" cannot create resource "pods" in API group ""'],
      [404, 'NotFound', 'namespaces "gpu-dev" not found'],
    ])('%i %s may pass: %s', async (status, reason, message) => {
      proxy.fault({ verb: 'POST', path: /\/pods$/, times: 1 }, { status, reason, message });
      const error = await failure(servers().create(serverSpec()));
      expect(error).toBeInstanceOf(KubernetesError);
      expect(error).toMatchObject({ status, reason });
    });

    it.each([
      [403, 'Forbidden', 'pods "x" is forbidden: violates PodSecurity "restricted:latest"'],
      [422, 'Invalid', 'Pod "x" is invalid: spec.containers[0].image: Required value'],
      [400, 'BadRequest', 'admission webhook "images.example" denied the request: unsigned image'],
    ])('%i %s never passes: %s', async (status, reason, message) => {
      proxy.fault({ verb: 'POST', path: /\/pods$/, times: 1 }, { status, reason, message });
      const error = await failure(servers().create(serverSpec()));
      expect(error).toBeInstanceOf(TerminalError);
      expect(error?.message).toContain(message);
    });

    it('and says how long the server asked us to wait', async () => {
      proxy.fault({ verb: 'POST', path: /\/pods$/, times: 1 }, { status: 429, retryAfter: 7 });
      expect(await failure(servers().create(serverSpec()))).toMatchObject({ status: 429, retryAfter: 7_000 });
    });

    it('and a server that cannot be looked at is neither gone nor here', async () => {
      const spec = serverSpec();
      for (const status of [500, 403, 401]) {
        const path = new RegExp(`/pods/${podName(spec)}`);
        proxy.fault({ verb: 'GET', path, times: 1 }, { status, message: 'cannot get resource "pods"' });
        expect(await failure(servers().remove(spec, { force: true }))).toMatchObject({ status });
      }
      expect(await servers().remove(spec, { force: true })).toBe('gone');
    });

    it('and so it is with volumes: an error is not a missing claim, nor a detached one', async () => {
      const volumes = subject().volumes(client);
      const facts = { owner: 'ada', sizeGb: 1, snapshotId: null, expectVolume: false, node: 'h100-1', zone: null };
      const disk = { diskId: serverSpec().reservationId, ...facts };
      await volumes.ensure(disk);
      for (const path of [/\/persistentvolumeclaims\//, /\/pods\b/]) {
        const rule = proxy.fault({ verb: 'GET', path, times: 1 }, { status: 500 });
        expect(await failure(volumes.detach(disk.diskId))).toMatchObject({ status: 500 });
        expect(rule.met).toBe(1);
      }
      expect(await volumes.detach(disk.diskId)).toBe('detached');
    });
  });

  describe('a server that answers badly', () => {
    it('late, but in time, is waited for', async () => {
      proxy.fault({}, { delayMs: 100 });
      const spec = serverSpec();
      const made = await servers().create(spec);
      await proxy.mend();
      expect(await servers().create(spec)).toEqual(made);
      await removed(spec);
    });

    it('never, or drop by drop, ends in an unknown and not in a call that hangs', async () => {
      const spec = serverSpec();
      await servers().create(spec);
      for (const fault of [{ silent: true }, { bytesPerSecond: 200 }]) {
        const began = performance.now();
        proxy.fault({ verb: 'GET', path: /\/pods\// }, fault);
        expect(await failure(servers().exists(spec))).toMatchObject({ status: null });
        expect(performance.now() - began).toBeLessThan(5_000);
        await proxy.mend();
      }
      expect(await servers().exists(spec)).toBe(true);
      await removed(spec);
    });

    it.each([409, 429, 500, 503])('again and again with %i makes one of each in the end, when we keep at it', async (status) => {
      // One call in five, which is far worse than servers are: most tries of a creation meet one.
      const random = createRandom(seedState(status + 7), true).next;
      const rule = proxy.fault({ chance: 1 / 5, random }, { status });
      const specs = [serverSpec(), serverSpec(), serverSpec()];
      for (const spec of specs)
        await until(
          'it is created',
          () =>
            servers()
              .create(spec)
              .catch(() => null),
          30_000,
        );
      await proxy.mend();
      expect(rule.met).toBeGreaterThan(0);
      for (const spec of specs) {
        expect(await counts(spec.reservationId)).toEqual([1, 1, 1, 1, 1]);
        await removed(spec);
      }
    });
  });
}
