/** One life of the service's core over a database: a kernel, its doors and its handlers, until it dies at a crash point. */
import { setTimeout as pause } from 'node:timers/promises';
import { QueueDoor } from '../../actors/intake/queue-door.ts';
import type { CrashPoint } from '../../actors/kernel/crash-points.ts';
import { Kernel } from '../../actors/kernel/kernel.ts';
import type { ActorKind, Clock } from '../../actors/kernel/kind.ts';
import { Database } from '../../persistence/database.ts';
import type { TestDatabase } from '../support/postgres.ts';
import { Wire } from './wire.ts';

export const QUEUES = ['gpu_reservations', 'disk_operations'] as const;

/** How the driver of the victim's clients says that they have died: an error of the connection, not of the work. */
const CUT = Object.assign(new Error('the process has died'), { code: 'ECONNRESET' });

export interface LifeSettings {
  /** The database from outside: what it asks is not part of the life. */
  observer: Database;
  config: TestDatabase['config'];
  kinds: readonly ActorKind[];
  clock: Clock;
  /** Asked at every crash point. */
  fateAt: (point: CrashPoint, queue: string | null) => Promise<Fate | null>;
}

/** It dies; or it lives, and the answer to what it asks of the database next is lost with all connections. */
export type Fate = 'death' | 'lost answer';

let lives = 0;

export class Life {
  readonly #settings: LifeSettings;
  readonly #name = `life ${++lives}`;
  readonly #wire: Wire;
  readonly #db: Database;
  readonly #kernel: Kernel;
  readonly #doors: Map<string, QueueDoor>;
  /** Ends the waits of whoever stands at a crash point. */
  readonly #parked: ((error: Error) => void)[] = [];
  readonly #killed: Promise<'killed'>;
  #kill!: (how: 'killed') => void;
  #queue: string | null = null;
  #asked: Promise<void> = Promise.resolve();
  #isDead = false;
  #isCut = false;

  private constructor(settings: LifeSettings, wire: Wire) {
    const { config, kinds, clock } = settings;
    this.#settings = settings;
    this.#wire = wire;
    const reach = { ...config, host: '127.0.0.1', port: wire.port };
    this.#db = new Database({ ...reach, maxConnections: 4, applicationName: this.#name });
    this.#kernel = new Kernel({ db: this.#db, kinds, clock, actorsPerBatch: 1_000, effectConcurrency: 1_000 });
    this.#doors = new Map(
      QUEUES.map((queue) => [
        queue,
        new QueueDoor({
          db: this.#db,
          kernel: this.#kernel,
          queue,
          visibilitySeconds: 60,
          pollMs: 1_000,
          batchSize: 1_000,
          onError: (error) => {
            throw error;
          },
        }),
      ]),
    );
    this.#killed = new Promise((resolve) => {
      this.#kill = resolve;
    });
  }

  static async begin(settings: LifeSettings): Promise<Life> {
    return new Life(settings, await Wire.to(settings.config.host, settings.config.port));
  }

  /** What it does at a crash point. */
  readonly reach = async (point: CrashPoint): Promise<void> => {
    // One after the other: who comes second must not slip past while the first is still being asked.
    const asked = this.#asked.then(async () => {
      if (this.#isDead) return;
      const fate = await this.#settings.fateAt(point, this.#queue);
      this.#isDead = fate === 'death';
      if (fate === 'lost answer') this.#wire.loseAnswer();
    });
    this.#asked = asked;
    await asked;
    if (!this.#isDead) return;
    if (this.#isCut) throw CUT;
    this.#kill('killed');
    await new Promise((_resolve, reject) => this.#parked.push(reject));
  };

  /**
   * Do whatever there is to do now. @returns false if it died of it; then it is gone without a trace but in the database.
   * @throws the error of a lost connection: it lives, and may go on.
   */
  async workUntilIdle(): Promise<boolean> {
    const work = this.#work();
    work.catch(() => {}); // told by the race, unless it has died
    if ((await Promise.race([work, this.#killed])) !== 'killed') return true;
    // First the sockets, then the memory: what unwinds in it can reach nobody.
    this.#wire.cut();
    this.#isCut = true;
    for (const reject of this.#parked) reject(CUT);
    await work.catch(() => {});
    await this.end();
    await this.#forgotten();
    return false;
  }

  async end(): Promise<void> {
    await this.#db.close();
    await this.#wire.close();
  }

  async #work(): Promise<void> {
    let busy = true;
    while (busy) {
      busy = false;
      for (const [queue, door] of this.#doors) {
        this.#queue = queue;
        while ((await door.consume()) === 0) busy = true;
      }
      this.#queue = null;
      // What a result leads to may have begun when everything else was done.
      const began = this.#kernel.stats().effectsRunning > 0;
      busy = (await this.#kernel.runOnce()) || began || this.#kernel.stats().effectsRunning > 0 || busy;
    }
  }

  /** Wait until the server has noticed: until then it holds the locks of the dead. */
  async #forgotten(): Promise<void> {
    for (;;) {
      const { rowCount } = await this.#settings.observer.query('select 1 from pg_stat_activity where application_name = $1', [
        this.#name,
      ]);
      if (rowCount === 0) return;
      await pause(1);
    }
  }
}
