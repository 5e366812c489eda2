/** What the providers rely on of the API itself: lists of metadata, bookmarks, input of commands, updates without a type, ports that are asked for. */
import { PassThrough } from 'node:stream';
import { finished } from 'node:stream/promises';
import { Exec, setHeaderOptions, type V1Secret, Watch } from '@kubernetes/client-node';
import { describe, expect, it } from 'vitest';
import { runInside } from '../../../src/providers/kubernetes/exec.ts';
import { sshServiceName } from '../../../src/providers/kubernetes/objects.ts';
import { KubernetesReality } from '../../../src/providers/kubernetes/reality.ts';
import { serverSpec } from '../../integration/providers/support/specs.ts';
import { until } from '../../integration/providers/support/wait.ts';
import { serversOf } from './servers.ts';
import type { Subject } from './subject.ts';

const METADATA = 'application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json';

export function apiConforms(subject: () => Subject): void {
  const { core, servers, namespace, running, gone } = serversOf(subject);

  describe('the API', () => {
    it('lists metadata alone, page by page, when asked to', async () => {
      const names = ['meta-a', 'meta-b', 'meta-c'];
      const labels = { 'app.kubernetes.io/managed-by': 'gpu-dev' };
      for (const name of names)
        await core().createNamespacedSecret({
          namespace: namespace(),
          body: { metadata: { name, labels }, stringData: { word: 'not-to-be-seen' } },
        });
      const { client, proxy } = await subject().faulty();
      const found = await new KubernetesReality({ client, pageSize: 2 }).list('Secret');
      expect(found!.map(({ name }) => name).filter((name) => names.includes(name))).toEqual(names);
      expect(proxy.seen('GET', /secrets\?.*continue=/).length).toBeGreaterThan(0);

      const brief = setHeaderOptions('Accept', METADATA);
      const page = await core().listNamespacedSecret({ namespace: namespace(), limit: 2 }, brief);
      expect(page.metadata?._continue).toBeTruthy();
      const [kept] = (await core().listNamespacedSecret({ namespace: namespace() }, brief)).items.filter(
        ({ metadata }) => metadata?.name === 'meta-a',
      );
      expect(kept?.metadata).toMatchObject({ labels, uid: expect.any(String), resourceVersion: expect.any(String) });
      expect([kept?.data, kept?.type]).toEqual([undefined, undefined]);
      for (const name of names) await core().deleteNamespacedSecret({ namespace: namespace(), name });
    });

    it('sends bookmarks to a watch that asks for them: a place to go on from, and nothing else', async () => {
      const { metadata } = await core().listNamespacedConfigMap({ namespace: namespace() });
      const seen: { type: string; keys: string[]; version: string }[] = [];
      const watch = new Watch(subject().client.config);
      const path = `/api/v1/namespaces/${namespace()}/configmaps`;
      const controller = await watch.watch(
        path,
        { allowWatchBookmarks: true, resourceVersion: metadata?.resourceVersion, timeoutSeconds: 3 },
        (type: string, object: { metadata: { resourceVersion: string } }) =>
          void seen.push({ type, keys: Object.keys(object.metadata), version: object.metadata.resourceVersion }),
        () => {},
      );
      try {
        await core().createNamespacedConfigMap({ namespace: namespace(), body: { metadata: { name: 'watched' } } });
        const mark = await until('a bookmark comes', () => seen.find(({ type }) => type === 'BOOKMARK'));
        expect(Number(mark.version)).toBeGreaterThanOrEqual(Number(metadata?.resourceVersion));
        expect(mark.keys.filter((key) => !['resourceVersion', 'creationTimestamp', 'annotations'].includes(key))).toEqual([]);
      } finally {
        controller.abort();
        await core().deleteNamespacedConfigMap({ namespace: namespace(), name: 'watched' });
      }
    });

    it('hands the input of a command to it, whole and as it is', async () => {
      const spec = serverSpec();
      const { name } = await running(spec);
      const word = `a word with 'quotes', $HOME and ümlauts\n`;
      const input = new PassThrough();
      const argv = ['sh', '-c', 'cat > /home/dev/said'];
      const socket = await new Exec(subject().client.config).exec(namespace(), name, 'gpu-dev', argv, null, null, input, false);
      input.end(word);
      await finished(input.resume());
      // Clusters before 1.30 take the end of the connection for that of the input.
      await new Promise((resolve) => setImmediate(resolve));
      socket.close();
      await until('the command has read it', async () => {
        const read = await runInside(subject().client, name, ['cat', '/home/dev/said']);
        return read.exitCode === 0 && read.stdout === word;
      });
      await gone(spec);
    });

    it('takes a Secret that is sent without its type for one of the usual type, and refuses another type', async () => {
      const name = 'typeless';
      await core().createNamespacedSecret({ namespace: namespace(), body: { metadata: { name }, data: {} } });
      const replace = (body: V1Secret) => core().replaceNamespacedSecret({ namespace: namespace(), name, body });
      const next = await replace({ metadata: { name }, stringData: { a: 'b' } });
      expect(next.type).toBe('Opaque');
      await expect(replace({ metadata: { name }, type: 'kubernetes.io/tls' })).rejects.toMatchObject({ code: 422 });
      await core().deleteNamespacedSecret({ namespace: namespace(), name });
    });

    it('gives a Service that is made again the port that people know, and another one if somebody has it', async () => {
      const spec = serverSpec();
      const { connection } = await running(spec);
      const name = sshServiceName(spec);
      await core().deleteNamespacedService({ namespace: namespace(), name });
      const known = { ...spec, sshPort: connection.port };
      expect((await servers().restore(known)).connection.port).toBe(connection.port);
      await core().deleteNamespacedService({ namespace: namespace(), name });
      const ports = [{ name: 'ssh', port: 22, nodePort: connection.port }];
      const taker = { metadata: { name: 'taker' }, spec: { type: 'NodePort', ports } };
      await core().createNamespacedService({ namespace: namespace(), body: taker });
      const { port } = (await servers().restore(known)).connection;
      expect(port).not.toBe(connection.port);
      expect(port).toBeGreaterThan(0);
      await core().deleteNamespacedService({ namespace: namespace(), name: 'taker' });
      await gone(spec);
    });
  });
}
