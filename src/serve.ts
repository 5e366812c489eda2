/** The service alone: configured by the environment, says when it is ready, drains on SIGTERM. An argument names its role: api, processor or all. */
import pino from 'pino';
import { Secret } from '../actors/secret.ts';
import { ConfigError, readConfig } from './config.ts';
import { HeapKeeper } from './heap-keeper.ts';
import { eksAccessOf } from './providers/aws/eks.ts';
import { providersFrom } from './providers/providers.ts';
import { StartError, startService } from './service.ts';

/** A second signal does not wait. */
const FORCED_EXIT = 130;

/** An error for the log, without what a database says of a row or a value that it refused: that may hold anything. */
function withoutValues(error: Error): object {
  const { detail: _detail, where: _where, ...told } = pino.stdSerializers.err(error) as object as Record<string, unknown>;
  return told;
}

/** Run it: this returns when it is ready, or when the process is about to end because it cannot start. @param args of the command line */
export async function serve(args: readonly string[]): Promise<void> {
  try {
    await start(args);
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    process.stderr.write(
      error instanceof ConfigError || error instanceof StartError
        ? `${message}\n`
        : `gpu-dev: the service could not start: ${message}\n${error instanceof Error ? (error.stack ?? '') : ''}\n`,
    );
    process.exit(1);
  }
}

async function start([role]: readonly string[]): Promise<void> {
  const config = readConfig(role === undefined ? process.env : { ...process.env, GPU_DEV_ROLE: role });
  const log = pino(
    {
      level: config.logLevel,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      serializers: { err: withoutValues },
      redact: {
        paths: ['*.password', '*.token', '*.env_vars', '*.environment', 'req.headers.authorization', '*.authorization'],
        censor: String(new Secret('')),
      },
    },
    pino.destination({ dest: 2, sync: true }),
  );
  const access = await eksAccessOf(config, process.env).catch((error: unknown) => {
    throw new StartError(error instanceof Error ? error.message : String(error), { cause: error });
  });
  const service = await startService(config, (db) => providersFrom(config, db, log, access), log);
  const heap = new HeapKeeper({ onError: (error) => log.warn({ err: error }, 'memory could not be given back') });
  heap.start();
  process.stdout.write(`${JSON.stringify({ ready: true, port: service.port })}\n`);
  let signals = 0;
  const drain = () => {
    if (++signals > 1) process.exit(FORCED_EXIT);
    Promise.all([service.stop(), heap.stop()]).then(
      () => process.exit(0),
      (error: unknown) => {
        log.error({ err: error }, 'draining failed');
        process.exit(1);
      },
    );
  };
  process.on('SIGTERM', drain);
  process.on('SIGINT', drain);
}
