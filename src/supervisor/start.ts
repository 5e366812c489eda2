// `npm start`: reads the command line, runs the supervisor, and turns Ctrl-C into an orderly end.
import { readOptions, USAGE, UsageError } from './options.ts';
import { buildPage } from './page.ts';
import { StartError } from './program.ts';
import { createScreen, firstScreen } from './screen.ts';
import { Supervisor } from './supervisor.ts';

/** A terminal signals the whole group and npm passes the signal on: what comes this soon (ms) is the same Ctrl-C. */
const SAME_SIGNAL_MS = 700;

const screen = createScreen(process.stdout, process.env);
process.exitCode = await main();

async function main(): Promise<number> {
  let options: ReturnType<typeof readOptions>;
  try {
    options = readOptions(process.argv.slice(2), process.env);
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    screen.print(error.message);
    return 2;
  }
  if (options === undefined) {
    screen.print(USAGE);
    return 0;
  }

  const supervisor = new Supervisor(options, process.env, screen.event);
  const stopped = stopOnSignal(supervisor);
  try {
    const page = await buildPage();
    if (page.how === 'built') screen.event('page', `built in ${(page.ms / 1_000).toFixed(1)} s`);
    if (page.how === 'failed') screen.event('page', 'could not be built; all else works without it', page.reason.split('\n'));
    const instance = await supervisor.start();
    screen.print(firstScreen(instance, process.cwd(), screen.paint));
  } catch (error) {
    if (!supervisor.stopping) {
      screen.print(`\n${screen.paint('red', 'gpu-dev could not start')}: ${(error as Error).message}`);
      if (error instanceof StartError) for (const line of error.lines) screen.print(screen.paint('dim', `  │ ${line}`));
      await supervisor.stop('gently');
      return 1;
    }
  }
  await stopped;
  screen.event('gpu-dev', 'stopped, the data is kept');
  return 0;
}

/** Resolves when a signal came and everything has ended. A second signal ends it at once. */
function stopOnSignal(supervisor: Supervisor): Promise<void> {
  return new Promise((resolve, reject) => {
    let last = 0;
    let asked = 0;
    const onSignal = () => {
      const again = Date.now() - last > SAME_SIGNAL_MS;
      last = Date.now();
      if (!again || asked === 2) return;
      asked += 1;
      screen.print('');
      screen.event(
        'gpu-dev',
        asked === 1 ? 'stopping: draining the service first (Ctrl-C again to stop at once)' : 'stopping at once',
      );
      supervisor.stop(asked === 1 ? 'gently' : 'now').then(resolve, reject);
    };
    for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(name, onSignal);
  });
}
