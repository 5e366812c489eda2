import { existsSync, readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { KubeConfig, CoreV1Api } from '@kubernetes/client-node';
import { afterEach, describe, expect, it } from 'vitest';
import { call, type ClusterProcess, end, gpuPod, podBody, spawnCluster, temporaryFolder, until } from './support.ts';

const PODS = '/api/v1/namespaces/gpu-dev/pods';

const folders: { remove(): void }[] = [];
const running: ClusterProcess[] = [];
afterEach(async () => {
  for (const { child } of running.splice(0)) await end(child, 'SIGKILL');
  for (const folder of folders.splice(0)) folder.remove();
});

async function start(data: string, ...more: string[]): Promise<ClusterProcess & { url: string }> {
  const started = await spawnCluster('--data', data, ...more);
  running.push(started);
  return { ...started, url: `http://127.0.0.1:${started.port}` };
}

function folder(): string {
  const made = temporaryFolder();
  folders.push(made);
  return made.path;
}

describe('the process', () => {
  it('keeps everything through kill -9, and its versions never go back', async () => {
    const data = folder();
    const first = await start(data);
    const created = await call(first.url, 'POST', PODS, gpuPod('kept', 'h100', 2));
    await until(
      'it is ready',
      async () => (await call(first.url, 'GET', `${PODS}/kept`)).body.status.containerStatuses?.[0].ready,
    );
    await call(first.url, 'POST', '/api/v1/namespaces/gpu-dev/secrets', { metadata: { name: 's' }, stringData: { a: 'b' } });
    const before = await call(first.url, 'GET', '/api/v1/pods');
    const port = String(first.port);
    const writes = Promise.allSettled(
      Array.from(
        { length: 200 },
        async (_, index) =>
          (await call(first.url, 'POST', '/api/v1/namespaces/gpu-dev/configmaps', { metadata: { name: `m-${index}` } })).body
            .metadata,
      ),
    );
    await until(
      'some writes are through',
      async () => (await call(first.url, 'GET', '/api/v1/namespaces/gpu-dev/configmaps')).body.items.length > 5,
    );
    await end(first.child, 'SIGKILL');
    const acknowledged = (await writes).filter((each) => each.status === 'fulfilled').map((each) => each.value);
    const second = await start(data, '--port', port);
    for (const { name, uid } of acknowledged) {
      expect((await call(second.url, 'GET', `/api/v1/namespaces/gpu-dev/configmaps/${name}`)).body.metadata.uid).toBe(uid);
    }
    const after = await call(second.url, 'GET', '/api/v1/pods');
    const highest = Math.max(...acknowledged.map(({ resourceVersion }) => Number(resourceVersion)));
    expect(Number(after.body.metadata.resourceVersion)).toBeGreaterThanOrEqual(highest);
    expect(after.body.items).toEqual(before.body.items);
    const watched = async (kind: string, version: string) => {
      const path = `/api/v1/namespaces/gpu-dev/${kind}?watch=1&timeoutSeconds=1&resourceVersion=${version}`;
      return (await (await fetch(`${second.url}${path}`)).text()).trim().split('\n');
    };
    const [maps, versions] = await Promise.all([
      watched('configmaps', before.body.metadata.resourceVersion),
      watched('pods', created.body.metadata.resourceVersion),
    ]);
    expect(maps.length).toBeGreaterThanOrEqual(acknowledged.length);
    // Each version that the pod had is whole, also what it shares with the one before it.
    expect(versions.length).toBeGreaterThan(2);
    const specs = versions.map((line) => JSON.parse(line).object.spec);
    for (const spec of specs) expect(spec).toEqual(before.body.items[0].spec);
    await call(second.url, 'POST', PODS, podBody('more'));
    await until('it goes on', async () => (await call(second.url, 'GET', `${PODS}/more`)).body.status.phase === 'Running');
  });

  it('goes on with what was under way when it was killed', async () => {
    const data = folder();
    const settings = ['--settings', JSON.stringify({ delays: { pull: 700 } })];
    const first = await start(data, ...settings);
    await call(first.url, 'POST', PODS, podBody('pulling'));
    await until('it is bound', async () => (await call(first.url, 'GET', `${PODS}/pulling`)).body.spec.nodeName);
    await end(first.child, 'SIGKILL');
    const second = await start(data, ...settings);
    await until('it runs', async () => (await call(second.url, 'GET', `${PODS}/pulling`)).body.status.phase === 'Running');
  });

  it('stops on SIGTERM with code 0, leaves one snapshot, and starts from it', async () => {
    const data = folder();
    const first = await start(data);
    await call(first.url, 'POST', PODS, podBody('p'));
    await call(first.url, 'POST', '/api/v1/namespaces/gpu-dev/configmaps', { metadata: { name: 'm' } });
    expect(await end(first.child, 'SIGTERM')).toBe(0);
    expect(existsSync(join(data, 'snapshot-1.jsonl'))).toBe(true);
    expect(existsSync(join(data, 'journal-0.jsonl'))).toBe(false);
    const second = await start(data);
    expect((await call(second.url, 'GET', '/api/v1/namespaces/gpu-dev/configmaps/m')).status).toBe(200);
    await until('its pod goes on', async () => (await call(second.url, 'GET', `${PODS}/p`)).body.status.phase === 'Running');
  });

  it('writes a kubeconfig that client-node can use', async () => {
    const data = folder();
    const kubeconfig = join(data, 'conf', 'kubeconfig');
    await start(data, '--kubeconfig', kubeconfig);
    const config = new KubeConfig();
    config.loadFromString(readFileSync(kubeconfig, 'utf8'));
    const { items } = await config.makeApiClient(CoreV1Api).listNode();
    expect(items.length).toBeGreaterThan(20);
  });

  it('does not let two processes work on one folder', async () => {
    const data = folder();
    await start(data);
    await expect(spawnCluster('--data', data)).rejects.toThrow('ended before it was ready');
  });

  it('outlives clients that die while their exec is refused', async () => {
    const cluster = await start(folder());
    const { hostname, port } = new URL(cluster.url);
    const request =
      `GET ${PODS}/nobody/exec?command=x HTTP/1.1\r\nHost: ${hostname}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
      'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: v5.channel.k8s.io\r\n\r\n';
    const die = () =>
      new Promise<void>((resolve) => {
        const socket = connect(Number(port), hostname, () => socket.write(request, () => socket.resetAndDestroy()));
        socket.on('error', () => {}).on('close', () => resolve());
      });
    // Of the refusals some meet a connection that has been reset: an error that nobody hears ends a process.
    for (let n = 0; n < 100; n++) await Promise.all([die(), die(), die(), die()]);
    expect((await call(cluster.url, 'GET', PODS)).status).toBe(200);
    expect(cluster.child.exitCode).toBeNull();
  });
});
