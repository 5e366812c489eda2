/**
 * The long versions of the fires: `npm run fire -- --minutes 20 [--only replicas|lean|postgres]`. The same tests as every day, for longer; each
 * runs for so many minutes, one after the other.
 */
import { spawn } from 'node:child_process';
import { parseArgs } from 'node:util';

const FILES: Record<string, string> = {
  replicas: 'test/crash/fire.test.ts',
  lean: 'test/crash/lean-fire.test.ts',
  postgres: 'test/crash/postgres-fire.test.ts',
};

const { values } = parseArgs({ options: { minutes: { type: 'string', default: '20' }, only: { type: 'string' } } });
const minutes = Number(values.minutes);
const files = values.only === undefined ? Object.values(FILES) : [FILES[values.only]];
if (!(minutes > 0) || files.includes(undefined)) {
  process.stderr.write(`Usage: npm run fire -- --minutes N [--only ${Object.keys(FILES).join('|')}]\n`);
  process.exit(2);
}
const vitest = spawn('vitest', ['run', '--maxWorkers=1', ...(files as string[])], {
  stdio: 'inherit',
  env: { ...process.env, GPU_DEV_FIRE_MINUTES: String(minutes) },
});
vitest.on('exit', (code) => process.exit(code ?? 1));
