/** Builds for ECR, as moto plays it, on a simulated cluster. */
import { DescribeRepositoriesCommand, ECRClient } from '@aws-sdk/client-ecr';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ImageBuilder } from '../../actors/image/ports.ts';
import { EcrBuilder, ECR_SECRET, findEcrObstacles, throughCache } from '../../src/providers/aws/ecr.ts';
import { startCluster, type TestCluster } from '../integration/providers/support/cluster.ts';
import { startMoto } from '../support/moto.ts';
import { type Front, startFront } from './support/front.ts';
import { CLUSTER } from './support/ebs.ts';

const moto = await startMoto();
const REPOSITORY = '123456789012.dkr.ecr.us-east-2.amazonaws.com/gpu-dev/images';
const HOUR = 3_600_000;

describe.skipIf(moto.missing)('builds for ECR', () => {
  let cluster: TestCluster;
  let ecr: ECRClient;
  let now: number;
  let built: string[];
  /** Moto's credentials have ended long ago; these are good for twelve hours, as ECR's are. */
  let front: Front;
  let logins = 0;
  const inner: ImageBuilder = {
    build: async ({ hash }) => {
      built.push(hash);
      return { state: 'running', detail: 'it builds' };
    },
    cancel: async () => {},
  };
  const builder = () =>
    new EcrBuilder({
      settings: { region: 'us-east-2', endpoint: front.url, cluster: CLUSTER },
      client: cluster.client,
      repository: REPOSITORY,
      builder: inner,
      now: () => now,
    });
  const build = (by: EcrBuilder, hash: string) => by.build({ hash, attempt: 1, owner: 'ada' });
  const secret = () => cluster.client.core.readNamespacedSecret({ namespace: cluster.client.namespace, name: ECR_SECRET });

  beforeAll(async () => {
    cluster = await startCluster();
    front = await startFront(moto.url, ({ headers }) => {
      if (!String(headers['x-amz-target']).endsWith('.GetAuthorizationToken')) return null;
      logins += 1;
      const authorizationToken = Buffer.from(`AWS:secret-${logins}`).toString('base64');
      return { status: 200, body: { authorizationData: [{ authorizationToken, expiresAt: (now + 12 * HOUR) / 1000 }] } };
    });
    ecr = new ECRClient({ endpoint: moto.url, region: 'us-east-2' });
    now = Date.now();
    built = [];
  });
  afterAll(() => Promise.all([cluster?.stop(), front?.stop()]));

  it('the repository is made before the first build, once, and its login stands in a secret that builds can use', async () => {
    await build(builder(), 'one');
    await build(builder(), 'two');
    const { repositories = [] } = await ecr.send(new DescribeRepositoriesCommand({}));
    expect(repositories.map(({ repositoryName }) => repositoryName)).toEqual(['gpu-dev/images']);
    const { type, data } = await secret();
    expect(type).toBe('kubernetes.io/dockerconfigjson');
    const config = JSON.parse(Buffer.from(data?.['.dockerconfigjson'] ?? '', 'base64').toString());
    const { auth } = config.auths['123456789012.dkr.ecr.us-east-2.amazonaws.com'];
    expect(Buffer.from(auth, 'base64').toString()).toMatch(/^AWS:/);
    expect(built).toEqual(['one', 'two']);
  });

  it('the login is renewed before a build could outlive it, and not at every build', async () => {
    const by = builder();
    await build(by, 'three');
    await build(by, 'four');
    expect(logins).toBe(1);
    now += 9 * HOUR;
    await build(by, 'five');
    expect(logins).toBe(1);
    now += 2 * HOUR;
    await build(by, 'six');
    expect(logins).toBeGreaterThan(1);
    expect(Buffer.from((await secret()).data?.['.dockerconfigjson'] ?? '', 'base64').toString()).toContain(
      Buffer.from(`AWS:secret-${logins}`).toString('base64'),
    );
  });

  it('a start says so when the right to push is missing, and concludes nothing where ECR does not say', async () => {
    const settings = { region: 'us-east-2', endpoint: front.url, cluster: CLUSTER, maxAttempts: 1 };
    expect(await findEcrObstacles(settings, REPOSITORY)).toEqual([]);
    expect(await findEcrObstacles(settings, '123456789012.dkr.ecr.us-east-2.amazonaws.com/not-made-yet')).toEqual([]);
    for (const [status, type] of [
      [400, 'AccessDeniedException'],
      [500, 'ServerException'],
    ] as const) {
      const refusing = await startFront(moto.url, () => ({
        status,
        headers: { 'x-amzn-errortype': type },
        body: { __type: type },
      }));
      const found = findEcrObstacles({ ...settings, endpoint: refusing.url }, REPOSITORY);
      if (status === 500) await expect(found).rejects.toThrow(/500/);
      else
        expect(await found).toEqual([
          'May not ecr:GetAuthorizationToken in AWS (see docs/aws.md for the policy)',
          'May not ecr:BatchGetImage in AWS (see docs/aws.md for the policy)',
        ]);
      await refusing.stop();
    }
  });

  it('a secret of that name that is not ours is left alone, and the build says so', async () => {
    const { core, namespace } = cluster.client;
    await core.deleteNamespacedSecret({ namespace, name: ECR_SECRET });
    await core.createNamespacedSecret({ namespace, body: { metadata: { name: ECR_SECRET }, stringData: { key: 'theirs' } } });
    await expect(build(builder(), 'eight')).rejects.toThrow(/is not ours/);
    expect(Object.keys((await secret()).data ?? {})).toEqual(['key']);
  });
});

it('images of Docker Hub have their names in a pull-through cache, and others are as they are', () => {
  const cache = '123456789012.dkr.ecr.us-east-2.amazonaws.com/docker-hub';
  expect(throughCache('python:3.13', cache)).toBe(`${cache}/library/python:3.13`);
  expect(throughCache('pytorch/pytorch:2.9', cache)).toBe(`${cache}/pytorch/pytorch:2.9`);
  expect(throughCache('docker.io/pytorch/pytorch', cache)).toBe(`${cache}/pytorch/pytorch`);
  expect(throughCache('ghcr.io/someone/image:1', cache)).toBe('ghcr.io/someone/image:1');
  expect(throughCache('localhost/image', cache)).toBe('localhost/image');
  expect(throughCache('python:3.13', null)).toBe('python:3.13');
});
