// The three kinds of processes of an instance: how each is started or taken over, and how it is ended.
import { fileURLToPath } from 'node:url';
import { freePort, isPortFree } from '../../persistence/embedded/ports.ts';
import { isRunning, signal, waitUntilGone } from '../../persistence/embedded/processes.ts';
import { type EmbeddedPostgres, startEmbeddedPostgres } from '../../persistence/embedded.ts';
import { type Connections, cleanEnvironment, serviceEnvironment } from './environment.ts';
import { type Home, readIdentity } from './home.ts';
import type { StartOptions } from './options.ts';
import type { PartSpec } from './part.ts';
import { endProgram, findProgram, logFile, pidFile, type Running, startProgram } from './program.ts';

/** The programs that are started; tests bring their own. */
export type Programs = { readonly service: string; readonly cluster: string };

export const PROGRAMS: Programs = {
  service: fileURLToPath(new URL('../main.ts', import.meta.url)),
  cluster: fileURLToPath(new URL('../simulated-cluster/main.ts', import.meta.url)),
};

const READY_TIMEOUT_MS = 60_000;
/** How long a service may drain: the longest effect it waits for is shorter. */
const DRAIN_TIMEOUT_MS = 45_000;
const CLUSTER_STOP_MS = 10_000;

/** Postgres. `started` is told each time where it is now. */
export function postgresPart(home: Home, note: (message: string) => void, started: (server: EmbeddedPostgres) => void): PartSpec {
  const log = logFile(home, 'postgres');
  return {
    name: 'postgres',
    logFile: log,
    launch: async () => {
      const server = await startEmbeddedPostgres({ dataDir: home.postgres, logFile: log, log: note });
      started(server);
      return {
        identity: { pid: server.pid, startedAt: server.startedAt },
        port: server.port,
        adopted: server.adopted,
        ending: () => 'its process is gone',
      };
    },
    end: async ({ identity }, how) => {
      // SIGINT is Postgres's fast shutdown; SIGQUIT drops everything and recovers from the log at the next start.
      if (how === 'gently' && signal(identity, 'SIGINT') && !(await waitUntilGone(identity, 30_000))) how = 'now';
      if (how === 'now' && signal(identity, 'SIGQUIT') && !(await waitUntilGone(identity, 5_000))) signal(identity, 'SIGKILL');
      await waitUntilGone(identity, 5_000);
    },
  };
}

/** The simulated cluster. It keeps its port, so that a kubeconfig in use stays right. */
export function clusterPart(home: Home, environment: NodeJS.ProcessEnv, options: StartOptions, program: string): PartSpec {
  const name = 'cluster';
  return {
    name,
    logFile: logFile(home, name),
    launch: async (abort) => {
      const left = findProgram(home, name);
      if (left?.port !== undefined) {
        if (await answers(left.port)) {
          return { identity: left, port: left.port, adopted: true, ending: () => 'its process is gone' };
        }
        await endProgram(left, CLUSTER_STOP_MS);
      }
      const port = await samePort(readIdentity(pidFile(home, name))?.port);
      const settings = options.volumeSnapshots ? [] : ['--settings', JSON.stringify({ volumeSnapshots: false })];
      const command = [program, '--port', String(port), '--data', home.cluster, '--kubeconfig', home.kubeconfig, ...settings];
      const clean = cleanEnvironment(environment, { ...options, cluster: 'simulated', database: 'embedded' });
      return startProgram(home, { name, command, environment: clean, readyTimeoutMs: READY_TIMEOUT_MS }, abort);
    },
    end: endPart(CLUSTER_STOP_MS),
  };
}

/** A service. One left over from an earlier supervisor is asked to stop: two never serve the same port. */
export function servicePart(
  home: Home,
  environment: NodeJS.ProcessEnv,
  options: StartOptions,
  service: { readonly name: string; readonly port: number; readonly program: string; readonly connections: () => Connections },
): PartSpec {
  return {
    name: service.name,
    logFile: logFile(home, service.name),
    launch: async (abort) => {
      await endLeftover(home, service.name);
      return startProgram(
        home,
        {
          name: service.name,
          command: [service.program],
          environment: serviceEnvironment(environment, options, service.port, service.connections()),
          readyTimeoutMs: READY_TIMEOUT_MS,
        },
        abort,
      );
    },
    end: endPart(DRAIN_TIMEOUT_MS),
  };
}

/** Asks a program of an earlier supervisor to end, and waits for it. Returns whether there was one. */
export async function endLeftover(home: Home, name: string): Promise<boolean> {
  const left = findProgram(home, name);
  if (left === undefined) return false;
  await endProgram(left, DRAIN_TIMEOUT_MS);
  return true;
}

function endPart(patienceMs: number): PartSpec['end'] {
  return async ({ identity }: Running, how) => {
    if (how === 'gently') await endProgram(identity, patienceMs);
    else if (isRunning(identity)) {
      signal(identity, 'SIGKILL');
      await waitUntilGone(identity, 5_000);
    }
  };
}

/** An HTTP server that still answers, whatever it says, is alive. */
async function answers(port: number): Promise<boolean> {
  try {
    await fetch(`http://127.0.0.1:${port}/version`, { signal: AbortSignal.timeout(3_000) });
    return true;
  } catch {
    return false;
  }
}

async function samePort(last: number | undefined): Promise<number> {
  return last !== undefined && (await isPortFree(last)) ? last : freePort();
}
