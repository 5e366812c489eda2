/** One client that listens: frames of server-sent events on their way to it, and no more of them than it takes. */
import { Readable } from 'node:stream';
import type { FastifyReply } from 'fastify';

/** What may wait for a client before it is cut off, in bytes, and from where on it is waited for. */
const TOO_MUCH = 1024 * 1024;
const ENOUGH = 64 * 1024;
/** How long a client for which something waits may take nothing, in milliseconds. */
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
  readonly #patienceMs: number;
  readonly #frames: string[] = [];
  #waiting = 0;
  #isAsked = false;
  #isOver = false;
  #taken: (() => void) | null = null;

  constructor(patienceMs = PATIENCE_MS) {
    super();
    this.#patienceMs = patienceMs;
    this.#put(`retry: ${RETRY_MS}\n\n`);
  }

  /** Send an event, written by {@link bodyOf}. Nothing happens if the client is gone. @param id null leaves the client's last id as it is */
  send(id: string | null, body: string): void {
    this.#put(id === null ? body : `id: ${id}\n${body}`);
  }

  /** Show the client and everything between that the connection lives. An id moves on where the client would come back to. */
  beat(id: string | null): void {
    this.#put(id === null ? ': still here\n\n' : `: still here\nid: ${id}\n\n`);
  }

  /** True while the client should be waited for with {@link room}. */
  get isFull(): boolean {
    return this.#waiting >= ENOUGH;
  }

  /** Resolves when the client has taken most of what was sent. @throws SlowReaderError if it does not; its connection is closed then. */
  async room(): Promise<void> {
    while (this.isFull && !this.destroyed) {
      let timer: NodeJS.Timeout | undefined;
      const before = this.#waiting;
      await new Promise<void>((resolve) => {
        this.#taken = resolve;
        timer = setTimeout(resolve, this.#patienceMs);
      });
      clearTimeout(timer);
      this.#taken = null;
      if (this.isFull && this.#waiting >= before) this.#cutOff();
    }
    if (this.destroyed) throw new SlowReaderError('the client is gone');
  }

  /** Nothing more will come. */
  finish(): void {
    this.#isOver = true;
    if (this.#isAsked) this.#give();
  }

  override _read(): void {
    this.#isAsked = true;
    this.#give();
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    this.#taken?.();
    callback(error);
  }

  #put(frame: string): void {
    if (this.destroyed || this.#isOver) return;
    if (this.#waiting > TOO_MUCH) return void this.#cutOff();
    this.#frames.push(frame);
    this.#waiting += frame.length;
    if (this.#isAsked) this.#give();
  }

  /** Hand on what is asked for: all frames that wait, in one piece. */
  #give(): void {
    if (this.#frames.length > 0) {
      const piece = this.#frames.splice(0).join('');
      this.#waiting = 0;
      this.#isAsked = false;
      this.push(piece);
      this.#taken?.();
    } else if (this.#isOver && !this.destroyed) this.push(null);
  }

  #cutOff(): void {
    this.destroy(new SlowReaderError('the client takes too little'));
  }
}

/**
 * Answer with a stream. Its connection ends with it: one that was kept for further requests would hold up a service that is closing for a
 * minute after its last stream.
 */
export function sendEvents(reply: FastifyReply, stream: EventStream): FastifyReply {
  // Its time was up before it could begin: nobody would ever read it, or end it.
  if (reply.sent) {
    stream.destroy();
    return reply;
  }
  return reply
    .headers({ 'content-type': 'text/event-stream; charset=utf-8', 'x-accel-buffering': 'no', connection: 'close' })
    .send(stream);
}
