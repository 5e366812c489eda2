import { randomUUID } from 'node:crypto';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { CLUSTER_KINDS, type ClusterKind, DATA } from '../../../actors/reality/ports.ts';
import { RIGHTS } from '../../../src/providers/kubernetes/permissions.ts';
import { KubernetesReality } from '../../../src/providers/kubernetes/reality.ts';
import { realCluster } from '../../support/kubernetes/real-cluster.ts';
import { startWorld, type World } from '../../support/world.ts';
import { cancel, running } from '../gpu-pool/support.ts';
import { Comparisons, GRACE_MS, lineOf, marks, Planted } from './scene.ts';

const real = await realCluster();
let world: World;
/** Its actors live in the world's database, whatever cluster is looked at. */
let ended: string;
let alive: string;
const purged = randomUUID();
const known = randomUUID();

beforeAll(async () => {
  world = await startWorld({ fleet: { t4: 1 }, tracker: { onServers: async () => undefined } });
  ended = await running(world);
  await cancel(world, ended);
  alive = await running(world);
  for (const [id, status, state] of [
    [known, 'active', 'idle'],
    [purged, 'done', 'purged'],
  ] as const) {
    await world.db.query(
      `insert into actors (actor, kind, machine_version, status, state, snapshot, seq, born_at) values ($1, 'disk', 1, $2, $3, '{"context": {}}', 1, now())`,
      [`disk/${id}`, status, state],
    );
    await world.db.query(
      `insert into disks (disk_id, disk_name, user_id, size_gb, state, created_at) values ($1, $2, 'ann', 1, $3, now())`,
      [id, `d-${id.slice(0, 8)}`, state],
    );
  }
  await world.db.query(
    `insert into disk_snapshots (snapshot_id, disk_id, status, created_at) values ('snap-recorded', $1, 'complete', now())`,
    [known],
  );
  await world.db.query(
    `insert into actors (actor, kind, machine_version, status, state, snapshot, seq, born_at)
     values ('image/abc', 'image', 1, 'active', 'building', '{"context": {"attempt": 2}}', 1, now())`,
    [],
  );
});
afterAll(() => world?.stop());
afterEach(async () => {
  await world.clearFaults();
  await world.db.query('delete from reality_findings');
});

const clusters = [
  { where: 'on the simulated cluster', client: () => world.client, missing: '' },
  { where: 'on a real API server', client: () => real.client, missing: real.missing },
];

