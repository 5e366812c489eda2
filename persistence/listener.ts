/** LISTEN on a connection of its own. */
import type { DatabaseSettings, Listener } from './database.ts';
import { WatchedClient } from './watched-client.ts';

/** How often a sign of life is asked for, in milliseconds: a connection that only listens would never notice that it is dead. */
const PULSE_MS = 2_000;

/** Listens for good: reconnects with a pause, and calls `onWake` with null after each reconnect since something may have been missed. */
export class PostgresListener implements Listener {
  readonly #settings: DatabaseSettings;
  readonly #channels: readonly string[];
  readonly #onWake: (channel: string | null) => void;
  #client: WatchedClient | null = null;
  #pulse: NodeJS.Timeout | null = null;
  #stopped = false;
  #retry: NodeJS.Timeout | null = null;

  constructor(settings: DatabaseSettings, channels: readonly string[], onWake: (channel: string | null) => void) {
    this.#settings = settings;
    this.#channels = channels;
    this.#onWake = onWake;
  }

  get connected(): boolean {
    return this.#client !== null;
  }

  async start(): Promise<void> {
    const { host, port, user, password, database } = this.#settings;
    const client = new WatchedClient({
      host,
      port,
      user,
      password,
      database,
      application_name: 'gpu-dev listen',
      keepAlive: true,
      keepAliveInitialDelayMillis: 5_000,
    });
    let over = false;
    const again = () => {
      if (over) return;
      over = true;
      this.#client = null;
      if (this.#pulse !== null) clearInterval(this.#pulse);
      client.discard();
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
      this.#pulse = setInterval(() => void client.query('select 1').catch(() => {}), PULSE_MS);
      this.#onWake(null);
    } catch {
      again();
    }
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    if (this.#retry !== null) clearTimeout(this.#retry);
    if (this.#pulse !== null) clearInterval(this.#pulse);
    await this.#client?.end().catch(() => {});
  }
}
