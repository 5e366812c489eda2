import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { CLUSTER_KINDS, type Reality } from '../../../actors/reality/ports.ts';
import { createClient } from '../../../src/providers/kubernetes/client.ts';
import { KubernetesReality } from '../../../src/providers/kubernetes/reality.ts';
import { FaultProxy } from '../../support/kubernetes/fault-proxy.ts';
import { kubeconfigOf, startWorld, type World } from '../../support/world.ts';
import { close, diskOf, loseVolume, open } from '../disks/session.ts';
import { cancel, running, submit } from '../gpu-pool/support.ts';
import { Comparisons, GRACE_MS, lineOf, marks, Planted } from './scene.ts';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const namespace = 'gpu-dev';
let world: World;
beforeAll(async () => {
  world = await startWorld({ fleet: { t4: 2, h100: 2 } });
});
afterAll(() => world?.stop());
afterEach(async () => {
  await world.clearFaults();
  await world.db.query('delete from reality_findings');
});

/** Comparisons whose news reach the actors. */
const telling = (reality: Reality = new KubernetesReality({ client: world.client })) =>
  new Comparisons(world.db, world.client, {
    reality,
    post: async (messages) => {
      await world.kernel.post(messages);
      world.kernel.wake();
    },
  });

describe('what is missing around a running server', () => {
  it('is made again as it should be, and its user is told the new address; the server goes on', async () => {
    const id = await running(world);
    const { core, networking } = world.client;
    const name = `gpu-dev-${id}-1`;
    const before = await core.readNamespacedPod({ namespace, name });
    await core.deleteNamespacedService({ namespace, name: `${name}-ssh` });
    await core.deleteNamespacedSecret({ namespace, name: `${name}-access` });
    await networking.deleteNamespacedNetworkPolicy({ namespace, name });

    const dry = await telling().compare(true);
    expect(lineOf(dry, `${name}-ssh`)).toEqual({ verdict: 'missing', action: 'would tell' });
    expect((await world.db.query(`select 1 from history where event->>'type' = 'access.missing'`, [])).rowCount).toBe(0);

    const scene = telling();
    const report = await scene.compare();
    for (const one of [`${name}-ssh`, `${name}-access`, name])
      expect(report.findings.find(({ name: found, kind }) => found === one && kind !== 'Pod')).toMatchObject({
        verdict: 'missing',
        action: 'told',
        actor: `reservation/${id}`,
      });
    const service = await world.until('the service is back', () =>
      core.readNamespacedService({ namespace, name: `${name}-ssh` }).catch(() => null),
    );
    await world.until('the address is known', async () => {
      const row = await world.reservation(id);
      return row?.['status'] === 'running' && row['node_port'] === service.spec!.ports![0]!.nodePort;
    });
    const secret = await core.readNamespacedSecret({ namespace, name: `${name}-access` });
    expect(Object.keys(secret.data ?? {}).sort()).toEqual(['authorized_keys', 'jupyter_token']);
    expect(service.metadata!.ownerReferences![0]!.uid).toBe(before.metadata!.uid);
    expect((await core.readNamespacedPod({ namespace, name })).metadata!.uid).toBe(before.metadata!.uid);
    await networking.readNamespacedNetworkPolicy({ namespace, name });
    expect((await scene.compare()).findings).toEqual([]);
    const { rows } = await world.db.query('select closed_at from reality_findings', []);
    expect(rows.map(({ closed_at }) => closed_at !== null)).toEqual([true, true, true]);
  });

  it('is more than the way in: its scripts, its variables, and the name by which its gang finds it', async () => {
    const gang = crypto.randomUUID() as string;
    const common = { gpu_type: 'h100', gpu_count: 8, is_multinode: true, master_reservation_id: gang, total_nodes: 2 };
    const lead = await submit(world, { ...common, node_index: 0, env_vars: { HELLO: 'world' } });
    const second = await submit(world, { ...common, node_index: 1 });
    for (const id of [lead, second]) await world.reaches(id, 'running');
    // Neither variables that were never given, nor a name that is another's, is missed.
    expect((await telling().compare()).findings).toEqual([]);
    const { core } = world.client;
    const name = `gpu-dev-${lead}-1`;
    const pod = await core.readNamespacedPod({ namespace, name });
    const addressOf = async () => (await world.reservation(lead))?.['node_port'] as number;
    const before = await addressOf();
    await core.deleteNamespacedConfigMap({ namespace, name: `${name}-scripts` });
    await core.deleteNamespacedSecret({ namespace, name: `${name}-env` });
    await core.deleteNamespacedService({ namespace, name: `gang-${gang}` });
    await core.deleteNamespacedConfigMap({ namespace, name: `gpu-dev-${second}-1-scripts` });
    const { findings } = await telling().compare();
    expect(findings.map(({ kind, name: one, actor, action }) => [kind, one, actor, action])).toEqual([
      ['Service', `gang-${gang}`, `reservation/${lead}`, 'told'],
      ['Secret', `${name}-env`, `reservation/${lead}`, 'told'],
      ...[lead, second]
        .map((id) => ['ConfigMap', `gpu-dev-${id}-1-scripts`, `reservation/${id}`, 'told'])
        .sort(([, one], [, other]) => (one! < other! ? -1 : 1)),
    ]);
    const back = <T>(what: string, read: () => Promise<T>) => world.until(`${what} is back`, () => read().catch(() => null));
    const found = [
      await back('its script', () => core.readNamespacedConfigMap({ namespace, name: `${name}-scripts` })),
      await back('its environment', () => core.readNamespacedSecret({ namespace, name: `${name}-env` })),
      await back('the name of the gang', () => core.readNamespacedService({ namespace, name: `gang-${gang}` })),
    ];
    await back('the script of the other', () => core.readNamespacedConfigMap({ namespace, name: `gpu-dev-${second}-1-scripts` }));
    for (const { metadata } of found) expect(metadata!.ownerReferences![0]!.uid).toBe(pod.metadata!.uid);
    const { data } = await core.readNamespacedSecret({ namespace, name: `${name}-env` });
    expect(data).toEqual({ HELLO: Buffer.from('world').toString('base64') });
    expect((await telling().compare()).findings).toEqual([]);
    expect(await addressOf()).toBe(before);
    expect((await core.readNamespacedPod({ namespace, name })).metadata!.uid).toBe(pod.metadata!.uid);
    for (const id of [lead, second]) await cancel(world, id);
  });

  it('keeps the ports by which people know it: of ssh, and of Jupyter while that is on', async () => {
    const id = await running(world);
    const { core, networking } = world.client;
    const name = `gpu-dev-${id}-1`;
    await world.send({ action: 'enable_jupyter', reservation_id: id });
    const before = await world.until('Jupyter is on', async () => {
      const row = await world.reservation(id);
      return row?.['jupyter_state'] === 'on' ? row : null;
    });
    expect((await telling().compare()).findings).toEqual([]);
    for (const service of [`${name}-ssh`, `${name}-jupyter`]) await core.deleteNamespacedService({ namespace, name: service });
    await networking.deleteNamespacedNetworkPolicy({ namespace, name: `${name}-jupyter` });
    const { findings } = await telling().compare();
    expect(findings.map(({ kind, name: one, action }) => `${kind} ${one} ${action}`)).toEqual([
      `Service ${name}-jupyter told`,
      `Service ${name}-ssh told`,
      `NetworkPolicy ${name}-jupyter told`,
    ]);
    const portOf = (service: string) =>
      world.until(`${service} is back`, async () => {
        const found = await core.readNamespacedService({ namespace, name: service }).catch(() => null);
        return found?.spec?.ports?.[0]?.nodePort ?? null;
      });
    expect(await portOf(`${name}-ssh`)).toBe(before['node_port']);
    expect(await portOf(`${name}-jupyter`)).toBe(before['jupyter_port']);
    await world.until('its policy is back', async () =>
      networking.readNamespacedNetworkPolicy({ namespace, name: `${name}-jupyter` }).then(
        () => true,
        () => false,
      ),
    );
    expect((await telling().compare()).findings).toEqual([]);
    expect(await world.reservation(id)).toMatchObject({
      status: 'running',
      jupyter_state: 'on',
      jupyter_port: before['jupyter_port'],
      jupyter_url: before['jupyter_url'],
    });
    await world.send({ action: 'cancel', reservation_id: id });
    await world.reaches(id, 'cancelled');
  });

  it('is told once, and once more if it has not helped within a grace', async () => {
    const id = await running(world);
    const name = `gpu-dev-${id}-1-ssh`;
    await world.client.core.deleteNamespacedService({ namespace, name });
    const scene = new Comparisons(world.db, world.client);
    const about = () => scene.posted.filter(({ actor }) => actor === `reservation/${id}`);
    await scene.compare();
    await scene.compare();
    expect(about()).toHaveLength(1);
    scene.pass(GRACE_MS);
    await scene.compare();
    expect(about()).toHaveLength(2);
    expect(new Set(about().map(({ key }) => key)).size).toBe(2);
  });
});

