/** One client that listens: frames of server-sent events on their way to it, and no more of them than it takes. */
import { Readable } from 'node:stream';

/** What may wait for a client before it is cut off, in bytes, and from where on it is asked to take some first. */
const TOO_MUCH = 1024 * 1024;
const ENOUGH = 64 * 1024;
/** How long a client may take nothing while it catches up, in milliseconds. */
const PATIENCE_MS = 30_000;

/** How long a client waits before it connects again, in milliseconds. */
const RETRY_MS = 2_000;

/** The client took nothing for too long. It comes back by the id of the last event that it has. */
export class SlowReaderError extends Error {
  override readonly name = 'SlowReaderError';
}

/** Name and data of an event, written once for all who get it. */
export function bodyOf(event: string, data: unknown): string {
  // JSON has no line breaks of its own.
  return `event: ${event}\ndata: ${JSON.stringify(data)}\n\n`;
}

export class EventStream extends Readable {
  #taken: (() => void) | null = null;

  constructor() {
    super({ highWaterMark: ENOUGH });
    this.push(`retry: ${RETRY_MS}\n\n`);
  }

  /** Send an event, written by {@link bodyOf}. Nothing happens if the client is gone. @param id null leaves the client's last id as it is */
  send(id: string | null, body: string): void {
    this.#put(id === null ? body : `id: ${id}\n${body}`);
  }

  /** Show the client and everything between that the connection lives. An id moves on where the client would come back to. */
  beat(id: string | null): void {
    this.#put(id === null ? ': still here\n\n' : `: still here\nid: ${id}\n\n`);
  }

  /** Resolves when the client has taken most of what was sent. @throws SlowReaderError if it does not; its connection is closed then. */
  async room(): Promise<void> {
    while (!this.destroyed && this.readableLength >= ENOUGH) {
      let timer: NodeJS.Timeout | undefined;
      const taken = new Promise<boolean>((resolve) => {
        this.#taken = () => resolve(true);
        timer = setTimeout(() => resolve(false), PATIENCE_MS);
      });
      const inTime = await taken;
      clearTimeout(timer);
      this.#taken = null;
      if (!inTime) this.#cutOff();
    }
    if (this.destroyed) throw new SlowReaderError('the client is gone');
  }

  /** Nothing more will come. */
  finish(): void {
    if (!this.destroyed && !this.readableEnded) this.push(null);
  }

  override _read(): void {
    this.#taken?.();
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    this.#taken?.();
    callback(error);
  }

  #put(frame: string): void {
    if (this.destroyed || this.readableEnded) return;
    if (this.readableLength > TOO_MUCH) this.#cutOff();
    else this.push(frame);
  }

  #cutOff(): void {
    this.destroy(new SlowReaderError('the client takes too little'));
  }
}