describe.each(clusters)('$where', ({ where, client, missing }) => {
  const at = where.includes('real') ? 'r' : 's';
  const planted = () => new Planted(client());
  /** One orphan of each kind that holds no data. */
  const orphans = (): [ClusterKind, string, ReturnType<typeof marks.ours>][] => [
    ...(['Pod', 'Service', 'Secret', 'ConfigMap', 'NetworkPolicy'] as const).map(
      (kind): [ClusterKind, string, ReturnType<typeof marks.ours>] => [
        kind,
        `${at}-ended-${kind.toLowerCase()}`,
        marks.server(ended),
      ],
    ),
    ['Service', `${at}-earlier-life`, marks.server(alive, 0)],
    ['Job', `${at}-earlier-attempt`, marks.build('abc', 1)],
  ];

  it.skipIf(missing)(
    'S12: everything of what has ended is found by its labels, told, left alone for its grace, and removed',
    async () => {
      const here = planted();
      for (const [kind, name, mark] of orphans()) await here.put(kind, name, mark);
      const scene = new Comparisons(world.db, client());

      const dry = await scene.compare(true);
      for (const [, name] of orphans()) expect(lineOf(dry, name), name).toEqual({ verdict: 'ended', action: 'waits' });
      expect((await world.db.query('select 1 from reality_findings', [])).rowCount).toBe(0);

      await scene.compare();
      scene.pass(GRACE_MS - 1);
      const early = await scene.compare();
      for (const [, name] of orphans()) expect(lineOf(early, name), name).toEqual({ verdict: 'ended', action: 'waits' });

      scene.pass(1);
      const would = await scene.compare(true);
      for (const [kind, name] of orphans()) {
        expect(lineOf(would, name), name).toEqual({ verdict: 'ended', action: 'would remove' });
        expect(await here.has(kind, name), name).toBe(true);
      }
      const done = await scene.compare();
      expect(scene.errors).toEqual([]);
      for (const [kind, name] of orphans()) {
        expect(lineOf(done, name), name).toEqual({ verdict: 'ended', action: 'removed' });
        await world.until(`${name} is gone`, async () => !(await here.has(kind, name)));
      }
      const after = await scene.compare();
      expect(after.findings.filter(({ verdict }) => verdict === 'ended')).toEqual([]);
      const { rows } = await world.db.query(`select done, closed_at from reality_findings where verdict = 'ended'`, []);
      expect(rows).toHaveLength(orphans().length);
      expect(rows.every(({ done: deed, closed_at }) => deed === 'removed' && closed_at !== null)).toBe(true);
    },
  );

  it.skipIf(missing)(
    'what is alive, foreign, or of an id that nobody knows stays for ever, and so does what holds data',
    async () => {
      const here = planted();
      const stays: [ClusterKind, string, ReturnType<typeof marks.ours>, string | undefined][] = [
        ['Secret', `${at}-alive`, marks.server(alive), undefined],
        ['Secret', `${at}-later-life`, marks.server(alive, 7), 'unknown'],
        ['Service', `${at}-unknown-id`, marks.server(randomUUID()), 'unknown'],
        ['ConfigMap', `${at}-no-id`, marks.ours(), 'unknown'],
        ['Secret', `${at}-foreign`, marks.strange(), undefined],
        ['ConfigMap', `${at}-no-label`, {}, undefined],
        ['Job', `${at}-present-attempt`, marks.build('abc', 2), undefined],
        ['PersistentVolumeClaim', `${at}-of-purged`, marks.disk(purged), 'ended'],
        ['PersistentVolumeClaim', `${at}-of-known`, marks.disk(known), undefined],
        ['PersistentVolumeClaim', `${at}-of-unknown`, marks.disk(randomUUID()), 'unknown'],
        ['PersistentVolumeClaim', `${at}-copy-unrecorded`, marks.copy(known, 'snap-nobody-knows'), 'unrecorded'],
        ['PersistentVolumeClaim', `${at}-copy-recorded`, marks.copy(known, 'snap-recorded'), undefined],
        ['VolumeSnapshot', `${at}-snap-purged`, marks.disk(purged), 'ended'],
        ['VolumeSnapshot', `${at}-snap-unrecorded`, marks.disk(known), 'unrecorded'],
      ];
      for (const [kind, name, mark] of stays) await here.put(kind, name, mark);
      const scene = new Comparisons(world.db, client());
      for (let round = 0; round < 3; round++) {
        const report = await scene.compare();
        for (const [, name, , verdict] of stays)
          expect(lineOf(report, name), name).toEqual(verdict && { verdict, action: 'reported' });
        scene.pass(30 * 24 * 3_600_000);
      }
      expect(scene.errors).toEqual([]);
      for (const [kind, name] of stays) expect(await here.has(kind, name), name).toBe(true);
    },
  );

  it.skipIf(missing)('what was changed since it was listed is left alone, and judged anew', async () => {
    const here = planted();
    await here.put('Secret', `${at}-touched`, marks.server(ended));
    const reality = new KubernetesReality({ client: client() });
    const [listed] = ((await reality.list('Secret')) ?? []).filter(({ name }) => name === `${at}-touched`);
    const { core, namespace } = client();
    await core.replaceNamespacedSecret({
      namespace,
      name: `${at}-touched`,
      body: { metadata: { name: `${at}-touched`, ...marks.server(alive) }, type: 'Opaque' },
    });
    expect(await reality.remove(listed!)).toBe('changed');
    expect(lineOf(await new Comparisons(world.db, client(), { graceMs: 0 }).compare(), `${at}-touched`)).toBeUndefined();
    expect(await here.has('Secret', `${at}-touched`)).toBe(true);
    expect(await reality.remove({ ...listed!, name: 'never-was' })).toBe('gone');
  });
});

