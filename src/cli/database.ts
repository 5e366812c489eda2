/** The database itself, for commands that must not need the service. */
import { Database, type DatabaseSettings, isRetryableDatabaseError } from '../../persistence/database.ts';
import { instancePassword, runningInstance } from '../supervisor/instance.ts';
import type { Context } from './context.ts';
import { CliError, EXIT } from './exit.ts';
import { homeOf, type Surroundings } from './surroundings.ts';

/** Work on the database itself. @throws CliError if it does not answer */
export async function withDatabase(context: Context, work: (db: Database) => Promise<void>): Promise<void> {
  const db = new Database({ ...databaseOf(context.surroundings), maxConnections: 2, applicationName: 'gpu-dev admin' });
  try {
    await work(db);
  } catch (error) {
    if (error instanceof CliError || !isRetryableDatabaseError(error)) throw error;
    const { host, port } = db.settings;
    throw new CliError(
      EXIT.unreachable,
      `The database does not answer at ${host}:${port}. Start it, or correct POSTGRES_HOST and POSTGRES_PORT.`,
    );
  } finally {
    await db.close();
  }
}

/** The settings of the service: of the environment, or of the instance that runs here. */
export function environmentOf(surroundings: Surroundings): NodeJS.ProcessEnv {
  const { environment } = surroundings;
  if (environment.POSTGRES_HOST) return environment;
  const { host, port = 5432, user, password, database } = databaseOf(surroundings);
  const instance = runningInstance(homeOf(surroundings));
  return {
    ...environment,
    POSTGRES_HOST: host,
    POSTGRES_PORT: String(port),
    POSTGRES_USER: user,
    POSTGRES_PASSWORD: String(password ?? ''),
    POSTGRES_DB: database,
    CLUSTER: instance.cluster.kind,
    GPU_DEV_HOME: instance.home,
    TIME_SCALE: String(instance.timeScale),
    ...(instance.cluster.kubeconfig === undefined ? {} : { KUBECONFIG: instance.cluster.kubeconfig }),
  };
}

/** POSTGRES_* if it is set, else the database of the instance that runs here. */
function databaseOf(surroundings: Surroundings): DatabaseSettings {
  const { environment } = surroundings;
  if (environment.POSTGRES_HOST) {
    return {
      host: environment.POSTGRES_HOST,
      port: Number(environment.POSTGRES_PORT || 5432),
      user: environment.POSTGRES_USER || 'gpudev',
      password: environment.POSTGRES_PASSWORD ?? '',
      database: environment.POSTGRES_DB || 'gpudev',
    };
  }
  try {
    const instance = runningInstance(homeOf(surroundings));
    const { host, port, user, database } = instance.postgres;
    return { host, port, user, database, password: instancePassword(instance) ?? environment.POSTGRES_PASSWORD ?? '' };
  } catch (error) {
    throw new CliError(EXIT.unreachable, `Which database? Set POSTGRES_HOST and the others; ${(error as Error).message}.`);
  }
}
