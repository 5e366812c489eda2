import { afterAll, afterEach, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { expectClean } from '../crash/support/promises.ts';
import type { Program } from '../crash/support/process.ts';
import { createRandom, seedState } from '../../src/simulated-cluster/random.ts';
import type { Fault } from '../support/kubernetes/faults.ts';
import { realCluster } from '../support/kubernetes/real-cluster.ts';
import { expectNothingLeft } from './support/left-behind.ts';
import { ServiceScene } from './support/service-scene.ts';

const cluster = await realCluster({ own: true, fleet: { h100: 2, 'cpu-x86': 1, t4: 1, 't4-small': 1 } });
const NODES = 5;

describe.skipIf(cluster.missing)('the service over an API server that has a bad day', () => {
  let scene: ServiceScene;
  let worker: Program;
  beforeAll(async () => {
    scene = await ServiceScene.start(cluster);
    worker = await scene.worker();
    await scene.knows(NODES);
  });
  afterEach(() => scene.proxy.mend());
  afterAll(() => scene?.stop());

  const running = async (fields: Record<string, unknown> = {}) => {
    const id = await scene.submit(fields);
    await scene.reaches(id, 'running');
    return id;
  };
  const cancelled = async (...ids: string[]) => {
    await Promise.all(ids.map((id) => scene.cancel(id)));
    for (const id of ids) await scene.reaches(id, 'cancelled');
  };
  const once = (id: string) => expect(scene.watch.ever.get(id)?.size, `pods of ${id}`).toBe(1);

  const bad: { name: string; fault: Fault; verb?: string; chance: number }[] = [
    { name: 'conflicts (409)', fault: { status: 409 }, chance: 0.06 },
    { name: 'forgotten versions (410)', fault: { status: 410 }, verb: 'WATCH', chance: 0.7 },
    { name: 'too many requests (429, with Retry-After)', fault: { status: 429, retryAfter: 1 }, chance: 0.06 },
    { name: 'internal errors (500)', fault: { status: 500 }, chance: 0.06 },
    { name: 'lost answers', fault: { lose: 'answer' }, chance: 0.06 },
    { name: 'requests that are never answered', fault: { silent: true }, verb: 'POST', chance: 0.05 },
    { name: 'answers that are late', fault: { delayMs: 300 }, chance: 0.5 },
  ];
  it.each(bad)(
    'through $name, servers are made once each, run, and end with nothing left',
    async ({ name, fault, verb, chance }) => {
      const random = createRandom(seedState(name.length), true).next;
      const rule = scene.proxy.fault({ chance, random, ...(verb === undefined ? {} : { verb }) }, fault);
      // Watches are few and long: they meet their fault when they begin anew.
      scene.proxy.cutWatches();
      const ids = await Promise.all([1, 2, 3].map(() => running()));
      await cancelled(...ids);
      await scene.proxy.mend();
      expect(rule.met).toBeGreaterThan(0);
      for (const id of ids) once(id);
      await expectClean(scene);
      await expectNothingLeft(scene);
    },
  );

  it('goes on through watches that are cut again and again, and an API server that is restarted', async () => {
    const cutting = setInterval(() => scene.proxy.cutWatches(), 300);
    const first = await running();
    const second = await scene.submit();
    await cluster.befall('api-server/restart', { forMs: 500 });
    await scene.reaches(second, 'running');
    const third = await running();
    clearInterval(cutting);
    await cancelled(first, second, third);
    for (const id of [first, second, third]) once(id);
    await expectNothingLeft(scene);
  });

  it('S33: takes nothing for missing through ten minutes without an API server, refused or silent, across a restart of its own', async () => {
    const ids = [await running(), await running({ disk_name: null })];
    const nodes = (await scene.db.query('select * from nodes order by node')).rows;
    await scene.proxy.refuse();
    const waiting = await scene.submit();
    const tries = async () => {
      const sql = `select coalesce(sum(attempts), 0)::int as n from effects where status = 'pending'`;
      const { rows } = await scene.db.query<{ n: number }>(sql);
      return rows[0]!.n;
    };
    await scene.until('the one that waits is tried', async () => (await tries()) > 0);
    for (let minute = 0; minute < 5; minute += 1) {
      const before = await tries();
      scene.advance(1);
      await scene.until('it is tried again', async () => (await tries()) > before);
      for (const id of ids) expect((await scene.reservation(id)).status).toBe('running');
    }
    await worker.kill();
    worker = await scene.worker();
    await scene.proxy.mend();
    scene.proxy.swallow();
    for (let minute = 0; minute < 5; minute += 1) scene.advance(1);
    for (const id of ids) expect((await scene.reservation(id)).status).toBe('running');
    expect((await scene.db.query('select * from nodes order by node')).rows).toEqual(nodes);
    await scene.proxy.mend();
    const late = await running();
    for (const id of ids) {
      expect((await scene.reservation(id)).status).toBe('running');
      expect(await scene.history(id)).not.toContain('pod.gone');
      once(id);
    }
    await scene.reaches(waiting, 'running', 'failed');
    await cancelled(...ids, late);
    if ((await scene.reservation(waiting)).status === 'running') await cancelled(waiting);
    await expectNothingLeft(scene);
  });

  it('S2: tells within a minute why a server died, and its GPUs and disk are free', async () => {
    const id = await running({ gpu_count: 4 });
    const began = Date.now();
    const [pod] = (await cluster.list('pods')).filter(({ metadata }) => metadata.name.includes(id));
    await cluster.befall(`pods/${pod.metadata.name}/evict`);
    const { failure_reason } = await scene.reaches(id, 'failed');
    expect(failure_reason).toMatch(/evicted|shut|deleted/);
    expect(Date.now() - began).toBeLessThan(60_000);
    await expectNothingLeft(scene);
  });

  it('S3: makes no pod where the free GPUs of a type suffice only when nodes are added up', async () => {
    const guests = ['h100-1', 'h100-2'].map((node) => ({
      metadata: { name: `guest-${node}` },
      spec: {
        nodeName: node,
        automountServiceAccountToken: false,
        containers: [{ name: 'main', image: 'tool:1', resources: { limits: { 'nvidia.com/gpu': '5' } } }],
      },
    }));
    onTestFinished(async () => {
      for (const { metadata } of guests) await cluster.api.call('DELETE', `${cluster.path('pods')}/${metadata.name}`);
    });
    for (const guest of guests) await cluster.api.ask('POST', cluster.path('pods'), guest);
    await scene.until('six are free', async () => {
      const { rows } = await scene.db.query<{ free: number }>(`select free from gpu_availability where gpu_type = 'h100'`);
      return rows[0]?.free === 6;
    });
    const id = await scene.submit({ gpu_count: 4 });
    await scene.reaches(id, 'queued');
    // Longer than a pod may stay pending: one that had been made would have been given up by now.
    scene.advance(11);
    const elsewhere = await running({ gpu_type: 't4' });
    expect((await scene.reservation(id)).status).toBe('queued');
    expect(scene.watch.ever.get(id)).toBeUndefined();
    expect(await scene.history(id)).not.toContain('pod.created');
    await cluster.api.ask('DELETE', `${cluster.path('pods')}/guest-h100-1`);
    await scene.reaches(id, 'running');
    once(id);
    await cancelled(id, elsewhere);
  });

  it('Q25: counts the nodes of a type by its exact name, not by how it begins', async () => {
    const { rows } = await scene.db.query<{ gpu_type: string; total: number }>(
      `select gpu_type, total from gpu_availability where gpu_type like 't4%' order by gpu_type`,
    );
    expect(rows).toEqual([
      { gpu_type: 't4', total: 4 },
      { gpu_type: 't4-small', total: 1 },
    ]);
    const id = await running({ gpu_type: 't4-small', gpu_count: 1 });
    const [pod] = (await cluster.list('pods')).filter(({ metadata }) => metadata.name.includes(id));
    expect(pod.spec.nodeName).toBe('t4-small-1');
    await cancelled(id);
  });

  it('Q14: learns of a hundred nodes and their pods by two lists and two watches, and of each change by that alone', async () => {
    await cluster.befall('fleet', { fleet: { a100: 100 } });
    await scene.knows(NODES + 100);
    await worker.kill();
    scene.proxy.requests.length = 0;
    worker = await scene.worker();
    await scene.until('it has a view', async () => scene.proxy.seen('WATCH', /^\/api\/v1\/(nodes|pods)\?/).length >= 2);
    const id = await running({ gpu_type: 'a100' });
    expect(scene.proxy.seen('GET', /^\/api\/v1\/nodes/).map(({ path }) => path)).toEqual([
      expect.stringMatching(/^\/api\/v1\/nodes\?limit=/),
    ]);
    expect(scene.proxy.seen('GET', /^\/api\/v1\/pods/)).toHaveLength(1);
    const settled = scene.proxy.requests.length;
    // A kubelet's word about each node, and a cordon of one: nothing is asked for, whatever changes.
    for (let node = 1; node <= 100; node += 1) {
      const body = { metadata: { annotations: { beat: 'again' } } };
      await cluster.api.ask('PATCH', `/api/v1/nodes/a100-${node}`, body, 'application/merge-patch+json');
    }
    await cluster.api.ask('PATCH', '/api/v1/nodes/a100-100', { spec: { unschedulable: true } }, 'application/merge-patch+json');
    await scene.until('the cordon is known', async () => {
      const { rows } = await scene.db.query<{ schedulable: boolean }>(`select schedulable from nodes where node = 'a100-100'`);
      return rows[0]?.schedulable === false;
    });
    expect(scene.proxy.requests.slice(settled).map(({ verb, path }) => `${verb} ${path}`)).toEqual([]);
    await cancelled(id);
  });
});
