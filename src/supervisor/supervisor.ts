// Postgres, the simulated cluster and the service as one instance: brought up in order, kept up, drained in the opposite order.
import { readdirSync } from 'node:fs';
import { freePort, isPortFree, whoListens } from '../../persistence/embedded/ports.ts';
import { identify, type ProcessIdentity } from '../../persistence/embedded/processes.ts';
import { type EmbeddedPostgres, findEmbeddedPostgres, stopEmbeddedPostgres } from '../../persistence/embedded.ts';
import { findProgram } from './program.ts';
import { type Home, homeAt, lockHome, prepareHome, wipeHome, writeJson } from './home.ts';
import type { Instance } from './instance.ts';
import { boundLogs } from './logs.ts';
import type { StartOptions } from './options.ts';
import { Part, type PartReport } from './part.ts';
import { clusterPart, endLeftover, PROGRAMS, type Programs, postgresPart, servicePart } from './parts.ts';

const BOUND_LOGS_EVERY_MS = 5_000;

/** Runs one instance. Create it, `start()` once, `stop()` when told to. */
export class Supervisor {
  readonly #options: StartOptions;
  readonly #environment: NodeJS.ProcessEnv;
  readonly #report: PartReport;
  readonly #programs: Programs;
  readonly #home: Home;
  readonly #services: Part[] = [];
  #postgres: Part | undefined;
  #server: EmbeddedPostgres | undefined;
  #cluster: Part | undefined;
  #unlock: (() => void) | undefined;
  #logTimer: NodeJS.Timeout | undefined;
  #startedAt = '';
  #port = 0;
  #stopping: 'gently' | 'now' | undefined;

  constructor(options: StartOptions, environment: NodeJS.ProcessEnv, report: PartReport, programs: Programs = PROGRAMS) {
    this.#options = options;
    this.#environment = environment;
    this.#report = report;
    this.#programs = programs;
    this.#home = homeAt(options.home);
  }

  /**
   * Brings everything up, taking over what an earlier supervisor left running, and resolves when the service is ready. Throws a readable
   * error when it cannot; the caller then calls `stop()`.
   */
  async start(): Promise<Instance> {
    const home = this.#home;
    prepareHome(home);
    this.#unlock = lockHome(home);
    await this.#clearTheWay();
    this.#port = await this.#choosePort();
    this.#startedAt = new Date().toISOString();
    if (this.#options.database === 'embedded') {
      const note = (message: string) => this.#report('postgres', message);
      this.#postgres = this.#part(postgresPart(home, note, (server) => this.#foundPostgres(server)));
      await this.#bringUp(this.#postgres);
    }
    if (this.#options.cluster === 'simulated') {
      this.#cluster = this.#part(clusterPart(home, this.#environment, this.#options, this.#programs.cluster));
      await this.#bringUp(this.#cluster);
    }
    for (let number = 1; number <= this.#options.replicas; number++) {
      const service = {
        name: number === 1 ? 'service' : `service-${number}`,
        port: number === 1 ? this.#port : await freePort(),
        program: this.#programs.service,
        connections: () => this.#connections(),
      };
      const part = this.#part(servicePart(home, this.#environment, this.#options, service));
      this.#services.push(part);
      await this.#bringUp(part);
    }
    this.#logTimer = setInterval(() => boundLogs(home.logs), BOUND_LOGS_EVERY_MS);
    return this.#writeInstance();
  }

