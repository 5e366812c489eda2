import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { V1Job } from '@kubernetes/client-node';
import { Secret } from '../../../actors/secret.ts';
import { readConfig } from '../../../src/config.ts';
import { type BuildSettings, cacheOf, BUILD_DEFAULTS, imageOf, jobOf } from '../../../src/providers/local/build-job.ts';
import { JobBuilder, type JobBuilderOptions } from '../../../src/providers/local/builds.ts';
import { realCluster } from '../../support/kubernetes/real-cluster.ts';
import { startCluster, type TestCluster } from '../providers/support/cluster.ts';
import { until } from '../providers/support/wait.ts';

const real = await realCluster();
let simulated: TestCluster;
beforeAll(async () => {
  simulated = await startCluster();
});
afterAll(() => simulated?.stop());

const request = (hash: string, attempt = 1, owner = 'ada@example.com') => ({ hash, attempt, owner });
const TOKEN = 'f00d'.repeat(16);
const PASSWORD = 'correct-horse-battery';

const clusters = [
  { where: 'on the simulated cluster', client: () => simulated.client, missing: '' },
  { where: 'on a real API server', client: () => real.client, missing: real.missing || (real.standIns ? '' : 'no kubelet') },
];

describe.each(clusters)('a build $where', ({ client, missing }) => {
  const granted: string[] = [];
  const builderOf = (options: Partial<JobBuilderOptions> = {}) =>
    new JobBuilder({
      client: client(),
      grant: async ({ hash, attempt }) => {
        granted.push(`${hash}-${attempt}`);
        return new Secret(TOKEN);
      },
      ...options,
    });
  const read = {
    job: (name: string) => client().batch.readNamespacedJob({ namespace: client().namespace, name }),
    secret: (name: string) => client().core.readNamespacedSecret({ namespace: client().namespace, name }),
    configMap: (name: string) => client().core.readNamespacedConfigMap({ namespace: client().namespace, name }),
  };
  const there = (call: Promise<unknown>) =>
    call.then(
      () => true,
      (error: { code?: number }) => (error.code === 404 ? false : Promise.reject(error)),
    );
  const jobs = async () =>
    (await client().batch.listNamespacedJob({ namespace: client().namespace })).items.map(({ metadata }) => metadata!.name!);
  const outcome = (builder: JobBuilder, of: ReturnType<typeof request>) =>
    until('the build ends', async () => {
      const progress = await builder.build(of);
      return progress.state === 'running' ? null : progress;
    });

  it.skipIf(missing)(
    'S36 T5 T6: carries neither its context nor a secret in its Job; the token is a file for the container that runs only our script',
    async () => {
      const of = request('5'.repeat(64));
      const name = `build-${'5'.repeat(40)}-1`;
      const builder = builderOf({ annotations: { 'simulation.gpu-dev/job-outcome': 'hang' } });
      await builder.build(of);
      const job = await read.job(name);
      expect(JSON.stringify(job).length).toBeLessThan(10_000);
      expect(JSON.stringify(job)).not.toContain(TOKEN);
      const { initContainers, containers, ...spec } = job.spec!.template.spec!;
      expect(spec).toMatchObject({ automountServiceAccountToken: false, restartPolicy: 'Never' });
      const [fetch] = initContainers!;
      const [build] = containers;
      const mounts = (container: typeof build) => container!.volumeMounts!.map((mount) => mount.name);
      expect([mounts(fetch).includes('token'), mounts(build).includes('token')]).toEqual([true, false]);
      expect(fetch!.securityContext).toMatchObject({
        runAsNonRoot: true,
        allowPrivilegeEscalation: false,
        capabilities: { drop: ['ALL'] },
      });
      expect(build!.securityContext).toMatchObject({ runAsNonRoot: true, runAsUser: 1000 });
      expect(JSON.stringify(job)).not.toContain('"privileged":true');
      for (const one of [await read.secret(name), await read.configMap(name)]) {
        expect(one.immutable).toBe(true);
        expect(one.metadata!.ownerReferences).toEqual([expect.objectContaining({ kind: 'Job', uid: job.metadata!.uid })]);
      }
      expect(Buffer.from((await read.secret(name)).data!['token']!, 'base64').toString()).toBe(TOKEN);
      expect((await read.configMap(name)).data!['build.sh']).toMatch(/^#!\/bin\/sh\n/);
      await until('it runs', async () => ((await builder.build(of)) as { detail?: string }).detail === 'Building the image');
      await builder.cancel(of);
      await until('all of it is gone', async () =>
        (await Promise.all([there(read.job(name)), there(read.secret(name)), there(read.configMap(name))])).every((one) => !one),
      );
    },
  );

  it.skipIf(missing)(
    'B3: asked for by many at once is one Job with one token, and one that was lost on the way is made again',
    async () => {
      granted.length = 0;
      const of = request('b3b3b3', 1);
      const builder = builderOf();
      const all = await Promise.all([1, 2, 3, 4, 5].map(() => builder.build(of)));
      expect(all.every(({ state }) => state !== 'failed')).toBe(true);
      expect((await jobs()).filter((name) => name.includes('b3b3b3'))).toEqual(['build-b3b3b3-1']);
      expect(await outcome(builder, of)).toMatchObject({ state: 'succeeded' });

      const lost = request('b3b3b4', 1);
      const hanging = builderOf({ annotations: { 'simulation.gpu-dev/job-outcome': 'hang' } });
      await hanging.build(lost);
      await hanging.cancel(lost);
      await until('it is gone', async () => !(await jobs()).includes('build-b3b3b4-1'));
      granted.length = 0;
      expect(await outcome(builder, lost)).toMatchObject({ state: 'succeeded' });
      expect(new Set(granted)).toEqual(new Set(['b3b3b4-1']));
    },
  );

  it.skipIf(missing)(
    'B3: that failed is never used again: the next attempt is another Job, and neither disturbs the other',
    async () => {
      const failing = builderOf({ annotations: { 'simulation.gpu-dev/job-outcome': 'fail' } });
      expect(await outcome(failing, request('b3fa11', 1))).toMatchObject({ state: 'failed' });
      const builder = builderOf();
      expect(await outcome(builder, request('b3fa11', 2))).toMatchObject({ state: 'succeeded' });
      expect(await builder.build(request('b3fa11', 1))).toMatchObject({ state: 'failed' });
      expect((await jobs()).filter((name) => name.includes('b3fa11')).sort()).toEqual(['build-b3fa11-1', 'build-b3fa11-2']);
    },
  );

  it.skipIf(missing)(
    'B1: gives servers the image by the digest that the builder told, whatever its tag leads to later',
    async () => {
      const { core, namespace } = client();
      const of = request('b1b1b1', 1);
      const builder = builderOf({ repository: 'registry.test/dev' });
      expect(await outcome(builder, of)).toMatchObject({
        image: expect.stringMatching(/^registry\.test\/dev:b1b1b1@sha256:[0-9a-f]{64}$/),
      });
      const [pod] = (await core.listNamespacedPod({ namespace, labelSelector: 'job-name=build-b1b1b1-1' })).items;
      const name = pod!.metadata!.name!;
      const told = async (message: string) => {
        const now = await core.readNamespacedPod({ namespace, name });
        now.status!.containerStatuses![0]!.state!.terminated!.message = message;
        await core.replaceNamespacedPodStatus({ namespace, name, body: now });
        return builder.build(of);
      };
      const digest = `sha256:${'d'.repeat(64)}`;
      expect(await told(digest)).toMatchObject({ image: `registry.test/dev:b1b1b1@${digest}` });
      const unknown = { state: 'failed', reason: expect.stringContaining('told no digest') };
      for (const words of ['evil/image:latest', '', `${digest} evil/image:latest`])
        expect(await told(words)).toMatchObject(unknown);
      await core.deleteNamespacedPod({ namespace, name, gracePeriodSeconds: 0 });
      expect(await outcome(builder, of)).toMatchObject(unknown);
    },
  );

  it.skipIf(missing)('whose name is taken by what is not this build fails, and leaves that alone', async () => {
    const body: V1Job = jobOf(request('dead00', 1), BUILD_DEFAULTS, client().namespace);
    delete body.metadata!.labels!['gpu-dev.io/attempt'];
    body.spec!.suspend = true;
    await client().batch.createNamespacedJob({ namespace: client().namespace, body });
    expect(await builderOf().build(request('dead00', 1))).toMatchObject({
      state: 'failed',
      reason: expect.stringMatching(/not this build/),
    });
    await builderOf().cancel(request('dead00', 1));
    expect(await jobs()).toContain('build-dead00-1');
  });

  it.skipIf(missing)(
    'T5: that writes its credentials, or what looks like some, gives neither in its log nor in its reason',
    async () => {
      const config = { auths: { 'registry.test': { auth: Buffer.from(`builder:${PASSWORD}`).toString('base64') } } };
      await client().core.createNamespacedSecret({
        namespace: client().namespace,
        body: {
          metadata: { name: 'registry' },
          type: 'kubernetes.io/dockerconfigjson',
          data: { '.dockerconfigjson': Buffer.from(JSON.stringify(config)).toString('base64') },
        },
      });
      const line = `#7 [2/9] RUN curl -u builder ${PASSWORD} ${config.auths['registry.test'].auth} https://a:b@c.d ghp_${'x'.repeat(36)}`;
      const builder = builderOf({
        registrySecret: 'registry',
        annotations: { 'simulation.gpu-dev/job-outcome': 'fail', 'simulation.gpu-dev/log': line },
      });
      const seen: string[] = [];
      const ended = await until('it ends', async () => {
        const progress = await builder.build({ ...request('c0ffee'), lastLine: async () => null });
        seen.push(...(progress.lines ?? []).map(({ text }) => text));
        return progress.state === 'running' ? null : progress;
      });
      expect(seen.join('\n')).toContain('#7 [2/9] RUN curl -u builder [secret]');
      const { reason } = ended as { reason: string };
      expect(reason).toContain('[2/9] RUN curl');
      for (const text of [...seen, reason])
        expect(text).not.toMatch(new RegExp(`${PASSWORD}|${config.auths['registry.test'].auth}|a:b@|ghp_x`));
    },
  );
});

describe('names of a build', () => {
  it('B4: are legal whatever the content is called and whoever asks, and no two contents or owners share one', () => {
    const hashes = ['a'.repeat(64), `${'a'.repeat(63)}b`, 'With_Underscore', 'with-underscore', '../../x', 'ä'];
    const built = hashes.map((hash) => jobOf(request(hash, 3, `Ada <ada@x.y> ${'z'.repeat(80)}`), BUILD_DEFAULTS, 'gpu-dev'));
    for (const { metadata, spec } of built) {
      expect(metadata!.name).toMatch(/^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/);
      for (const value of Object.values(spec!.template.metadata!.labels!))
        expect(value).toMatch(/^([A-Za-z0-9]([-\w.]{0,61}[A-Za-z0-9])?)?$/);
    }
    const images = hashes.map((hash) => imageOf(BUILD_DEFAULTS, hash));
    expect(new Set(images).size).toBe(hashes.length);
    for (const image of images) expect(image).toMatch(/^registry[\w.-]*:5000\/gpu-dev:\w[\w.-]{0,127}$/);
  });

  it('T6: an owner has a cache of its own, which nobody else is given, not one of a name that looks alike', () => {
    const owners = ['ada', 'Ada', 'ada@example.com', 'ada-example.com', 'ada '];
    const caches = owners.map((owner) => cacheOf(BUILD_DEFAULTS, owner));
    expect(new Set(caches).size).toBe(owners.length);
    const of = (settings: BuildSettings) => JSON.stringify(jobOf(request('a'.repeat(64), 1, 'ada'), settings, 'gpu-dev'));
    const job = of({ ...BUILD_DEFAULTS, registrySecret: 'registry' });
    expect(job).toContain(`"${caches[0]}"`);
    // In a registry that asks nobody who they are, steps of one build could write the cache of another.
    expect(of(BUILD_DEFAULTS)).not.toContain(caches[0]);
    for (const other of caches.slice(1)) expect(job).not.toContain(other);
  });

  it('T14: the builder is named by a version or a digest: one that moves is refused at the start', () => {
    const image = (name: string) => () => readConfig({ POSTGRES_HOST: 'db', BUILDKIT_IMAGE: name }).builds.builderImage;
    for (const moving of [
      'moby/buildkit',
      'moby/buildkit:master',
      'moby/buildkit:latest',
      'moby/buildkit:rootless',
      'r:5000/buildkit',
    ])
      expect(image(moving), moving).toThrow(/BUILDKIT_IMAGE/);
    for (const pinned of ['moby/buildkit:v0.27.1', `r:5000/b@sha256:${'0'.repeat(64)}`, `b:v1@sha256:${'0'.repeat(64)}`])
      expect(image(pinned)()).toBe(pinned);
    expect(image('')()).toMatch(/:v\d/);
  });

  it('a registry may be named with or without its scheme and a path; plain http is said to the builder', () => {
    const builds = (url: string) => readConfig({ POSTGRES_HOST: 'db', BUILDKIT_REGISTRY_URL: url }).builds;
    expect(builds('http://images.test:5000/')).toMatchObject({ repository: 'images.test:5000/gpu-dev', insecure: true });
    expect(builds('https://images.test/team/images')).toMatchObject({
      repository: 'images.test/team/images',
      insecure: false,
    });
    expect(() => builds('images.test/x y')).toThrow(/BUILDKIT_REGISTRY_URL/);
    const { spec } = jobOf(request('abcdef'), { ...BUILD_DEFAULTS, ...builds('http://images.test:5000') }, 'gpu-dev');
    expect(spec!.template.spec!.containers[0]!.env).toContainEqual({ name: 'REGISTRY_INSECURE', value: 'true' });
  });
});
