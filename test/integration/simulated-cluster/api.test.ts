import { CoreV1Api, PatchStrategy, setHeaderOptions } from '@kubernetes/client-node';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { call, gpuPod, podBody, type Running, startCluster, until } from './support.ts';

const MERGE = 'application/merge-patch+json';
const MAPS = '/api/v1/namespaces/default/configmaps';

let cluster: Running;
let core: CoreV1Api;
beforeAll(async () => {
  cluster = await startCluster();
  core = cluster.config.makeApiClient(CoreV1Api);
});
afterAll(() => cluster.close());

const map = (name: string, data: Record<string, string> = { a: '1' }, metadata: object = {}) => ({
  metadata: { name, ...metadata },
  data,
});

describe('the API', () => {
  it('creates, reads, replaces, patches and deletes through client-node', async () => {
    const namespace = 'default';
    const made = await core.createNamespacedConfigMap({ namespace, body: map('crud') });
    expect(made.metadata?.uid).toMatch(/^[0-9a-f-]{36}$/);
    const replaced = await core.replaceNamespacedConfigMap({ name: 'crud', namespace, body: { ...made, data: { b: '2' } } });
    expect(replaced.data).toEqual({ b: '2' });
    expect(Number(replaced.metadata?.resourceVersion)).toBeGreaterThan(Number(made.metadata?.resourceVersion));
    const patched = await core.patchNamespacedConfigMap(
      { name: 'crud', namespace, body: { data: { b: null, c: '3' } } },
      setHeaderOptions('Content-Type', PatchStrategy.MergePatch),
    );
    expect(patched.data).toEqual({ c: '3' });
    await core.deleteNamespacedConfigMap({ name: 'crud', namespace });
    await expect(core.readNamespacedConfigMap({ name: 'crud', namespace })).rejects.toMatchObject({ code: 404 });
  });

  it('takes JSON patches with tests, and strategic patches that merge lists by key', async () => {
    await call(cluster.url, 'POST', MAPS, map('patches'));
    const refused = await call(
      cluster.url,
      'PATCH',
      `${MAPS}/patches`,
      [
        { op: 'test', path: '/data/a', value: 'other' },
        { op: 'remove', path: '/data/a' },
      ],
      'application/json-patch+json',
    );
    expect(refused.status).toBe(422);
    const changed = await call(
      cluster.url,
      'PATCH',
      `${MAPS}/patches`,
      [
        { op: 'test', path: '/data/a', value: '1' },
        { op: 'add', path: '/metadata/annotations', value: { 'a.b/c': 'x' } },
        { op: 'replace', path: '/metadata/annotations/a.b~1c', value: 'y' },
        { op: 'move', from: '/data/a', path: '/data/z' },
      ],
      'application/json-patch+json',
    );
    expect(changed.body).toMatchObject({ metadata: { annotations: { 'a.b/c': 'y' } }, data: { z: '1' } });
    const pods = '/api/v1/namespaces/default/pods';
    await call(cluster.url, 'POST', pods, podBody('strategic'));
    const patched = await call(
      cluster.url,
      'PATCH',
      `${pods}/strategic`,
      { metadata: { labels: { x: 'y' } }, spec: { containers: [{ name: 'main', image: 'tool:2' }] } },
      'application/strategic-merge-patch+json',
    );
    expect(patched.body.spec.containers).toHaveLength(1);
    expect(patched.body.spec.containers[0]).toMatchObject({ name: 'main', image: 'tool:2', imagePullPolicy: 'IfNotPresent' });
    const apply = await call(cluster.url, 'PATCH', `${pods}/strategic?fieldManager=x`, {}, 'application/apply-patch+yaml');
    expect(apply).toMatchObject({
      status: 415,
      body: { reason: 'UnsupportedMediaType', message: expect.stringContaining('server-side apply') },
    });
  });

  it('answers 404, 405 and 409 as Status objects', async () => {
    expect((await call(cluster.url, 'GET', '/apis/nothing/v1/things')).body).toMatchObject({
      kind: 'Status',
      code: 404,
      reason: 'NotFound',
    });
    expect((await call(cluster.url, 'GET', `${MAPS}/absent`)).body).toMatchObject({
      message: 'configmaps "absent" not found',
      details: { name: 'absent', kind: 'configmaps' },
    });
    expect((await call(cluster.url, 'POST', '/api/v1/namespaces/absent/configmaps', map('x'))).body).toMatchObject({
      code: 404,
      message: 'namespaces "absent" not found',
    });
    expect((await call(cluster.url, 'PUT', MAPS, map('x'))).status).toBe(405);
    expect((await call(cluster.url, 'POST', MAPS, map('twice'))).status).toBe(201);
    expect((await call(cluster.url, 'POST', MAPS, map('twice'))).body).toMatchObject({ code: 409, reason: 'AlreadyExists' });
  });

  it('checks uid and resourceVersion before it updates or deletes', async () => {
    const { body: made } = await call(cluster.url, 'POST', MAPS, map('guarded'));
    await call(cluster.url, 'PATCH', `${MAPS}/guarded`, { data: { b: '2' } }, MERGE);
    const stale = { metadata: { resourceVersion: made.metadata.resourceVersion }, data: { c: '3' } };
    expect((await call(cluster.url, 'PATCH', `${MAPS}/guarded`, stale, MERGE)).body).toMatchObject({
      code: 409,
      reason: 'Conflict',
    });
    expect((await call(cluster.url, 'PUT', `${MAPS}/guarded`, { ...made, data: {} })).status).toBe(409);
    expect((await call(cluster.url, 'PATCH', `${MAPS}/guarded`, { metadata: { uid: 'other' } }, MERGE)).status).toBe(409);
    const other = await call(cluster.url, 'DELETE', `${MAPS}/guarded`, { preconditions: { uid: 'other' } });
    expect(other.body).toMatchObject({
      code: 409,
      message: expect.stringContaining('Precondition failed: UID in precondition: other'),
    });
    const old = await call(cluster.url, 'DELETE', `${MAPS}/guarded`, {
      preconditions: { resourceVersion: made.metadata.resourceVersion },
    });
    expect(old.status).toBe(409);
    const right = await call(cluster.url, 'DELETE', `${MAPS}/guarded`, { preconditions: { uid: made.metadata.uid } });
    expect(right).toMatchObject({ status: 200, body: { status: 'Success' } });
  });

  it('does not raise the version of an object that a patch leaves as it was', async () => {
    const { body: made } = await call(cluster.url, 'POST', MAPS, map('still'));
    const { body: same } = await call(cluster.url, 'PATCH', `${MAPS}/still`, { data: { a: '1' } }, MERGE);
    expect(same.metadata.resourceVersion).toBe(made.metadata.resourceVersion);
  });

  it('refuses what is not valid with 422 and names the field', async () => {
    const pods = '/api/v1/namespaces/default/pods';
    const cases: [string, object, string][] = [
      [pods, podBody('Bad_Name'), 'metadata.name'],
      [pods, podBody('x', { containers: [] }), 'spec.containers'],
      [pods, podBody('x', { containers: [{ name: 'main' }] }), 'spec.containers[0].image'],
      [pods, podBody('x', {}, { labels: { a: 'no spaces' } }), 'metadata.labels'],
      [pods, podBody('x', { restartPolicy: 'Sometimes' }), 'spec.restartPolicy'],
      [pods, gpuPod('x', 'h100', 0.5), 'spec.containers[0].resources.limits[nvidia.com/gpu]'],
      [
        pods,
        podBody('x', { containers: [{ name: 'main', image: 'x', volumeMounts: [{ name: 'none', mountPath: '/x' }] }] }),
        'spec.containers[0].volumeMounts[0].name',
      ],
      [MAPS, map(''), 'metadata.name'],
      ['/api/v1/namespaces/default/services', { metadata: { name: '1st' }, spec: { ports: [{ port: 1 }] } }, 'metadata.name'],
      ['/api/v1/namespaces/default/persistentvolumeclaims', { metadata: { name: 'x' }, spec: {} }, 'spec.accessModes'],
      [
        '/apis/batch/v1/namespaces/default/jobs',
        { metadata: { name: 'x' }, spec: { template: { spec: { containers: [{ name: 'a', image: 'b' }] } } } },
        'spec.template.spec.restartPolicy',
      ],
    ];
    for (const [path, body, field] of cases) {
      const answer = await call(cluster.url, 'POST', path, body);
      expect(answer.body, field).toMatchObject({ code: 422, reason: 'Invalid' });
      expect(answer.body.details.causes.map((cause: { field: string }) => cause.field)).toContain(field);
    }
  });

  it('keeps pod specs as they were made', async () => {
    const pods = '/api/v1/namespaces/default/pods';
    await call(cluster.url, 'POST', pods, podBody('fixed'));
    const answer = await call(cluster.url, 'PATCH', `${pods}/fixed`, { spec: { nodeSelector: { a: 'b' } } }, MERGE);
    expect(answer.body).toMatchObject({ code: 422, message: expect.stringContaining('pod updates may not change fields') });
    expect((await call(cluster.url, 'PATCH', `${pods}/fixed`, { metadata: { labels: { a: 'b' } } }, MERGE)).status).toBe(200);
  });

  it('changes status only through the status subresource, and nothing else there', async () => {
    const path = '/api/v1/nodes/t4-1';
    const wrong = await call(cluster.url, 'PATCH', path, { status: { phase: 'x' } }, MERGE);
    expect(wrong.body.status.phase).toBeUndefined();
    const right = await call(
      cluster.url,
      'PATCH',
      `${path}/status`,
      { metadata: { labels: { no: 'no' } }, status: { phase: 'x' } },
      MERGE,
    );
    expect(right.body.status.phase).toBe('x');
    expect(right.body.metadata.labels.no).toBeUndefined();
  });

  it('selects by labels and fields, and says which fields cannot be', async () => {
    const namespace = 'kube-system';
    for (const [name, tier] of [
      ['s1', 'a'],
      ['s2', 'b'],
      ['s3', 'c'],
    ] as const) {
      await core.createNamespacedConfigMap({ namespace, body: map(name, {}, { labels: { tier, sel: 'yes' } }) });
    }
    const names = async (labelSelector: string) =>
      (await core.listNamespacedConfigMap({ namespace, labelSelector })).items.map((item) => item.metadata?.name);
    expect(await names('tier in (a,b),sel')).toEqual(['s1', 's2']);
    expect(await names('tier!=a,sel=yes')).toEqual(['s2', 's3']);
    expect(await names('!sel')).not.toContain('s1');
    const one = await core.listNamespacedConfigMap({ namespace, fieldSelector: 'metadata.name=s2' });
    expect(one.items.map((item) => item.metadata?.name)).toEqual(['s2']);
    await core.createNamespacedPod({ namespace, body: gpuPod('selected', 'b200', 1) });
    const bound = await until('the pod is found by its node and phase', async () => {
      const { items } = await core.listPodForAllNamespaces({ fieldSelector: 'spec.nodeName=b200-1,status.phase=Running' });
      return items[0];
    });
    expect(bound.metadata?.name).toBe('selected');
    const events = await core.listNamespacedEvent({
      namespace,
      fieldSelector: 'involvedObject.kind=Pod,involvedObject.name=selected,reason=Scheduled',
    });
    expect(events.items).toHaveLength(1);
    expect((await call(cluster.url, 'GET', '/api/v1/pods?fieldSelector=spec.color%3Dred')).body).toMatchObject({
      code: 400,
      message: 'field label not supported: spec.color',
    });
  });

  it('pages through a list as it was at its first page', async () => {
    const namespace = 'gpu-controlplane';
    const names = Array.from({ length: 7 }, (_, index) => `page-${index}`);
    for (const name of names) await core.createNamespacedConfigMap({ namespace, body: map(name) });
    const first = await core.listNamespacedConfigMap({ namespace, limit: 3 });
    expect(first.metadata).toMatchObject({ remainingItemCount: 4 });
    await core.deleteNamespacedConfigMap({ namespace, name: 'page-4' });
    await core.createNamespacedConfigMap({ namespace, body: map('page-3b') });
    const seen = first.items.map((item) => item.metadata?.name);
    let token = first.metadata?._continue;
    while (token) {
      const page = await core.listNamespacedConfigMap({ namespace, limit: 3, _continue: token });
      expect(page.metadata?.resourceVersion).toBe(first.metadata?.resourceVersion);
      seen.push(...page.items.map((item) => item.metadata?.name));
      token = page.metadata?._continue;
    }
    expect(seen).toEqual(names);
    await call(cluster.url, 'POST', '/simulation/faults', { kind: 'expire-watches' });
    const late = await call(
      cluster.url,
      'GET',
      `/api/v1/namespaces/${namespace}/configmaps?limit=3&continue=${first.metadata?._continue}`,
    );
    expect(late.body).toMatchObject({ code: 410, reason: 'Expired' });
  });

  it('makes names from generateName, and keeps nothing of a dry run', async () => {
    const { body: made } = await call(cluster.url, 'POST', MAPS, { metadata: { generateName: 'gen-' }, data: {} });
    expect(made.metadata.name).toMatch(/^gen-[a-z0-9]{5}$/);
    expect((await call(cluster.url, 'POST', `${MAPS}?dryRun=All`, map('dry'))).status).toBe(201);
    expect((await call(cluster.url, 'GET', `${MAPS}/dry`)).status).toBe(404);
  });

  it('gives every Service port its own node port and refuses one that is taken', async () => {
    const services = '/api/v1/namespaces/default/services';
    const service = (name: string, nodePort?: number) => ({
      metadata: { name },
      spec: { type: 'NodePort', ports: [{ port: 22, ...(nodePort ? { nodePort } : {}) }] },
    });
    const made = await Promise.all(
      Array.from({ length: 60 }, (_, index) => call(cluster.url, 'POST', services, service(`np-${index}`))),
    );
    const ports = made.map((answer) => answer.body.spec.ports[0].nodePort as number);
    expect(new Set(ports).size).toBe(60);
    expect(ports.every((port) => port >= 30000 && port <= 32767)).toBe(true);
    const taken = await call(cluster.url, 'POST', services, service('np-taken', ports[0]));
    expect(taken.body).toMatchObject({ code: 422, message: expect.stringContaining('provided port is already allocated') });
    expect((await call(cluster.url, 'POST', services, service('np-out', 80))).status).toBe(422);
    await call(cluster.url, 'DELETE', `${services}/np-0`);
    expect((await call(cluster.url, 'POST', services, service('np-again', ports[0]))).status).toBe(201);
  });
});
