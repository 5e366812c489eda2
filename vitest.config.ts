import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    globalSetup: ['test/support/global-setup.ts'],
    testTimeout: 30_000,
    hookTimeout: 60_000,
    pool: 'forks',
    // Much of the time is spent waiting for servers and time limits: one more than the cores of the smallest machine.
    maxWorkers: 3,
    // Real servers on a busy machine: a wait may once be too short. What fails twice has failed; what needed the second try is told (retry x1).
    retry: process.env['CI'] === undefined ? 0 : 1,
  },
});