it.skipIf(real.missing)(
  'S33: a real API server on a bad day makes nothing missing; when it answers by 404, and twice, the reservation is told',
  async () => {
    const { proxy, client } = await real.faulty({ requestTimeoutMs: 300 });
    const scene = new Comparisons(world.db, client, { reality: new KubernetesReality({ client, pageSize: 100 }) });
    const pod = `gpu-dev-${alive}-1`;
    const bad: [string, () => unknown][] = [
      ['500', () => proxy.fault({}, { status: 500 })],
      ['429', () => proxy.fault({}, { status: 429, retryAfter: 1 })],
      ['404 that is no Status of an object', () => proxy.fault({ path: /\/pods\// }, { status: 404, reason: 'x' })],
      [
        'a second answer that is lost',
        () => proxy.fault({ path: /\/pods\//, chance: 0.5, random: everyOther() }, { lose: 'answer' }),
      ],
      ['silence', () => proxy.swallow()],
    ];
    for (const [day, happens] of bad) {
      await happens();
      const report = await scene.compare();
      expect([lineOf(report, pod), scene.posted], day).toEqual([undefined, []]);
      expect(report.unanswered.length, day).toBeGreaterThan(0);
      await proxy.mend();
    }
    proxy.requests.length = 0;
    expect(lineOf(await scene.compare(), pod)).toEqual({ verdict: 'missing', action: 'told' });
    expect(proxy.seen('GET', /\/pods\//).map(({ status }) => status)).toEqual([404, 404]);
    expect(scene.posted).toEqual([expect.objectContaining({ actor: `reservation/${alive}` })]);
  },
);

it.skipIf(real.missing)(
  'the rights that the service asks for are enough for all of it, and those on what holds data are not used',
  async () => {
    const rbac = 'apis/rbac.authorization.k8s.io/v1';
    const rules = RIGHTS.filter(({ scope, resource }) => scope === 'namespace' || resource === 'pods').map(
      ({ group, resource, verbs }) => ({
        apiGroups: [group],
        resources: [resource],
        verbs,
      }),
    );
    await real.api.ask('POST', real.path('serviceaccounts'), { metadata: { name: 'comparer' } });
    await real.api.ask('POST', real.path(`${rbac}:roles`), { metadata: { name: 'comparer' }, rules });
    await real.api.ask('POST', real.path(`${rbac}:rolebindings`), {
      metadata: { name: 'comparer' },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name: 'comparer' },
      subjects: [{ kind: 'ServiceAccount', name: 'comparer', namespace: real.namespace }],
    });
    const { proxy, client } = await real.faulty({ token: await real.tokenFor('comparer') });
    const here = new Planted(real.client);
    const names = CLUSTER_KINDS.filter((kind) => kind !== 'VolumeSnapshot').map((kind): [ClusterKind, string] => [
      kind,
      `rights-${kind.toLowerCase()}`,
    ]);
    for (const [kind, name] of names) await here.put(kind, name, kind === 'Job' ? marks.build('abc', 1) : marks.server(ended));
    const scene = new Comparisons(world.db, client, { graceMs: 0, reality: new KubernetesReality({ client }) });
    // Rights spread over the API server within a moment.
    await world.until('it is allowed', async () => (await scene.compare(true)).unanswered.length === 0);
    const report = await scene.compare();
    expect(scene.errors.filter((error) => !String(error).includes('403'))).toEqual([]);
    expect(report.unanswered).toEqual([]);
    for (const [kind, name] of names)
      expect(lineOf(report, name), name).toEqual({ verdict: 'ended', action: DATA.has(kind) ? 'reported' : 'removed' });
    expect(proxy.seen('DELETE', /persistentvolumeclaims|volumesnapshots/)).toEqual([]);
    expect(proxy.seen('DELETE', /./).every(({ status }) => status === 200 || status === 202)).toBe(true);
  },
);

/** 0.9, 0.1, 0.9, ... */
function everyOther(): () => number {
  let n = 0;
  return () => (n++ % 2 === 0 ? 0.9 : 0.1);
}
