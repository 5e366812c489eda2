// The command line tool `gpu-dev`.
import { keepCompiled } from '../compile-cache.ts';
import { EXIT } from './exit.ts';

keepCompiled();

const interruption = new AbortController();
process.on('SIGINT', () => {
  // A second Ctrl-C does not wait for an answer on its way.
  if (interruption.signal.aborted) process.exit(EXIT.interrupted);
  interruption.abort();
});
// A reader that has seen enough (head) is no failure.
for (const stream of [process.stdout, process.stderr]) {
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
    process.exit(EXIT.ok);
  });
}

const { run } = await import('./program.ts');
process.exitCode = await run(process.argv.slice(2), {
  environment: process.env,
  directory: process.cwd(),
  out: process.stdout,
  err: process.stderr,
  interrupted: interruption.signal,
});
