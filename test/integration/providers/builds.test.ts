import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { linesOf } from '../../../src/providers/local/build-words.ts';
import { JobBuilder, withoutCredentials } from '../../../src/providers/local/builds.ts';
import { startCluster, type TestCluster } from './support/cluster.ts';
import { until } from './support/wait.ts';

const namespace = 'gpu-dev';
let cluster: TestCluster;

beforeAll(async () => {
  cluster = await startCluster();
});
afterAll(() => cluster?.stop());

const request = (hash: string, attempt = 1) => ({ hash, attempt, owner: 'ada@example.com' });

async function outcome(builder: JobBuilder, hash: string) {
  return until('the build ends', async () => {
    const progress = await builder.build(request(hash));
    return progress.state === 'running' ? null : progress;
  });
}

describe('a build', () => {
  test('asked for by many is one job, and ends with an image', async () => {
    const builder = new JobBuilder({ client: cluster.client, repository: 'registry.test/dev' });
    const all = await Promise.all([1, 2, 3].map(() => builder.build(request('abc123'))));
    expect(all.every(({ state }) => state === 'running' || state === 'succeeded')).toBe(true);
    const { items } = await cluster.client.batch.listNamespacedJob({ namespace });
    expect(items.map(({ metadata }) => metadata?.name)).toEqual(['build-abc123-1']);
    expect(await outcome(builder, 'abc123')).toEqual({
      state: 'succeeded',
      image: expect.stringMatching(/^registry\.test\/dev:abc123@sha256:[0-9a-f]{64}$/),
    });
  });

  test('that told no digest has failed: what its tag leads to is up to everybody who may push', async () => {
    const annotations = { 'simulation.gpu-dev/termination-message': '' };
    const builder = new JobBuilder({ client: cluster.client, annotations });
    expect(await outcome(builder, 'd19e57')).toEqual({
      state: 'failed',
      reason: expect.stringMatching(/nobody can say which one it is: the builder told no digest/),
    });
  });

  test('of a hash of 64 digits has a legal name', async () => {
    const builder = new JobBuilder({ client: cluster.client });
    const hash = 'f'.repeat(64);
    expect((await outcome(builder, hash)).state).toBe('succeeded');
  });

  test('that is cancelled has no job, twice is fine', async () => {
    const builder = new JobBuilder({ client: cluster.client });
    await builder.build(request('bad0'));
    await builder.cancel(request('bad0'));
    await builder.cancel(request('bad0'));
    await until('no job', async () => {
      const { items } = await cluster.client.batch.listNamespacedJob({ namespace });
      return !items.some(({ metadata }) => metadata?.name === 'build-bad0-1');
    });
  });

  test('that fails says why in its own last lines, without credentials', async () => {
    const annotations = {
      'simulation.gpu-dev/job-outcome': 'fail',
      'simulation.gpu-dev/log': 'step 3/9 failed: no such file, password=hunter2',
    };
    const builder = new JobBuilder({ client: cluster.client, annotations });
    const ended = await outcome(builder, 'dead1');
    expect(ended.state).toBe('failed');
    const { reason } = ended as { reason: string };
    expect(reason).toContain('step 3/9 failed');
    expect(reason).not.toContain('hunter2');
  });
});

test.each([
  ['login with https://user:pass@registry.test/x', 'pass'],
  ['Authorization: Bearer abcdef123456', 'abcdef123456'],
  ['aws AKIAABCDEFGHIJKLMNOP', 'AKIAABCDEFGHIJKLMNOP'],
  [`blob ${'Zm9v'.repeat(40)}`, 'Zm9vZm9v'],
])('what looks like a credential is masked: %s', (line, secret) => {
  expect(withoutCredentials(line)).not.toContain(secret);
});

test('a line without an end costs no more than its beginning, and its cut end is no half of a secret', () => {
  const at = '2026-11-20T10:00:00Z';
  const began = process.cpuUsage();
  for (const line of ['a'.repeat(400_000), 'a-'.repeat(200_000), `${'x '.repeat(1_990)}hunter2 is the word`]) {
    const [{ text } = { text: '' }] = linesOf(`${at} ${line}\n`, null, ['hunter2 is the word']);
    expect(text.length).toBeLessThanOrEqual(2_000);
    expect(text).not.toContain('hunter');
  }
  // Looking through the whole of them takes minutes.
  expect(process.cpuUsage(began).user).toBeLessThan(5_000_000);
});
