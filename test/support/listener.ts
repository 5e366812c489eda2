// A client of a stream of events: keeps what it got, waits for conditions, and can be cut off at any moment.
import { request } from 'node:http';
import type { IncomingMessage } from 'node:http';
import { once } from 'node:events';
import { readEvents, type ServerEvent } from '../../src/cli/event-source.ts';
import { PATIENCE_MS } from './patience.ts';

export interface Heard extends ServerEvent {
  // biome-ignore lint/suspicious/noExplicitAny: tests look at whatever field they need.
  json: any;
}

export class StreamClient {
  readonly heard: Heard[] = [];
  readonly response: IncomingMessage;
  /** Resolves with true if the stream ended, with false if it broke. */
  readonly over: Promise<boolean>;
  #waiting: (() => void)[] = [];
  #lastId = '';

  private constructor(response: IncomingMessage) {
    this.response = response;
    this.over = this.#read().then(
      () => true,
      () => false,
    );
    void this.over.then(() => this.#tell());
  }

  /** Connect. @throws if there is no answer */
  static async open(url: string, headers: Record<string, string> = {}): Promise<StreamClient> {
    const asked = request(url, { headers, agent: false });
    asked.end();
    const [response] = (await once(asked, 'response')) as [IncomingMessage];
    return new StreamClient(response);
  }

  get status(): number {
    return this.response.statusCode!;
  }

  /** Id to come back by. */
  get lastId(): string {
    return this.#lastId;
  }

  /** Events of one name. */
  named(...names: string[]): Heard[] {
    return this.heard.filter(({ event }) => names.includes(event));
  }

  /** Steps of all kinds, as `<reservation>:<seq>`. */
  get steps(): string[] {
    return this.named('step', 'warning', 'end').map(({ json }) => `${json.reservation_id}:${json.seq}`);
  }

  /** Wait until this is true of what was heard. */
  async until(what: string, check: (client: StreamClient) => boolean, ms = PATIENCE_MS): Promise<void> {
    const end = Date.now() + ms;
    while (!check(this)) {
      const left = end - Date.now();
      const last = this.heard.slice(-5).map(({ event, data }) => `${event} ${data.slice(0, 200)}`);
      if (left <= 0) throw new Error(`Waited ${ms} ms in vain until ${what}; heard ${this.heard.length}:\n${last.join('\n')}`);
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, left);
        this.#waiting.push(() => {
          clearTimeout(timer);
          resolve();
        });
      });
    }
  }

  /** Cut the connection. */
  cut(): void {
    this.response.destroy();
  }

  async #read(): Promise<void> {
    for await (const event of readEvents(this.response)) {
      this.#lastId = event.id;
      if (event.data !== '') this.heard.push({ ...event, json: JSON.parse(event.data) });
      this.#tell();
    }
    if (!this.response.complete) throw new Error('cut off');
  }

  #tell(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const each of waiting) each();
  }
}
