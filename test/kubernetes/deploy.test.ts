import { execFileSync, spawnSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { stringify } from 'yaml';
import { Database } from '../../persistence/database.ts';
import { Program } from '../crash/support/process.ts';
import { SERVICE } from '../crash/support/scene.ts';
import { FOLDER, type Manifest, readManifests } from '../deploy/manifests.ts';
import { realCluster } from '../support/kubernetes/real-cluster.ts';
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts';
import { databaseEnvironment } from '../support/database-environment.ts';
import { notTested } from '../support/not-tested.ts';

const KEY = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl ada@laptop';
const hasKubectl = spawnSync('kubectl', ['version', '--client']).status === 0;
if (!hasKubectl) notTested('kubectl apply', 'kubectl is not installed: manifests are applied by plain calls instead');
/** 1.20 has none of policy/v1; test/deploy checks its fields. */
const manifests = readManifests().filter((each) => each.apiVersion !== 'policy/v1');

/** What the manifests set, but for the database. */
const settings = Object.fromEntries(
  Object.entries(manifests.find(({ kind }) => kind === 'ConfigMap').data as Record<string, string>).filter(
    ([name]) => !name.startsWith('POSTGRES_'),
  ),
);

const cluster = await realCluster({ own: true, fleet: { h100: 1 }, delays: { job: 1_500 } });

describe.skipIf(cluster.missing)('the manifests on a real API server', () => {
  let test: TestDatabase;
  let db: Database;
  let github: Server;
  const programs: Program[] = [];

  beforeAll(async () => {
    test = await createTestDatabase();
    db = new Database({ ...test.config, maxConnections: 3 });
    github = createServer((request, response) => void response.end(request.url === '/ada.keys' ? `${KEY}\n` : ''));
    await new Promise<void>((resolve) => github.listen(0, '127.0.0.1', resolve));
    await apply(manifests);
    await cluster.makeNamespace('gpu-dev');
  });
  afterAll(async () => {
    await Promise.all(programs.map((program) => program.kill()));
    await db?.close();
    await test?.drop();
    github?.close();
  });

  /** @returns what kubectl says of each object; without kubectl, nothing. */
  async function apply(objects: Manifest[]): Promise<string> {
    if (hasKubectl) {
      const input = objects.map((object) => stringify(object)).join('---\n');
      return execFileSync('kubectl', ['--kubeconfig', cluster.kubeconfig, 'apply', '-f', '-'], { input, encoding: 'utf8' });
    }
    for (const object of objects) await cluster.api.ensure(pathOf(object), object);
    return '';
  }

  async function tokenOf(serviceAccount: string): Promise<string> {
    const path = `/api/v1/namespaces/gpu-controlplane/serviceaccounts/${serviceAccount}/token`;
    const request = { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenRequest', spec: { expirationSeconds: 7_200 } };
    return (await cluster.api.ask('POST', path, request)).status.token;
  }

  async function start(serviceAccount: string, role: string, more: Record<string, string> = {}): Promise<Program> {
    const program = Program.spawn([SERVICE, role], {
      PATH: process.env['PATH'],
      ...databaseEnvironment(test.config),
      KUBECONFIG: cluster.kubeconfigFor({ token: await tokenOf(serviceAccount), namespace: 'gpu-dev' }),
      GITHUB_URL: `http://127.0.0.1:${(github.address() as AddressInfo).port}`,
      ...settings,
      ...more,
      PORT: '0',
      LOG_LEVEL: 'warn',
    });
    programs.push(program);
    return program;
  }

  async function reaches(id: string, status: string): Promise<void> {
    const end = Date.now() + 30_000;
    for (;;) {
      const { rows } = await db.query<{ status: string; reason: string | null }>(
        'select status::text, failure_reason as reason from reservations where reservation_id = $1',
        [id],
      );
      if (rows[0]?.status === status) return;
      if (Date.now() > end || rows[0]?.status === 'failed') {
        throw new Error(
          `${id} is ${rows[0]?.status} (${rows[0]?.reason}), not ${status}: ${programs.map(({ log }) => log).join('\n')}`,
        );
      }
      await pause(50);
    }
  }
  const send = (message: unknown, queue = 'gpu_reservations') =>
    db.query('select pgmq.send($1, $2::jsonb)', [queue, JSON.stringify(message)]);

  it.skipIf(!hasKubectl)('kubectl takes them, and a second time finds nothing to change; so does its kustomize', async () => {
    const again = (await apply(manifests)).trim().split('\n');
    expect(again).toHaveLength(manifests.length);
    expect(again.filter((line) => !line.endsWith(' unchanged'))).toEqual([]);
    const built = execFileSync('kubectl', ['kustomize', FOLDER], { encoding: 'utf8' });
    expect(built.match(/^kind: /gm)).toHaveLength(readManifests().length);
  });

  it('with exactly those rights the processor takes a reservation with a disk through its whole life', async () => {
    const processor = await start('reservation-processor', 'processor');
    expect(await processor.ready(), processor.log).toMatchObject({ ready: true });
    const id = randomUUID();
    await send({
      action: 'create_reservation',
      reservation_id: id,
      user_id: 'ada',
      github_user: 'ada',
      gpu_type: 'h100',
      gpu_count: 1,
      duration_hours: 1,
      disk_name: 'default',
      env_vars: { HELLO: 'world' },
    });
    await reaches(id, 'running');
    const pods = await cluster.api.ask('GET', `/api/v1/namespaces/gpu-dev/pods`);
    expect(pods.items).toHaveLength(1);
    expect(pods.items[0].spec).toMatchObject({
      priorityClassName: settings['GPU_DEV_PRIORITY_CLASS'],
      preemptionPolicy: 'Never',
    });
    await send({ action: 'cancel', reservation_id: id, user_id: 'ada' });
    await reaches(id, 'cancelled');
    expect(processor.log).not.toMatch(/403|orbidden|cannot/);
    for (const kind of ['pods', 'services', 'secrets']) {
      const { items } = await cluster.api.ask('GET', `/api/v1/namespaces/gpu-dev/${kind}?labelSelector=gpu-dev.io/reservation`);
      expect(items, kind).toEqual([]);
    }
    expect((await cluster.api.ask('GET', '/api/v1/namespaces/gpu-dev/persistentvolumeclaims')).items).toHaveLength(1);
    processor.signal('SIGTERM');
    expect(await processor.exited(), processor.log).toEqual({ code: 0, signal: null });
  });

  it('with exactly those rights a disk is saved as a copy, and a clone of it is filled from that', async () => {
    const proxied = await cluster.faulty({ token: await tokenOf('reservation-processor') });
    const { proxy } = proxied;
    const more = { KUBECONFIG: proxied.kubeconfig, GPU_DEV_SNAPSHOTS: 'copy' };
    const processor = await start('reservation-processor', 'processor', more);
    expect(await processor.ready(), processor.log).toMatchObject({ ready: true });
    const disk = async (name: string) =>
      (await db.query<{ state: string; disk_id: string }>('select state, disk_id from disks where disk_name = $1', [name]))
        .rows[0];
    const idle = async (name: string): Promise<string> => {
      for (const end = Date.now() + 30_000; ; await pause(50)) {
        const found = await disk(name);
        if (found?.state === 'idle') return found.disk_id;
        if (Date.now() > end) throw new Error(`${name} is ${found?.state}: ${processor.log}`);
      }
    };
    const session = async (name: string): Promise<string> => {
      const id = randomUUID();
      const wish = { gpu_type: 'h100', gpu_count: 1, duration_hours: 1, disk_name: name, github_user: 'ada' };
      await send({ action: 'create_reservation', reservation_id: id, user_id: 'ada', ...wish });
      await reaches(id, 'running');
      await send({ action: 'cancel', reservation_id: id, user_id: 'ada' });
      await reaches(id, 'cancelled');
      return idle(name);
    };
    const saved = await session('saved');
    await send({ action: 'clone_disk', user_id: 'ada', source_disk: 'saved', target_disk: 'clone' }, 'disk_operations');
    await idle('clone');
    const clone = await session('clone');
    const claims = await cluster.api.ask('GET', '/api/v1/namespaces/gpu-dev/persistentvolumeclaims');
    const annotated = (label: string, id: string, annotation: string) =>
      claims.items.filter(
        ({ metadata }: Manifest) =>
          metadata.labels[label] === id && metadata.annotations[`gpu-dev.io/${annotation}`] !== undefined,
      );
    for (const id of [saved, clone]) expect(annotated('gpu-dev.io/disk', id, 'complete'), id).toHaveLength(1);
    expect(annotated('gpu-dev.io/disk', clone, 'filled')).toHaveLength(1);
    // Also what a copy asks for and can do without, such as how far it is.
    expect(proxy.requests.filter(({ status }) => status === 401 || status === 403)).toEqual([]);
    const made = (path: RegExp) => proxy.seen('POST', path).filter(({ status }) => status === 201).length;
    expect([made(/\/jobs$/), proxy.seen('GET', /\/pods\/[^/]+\/log/).length > 0]).toEqual([3, true]);
    for (const [kind, group] of [
      ['jobs', 'apis/batch/v1'],
      ['networkpolicies', 'apis/networking.k8s.io/v1'],
      ['configmaps', 'api/v1'],
    ]) {
      const list = `/${group}/namespaces/gpu-dev/${kind}?labelSelector=gpu-dev.io/copy`;
      for (const end = Date.now() + 20_000; ; await pause(50)) {
        const { items } = await cluster.api.ask('GET', list);
        if (items.length === 0) break;
        if (Date.now() > end) expect(items, kind).toEqual([]);
      }
    }
    processor.signal('SIGTERM');
    expect(await processor.exited(), processor.log).toEqual({ code: 0, signal: null });
  });

  it('the account of the API may do nothing on the cluster, and its role needs nothing', async () => {
    const api = await start('api-service', 'api');
    expect(await api.ready(), api.log).toMatchObject({ ready: true });
    await api.kill();
    const refused = await start('api-service', 'processor');
    expect(await refused.exited()).toEqual({ code: 1, signal: null });
    expect(refused.log).toMatch(/^The cluster lacks what the service needs:\n- /);
    expect(refused.log).toContain('\n- May not list nodes of all namespaces');
    expect(refused.log).toContain('\n- May not create pods/exec in the namespace gpu-dev');
    expect(refused.log).not.toContain('    at ');
  });

  it('one right that is missing is named at the start', async () => {
    const role = manifests.find(({ kind, metadata }) => kind === 'Role' && metadata.name === 'gpu-dev-processor');
    const poorer = structuredClone(role);
    const rule = poorer.rules.find(({ resources }: Manifest) => resources[0] === 'secrets');
    rule.verbs = rule.verbs.filter((verb: string) => verb !== 'patch');
    await apply([poorer]);
    try {
      const processor = await start('reservation-processor', 'processor');
      expect(await processor.exited()).toEqual({ code: 1, signal: null });
      expect(processor.log).toBe('The cluster lacks what the service needs:\n- May not patch secrets in the namespace gpu-dev');
    } finally {
      await apply([role]);
    }
  });

  it('what settings name and is not there is named at the start, with what to do', async () => {
    const named = {
      GPU_DEV_PRIORITY_CLASS: 'nobodys',
      BUILDKIT_REGISTRY_SECRET: 'registry',
      GPU_DEV_SHARED_VOLUME: 'pvc:shared',
      GPU_DEV_STORAGE_CLASS: 'fast',
    };
    const lacking = await start('reservation-processor', 'processor', named);
    expect(await lacking.exited()).toEqual({ code: 1, signal: null });
    const [title, ...missing] = lacking.log.split('\n- ');
    expect(title).toBe('The cluster lacks what the service needs:');
    expect(missing.map((line) => line.split('): ')[0])).toEqual([
      'There is no PriorityClass nobodys (GPU_DEV_PRIORITY_CLASS',
      'There is no Secret registry in the namespace gpu-dev (BUILDKIT_REGISTRY_SECRET',
      'There is no PersistentVolumeClaim shared in the namespace gpu-dev (GPU_DEV_SHARED_VOLUME=pvc:shared',
      'There is no StorageClass fast (GPU_DEV_STORAGE_CLASS',
    ]);
    for (const line of missing) expect(line).toMatch(/: (create it|make it|apply)\b.*, (or )?(name one|leave)/);
    // A Secret of that name, but none that a registry is logged in to with.
    const secrets = '/api/v1/namespaces/gpu-dev/secrets';
    const registry = { metadata: { name: 'registry' }, stringData: { '.dockerconfigjson': '{"auths":{}}' } };
    await cluster.api.ensure(secrets, registry);
    const shared = {
      metadata: { name: 'shared' },
      spec: { accessModes: ['ReadWriteMany'], resources: { requests: { storage: '1Gi' } } },
    };
    await cluster.api.ensure('/api/v1/namespaces/gpu-dev/persistentvolumeclaims', shared);
    const there = { ...named, GPU_DEV_PRIORITY_CLASS: settings['GPU_DEV_PRIORITY_CLASS']!, GPU_DEV_STORAGE_CLASS: 'standard' };
    const wrong = await start('reservation-processor', 'processor', there);
    expect(await wrong.exited()).toEqual({ code: 1, signal: null });
    expect(wrong.log.split('\n- ').slice(1)).toEqual([
      expect.stringMatching(
        /^The Secret registry in the namespace gpu-dev is of type Opaque, not kubernetes.io\/dockerconfigjson /,
      ),
    ]);
    await cluster.api.ask('DELETE', `${secrets}/registry`);
    await cluster.api.ensure(secrets, { ...registry, type: 'kubernetes.io/dockerconfigjson' });
    const processor = await start('reservation-processor', 'processor', there);
    expect(await processor.ready(), processor.log).toMatchObject({ ready: true });
    await processor.kill();
    // It was only tried out.
    const pods = await cluster.api.ask('GET', '/api/v1/namespaces/gpu-dev/pods');
    expect(pods.items).toEqual([]);
    await cluster.api.ask('DELETE', '/api/v1/namespaces/gpu-dev/persistentvolumeclaims/shared');
  });
});

const PLURALS: Record<string, string> = { NetworkPolicy: 'networkpolicies', PriorityClass: 'priorityclasses' };

function pathOf({ apiVersion, kind, metadata: { namespace } }: Manifest): string {
  const root = apiVersion === 'v1' ? '/api/v1' : `/apis/${apiVersion}`;
  const plural = PLURALS[kind] ?? `${kind.toLowerCase()}s`;
  return namespace === undefined ? `${root}/${plural}` : `${root}/namespaces/${namespace}/${plural}`;
}
