/**
 * The working part of the service over a real API server, in this process, so that it can die at any crash point: its sockets to Postgres and to
 * the API server are destroyed at that moment, its memory is dropped, and another one takes over.
 */
import pino from 'pino';
import { removeOrphans } from '../../../actors/gpu-pool/orphans.ts';
import { Tracker } from '../../../actors/gpu-pool/tracker.ts';
import { QueueDoor } from '../../../actors/intake/queue-door.ts';
import { armCrashPoints, type CrashPoint } from '../../../actors/kernel/crash-points.ts';
import { Kernel } from '../../../actors/kernel/kernel.ts';
import { gpuDevKinds } from '../../../actors/kinds.ts';
import { Database, type DatabaseSettings } from '../../../persistence/database.ts';
import { insertChannel } from '../../../persistence/pgmq.ts';
import { readConfig } from '../../../src/config.ts';
import { providersFrom } from '../../../src/providers/providers.ts';
import { Wire } from '../../crash-points/wire.ts';
import type { FaultProxy } from '../../support/kubernetes/fault-proxy.ts';

const QUEUES = ['gpu_reservations', 'disk_operations'];
/** How the driver of its clients says that it has died. */
const CUT = Object.assign(new Error('the process has died'), { code: 'ECONNRESET' });

export interface MortalSettings {
  database: DatabaseSettings;
  /** The way to the API server: cut when it dies. */
  proxy: FaultProxy;
  environment: NodeJS.ProcessEnv;
  clock: () => Date;
  /** Asked at every crash point, one after the other: whether it dies there. */
  diesAt: (point: CrashPoint) => Promise<boolean>;
}

let lives = 0;

/** One life. */
class Life {
  readonly died: Promise<void>;
  readonly #name = `life ${++lives}`;
  readonly #settings: MortalSettings;
  readonly #wire: Wire;
  readonly #db: Database;
  readonly #kernel: Kernel;
  readonly #doors: Map<string, QueueDoor>;
  readonly #tracker: Tracker;
  readonly #parked: ((error: Error) => void)[] = [];
  #die!: () => void;
  #asked: Promise<void> = Promise.resolve();
  #isDead = false;
  #isCut = false;

  constructor(settings: MortalSettings, wire: Wire) {
    this.#settings = settings;
    this.#wire = wire;
    this.died = new Promise((resolve) => {
      this.#die = resolve;
    });
    const reach = { ...settings.database, host: '127.0.0.1', port: wire.port };
    const db = new Database({ ...reach, maxConnections: 6, applicationName: this.#name });
    this.#db = db;
    // What fails while it dies is what a dead process would not have said.
    const onError = () => {};
    const providers = providersFrom(readConfig(settings.environment), db, pino({ level: 'silent' }));
    this.#doors = new Map();
    this.#kernel = new Kernel({
      db,
      kinds: gpuDevKinds({ db, ...providers }),
      clock: { now: settings.clock },
      leaseSeconds: 1,
      listen: Object.fromEntries(QUEUES.map((queue) => [insertChannel(queue), () => this.#doors.get(queue)?.wake()])),
      onError,
      onEffectFailure: onError,
    });
    for (const queue of QUEUES) {
      const door = { db, kernel: this.#kernel, queue, pollMs: 200, visibilitySeconds: 60, batchSize: 50, onError };
      this.#doors.set(queue, new QueueDoor(door));
    }
    this.#tracker = new Tracker({
      db,
      kernel: this.#kernel,
      leaseSeconds: 1,
      connect: providers.connectEvents,
      confirmGone: async (server) => !(await providers.servers.exists(server)),
      confirmNodeGone: providers.confirmNodeGone,
      onServers: (pods) => removeOrphans(db, providers.servers, pods, onError),
      onError,
    });
  }

  async start(): Promise<void> {
    const { rows } = await this.#db.query<{ type: string }>('select gpu_type as type from gpu_types where is_active');
    const opened = rows.map(({ type }) => ({
      actor: `gpu-pool/${type}`,
      key: 'opened',
      event: { type: 'pool.opened', gpuType: type } as { type: string },
      sender: 'service',
    }));
    await this.#kernel.post(opened);
    armCrashPoints(this.#reach);
    await this.#kernel.start();
    for (const door of this.#doors.values()) door.start();
    this.#tracker.start();
  }

  readonly #reach = async (point: CrashPoint): Promise<void> => {
    const asked = this.#asked.then(async () => {
      if (!this.#isDead) this.#isDead = await this.#settings.diesAt(point);
    });
    this.#asked = asked;
    await asked;
    if (!this.#isDead) return;
    if (this.#isCut) throw CUT;
    this.#die();
    await new Promise((_resolve, reject) => this.#parked.push(reject));
  };

  /** First the sockets, then the memory: what unwinds in it reaches nobody. */
  async bury(observer: Database): Promise<void> {
    const { proxy } = this.#settings;
    this.#wire.cut();
    await proxy.refuse();
    this.#isCut = true;
    for (const reject of this.#parked.splice(0)) reject(CUT);
    await this.end();
    await proxy.mend();
    // Until Postgres has noticed, it holds the locks of the dead.
    while ((await observer.query('select 1 from pg_stat_activity where application_name = $1', [this.#name])).rowCount !== 0);
    // Nobody waits until leases of the dead run out.
    await observer.query(`update effects set lease_until = '-infinity' where status = 'pending' and lease_token is not null`);
    await observer.query(`update leases set until = now()`);
    await observer.query(`update pgmq.q_gpu_reservations set vt = now()`);
  }

  async end(): Promise<void> {
    const parts = [...this.#doors.values(), this.#tracker].map((part) => part.stop());
    await Promise.allSettled([...parts, this.#kernel.stop(0)]);
    await this.#db.close().catch(() => {});
    await this.#wire.close();
  }
}

/** Life after life, until it is stopped. */
export class MortalService {
  readonly #settings: MortalSettings;
  readonly #observer: Database;
  #stop!: () => void;
  readonly #stopped: Promise<'stopped'>;
  #running: Promise<void> = Promise.resolve();
  /** How often it has died. */
  deaths = 0;

  constructor(settings: MortalSettings, observer: Database) {
    this.#settings = settings;
    this.#observer = observer;
    this.#stopped = new Promise((resolve) => {
      this.#stop = () => resolve('stopped');
    });
  }

  start(): void {
    this.#running = this.#live();
  }

  async #live(): Promise<void> {
    for (;;) {
      const { host, port } = this.#settings.database;
      const life = new Life(this.#settings, await Wire.to(host, port));
      await life.start();
      const end = await Promise.race([life.died, this.#stopped]);
      if (end === 'stopped') {
        armCrashPoints(null);
        return life.end();
      }
      this.deaths += 1;
      await life.bury(this.#observer);
    }
  }

  async stop(): Promise<void> {
    this.#stop();
    await this.#running;
  }
}
