/** A large answer on its way to one client: it may take long, as long as it goes on. */
import { Readable } from 'node:stream';

/** What is handed on at a time, in bytes: each piece that is asked for shows that the client takes something. */
const PIECE = 64 * 1024;
/**
 * How long a client may take nothing, in milliseconds. Between the two are buffers of the network, which ask for more only when a third of them
 * has gone out, so a slow one seems to stand still for a while.
 */
const PATIENCE_MS = 60_000;

/** The client took nothing for too long. */
export class StalledError extends Error {
  override readonly name = 'StalledError';
}

/** The bytes as a stream that breaks off with a {@link StalledError} when nothing of them is taken for `patienceMs`. */
export class PacedBody extends Readable {
  readonly #bytes: Buffer;
  readonly #patienceMs: number;
  #at = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(bytes: Buffer, patienceMs = PATIENCE_MS) {
    super({ highWaterMark: PIECE });
    this.#bytes = bytes;
    this.#patienceMs = patienceMs;
  }

  override _read(): void {
    clearTimeout(this.#timer);
    const piece = this.#bytes.subarray(this.#at, this.#at + PIECE);
    this.#at += piece.length;
    if (piece.length > 0) {
      this.#timer = setTimeout(() => {
        this.destroy(new StalledError(`nothing was taken for ${this.#patienceMs / 1000} s`));
      }, this.#patienceMs);
    }
    this.push(piece.length > 0 ? piece : null);
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    clearTimeout(this.#timer);
    callback(error);
  }
}
