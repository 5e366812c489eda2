/**
 * Wake-ups: LISTEN on a connection of its own, and NOTIFY coalesced off the hot path (a NOTIFY takes a database-wide lock at commit).
 * A lost notification loses nothing: everyone polls slowly as well.
 */
import pg from 'pg';
import type { Database } from '../../persistence/database.ts';

/** Channel on which doors tell processors that there is mail. */
export const MAIL_CHANNEL = 'gpu_dev_mail';

/** Listens for good: reconnects with a pause, and calls `onWake` after each reconnect since something may have been missed. */
export class WakeUpListener {
  readonly #db: Database;
  readonly #channels: readonly string[];
  readonly #onWake: (channel: string | null) => void;
  #client: pg.Client | null = null;
  #stopped = false;
  #retry: NodeJS.Timeout | null = null;

  constructor(db: Database, channels: readonly string[], onWake: (channel: string | null) => void) {
    this.#db = db;
    this.#channels = channels;
    this.#onWake = onWake;
  }

  /** True while notifications arrive. */
  get connected(): boolean {
    return this.#client !== null;
  }

  async start(): Promise<void> {
    const { host, port, user, password, database } = this.#db.settings;
    const client = new pg.Client({
      host,
      port,
      user,
      password,
      database,
      application_name: 'gpu-dev listen',
      keepAlive: true,
      keepAliveInitialDelayMillis: 5_000,
      connectionTimeoutMillis: 5_000,
    });
    let over = false;
    const again = () => {
      if (over) return;
      over = true;
      this.#client = null;
      client.end().catch(() => {});
      if (!this.#stopped) this.#retry = setTimeout(() => void this.start(), 500);
    };
    client.on('error', again);
    client.on('end', again);
    client.on('notification', (message) => this.#onWake(message.channel));
    try {
      await client.connect();
      for (const channel of this.#channels) await client.query(`listen ${client.escapeIdentifier(channel)}`);
      if (this.#stopped) return void (await client.end());
      this.#client = client;
      this.#onWake(null);
    } catch {
      again();
    }
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    if (this.#retry !== null) clearTimeout(this.#retry);
    await this.#client?.end().catch(() => {});
  }
}

/** Tells other processes that there is mail, at most once in `everyMs`. */
export class WakeUpSender {
  readonly #db: Database;
  readonly #everyMs: number;
  #timer: NodeJS.Timeout | null = null;

  constructor(db: Database, everyMs = 10) {
    this.#db = db;
    this.#everyMs = everyMs;
  }

  /** Ask for a notification soon. Never throws, never waits: the slow poll covers what is lost. */
  wake(): void {
    if (this.#timer !== null) return;
    this.#timer = setTimeout(() => {
      this.#timer = null;
      this.#db.query('select pg_notify($1, $2)', [MAIL_CHANNEL, '']).catch(() => {});
    }, this.#everyMs);
  }
}
