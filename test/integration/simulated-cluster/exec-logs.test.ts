import { PassThrough, Readable, Writable } from 'node:stream';
import { CoreV1Api, Exec, Log, type V1Status } from '@kubernetes/client-node';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import { call, podBody, QUICK, type Running, startCluster, until } from './support.ts';

const namespace = 'gpu-dev';

let cluster: Running;
let core: CoreV1Api;
beforeAll(async () => {
  cluster = await startCluster(QUICK);
  core = cluster.config.makeApiClient(CoreV1Api);
  await core.createNamespacedSecret({
    namespace,
    body: { metadata: { name: 'keys' }, stringData: { authorized_keys: 'ssh-ed25519 AAA' } },
  });
  await core.createNamespacedPersistentVolumeClaim({
    namespace,
    body: { metadata: { name: 'disk' }, spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '1Gi' } } } },
  });
  const container = {
    name: 'main',
    image: 'tool:1',
    env: [{ name: 'A', value: 'b' }],
    volumeMounts: [
      { name: 'keys', mountPath: '/etc/keys' },
      { name: 'disk', mountPath: '/home/dev' },
    ],
  };
  const volumes = [
    { name: 'keys', secret: { secretName: 'keys' } },
    { name: 'disk', persistentVolumeClaim: { claimName: 'disk' } },
  ];
  await core.createNamespacedPod({ namespace, body: podBody('box', { containers: [container], volumes }) });
  await core.createNamespacedPod({
    namespace,
    body: podBody('pair', {
      containers: [
        { name: 'one', image: 'x' },
        { name: 'two', image: 'x' },
      ],
    }),
  });
  for (const name of ['box', 'pair']) {
    await until(`${name} is ready`, async () =>
      (await core.readNamespacedPod({ namespace, name })).status?.containerStatuses?.every((each) => each.ready),
    );
  }
});
afterAll(() => cluster.close());

class Sink extends Writable {
  text = '';
  override _write(chunk: Buffer, _: string, done: () => void): void {
    this.text += chunk.toString();
    done();
  }
}

interface Result {
  out: string;
  error: string;
  status: V1Status;
}

async function run(command: string[], stdin?: string, pod = 'box'): Promise<Result> {
  const [out, error] = [new Sink(), new Sink()];
  const status = await new Promise<V1Status>((resolve, reject) => {
    const input = stdin === undefined ? null : Readable.from([Buffer.from(stdin)]);
    new Exec(cluster.config)
      .exec(namespace, pod, pod === 'box' ? 'main' : '', command, out, error, input, false, resolve)
      .catch(reject);
  });
  return { out: out.text, error: error.text, status };
}

