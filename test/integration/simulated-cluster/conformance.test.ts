import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { realCluster } from '../../support/kubernetes/real-cluster.ts';
import { type Answer, call, QUICK, startCluster } from './support.ts';

/**
 * What clients rely on, asked of the simulated cluster and of a real API server. Where the two differ, the simulation is wrong. Only what
 * needs no kubelet and no controllers is asked here.
 */
type Call = (method: string, path: string, body?: unknown, type?: string) => Promise<Answer>;

interface Server {
  name: string;
  missing: string;
  /** One with nothing in it. */
  namespace: string;
  start(): Promise<{ call: Call; close(): Promise<void> }>;
}

const cluster = await realCluster();

const simulated: Server = {
  name: 'the simulated cluster',
  missing: '',
  namespace: 'gpu-dev',
  async start() {
    const front = await startCluster(QUICK);
    return { call: (...args) => call(front.url, ...args), close: () => front.close() };
  },
};

const real: Server = {
  name: 'a real API server',
  missing: cluster.missing,
  namespace: cluster.namespace,
  start: async () => ({ call: (...args) => cluster.api.call(...args), close: async () => undefined }),
};

const MERGE = 'application/merge-patch+json';
const STRATEGIC = 'application/strategic-merge-patch+json';
const JSON_PATCH = 'application/json-patch+json';