  /**
   * Drains the services, then stops the cluster, then Postgres. `now` kills instead; it may be called while a gentle stop waits. Resolves
   * when nothing runs any more. Data stays.
   */
  async stop(how: 'gently' | 'now'): Promise<void> {
    this.#stopping = how;
    clearInterval(this.#logTimer);
    const order = [this.#services, [this.#cluster], [this.#postgres]];
    for (const parts of order) {
      await Promise.all(
        parts.map(async (part) => {
          if (part === undefined) return;
          if (this.#stopping === 'gently' && part.running !== undefined)
            this.#report(part.spec.name, this.#services.includes(part) ? 'draining' : 'stopping');
          await part.stop(how);
        }),
      );
    }
    this.#unlock?.();
    this.#unlock = undefined;
  }

  /** True once a stop began: what goes wrong from then on is its consequence. */
  get stopping(): boolean {
    return this.#stopping !== undefined;
  }

  #part(spec: ConstructorParameters<typeof Part>[0]): Part {
    return new Part(spec, this.#report, (running, before) => {
      if (running.port !== before.port) this.#restartServices(`${spec.name} has another port now`);
      this.#writeInstance();
    });
  }

  async #bringUp(part: Part): Promise<void> {
    if (this.stopping) throw new Error('stopped before everything was up');
    const running = await part.start();
    this.#report(
      part.spec.name,
      `${running.adopted ? 'was running already, taken over' : 'runs'} (pid ${running.identity.pid}, port ${running.port})`,
    );
  }

  #foundPostgres(server: EmbeddedPostgres): void {
    this.#server = server;
  }

  #connections() {
    return {
      postgres: this.#server,
      kubeconfig: this.#options.cluster === 'simulated' ? this.#home.kubeconfig : undefined,
    };
  }

  #restartServices(why: string): void {
    for (const part of this.#services) {
      this.#report(part.spec.name, `restarting: ${why}`);
      part.restart().catch((error: unknown) => this.#report(part.spec.name, (error as Error).message));
    }
  }

  /** Ends what an earlier supervisor left and this one will not take over; with --fresh, everything. */
  async #clearTheWay(): Promise<void> {
    const { fresh, database, cluster } = this.#options;
    const home = this.#home;
    for (const file of readdirSync(home.run)) {
      const name = file.replace(/\.json$/, '');
      if (!/^service(-\d+)?$/.test(name) || findProgram(home, name) === undefined) continue;
      this.#report(name, 'still runs from an earlier start: draining it first');
      await endLeftover(home, name);
    }
    if ((fresh || cluster === 'kube') && (await endLeftover(home, 'cluster')))
      this.#report('cluster', 'stopped the one left running');
    if ((fresh || database === 'external') && (await stopEmbeddedPostgres(home.postgres))) {
      this.#report('postgres', 'stopped the one left running');
    }
    if (!fresh) return;
    wipeHome(home);
    this.#report('gpu-dev', `wiped ${home.path}`);
  }

  async #choosePort(): Promise<number> {
    const { port } = this.#options;
    if (port === 0) return freePort();
    if (await isPortFree(port)) return port;
    throw new Error(
      `port ${port} is in use by ${whoListens(port) ?? 'another program'}. Stop that program, or choose another port: ` +
        'npm start -- --port 8081 (or --port 0 for any free one).',
    );
  }

  #writeInstance(): Instance {
    const { database, cluster, timeScale } = this.#options;
    const supervisor = identify(process.pid);
    if (supervisor === undefined) throw new Error('this process cannot find itself in the process table');
    const services = this.#services.flatMap((part) =>
      part.running ? [{ ...bare(part.running.identity), port: part.running.port }] : [],
    );
    const found = findEmbeddedPostgres(this.#home.postgres);
    const external = this.#environment;
    const running = this.#cluster?.running;
    const instance: Instance = {
      version: 1,
      home: this.#home.path,
      url: `http://127.0.0.1:${services[0]?.port ?? this.#port}`,
      timeScale,
      startedAt: this.#startedAt,
      supervisor,
      services,
      postgres:
        this.#server === undefined
          ? {
              kind: database,
              host: external.POSTGRES_HOST ?? '',
              port: Number(external.POSTGRES_PORT ?? 5432),
              user: external.POSTGRES_USER ?? 'gpudev',
              database: external.POSTGRES_DB ?? 'gpudev',
            }
          : {
              kind: database,
              host: this.#server.host,
              port: this.#server.port,
              user: this.#server.user,
              database: this.#server.database,
              passwordFile: this.#server.passwordFile,
              ...(found === undefined ? {} : { process: bare(found) }),
            },
      cluster: {
        kind: cluster,
        ...(cluster === 'simulated' ? { kubeconfig: this.#home.kubeconfig } : kubeconfigOf(external)),
        ...(running === undefined ? {} : { port: running.port, process: bare(running.identity) }),
      },
    };
    writeJson(this.#home.instanceFile, instance);
    return instance;
  }
}

function bare({ pid, startedAt }: ProcessIdentity): ProcessIdentity {
  return { pid, startedAt };
}

function kubeconfigOf(environment: NodeJS.ProcessEnv): { kubeconfig?: string } {
  return environment.KUBECONFIG ? { kubeconfig: environment.KUBECONFIG } : {};
}