describe('exec', () => {
  it('writes standard input into a file and reads it back', async () => {
    expect(
      (await run(['sh', '-c', 'mkdir -p /run/gpu-dev && cat > /run/gpu-dev/warning'], 'ends in 5 minutes\n')).status.status,
    ).toBe('Success');
    expect(await run(['cat', '/run/gpu-dev/warning'])).toMatchObject({
      out: 'ends in 5 minutes\n',
      status: { status: 'Success' },
    });
    expect((await run(['test', '-f', '/run/gpu-dev/warning'])).status.status).toBe('Success');
    await run(['rm', '-f', '/run/gpu-dev/warning']);
    const missing = await run(['cat', '/run/gpu-dev/warning']);
    expect(missing.error).toContain('No such file');
    expect(missing.status).toMatchObject({
      reason: 'NonZeroExitCode',
      details: { causes: [{ reason: 'ExitCode', message: '1' }] },
    });
  });

  it('understands small scripts', async () => {
    expect((await run(['sh', '-c', "printf '%s\\n' 'a b' c > /tmp/x; echo d >> /tmp/x && cat /tmp/x"])).out).toBe('a b\nc\nd\n');
    expect((await run(['sh', '-c', 'echo aGk= | base64 -d > /tmp/y; cat /tmp/y'])).out).toBe('hi');
    expect((await run(['bash', '-c', 'test -f /none || echo absent'])).out).toBe('absent\n');
    expect((await run(['ls', '/tmp'])).out).toBe('x\ny\n');
    expect((await run(['env'])).out).toBe('A=b\n');
  });

  it('echoes what it does not simulate, and says that there is no shell', async () => {
    expect((await run(['nvidia-smi', '-L'])).out).toBe('ran: nvidia-smi -L\n');
    const shell = await run(['bash']);
    expect(shell.error).toContain('no shell');
    expect(shell.status.details?.causes?.[0]?.message).toBe('126');
  });

  it('shows mounted Secrets as they are now, and does not let them be written', async () => {
    expect((await run(['cat', '/etc/keys/authorized_keys'])).out).toBe('ssh-ed25519 AAA');
    await call(
      cluster.url,
      'PATCH',
      `/api/v1/namespaces/${namespace}/secrets/keys`,
      { stringData: { authorized_keys: 'ssh-ed25519 BBB' } },
      'application/merge-patch+json',
    );
    expect((await run(['cat', '/etc/keys/authorized_keys'])).out).toBe('ssh-ed25519 BBB');
    expect((await run(['sh', '-c', 'echo x > /etc/keys/authorized_keys'])).error).toContain('Read-only');
  });

  it('keeps the files of a disk through a snapshot into a new disk', async () => {
    await run(['sh', '-c', 'echo results > /home/dev/notes.txt']);
    const snapshots = `/apis/snapshot.storage.k8s.io/v1/namespaces/${namespace}/volumesnapshots`;
    await call(cluster.url, 'POST', snapshots, {
      metadata: { name: 's' },
      spec: { source: { persistentVolumeClaimName: 'disk' } },
    });
    await until('the snapshot is ready', async () => (await call(cluster.url, 'GET', `${snapshots}/s`)).body.status?.readyToUse);
    await run(['rm', '/home/dev/notes.txt']);
    await call(cluster.url, 'POST', `/api/v1/namespaces/${namespace}/persistentvolumeclaims`, {
      metadata: { name: 'copy' },
      spec: {
        accessModes: ['ReadWriteOnce'],
        resources: { requests: { storage: '1Gi' } },
        dataSource: { kind: 'VolumeSnapshot', name: 's', apiGroup: 'snapshot.storage.k8s.io' },
      },
    });
    const spec = {
      containers: [{ name: 'main', image: 'x', volumeMounts: [{ name: 'd', mountPath: '/data' }] }],
      volumes: [{ name: 'd', persistentVolumeClaim: { claimName: 'copy' } }],
    };
    await core.createNamespacedPod({ namespace, body: podBody('reader', spec) });
    await until(
      'it is ready',
      async () => (await core.readNamespacedPod({ namespace, name: 'reader' })).status?.containerStatuses?.[0]?.ready,
    );
    const [out, error] = [new Sink(), new Sink()];
    await new Promise((resolve, reject) => {
      new Exec(cluster.config)
        .exec(namespace, 'reader', 'main', ['cat', '/data/notes.txt'], out, error, null, false, resolve)
        .catch(reject);
    });
    expect(out.text).toBe('results\n');
  });

  it('takes a v4 client whose only way to end its input is to close', async () => {
    const query = 'command=sh&command=-c&command=cat%20%3E%20/tmp/v4&stdin=true&stdout=true';
    const socket = new WebSocket(`${cluster.url.replace('http', 'ws')}/api/v1/namespaces/${namespace}/pods/box/exec?${query}`, [
      'v4.channel.k8s.io',
    ]);
    await new Promise((resolve) => socket.once('open', resolve));
    expect(socket.protocol).toBe('v4.channel.k8s.io');
    socket.send(Buffer.from('\0by v4'));
    socket.close();
    await until('the file is there', async () => (await run(['cat', '/tmp/v4'])).out === 'by v4');
  });

  it('refuses pods that are not there and asks which container is meant', async () => {
    await expect(run(['ls'], undefined, 'nobody')).rejects.toThrow();
    await expect(run(['ls'], undefined, 'pair')).rejects.toThrow();
  });
});

describe('logs', () => {
  it('tell the life of a container, by tail and by container', async () => {
    const log = await core.readNamespacedPodLog({ namespace, name: 'pair', container: 'two' });
    expect(log).toBe('simulated container two started (image x)\n');
    await call(cluster.url, 'POST', `/simulation/pods/${namespace}/pair/log`, { container: 'two', text: 'a\nb\nc' });
    expect(await core.readNamespacedPodLog({ namespace, name: 'pair', container: 'two', tailLines: 2 })).toBe('b\nc\n');
    const unnamed = await call(cluster.url, 'GET', `/api/v1/namespaces/${namespace}/pods/pair/log`);
    expect(unnamed.body).toMatchObject({
      code: 400,
      message: expect.stringContaining('a container name must be specified for pod pair, choose one of: [one two]'),
    });
    expect((await call(cluster.url, 'GET', `/api/v1/namespaces/${namespace}/pods/pair/log?container=three`)).status).toBe(400);
  });

  it('can be followed to the end of the pod', async () => {
    await core.createNamespacedPod({ namespace, body: podBody('talker') });
    await until('it runs', async () => (await core.readNamespacedPod({ namespace, name: 'talker' })).status?.phase === 'Running');
    const stream = new PassThrough();
    let text = '';
    let ended = false;
    stream.on('data', (chunk: Buffer) => {
      text += chunk.toString();
    });
    stream.on('end', () => {
      ended = true;
    });
    await new Log(cluster.config).log(namespace, 'talker', 'main', stream, { follow: true });
    await call(cluster.url, 'POST', `/simulation/pods/${namespace}/talker/log`, { text: 'step 1' });
    await until('the line comes', () => text.includes('step 1'));
    await core.deleteNamespacedPod({ namespace, name: 'talker' });
    await until('the stream ends', () => ended);
    expect(text).toContain('SIGTERM');
  });
});
