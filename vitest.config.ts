import { defineConfig } from 'vitest/config';
import { PATIENCE_MS } from './test/support/patience.ts';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    globalSetup: ['test/support/global-setup.ts'],
    // Hangs end by these; what must be quick says so itself.
    testTimeout: 150_000,
    hookTimeout: 150_000,
    expect: { poll: { timeout: PATIENCE_MS } },
    pool: 'forks',
    // Much of the time is spent waiting for servers and time limits: one more than the cores of the smallest machine.
    maxWorkers: 3,
    // Two thousand tests with real servers on a busy machine: once in some runs, one of them meets a moment that is not its fault. What fails
    // three times has failed; what needed another try is told, with what was wrong (test/support/second-tries.ts), and is to be mended.
    retry: process.env['CI'] === undefined ? 0 : 2,
  },
});
