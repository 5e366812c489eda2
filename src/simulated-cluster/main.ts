import { enableCompileCache, flushCompileCache } from 'node:module';
import { homedir } from 'node:os';
import { join } from 'node:path';

// Stripping types and compiling take most of the start; with the cache a start takes a third of the time. It is written once the
// cluster is up, because a process that is killed would never write it.
enableCompileCache(join(homedir(), '.cache', 'gpu-dev', 'compiled'));

try {
  const { run } = await import('./run.ts');
  await run();
  setImmediate(flushCompileCache);
} catch (error) {
  process.stderr.write(`simulated cluster: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exit(1);
}