describe('a server whose pod is gone', () => {
  it('ends by the same fact as the tracker would tell, so that it is told once', async () => {
    const id = await running(world);
    await world.tracker.stop();
    await world.client.core.deleteNamespacedPod({ namespace, name: `gpu-dev-${id}-1`, gracePeriodSeconds: 0 });
    await world.until('the pod is gone', async () => !(await world.pods()).includes(`gpu-dev-${id}-1`));
    const report = await telling().compare();
    expect(lineOf(report, `gpu-dev-${id}-1`)).toEqual({ verdict: 'missing', action: 'told' });
    // What was around it goes with it, and is no news.
    expect(report.findings.filter(({ actor }) => actor === `reservation/${id}`)).toHaveLength(1);
    await world.reaches(id, 'failed');
    const { rows } = await world.db.query<{ key: string }>(
      `select key from history where actor = $1 and event->>'type' = 'pod.gone' and outcome = 'applied' order by seq limit 1`,
      [`reservation/${id}`],
    );
    expect(rows[0]!.key).toMatch(/^pod:.*:gone$/);
  });
});

describe('S33: an API server that cannot be asked', () => {
  it('makes nothing missing, and closes no finding, whether it refuses, is silent, cuts, forgets its pages or lies by an empty list', async () => {
    const fresh = await startWorld({ fleet: { t4: 1 } });
    const proxy = await FaultProxy.to({ server: `http://127.0.0.1:${fresh.front.port}` });
    const folder = mkdtempSync(join(tmpdir(), 'gpu-dev-proxy-'));
    try {
      const id = await running(fresh);
      writeFileSync(join(folder, 'kubeconfig'), JSON.stringify(kubeconfigOf(Number(new URL(proxy.url).port))));
      const client = createClient({ kubeconfig: join(folder, 'kubeconfig'), requestTimeoutMs: 300 });
      const names = ['no-id-1', 'no-id-2', 'no-id-3', 'no-id-4'];
      for (const name of names) await new Planted(fresh.client).put('ConfigMap', name, marks.ours());
      const scene = new Comparisons(fresh.db, client);
      const standing = (await scene.compare()).findings;
      expect(standing.map(({ name }) => name)).toEqual(names);

      const lists = /labelSelector/;
      const days: [string, () => unknown][] = [
        ['500', () => proxy.fault({ path: lists }, { status: 500 })],
        ['429', () => proxy.fault({ path: lists }, { status: 429, retryAfter: 1 })],
        ['403', () => proxy.fault({ path: lists }, { status: 403, reason: 'Forbidden' })],
        ['410', () => proxy.fault({ path: lists }, { status: 410 })],
        ['404 of a proxy', () => proxy.fault({ path: lists }, { status: 404, reason: 'x' })],
        ['cut answers', () => proxy.fault({ path: lists }, { lose: 'answer' })],
        ['second pages refused', () => proxy.fault({ path: /continue=/ }, { status: 500 })],
        ['refused', () => proxy.refuse()],
        ['silent', () => proxy.swallow()],
      ];
      for (const [day, happens] of days) {
        await happens();
        const report = await scene.compare();
        expect(scene.posted, day).toEqual([]);
        expect(
          report.findings.filter(({ verdict }) => verdict !== 'unknown'),
          day,
        ).toEqual([]);
        expect(report.unanswered.length, day).toBeGreaterThan(0);
        await proxy.mend();
        scene.pass(600_000);
      }
      const open = await fresh.db.query('select name from reality_findings where closed_at is null order by name', []);
      expect(open.rows).toEqual(names.map((name) => ({ name })));

      // Lists that lack everything; whoever asks by name is refused, or gets the truth.
      const honest = new KubernetesReality({ client });
      const empty: Reality = Object.assign(Object.create(honest) as Reality, {
        list: async () => [],
        isGone: honest.isGone.bind(honest),
        accessOf: honest.accessOf.bind(honest),
        podOf: honest.podOf.bind(honest),
      });
      const liar = new Comparisons(fresh.db, client, { reality: empty });
      expect((await liar.compare()).findings).toEqual([]);
      proxy.fault({ verb: 'GET' }, { status: 500 });
      const unknown = await liar.compare();
      expect(unknown.unanswered.join()).toContain(`gpu-dev-${id}-1`);
      expect([liar.posted, unknown.findings]).toEqual([[], []]);
      expect((await fresh.reservation(id))?.['status']).toBe('running');
    } finally {
      await proxy.close();
      rmSync(folder, { recursive: true, force: true });
      await fresh.stop();
    }
  });

  it('is asked one list a kind and no question an object, however many there are', async () => {
    const fresh = await startWorld({ fleet: { t4: 1 } });
    const proxy = await FaultProxy.to({ server: `http://127.0.0.1:${fresh.front.port}` });
    const folder = mkdtempSync(join(tmpdir(), 'gpu-dev-proxy-'));
    try {
      await Promise.all([running(fresh), running(fresh), running(fresh)]);
      writeFileSync(join(folder, 'kubeconfig'), JSON.stringify(kubeconfigOf(Number(new URL(proxy.url).port))));
      const client = createClient({ kubeconfig: join(folder, 'kubeconfig') });
      await new Comparisons(fresh.db, client, { reality: new KubernetesReality({ client }) }).compare();
      expect(proxy.requests).toHaveLength(CLUSTER_KINDS.length);
      expect(proxy.requests.every(({ path }) => path.includes('labelSelector=') && path.includes('limit='))).toBe(true);
    } finally {
      await proxy.close();
      rmSync(folder, { recursive: true, force: true });
      await fresh.stop();
    }
  });
});

describe('the volume of a disk that nobody uses', () => {
  it('that is gone is told in the disk, and nothing empty takes its place', async () => {
    const fresh = await startWorld({ fleet: { t4: 1 } });
    try {
      await close(fresh, await open(fresh, 'mine'));
      const disk = (await diskOf(fresh, 'mine'))!;
      await loseVolume(fresh, disk.volume_claim!);
      const scene = new Comparisons(fresh.db, fresh.client, {
        post: async (messages) => {
          await fresh.kernel.post(messages);
          fresh.kernel.wake();
        },
      });
      expect(lineOf(await scene.compare(), disk.volume_claim!)).toEqual({ verdict: 'missing', action: 'told' });
      await fresh.until('the disk says so', async () => /is missing/.test((await diskOf(fresh, 'mine'))?.problem ?? ''));
      expect(await diskOf(fresh, 'mine')).toMatchObject({ state: 'idle', volume_claim: disk.volume_claim });
      const next = await open(fresh, 'mine');
      expect(next['failure_reason']).toMatch(/is missing/);
      const { items } = await fresh.client.core.listNamespacedPersistentVolumeClaim({ namespace });
      expect(items).toEqual([]);
    } finally {
      await fresh.stop();
    }
  });
});
