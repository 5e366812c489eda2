/** Talks to the service. Every failure is a sentence: what the service refused, or that it cannot be reached. */
import { setTimeout as pause } from 'node:timers/promises';
import type { ProblemDocument } from '../errors.ts';
import { CliError, EXIT, errorOf } from './exit.ts';
import type { Session } from './session.ts';

/** An answer may take this long; the service itself gives up sooner. */
const PATIENCE_MS = 30_000;
const BEFORE_RETRY_MS = 500;

/** The service did not answer at all. */
export class UnreachableError extends CliError {}

export interface Answer<T> {
  status: number;
  body: T;
  /** What was done otherwise than asked, in words; null if nothing. */
  notice: string | null;
}

export class Client {
  readonly #base: URL;
  readonly #session: Session;
  readonly #signal: AbortSignal;

  /** @param signal aborts reads; what was sent to be done is waited for, so that nobody is left in doubt about it. */
  constructor(base: URL, session: Session, signal: AbortSignal) {
    this.#base = base;
    this.#session = session;
    this.#signal = signal;
  }

  /** Name of the user whose key is sent. */
  async user(): Promise<string> {
    return this.#session.user ?? (await this.get<{ username: string }>('/v1/me')).username;
  }

  get url(): string {
    return this.#base.origin;
  }

  /** @throws CliError */
  async get<T>(path: string, query: Record<string, string | number | undefined> = {}): Promise<T> {
    const url = new URL(path, this.#base);
    for (const [name, value] of Object.entries(query)) if (value !== undefined) url.searchParams.set(name, String(value));
    return (await this.#ask<T>(url, { signal: AbortSignal.any([this.#signal, AbortSignal.timeout(PATIENCE_MS)]) })).body;
  }

  /**
   * Send something to be done, under a key: a dropped connection is tried once more, and it is still done once.
   * @throws CliError
   */
  async post<T>(path: string, body: unknown, key: string): Promise<Answer<T>> {
    this.#signal.throwIfAborted();
    const send = () =>
      this.#ask<T>(new URL(path, this.#base), {
        method: 'POST',
        headers: { 'content-type': 'application/json', 'idempotency-key': key },
        body: JSON.stringify(body),
        signal: AbortSignal.timeout(PATIENCE_MS),
      });
    try {
      return await send();
    } catch (error) {
      if (!(error instanceof UnreachableError)) throw error;
      await pause(BEFORE_RETRY_MS);
      return send();
    }
  }

  /** Any other request with a JSON body. @throws CliError */
  async send<T>(method: 'PUT' | 'PATCH' | 'DELETE', path: string, body?: unknown): Promise<Answer<T>> {
    this.#signal.throwIfAborted();
    return this.#ask<T>(new URL(path, this.#base), {
      method,
      ...(body === undefined ? {} : { headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) }),
      signal: AbortSignal.timeout(PATIENCE_MS),
    });
  }

  /**
   * Open a path whose answer is read as it comes; the caller reads the body, and may break it off.
   * @param signal ends it, besides Ctrl-C
   * @throws CliError if the service does not answer
   */
  async open(path: string, headers: Record<string, string>, signal?: AbortSignal): Promise<Response> {
    const signals = signal === undefined ? [this.#signal] : [this.#signal, signal];
    try {
      return await this.#fetch(new URL(path, this.#base), { headers, signal: AbortSignal.any(signals) });
    } catch (error) {
      if (error instanceof CliError) throw error;
      this.#signal.throwIfAborted();
      throw this.#unreachable(error);
    }
  }

  /** Revoke a key by itself, whatever key is used else. @throws CliError */
  async revoke(key: string): Promise<void> {
    const headers = { accept: 'application/json', authorization: `Bearer ${key}` };
    const ask = async (path: string, method: string) => {
      const signal = AbortSignal.timeout(PATIENCE_MS);
      const response = await fetch(new URL(path, this.#base), { method, headers, redirect: 'error', signal });
      const body = parsed(await response.text());
      if (!response.ok && response.status !== 401) throw isProblem(body) ? errorOf(body) : this.#unreachable(null);
      return response.ok ? body : null;
    };
    try {
      const own = (await ask('/v1/keys', 'GET')) as { keys: { id: number; current: boolean }[] } | null;
      const id = own?.keys.find(({ current }) => current)?.id;
      if (id !== undefined) await ask(`/v1/keys/${id}`, 'DELETE');
    } catch (error) {
      throw error instanceof CliError ? error : this.#unreachable(error);
    }
  }

  /** With the key; one that is not taken is renewed, once. */
  async #fetch(url: URL, options: RequestInit): Promise<Response> {
    const send = (key: string) => {
      const headers = {
        accept: 'application/json',
        ...(options.headers as Record<string, string>),
        authorization: `Bearer ${key}`,
      };
      // A redirect would carry the key to wherever it leads.
      return fetch(url, { ...options, headers, redirect: 'error' });
    };
    const response = await send(await this.#session.key());
    if (response.status !== 401) return response;
    const key = await this.#session.renewed();
    if (key === null) return response;
    await response.body?.cancel();
    return send(key);
  }

  async #ask<T>(url: URL, options: RequestInit): Promise<Answer<T>> {
    let response: Response;
    let text: string;
    try {
      response = await this.#fetch(url, options);
      text = await response.text();
    } catch (error) {
      if (error instanceof CliError) throw error;
      this.#signal.throwIfAborted();
      throw this.#unreachable(error);
    }
    const body = text === '' ? null : parsed(text);
    if (response.ok && body !== undefined)
      return { status: response.status, body: body as T, notice: response.headers.get('gpu-dev-notice') };
    if (isProblem(body))
      throw body.status === 503 ? new UnreachableError(EXIT.unreachable, errorOf(body).message, body) : errorOf(body);
    throw new CliError(
      EXIT.unreachable,
      `What answers at ${this.url} (${response.status}) is not gpu-dev. Set GPU_DEV_URL to the address of the service.`,
    );
  }

  #unreachable(error: unknown): UnreachableError {
    const late = error instanceof Error && error.name === 'TimeoutError';
    const what = late
      ? `The service at ${this.url} gave no answer in ${PATIENCE_MS / 1_000} s`
      : `The service does not answer at ${this.url}`;
    return new UnreachableError(EXIT.unreachable, `${what}. Start it with npm start, or set GPU_DEV_URL to where it runs.`);
  }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

function isProblem(body: unknown): body is ProblemDocument {
  const { code, detail, status } = (body ?? {}) as Record<string, unknown>;
  return typeof code === 'string' && typeof detail === 'string' && typeof status === 'number';
}
