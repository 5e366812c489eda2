// `gpu-dev env`: the shell exports that let psql, kubectl, curl and the CLI find what runs here.
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { CliError } from './exit.ts';
import { localLogin } from './session.ts';
import { type CommonOptions, type Surroundings, userOf } from './surroundings.ts';
import { instancePassword, runningInstance } from '../supervisor/instance.ts';

/**
 * Lines for `eval "$(npx gpu-dev env)"` in any POSIX shell. Contains the database password and, if one is given, an API key.
 * @throws Error with a sentence for the user when nothing runs from `home`
 */
export function environmentExports(home: string, apiKey: string | null = null): string {
  const { values, password } = environmentOf(home, apiKey);
  const lines = Object.entries(values).flatMap(([name, value]) =>
    value === undefined ? [] : [`export ${name}=${quote(value)}`],
  );
  if (password === undefined) lines.push('# POSTGRES_PASSWORD is as in the shell that ran npm start: it is kept nowhere else');
  return `${lines.join('\n')}\n`;
}

/** The variables themselves, and the password if it is known. */
function environmentOf(
  home: string,
  apiKey: string | null,
): { values: Record<string, string | undefined>; password: string | undefined } {
  const instance = runningInstance(resolve(home));
  const { postgres, cluster } = instance;
  const password = instancePassword(instance);
  const values: Record<string, string | undefined> = {
    GPU_DEV_URL: instance.url,
    GPU_DEV_API_KEY: apiKey ?? undefined,
    POSTGRES_HOST: postgres.host,
    POSTGRES_PORT: String(postgres.port),
    POSTGRES_USER: postgres.user,
    POSTGRES_PASSWORD: password,
    POSTGRES_DB: postgres.database,
    PGHOST: postgres.host,
    PGPORT: String(postgres.port),
    PGUSER: postgres.user,
    PGPASSWORD: password,
    PGDATABASE: postgres.database,
    KUBECONFIG: cluster.kubeconfig,
  };
  return { values, password };
}

/** Adds the command `env` to the program. It exits with 1 and a message on stderr when nothing runs. */
export function registerEnv(program: Command, surroundings: Surroundings): void {
  program
    .command('env')
    .description('print shell exports for what runs here: eval "$(npx gpu-dev env)"')
    .option('--home <dir>', 'the folder of the instance', process.env.GPU_DEV_HOME || '.gpu-dev')
    .option('--json', 'the same as one JSON object')
    .action(async (options: { home: string; json?: boolean }, command: Command) => {
      try {
        const { json, user } = command.optsWithGlobals<CommonOptions>();
        const { url } = runningInstance(resolve(options.home));
        const key = await keyOf(new URL(url), userOf(surroundings, user === undefined ? {} : { user }), surroundings.interrupted);
        const { values } = environmentOf(options.home, key);
        process.stdout.write(json === true ? `${JSON.stringify(values)}\n` : environmentExports(options.home, key));
        if (key === null) process.stderr.write(`gpu-dev env: no API key yet, ${url} does not answer; try again in a moment\n`);
      } catch (error) {
        process.stderr.write(`gpu-dev env: ${(error as Error).message}\n`);
        process.exitCode = 1;
      }
    });
}

/** A key for this shell; null if the service does not give one now. */
async function keyOf(url: URL, user: string, interrupted: AbortSignal): Promise<string | null> {
  try {
    return (await localLogin(url, user, interrupted)).api_key;
  } catch (error) {
    if (error instanceof CliError) return null;
    throw error;
  }
}

/** Single quotes keep everything as it is; a single quote itself has to leave them for a moment. */
function quote(value: string): string {
  return /^[\w./:@%+,-]+$/.test(value) ? value : `'${value.replaceAll("'", "'\\''")}'`;
}
