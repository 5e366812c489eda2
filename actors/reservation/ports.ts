/** What a reservation needs of the world (names in DNS stand in name-ports.ts). Providers implement it; every call is idempotent and may be repeated after a crash. */
import type { Connection } from '../../machines/reservation.context.ts';
import type { DiskContents } from '../disk/ports.ts';
import type { Secret } from '../secret.ts';

/** Nodes that bear this label with the value "true" allow GPUs to be profiled. A reservation with it among its node labels runs there or nowhere. */
export const PROFILING_LABEL = 'gpu.monitoring/profiling-dedicated';

/** Everything that decides how a dev server looks. The same spec always leads to the same objects. */
export interface ServerSpec {
  reservationId: string;
  /** Life of the reservation; the pod's name derives from the whole id and this number. */
  generation: number;
  owner: string;
  /** The server's own name (its hostname). */
  name: string;
  gpuType: string;
  gpuCount: number;
  instanceType: string;
  /** Kubernetes resource of the slots and how many are requested; null on CPU types. */
  resource: { name: string; count: number } | null;
  efaCount: number;
  /** Node the ledger granted; the pod runs there or nowhere. */
  node: string;
  /** Where that node's ports answer, if the tracker knows. */
  nodeAddress: string | null;
  zone: string | null;
  cpuRequestMillis: number;
  cpuLimitMillis: number;
  memoryRequestBytes: number;
  memoryLimitBytes: number;
  /** Size of the memory volume at /dev/shm. */
  sharedMemoryBytes: number;
  /** Container image, or null for the service's default. */
  image: string | null;
  preserveEntrypoint: boolean;
  recreateEnv: boolean;
  command: string | null;
  nodeLabels: Record<string, string>;
  /** PersistentVolumeClaim mounted at /home/dev, or null for a home that ends with the server. */
  claim: string | null;
  /** The user's own environment variables. */
  environment: Secret<Record<string, string>>;
  /** Lines of authorized_keys. */
  authorizedKeys: string[];
  jupyterToken: Secret<string>;
  /** The port by which people know this very server, if it is made again around it: asked for, and another one taken if somebody has it. */
  sshPort: number | null;
  gang: { id: string; index: number; size: number } | null;
}

export interface ServerRef {
  reservationId: string;
  generation: number;
}

export interface Notice {
  about: 'warning' | 'final' | 'extended' | 'oom';
  minutesLeft: number;
  endsAt: string | null;
  text: string;
}

/** Dev servers: a pod, its SSH service, its keys, and what happens inside. */
export interface DevServers {
  /**
   * Create or adopt the pod of this spec, its keys and its SSH service.
   * @throws TerminalError if the cluster will never accept it; anything else may be tried again.
   */
  create(spec: ServerSpec): Promise<{ uid: string; name: string; connection: Connection }>;
  /**
   * Create or adopt again what belongs around the pod of this spec, which must be there.
   * @throws ServerGoneError if it is not, or is going
   */
  restore(spec: ServerSpec): Promise<{ uid: string; name: string; connection: Connection }>;
  /** Ask for the pod's deletion. 'gone' only if the API server answers 404 for it: positive proof. */
  remove(server: ServerRef, options: { force: boolean }): Promise<'gone' | 'terminating'>;
  /** Whether the pod of this life exists; false only if the API server answers 404. @throws if it cannot tell. */
  exists(server: ServerRef): Promise<boolean>;
  /** Remove services, keys and routes that bear the reservation's id. Missing ones are fine. */
  removeAccess(server: ServerRef): Promise<void>;
  /** Make the server's authorized keys exactly these. */
  setKeys(server: ServerRef, authorizedKeys: string[]): Promise<void>;
  /** Put a notice inside the server (a file that the shell prompt shows), replacing those it makes obsolete. @throws ServerGoneError if there is none. */
  post(server: ServerRef, notice: Notice): Promise<void>;
  /**
   * Start Jupyter if it does not run, and its service. The URL bears no token.
   * @param port by which people know it already, as {@link ServerSpec.sshPort}; null if there is none
   */
  startJupyter(server: ServerRef, token: Secret<string>, port?: number | null): Promise<{ url: string; port: number }>;
  stopJupyter(server: ServerRef): Promise<void>;
  /**
   * What is on the disk of a server that runs, within a few seconds whatever there is. Null if it does not tell. Left out: nobody can say.
   * @throws ServerGoneError if it is gone or going; else if it cannot be asked
   */
  listDisk?(server: ServerRef): Promise<DiskContents | null>;
}

/** Public SSH keys of a user. */
export interface KeySource {
  /**
   * Lines of public keys of a GitHub user name.
   * @throws TerminalError if the user has none, in words for the user.
   */
  keysOf(githubUser: string): Promise<string[]>;
}
