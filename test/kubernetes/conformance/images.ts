/** ImageBuilder: one build for many who ask, an end for each, and reasons without secrets. */
import { describe, expect, it } from 'vitest';
import type { ImageBuilder } from '../../../actors/image/ports.ts';
import { until } from '../../integration/providers/support/wait.ts';
import type { Subject } from './subject.ts';

export function imagesConform(subject: () => Subject): void {
  const namespace = () => subject().client.namespace;
  const request = (hash: string, attempt = 1) => ({ hash, attempt, owner: 'ada@example.com' });

  async function outcome(builder: ImageBuilder, hash: string) {
    return until('the build ends', async () => {
      const progress = await builder.build(request(hash));
      return progress.state === 'running' ? null : progress;
    });
  }

  describe('a build', () => {
    it('asked for by many is one job, and ends with an image', async () => {
      const builder = subject().builder(subject().client, { repository: 'registry.test/dev' });
      const all = await Promise.all([1, 2, 3].map(() => builder.build(request('abc123'))));
      expect(all.every(({ state }) => state === 'running' || state === 'succeeded')).toBe(true);
      const { items } = await subject().client.batch.listNamespacedJob({ namespace: namespace() });
      expect(items.map(({ metadata }) => metadata?.name)).toEqual(['build-abc123-1']);
      expect(await outcome(builder, 'abc123')).toEqual({
        state: 'succeeded',
        image: expect.stringMatching(/^registry\.test\/dev:abc123@sha256:[0-9a-f]{64}$/),
      });
    });

    it('of a hash of 64 digits has a legal name', async () => {
      const builder = subject().builder(subject().client, {});
      const hash = 'f'.repeat(64);
      expect((await outcome(builder, hash)).state).toBe('succeeded');
    });

    it('that is cancelled has no job, twice is fine', async () => {
      const builder = subject().builder(subject().client, {});
      await builder.build(request('bad0'));
      await builder.cancel(request('bad0'));
      await builder.cancel(request('bad0'));
      await until('no job', async () => {
        const { items } = await subject().client.batch.listNamespacedJob({ namespace: namespace() });
        return !items.some(({ metadata }) => metadata?.name === 'build-bad0-1');
      });
    });

    it('that fails says why in its own last lines, without credentials', async () => {
      const annotations = {
        'simulation.gpu-dev/job-outcome': 'fail',
        'simulation.gpu-dev/log': 'step 3/9 failed: no such file, password=hunter2',
      };
      const builder = subject().builder(subject().client, { annotations });
      const ended = await outcome(builder, 'dead1');
      expect(ended.state).toBe('failed');
      const { reason } = ended as { reason: string };
      expect(reason).toContain('step 3/9 failed');
      expect(reason).not.toContain('hunter2');
    });
  });
}
