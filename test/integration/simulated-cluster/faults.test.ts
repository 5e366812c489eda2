import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { call, podBody, type Running, startCluster, until } from './support.ts';

const PODS = '/api/v1/namespaces/gpu-dev/pods';

let cluster: Running;
beforeAll(async () => {
  cluster = await startCluster();
});
afterEach(() => call(cluster.url, 'DELETE', '/simulation/faults'));
afterAll(() => cluster.close());

const inject = (fault: object) => call(cluster.url, 'POST', '/simulation/faults', fault);

describe('faults', () => {
  it('answer with an error as often as told, for the verb and path told', async () => {
    await inject({ kind: 'error', status: 503, reason: 'ServiceUnavailable', verb: 'POST', path: '/pods$', count: 2 });
    expect((await call(cluster.url, 'GET', PODS)).status).toBe(200);
    const statuses: number[] = [];
    for (let index = 0; index < 3; index++) statuses.push((await call(cluster.url, 'POST', PODS, podBody('p'))).status);
    expect(statuses).toEqual([503, 503, 201]);
  });

  it('strike at a rate', async () => {
    await inject({ kind: 'error', status: 500, rate: 0.5 });
    let failed = 0;
    for (let index = 0; index < 100; index++) if ((await call(cluster.url, 'GET', PODS)).status === 500) failed++;
    expect(failed).toBeGreaterThan(25);
    expect(failed).toBeLessThan(75);
  });

  it('break the connection before or after the request was done', async () => {
    await inject({ kind: 'drop', when: 'before', verb: 'POST', count: 1 });
    await expect(call(cluster.url, 'POST', PODS, podBody('before'))).rejects.toThrow();
    expect((await call(cluster.url, 'GET', `${PODS}/before`)).status).toBe(404);
    await inject({ kind: 'drop', when: 'after', verb: 'POST', count: 1 });
    await expect(call(cluster.url, 'POST', PODS, podBody('after'))).rejects.toThrow();
    expect((await call(cluster.url, 'GET', `${PODS}/after`)).status).toBe(200);
  });

  it('make answers late', async () => {
    await inject({ kind: 'latency', ms: 80, verb: 'GET', count: 1 });
    const began = performance.now();
    await call(cluster.url, 'GET', PODS);
    expect(performance.now() - began).toBeGreaterThan(70);
  });

  it('hold a request until they are cleared, and let the others pass', async () => {
    await inject({ kind: 'hold', verb: 'POST', count: 1 });
    const held = call(cluster.url, 'POST', PODS, podBody('held'));
    await until('it is on its way', async () => (await call(cluster.url, 'GET', '/simulation/faults')).body.held === 1);
    expect((await call(cluster.url, 'POST', PODS, podBody('passes'))).status).toBe(201);
    expect((await call(cluster.url, 'GET', `${PODS}/held`)).status).toBe(404);
    await call(cluster.url, 'DELETE', '/simulation/faults');
    expect((await held).status).toBe(201);
  });

  it('refuse connections for a while', async () => {
    await inject({ kind: 'refuse', ms: 150 });
    await until('it refuses', () =>
      call(cluster.url, 'GET', PODS).then(
        () => false,
        () => true,
      ),
    );
    await until('it is back', () =>
      call(cluster.url, 'GET', PODS).then(
        ({ status }) => status === 200,
        () => false,
      ),
    );
  });

  it('are shown in the state, and one that is not understood is refused', async () => {
    await inject({ kind: 'latency', ms: 1, path: 'never' });
    const { body } = await call(cluster.url, 'GET', '/simulation/state');
    expect(body).toMatchObject({ faults: [{ kind: 'latency' }], objects: { nodes: expect.any(Number) }, lostNodes: [] });
    expect((await inject({ kind: 'plague' })).status).toBe(422);
    expect((await call(cluster.url, 'POST', '/simulation/pods/gpu-dev/nobody/oom')).status).toBe(404);
  });
});
