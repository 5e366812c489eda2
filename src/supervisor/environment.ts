// The environment of the processes we start. What the shell exports for other programs must not reach them by surprise.
import { userInfo } from 'node:os';
import type { StartOptions } from './options.ts';

/** Where the service finds its database and cluster. */
export type Connections = {
  readonly postgres: { host: string; port: number; user: string; password: string; database: string } | undefined;
  readonly kubeconfig: string | undefined;
};

const OURS = /^(PORT|TIME_SCALE|CLUSTER|GPU_DEV_.*|npm_.*|NODE_OPTIONS)$/;
const DATABASE = /^(POSTGRES_.*|PG[A-Z]+|DATABASE_URL)$/;
const CLUSTER = /^(KUBECONFIG|KUBERNETES_.*)$/;

/** The caller's environment without anything that could lead a child to another database or cluster than the flags say. */
export function cleanEnvironment(
  environment: NodeJS.ProcessEnv,
  options: Pick<StartOptions, 'database' | 'cluster'>,
): NodeJS.ProcessEnv {
  return Object.fromEntries(
    Object.entries(environment).filter(([name]) => {
      if (OURS.test(name)) return false;
      if (DATABASE.test(name)) return options.database === 'external';
      if (CLUSTER.test(name)) return options.cluster === 'kube';
      return true;
    }),
  );
}

/** The service's whole configuration. `port` 0 lets it take a free one. */
export function serviceEnvironment(
  environment: NodeJS.ProcessEnv,
  options: StartOptions,
  port: number,
  connections: Connections,
): NodeJS.ProcessEnv {
  const { postgres, kubeconfig } = connections;
  return {
    ...cleanEnvironment(environment, options),
    ...(postgres === undefined
      ? {}
      : {
          POSTGRES_HOST: postgres.host,
          POSTGRES_PORT: String(postgres.port),
          POSTGRES_USER: postgres.user,
          POSTGRES_PASSWORD: postgres.password,
          POSTGRES_DB: postgres.database,
        }),
    ...(kubeconfig === undefined ? {} : { KUBECONFIG: kubeconfig }),
    PORT: String(port),
    GPU_DEV_HOME: options.home,
    TIME_SCALE: String(options.timeScale),
    CLUSTER: options.cluster,
    // It listens on this machine alone; whoever starts it may do everything.
    GPU_DEV_LOCAL: 'true',
    GPU_DEV_ADMINS: environment.GPU_DEV_ADMINS || environment.GPU_DEV_USER || loginName(),
    LOG_LEVEL: environment.LOG_LEVEL || 'info',
  };
}

/** Name of whoever starts it; empty if the system has none for them. */
function loginName(): string {
  try {
    const { username } = userInfo();
    return /^[A-Za-z0-9][\w.@+-]*$/.test(username) ? username : '';
  } catch {
    return '';
  }
}
