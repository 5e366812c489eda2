import { execFile, execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { call, QUICK, type Running, startCluster, temporaryFolder, until } from './support.ts';

function hasKubectl(): boolean {
  try {
    execFileSync('kubectl', ['version', '--client'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

const present = hasKubectl();
if (!present) process.stderr.write('kubectl is not installed: its tests are skipped\n');

const MANIFEST = `
apiVersion: v1
kind: Pod
metadata: {name: box, labels: {app: box}}
spec:
  nodeSelector: {GpuType: h100}
  tolerations: [{key: nvidia.com/gpu, operator: Exists, effect: NoSchedule}]
  containers: [{name: main, image: "tool:1", resources: {limits: {nvidia.com/gpu: 2}}}]
---
apiVersion: v1
kind: Service
metadata: {name: box-ssh}
spec: {type: NodePort, selector: {app: box}, ports: [{port: 22}]}
---
apiVersion: snapshot.storage.k8s.io/v1
kind: VolumeSnapshot
metadata: {name: snap}
spec: {source: {persistentVolumeClaimName: disk}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: disk}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
`;

interface Output {
  code: number;
  out: string;
  error: string;
}

describe.skipIf(!present)('kubectl', () => {
  let cluster: Running;
  const folder = temporaryFolder();
  beforeAll(async () => {
    cluster = await startCluster(QUICK);
    const context = { cluster: 'c', user: 'u', namespace: 'gpu-dev' };
    const config = {
      apiVersion: 'v1',
      kind: 'Config',
      clusters: [{ name: 'c', cluster: { server: cluster.url } }],
      users: [{ name: 'u', user: {} }],
      contexts: [{ name: 'x', context }],
      'current-context': 'x',
    };
    writeFileSync(join(folder.path, 'kubeconfig'), JSON.stringify(config));
    writeFileSync(join(folder.path, 'all.yaml'), MANIFEST);
  });
  afterAll(async () => {
    await cluster.close();
    folder.remove();
  });

  const kubectl = (args: string[], input?: string): Promise<Output> =>
    new Promise((resolve) => {
      const env = { ...process.env, KUBECONFIG: join(folder.path, 'kubeconfig'), HOME: folder.path };
      const child = execFile('kubectl', args, { env, timeout: 20_000 }, (error, out, text) => {
        resolve({ code: typeof error?.code === 'number' ? error.code : error ? 1 : 0, out, error: text });
      });
      child.stdin?.end(input ?? '');
    });

  it('applies a manifest, finds it unchanged, and applies a change', async () => {
    const first = await kubectl(['apply', '-f', join(folder.path, 'all.yaml')]);
    expect(first).toMatchObject({ code: 0, error: '' });
    expect(first.out).toContain('pod/box created');
    expect(first.out).toContain('volumesnapshot.snapshot.storage.k8s.io/snap created');
    const again = await kubectl(['apply', '-f', join(folder.path, 'all.yaml')]);
    expect(again).toMatchObject({ code: 0 });
    expect(again.out).toContain('service/box-ssh unchanged');
    writeFileSync(join(folder.path, 'changed.yaml'), MANIFEST.replace('labels: {app: box}', 'labels: {app: box, more: "yes"}'));
    expect((await kubectl(['apply', '-f', join(folder.path, 'changed.yaml')])).out).toContain('pod/box configured');
    const server = await kubectl(['apply', '--server-side', '-f', join(folder.path, 'all.yaml')]);
    expect(server.code).toBe(1);
    expect(server.error).toContain('server-side apply is not supported');
  });

  it('waits for, gets and describes objects', async () => {
    expect((await kubectl(['wait', '--for=condition=Ready', 'pod/box', '--timeout=10s'])).code).toBe(0);
    const wide = (await kubectl(['get', 'pods', '-o', 'wide'])).out.split('\n');
    expect(wide[0]).toMatch(/^NAME +READY +STATUS +RESTARTS +AGE +IP +NODE /);
    expect(wide[1]).toMatch(/^box +1\/1 +Running +0 +\d+s +10\.[\d.]+ +h100-[12] /);
    expect((await kubectl(['get', 'po,svc,pvc,vs,nodes'])).out).toContain('service/box-ssh');
    expect((await kubectl(['get', 'nodes', '-l', 'GpuType=h100', '-o', 'name'])).out).toBe('node/h100-1\nnode/h100-2\n');
    expect((await kubectl(['get', 'pod', 'nobody'])).error).toContain('Error from server (NotFound): pods "nobody" not found');
    const described = (await kubectl(['describe', 'pod', 'box'])).out;
    expect(described).toMatch(/nvidia\.com\/gpu: +2/);
    expect(described).toMatch(/Normal +Started .*Started container main/);
    expect((await kubectl(['describe', 'node', 'h100-1'])).out).toContain('nvidia.com/gpu');
  });

  it('watches pods as a table', async () => {
    const watched = kubectl(['get', 'pods', '--watch', '--request-timeout=2s']);
    await until('the watch is open', async () => (await call(cluster.url, 'GET', '/simulation/state')).body.openWatches > 0);
    await kubectl(['run', 'second', '--image=tool:1', '--restart=Never']);
    const lines = (await watched).out.split('\n');
    expect(lines.filter((line) => line.startsWith('NAME'))).toHaveLength(1);
    expect(lines.some((line) => /^second +1\/1 +Running/.test(line))).toBe(true);
  });

  it('shows logs and executes commands, with input and exit codes', async () => {
    expect((await kubectl(['logs', 'box'])).out).toContain('simulated container main started');
    expect((await kubectl(['exec', '-i', 'box', '--', 'sh', '-c', 'cat > /tmp/note'], 'hello')).code).toBe(0);
    expect((await kubectl(['exec', 'box', '--', 'cat', '/tmp/note'])).out).toBe('hello');
    const failed = await kubectl(['exec', 'box', '--', 'sh', '-c', 'exit 7']);
    expect(failed).toMatchObject({ code: 7, error: expect.stringContaining('exit code 7') });
    expect((await kubectl(['exec', 'box', '--', 'bash'])).error).toContain('A simulated pod has no shell');
  });

  it('creates kinds by name, which it sends as protobuf', async () => {
    expect((await kubectl(['create', 'namespace', 'made'])).out).toBe('namespace/made created\n');
    expect((await kubectl(['create', 'secret', 'generic', 's', '--from-literal=a=b'])).code).toBe(0);
    expect((await kubectl(['get', 'secret', 's', '-o', 'jsonpath={.data.a} {.type}'])).out).toBe('Yg== Opaque');
    expect((await kubectl(['create', 'configmap', 'c', '--from-literal=a=b'])).code).toBe(0);
    expect((await kubectl(['create', 'service', 'nodeport', 'n', '--tcp=80:8080'])).code).toBe(0);
    expect((await kubectl(['get', 'service', 'n', '-o', 'jsonpath={.spec.ports[0].targetPort}'])).out).toBe('8080');
    expect((await kubectl(['create', 'job', 'j', '--image=tool:1', '--', 'make', 'all'])).code).toBe(0);
    expect((await kubectl(['wait', '--for=condition=complete', 'job/j', '--timeout=10s'])).code).toBe(0);
    const { error } = await kubectl(['create', 'deployment', 'd', '--image=x']);
    expect(error).toContain('error: ');
    await kubectl(['delete', 'job/j', 'service/n', 'secret/s', 'namespace/made']);
  });

  it('labels, patches, cordons and drains', async () => {
    expect((await kubectl(['label', 'pod', 'box', 'a=b'])).code).toBe(0);
    expect((await kubectl(['patch', 'pvc', 'disk', '--type=merge', '-p', '{"metadata":{"labels":{"x":"y"}}}'])).code).toBe(0);
    expect((await kubectl(['cordon', 't4-1'])).out).toContain('node/t4-1 cordoned');
    expect((await kubectl(['get', 'node', 't4-1'])).out).toContain('SchedulingDisabled');
    const node = (await kubectl(['get', 'pod', 'box', '-o', 'jsonpath={.spec.nodeName}'])).out;
    const drained = await kubectl(['drain', node, '--force', '--timeout=10s']);
    expect(drained).toMatchObject({ code: 0, out: expect.stringContaining('pod/box evicted') });
  });

  it('deletes and waits until it is gone', async () => {
    const deleted = await kubectl(['delete', 'svc/box-ssh', 'pvc/disk', 'pod/second', '--timeout=10s']);
    expect(deleted).toMatchObject({ code: 0, out: expect.stringContaining('persistentvolumeclaim "disk" deleted') });
    expect((await kubectl(['get', 'pods'])).error).toContain('No resources found');
  });
});