for (const server of [simulated, real])
  describe.skipIf(server.missing)(server.name, () => {
    let ask: Call;
    let close: () => Promise<void>;
    const { namespace } = server;
    const maps = `/api/v1/namespaces/${namespace}/configmaps`;
    const pods = `/api/v1/namespaces/${namespace}/pods`;
    const pod = (name: string, spec: object = {}) => ({
      metadata: { name },
      spec: { nodeSelector: { no: 'where' }, containers: [{ name: 'main', image: 'a/b' }], ...spec },
    });

    beforeAll(async () => {
      ({ call: ask, close } = await server.start());
    });
    afterAll(() => close());

    it('answers errors with the same code, reason, message and details', async () => {
      await ask('POST', maps, { metadata: { name: 'm' } });
      const expected: [string, string, unknown, string | undefined, object][] = [
        [
          'GET',
          `${maps}/none`,
          undefined,
          undefined,
          {
            code: 404,
            reason: 'NotFound',
            message: 'configmaps "none" not found',
            details: { name: 'none', kind: 'configmaps' },
          },
        ],
        ['GET', '/apis/none/v1/things', undefined, undefined, { status: 404 }],
        [
          'POST',
          maps,
          { metadata: { name: 'm' } },
          undefined,
          { code: 409, reason: 'AlreadyExists', message: 'configmaps "m" already exists' },
        ],
        [
          'POST',
          '/api/v1/namespaces/none/configmaps',
          { metadata: { name: 'm' } },
          undefined,
          { code: 404, message: 'namespaces "none" not found' },
        ],
        [
          'POST',
          maps,
          { metadata: { name: 'UPPER' } },
          undefined,
          {
            code: 422,
            reason: 'Invalid',
            details: { kind: 'ConfigMap', causes: [{ field: 'metadata.name', reason: 'FieldValueInvalid' }] },
          },
        ],
        [
          'POST',
          maps,
          { metadata: {} },
          undefined,
          { code: 422, details: { causes: [{ field: 'metadata.name', reason: 'FieldValueRequired' }] } },
        ],
        [
          'POST',
          maps,
          { metadata: { name: 'x', resourceVersion: '1' } },
          undefined,
          { code: 500, message: 'resourceVersion should not be set on objects to be created' },
        ],
        ['POST', maps, { metadata: { name: 'x', namespace: 'default' } }, undefined, { code: 400, reason: 'BadRequest' }],
        [
          'POST',
          maps,
          { kind: 'Secret', apiVersion: 'v1', metadata: { name: 'x' } },
          undefined,
          { code: 400, reason: 'BadRequest' },
        ],
        [
          'PUT',
          `${maps}/m`,
          { metadata: { name: 'other' } },
          undefined,
          { code: 400, reason: 'BadRequest', message: 'the name of the object (other) does not match the name on the URL (m)' },
        ],
        [
          'PUT',
          `${maps}/m`,
          { metadata: { name: 'm', resourceVersion: '1' } },
          undefined,
          {
            code: 409,
            reason: 'Conflict',
            message:
              'Operation cannot be fulfilled on configmaps "m": the object has been modified; please apply your changes to the latest version and try again',
          },
        ],
        ['PUT', `${maps}/m`, { metadata: { name: 'm', uid: 'other' } }, undefined, { code: 409, reason: 'Conflict' }],
        ['PUT', `${maps}/gone`, { metadata: { name: 'gone' } }, undefined, { code: 404 }],
        ['PATCH', `${maps}/gone`, {}, MERGE, { code: 404 }],
        ['PATCH', `${maps}/m`, {}, 'application/json', { code: 415, reason: 'UnsupportedMediaType' }],
        ['DELETE', `${maps}/m`, { preconditions: { uid: 'other' } }, undefined, { code: 409, reason: 'Conflict' }],
        ['GET', `${pods}?fieldSelector=a.b%3Dc`, undefined, undefined, { code: 400, reason: 'BadRequest' }],
        ['GET', `${pods}?labelSelector=a%20b%20c`, undefined, undefined, { code: 400, reason: 'BadRequest' }],
        ['GET', `${maps}?limit=1&continue=rubbish`, undefined, undefined, { code: 400, reason: 'BadRequest' }],
      ];
      for (const [method, path, body, type, shape] of expected) {
        const answer = await ask(method, path, body, type);
        expect({ ...answer.body, status: answer.status }, `${method} ${path} ${JSON.stringify(body)}`).toMatchObject(shape);
      }
    });

    it('fills in the same defaults of a pod', async () => {
      const { body } = await ask(
        'POST',
        pods,
        pod('defaults', {
          containers: [{ name: 'main', image: 'a/b', resources: { limits: { cpu: '1' } }, ports: [{ containerPort: 22 }] }],
        }),
      );
      expect(body.spec).toMatchObject({
        restartPolicy: 'Always',
        terminationGracePeriodSeconds: 30,
        dnsPolicy: 'ClusterFirst',
        schedulerName: 'default-scheduler',
        priority: 0,
        enableServiceLinks: true,
        containers: [
          {
            imagePullPolicy: 'Always',
            terminationMessagePath: '/dev/termination-log',
            resources: { limits: { cpu: '1' }, requests: { cpu: '1' } },
            ports: [{ containerPort: 22, protocol: 'TCP' }],
          },
        ],
        tolerations: [
          { key: 'node.kubernetes.io/not-ready', operator: 'Exists', effect: 'NoExecute', tolerationSeconds: 300 },
          { key: 'node.kubernetes.io/unreachable', operator: 'Exists', effect: 'NoExecute', tolerationSeconds: 300 },
        ],
      });
      expect(body.status).toMatchObject({ phase: 'Pending', qosClass: 'Burstable' });
    });

    it('refuses the same pods and pod changes', async () => {
      const fields = async (method: string, path: string, body: unknown, type?: string) => {
        const answer = await ask(method, path, body, type);
        return [answer.status, ...(answer.body.details?.causes ?? []).map((cause: { field: string }) => cause.field)];
      };
      const main = { name: 'main', image: 'x' };
      expect(await fields('POST', pods, pod('a', { containers: [] }))).toEqual([422, 'spec.containers']);
      expect(await fields('POST', pods, pod('a', { containers: [main, main] }))).toEqual([422, 'spec.containers[1].name']);
      expect(await fields('POST', pods, pod('a', { restartPolicy: 'Perhaps' }))).toEqual([422, 'spec.restartPolicy']);
      expect(
        await fields('POST', pods, pod('a', { containers: [{ ...main, volumeMounts: [{ name: 'v', mountPath: '/v' }] }] })),
      ).toEqual([422, 'spec.containers[0].volumeMounts[0].name']);
      expect(
        await fields(
          'POST',
          pods,
          pod('a', { containers: [{ ...main, resources: { requests: { cpu: '2' }, limits: { cpu: '1' } } }] }),
        ),
      ).toEqual([422, 'spec.containers[0].resources.requests']);
      expect(
        await fields('POST', pods, pod('a', { containers: [{ ...main, resources: { requests: { 'nvidia.com/gpu': '1' } } }] })),
      ).toEqual([422, 'spec.containers[0].resources.limits']);
      await ask('POST', pods, pod('fixed'));
      expect(await fields('PATCH', `${pods}/fixed`, { spec: { restartPolicy: 'Never' } }, MERGE)).toEqual([422, 'spec']);
      expect(
        await fields('PATCH', `${pods}/fixed`, { spec: { containers: [{ name: 'main', image: 'other' }] } }, STRATEGIC),
      ).toEqual([200]);
    });

    it('patches alike', async () => {
      await ask('POST', maps, { metadata: { name: 'p', labels: { a: '1' } }, data: { x: '1', y: '2' } });
      const merged = await ask('PATCH', `${maps}/p`, { metadata: { labels: { a: null, b: '2' } }, data: { x: null } }, MERGE);
      expect(merged.body).toMatchObject({ metadata: { labels: { b: '2' } }, data: { y: '2' } });
      const same = await ask('PATCH', `${maps}/p`, { data: { y: '2' } }, MERGE);
      expect(same.body.metadata.resourceVersion).toBe(merged.body.metadata.resourceVersion);
      expect((await ask('PATCH', `${maps}/p`, [{ op: 'test', path: '/data/y', value: '3' }], JSON_PATCH)).status).toBe(422);
      const operations = [
        { op: 'test', path: '/data/y', value: '2' },
        { op: 'replace', path: '/data/y', value: '3' },
      ];
      expect((await ask('PATCH', `${maps}/p`, operations, JSON_PATCH)).body.data).toEqual({ y: '3' });
      const stale = { metadata: { resourceVersion: merged.body.metadata.resourceVersion }, data: { z: '1' } };
      expect((await ask('PATCH', `${maps}/p`, stale, MERGE)).status).toBe(409);
      await ask('POST', pods, pod('finalized'));
      const path = `${pods}/finalized`;
      expect((await ask('PATCH', path, { metadata: { finalizers: ['x.y/a'] } }, STRATEGIC)).body.metadata.finalizers).toEqual([
        'x.y/a',
      ]);
      expect((await ask('PATCH', path, { metadata: { finalizers: ['x.y/b'] } }, STRATEGIC)).body.metadata.finalizers).toEqual([
        'x.y/b',
        'x.y/a',
      ]);
      expect(
        (await ask('PATCH', path, { metadata: { '$deleteFromPrimitiveList/finalizers': ['x.y/a'] } }, STRATEGIC)).body.metadata
          .finalizers,
      ).toEqual(['x.y/b']);
      const deleted = await ask('DELETE', path);
      expect(deleted.body).toMatchObject({
        kind: 'Pod',
        metadata: { deletionGracePeriodSeconds: 0, deletionTimestamp: expect.any(String) },
      });
      expect((await ask('PATCH', path, { metadata: { finalizers: null } }, MERGE)).status).toBe(200);
      expect((await ask('GET', path)).status).toBe(404);
    });

    it('writes status by its subresource only, with the type of a condition as its key', async () => {
      await ask('POST', pods, pod('status'));
      const condition = (type: string) => ({ status: { conditions: [{ type, status: 'True' }] } });
      const ignored = await ask('PATCH', `${pods}/status`, condition('A'), STRATEGIC);
      expect((ignored.body.status.conditions ?? []).map((each: { type: string }) => each.type)).not.toContain('A');
      await ask('PATCH', `${pods}/status/status`, condition('A'), STRATEGIC);
      const both = await ask('PATCH', `${pods}/status/status`, condition('B'), STRATEGIC);
      expect(both.body.status.conditions.map((each: { type: string }) => each.type)).toEqual(expect.arrayContaining(['A', 'B']));
    });

    it('deletes a pod that is on no node at once, whatever its grace', async () => {
      await ask('POST', pods, pod('unbound'));
      expect((await ask('DELETE', `${pods}/unbound`, { gracePeriodSeconds: 30 })).status).toBe(200);
      expect((await ask('GET', `${pods}/unbound`)).status).toBe(404);
    });

    it('allocates node ports and keeps them through updates', async () => {
      const services = `/api/v1/namespaces/${namespace}/services`;
      const made = await ask('POST', services, { metadata: { name: 's' }, spec: { type: 'NodePort', ports: [{ port: 22 }] } });
      const { nodePort } = made.body.spec.ports[0];
      expect(nodePort).toBeGreaterThanOrEqual(30000);
      expect(made.body.spec.ports[0]).toMatchObject({ protocol: 'TCP', targetPort: 22 });
      const other = await ask('POST', services, {
        metadata: { name: 't' },
        spec: { type: 'NodePort', ports: [{ port: 22, nodePort }] },
      });
      expect(other.body).toMatchObject({
        code: 422,
        message: `Service "t" is invalid: spec.ports[0].nodePort: Invalid value: ${nodePort}: provided port is already allocated`,
      });
      const replaced = await ask('PUT', `${services}/s`, {
        ...made.body,
        metadata: { ...made.body.metadata, labels: { a: 'b' } },
      });
      expect(replaced.body.spec.ports[0].nodePort).toBe(nodePort);
      const patched = await ask('PATCH', `${services}/s`, { spec: { clusterIP: '10.0.0.77' } }, MERGE);
      expect(patched.status).toBe(422);
      const second = await ask(
        'PATCH',
        `${services}/s`,
        {
          spec: {
            ports: [
              { name: 'a', port: 22 },
              { name: 'b', port: 23 },
            ],
          },
        },
        STRATEGIC,
      );
      expect(second.body.spec.ports).toHaveLength(2);
      expect((await ask('DELETE', `${services}/s`)).status).toBe(200);
    });

    it('pages and watches with the versions of its lists', async () => {
      for (const name of ['l1', 'l2', 'l3']) await ask('POST', maps, { metadata: { name, labels: { page: 'yes' } } });
      const first = await ask('GET', `${maps}?limit=2&labelSelector=page%3Dyes`);
      expect(first.body.items.map((item: { metadata: { name: string } }) => item.metadata.name)).toEqual(['l1', 'l2']);
      await ask('DELETE', `${maps}/l3`);
      const rest = await ask('GET', `${maps}?limit=2&labelSelector=page%3Dyes&continue=${first.body.metadata.continue}`);
      expect(rest.body.items.map((item: { metadata: { name: string } }) => item.metadata.name)).toEqual(['l3']);
      expect(rest.body.metadata.resourceVersion).toBe(first.body.metadata.resourceVersion);
    });
  });
