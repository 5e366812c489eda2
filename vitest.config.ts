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
    // Real servers on a busy machine: a wait may once be too short. What fails twice has failed; what needed the second try is told (retry x1).
    retry: process.env['CI'] === undefined ? 0 : 1,
  },
});
