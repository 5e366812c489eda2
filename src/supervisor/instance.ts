// instance.json: what runs here and how to reach it, for `gpu-dev env`, the CLI and people. It holds no password.
import { existsSync, readFileSync } from 'node:fs';
import { isRunning, type ProcessIdentity } from '../../persistence/embedded/processes.ts';
import { homeAt, readJson } from './home.ts';

/** The content of instance.json. Ports are TCP ports on 127.0.0.1, pids come with start times. */
export type Instance = {
  readonly version: 1;
  readonly home: string;
  readonly url: string;
  readonly timeScale: number;
  readonly startedAt: string;
  readonly supervisor: ProcessIdentity;
  readonly services: readonly (ProcessIdentity & { readonly port: number })[];
  readonly postgres: {
    readonly kind: 'embedded' | 'external';
    readonly host: string;
    readonly port: number;
    readonly user: string;
    readonly database: string;
    /** Present when embedded: a file only its owner can read. */
    readonly passwordFile?: string;
    readonly process?: ProcessIdentity;
  };
  readonly cluster: {
    readonly kind: 'simulated' | 'kube';
    readonly kubeconfig?: string;
    readonly port?: number;
    readonly process?: ProcessIdentity;
  };
};

/**
 * The instance of a folder, if anything of it runs. Throws a sentence that tells what to do when nothing does.
 */
export function runningInstance(home: string): Instance {
  const { instanceFile } = homeAt(home);
  const start = `start it with: npm start${home.endsWith('/.gpu-dev') ? '' : ` -- --home ${home}`}`;
  if (!existsSync(instanceFile)) throw new Error(`nothing of gpu-dev runs from ${home}; ${start}`);
  const instance = readJson(instanceFile) as Instance | undefined;
  if (instance?.version !== 1) throw new Error(`${instanceFile} cannot be read; ${start}`);
  const processes = [...instance.services, instance.postgres.process, instance.cluster.process];
  if (!processes.some((one) => one !== undefined && isRunning(one))) {
    throw new Error(`gpu-dev ran from ${home} but does not run now; ${start}`);
  }
  return instance;
}

/** The database password of an instance, or undefined when the server is an external one. */
export function instancePassword(instance: Instance): string | undefined {
  const file = instance.postgres.passwordFile;
  return file === undefined ? undefined : readFileSync(file, 'utf8').trim();
}
