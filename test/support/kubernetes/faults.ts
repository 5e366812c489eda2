// What a fault proxy can do to a request.
import type { ServerResponse } from 'node:http';
import { Transform, type TransformCallback } from 'node:stream';

export interface Fault {
  /** Answer with this status instead of asking the server. */
  status?: number;
  reason?: string;
  message?: string;
  /** Seconds of a Retry-After header, with `status`. */
  retryAfter?: number;
  /** Be so late, in milliseconds, before anything else happens. */
  delayMs?: number;
  /** Never answer. */
  silent?: boolean;
  /** Cut the connection before the server hears of the request, or after it has answered. */
  lose?: 'request' | 'answer';
  /** Pass the answer on drop by drop. */
  bytesPerSecond?: number;
}

/** Which requests meet a fault, and how often they have. */
export interface Rule {
  /** GET, POST, PUT, PATCH, DELETE, WATCH, UPGRADE; null for all. */
  verb: string | null;
  /** Of path and query. */
  path: RegExp;
  times: number;
  /** Share of the requests that meet it, 0 to 1. */
  chance: number;
  random: () => number;
  met: number;
  fault: Fault;
}

const REASONS: Record<number, string> = {
  404: 'NotFound',
  409: 'Conflict',
  410: 'Expired',
  429: 'TooManyRequests',
  500: 'InternalError',
  503: 'ServiceUnavailable',
};

/** The Status object with which an API server refuses. */
export function cannedAnswer(response: ServerResponse, fault: Fault): void {
  const { status: code = 500, retryAfter } = fault;
  const reason = fault.reason ?? REASONS[code] ?? 'Unknown';
  const details = retryAfter === undefined ? {} : { details: { retryAfterSeconds: retryAfter } };
  const message = fault.message ?? `a fault of the test (${code})`;
  const status = { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Failure', message, reason, ...details, code };
  const headers = retryAfter === undefined ? {} : { 'retry-after': String(retryAfter) };
  response.writeHead(code, { 'content-type': 'application/json', ...headers });
  response.end(JSON.stringify(status));
}

/** Ten small pieces a second. */
export class SlowDown extends Transform {
  readonly #piece: number;

  constructor(bytesPerSecond: number) {
    super();
    this.#piece = Math.max(1, Math.ceil(bytesPerSecond / 10));
  }

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    const next = (from: number): void => {
      if (from >= chunk.length || this.destroyed) {
        done();
        return;
      }
      this.push(chunk.subarray(from, from + this.#piece));
      setTimeout(() => next(from + this.#piece), 100);
    };
    next(0);
  }
}
