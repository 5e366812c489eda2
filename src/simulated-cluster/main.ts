import { keepCompiled } from '../compile-cache.ts';

const write = keepCompiled();

try {
  const { run } = await import('./run.ts');
  await run();
  write();
} catch (error) {
  process.stderr.write(`simulated cluster: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exit(1);
}
