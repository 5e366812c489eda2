// What `npm start` was asked for. Nothing is taken from exported POSTGRES_* or KUBECONFIG unless a flag says so.
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';

/** The choices of one start. */
export type StartOptions = {
  readonly home: string;
  /** HTTP port of the first service; 0 for any free one. */
  readonly port: number;
  readonly fresh: boolean;
  /** Divides every policy duration: 240 makes four hours one minute. */
  readonly timeScale: number;
  readonly database: 'embedded' | 'external';
  readonly cluster: 'simulated' | 'kube';
  /** Whether the simulated cluster takes snapshots of volumes. */
  readonly volumeSnapshots: boolean;
  /** How many services run at once; the second and later ones get a free port each. */
  readonly replicas: number;
};

/** A mistake in how the program was called: its message is all the user needs to see. */
export class UsageError extends Error {}

/** The text of `npm start -- --help`. */
export const USAGE = `npm start -- [options]

Runs gpu-dev on this machine: Postgres, a simulated cluster and the service. Ctrl-C stops all three.

  --port N                         HTTP port (default 8080, or PORT); 0 takes a free one
  --time-scale N                   make every policy duration N times shorter: with 240, 4 h pass in 1 min
  --fresh                          wipe everything this instance keeps, then start
  --home DIR                       where it keeps everything (default .gpu-dev, or GPU_DEV_HOME)
  --database embedded|external     external: the server named by POSTGRES_HOST, _PORT, _USER, _PASSWORD, _DB
  --cluster simulated|kube         kube: the cluster of your kubeconfig
  --no-volume-snapshots            a simulated cluster that takes no snapshots of volumes: Jobs copy them instead
  --replicas N                     how many services run side by side (default 1)
  --help`;

/**
 * Reads the command line. Throws UsageError with one readable sentence.
 * @returns undefined when only help was asked for
 */
export function readOptions(args: readonly string[], environment: NodeJS.ProcessEnv): StartOptions | undefined {
  const values = parse(args);
  if (values.help) return undefined;
  const database = oneOf('--database', values.database ?? 'embedded', ['embedded', 'external'] as const);
  const cluster = oneOf('--cluster', values.cluster ?? 'simulated', ['simulated', 'kube'] as const);
  const timeScale = number('--time-scale', values['time-scale'] ?? '1', 1, 100_000);
  if (timeScale !== 1 && cluster === 'kube')
    throw new UsageError('--time-scale is for the simulated cluster only: real servers need real hours.');
  if (database === 'external' && !environment.POSTGRES_HOST) {
    throw new UsageError(
      '--database external needs POSTGRES_HOST (and POSTGRES_PORT, _USER, _PASSWORD, _DB) in the environment.',
    );
  }
  return {
    home: resolve(values.home ?? (environment.GPU_DEV_HOME || '.gpu-dev')),
    port: integer(values.port === undefined ? 'PORT' : '--port', values.port ?? (environment.PORT || '8080'), 0, 65_535),
    fresh: values.fresh ?? false,
    timeScale,
    database,
    cluster,
    volumeSnapshots: !(values['no-volume-snapshots'] ?? false),
    replicas: integer('--replicas', values.replicas ?? '1', 1, 16),
  };
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      options: {
        port: { type: 'string' },
        'time-scale': { type: 'string' },
        fresh: { type: 'boolean' },
        home: { type: 'string' },
        database: { type: 'string' },
        cluster: { type: 'string' },
        'no-volume-snapshots': { type: 'boolean' },
        replicas: { type: 'string' },
        help: { type: 'boolean', short: 'h' },
      },
    }).values;
  } catch (error) {
    throw new UsageError(`${(error as Error).message.split('. To specify')[0]}\n\n${USAGE}`);
  }
}

function oneOf<T extends string>(name: string, value: string, allowed: readonly T[]): T {
  const found = allowed.find((candidate) => candidate === value);
  if (found === undefined) throw new UsageError(`${name} is ${allowed.join(' or ')}, not "${value}".`);
  return found;
}

function number(name: string, text: string, least: number, most: number): number {
  const value = Number(text);
  if (text.trim() === '' || !Number.isFinite(value) || value < least || value > most) {
    throw new UsageError(`${name} is a number from ${least} to ${most}, not "${text}".`);
  }
  return value;
}

function integer(name: string, text: string, least: number, most: number): number {
  const value = number(name, text, least, most);
  if (!Number.isInteger(value)) throw new UsageError(`${name} is a whole number, not "${text}".`);
  return value;
}
