/** As whom commands talk to a service: which key they send, and how they get the next one before it ends. */
import { setTimeout as pause } from 'node:timers/promises';
import { isLoopback } from '../identity/loopback.ts';
import { UnreachableError } from './client.ts';
import { keepKey, readKeys, type StoredKey } from './credentials.ts';
import { CliError, EXIT, errorOf } from './exit.ts';
import type { ProblemDocument } from '../errors.ts';
import { type CommonOptions, type Surroundings, userOf } from './surroundings.ts';

/** What a login answers. */
export interface LoginAnswer {
  api_key: string;
  key_prefix: string;
  user_id: number;
  username: string;
  aws_arn: string | null;
  expires_at: string;
  ttl_hours: number;
}

/** A login may take this long. */
const PATIENCE_MS = 20_000;
const BEFORE_RETRY_MS = 500;
/** A key that is not taken so soon after it was got is not got once more, in milliseconds. */
const NEW_MS = 60_000;

/** Posts without a key. @throws CliError with what the service said */
export async function postOpenly<T>(base: URL, path: string, body: unknown, interrupted: AbortSignal): Promise<T> {
  let response: Response;
  let answer: unknown;
  try {
    response = await fetch(new URL(path, base), {
      method: 'POST',
      headers: { 'content-type': 'application/json', accept: 'application/json' },
      body: JSON.stringify(body),
      signal: AbortSignal.any([interrupted, AbortSignal.timeout(PATIENCE_MS)]),
      redirect: 'error',
    });
    answer = await response.json().catch(() => null);
  } catch {
    interrupted.throwIfAborted();
    throw new UnreachableError(
      EXIT.unreachable,
      `The service does not answer at ${base.origin}. Start it with npm start, or set GPU_DEV_URL to where it runs.`,
    );
  }
  if (response.ok) return answer as T;
  const { code, detail, status } = (answer ?? {}) as Partial<ProblemDocument>;
  if (typeof code === 'string' && typeof detail === 'string' && typeof status === 'number') {
    throw errorOf(answer as ProblemDocument);
  }
  throw new CliError(
    EXIT.unreachable,
    `What answers at ${base.origin} (${response.status}) is not gpu-dev. Set GPU_DEV_URL to the address of the service.`,
  );
}

/** Whether an address is this machine's own. */
export function isLocal(base: URL): boolean {
  const host = base.hostname.replace(/^\[|\]$/g, '');
  return host === 'localhost' || isLoopback(host);
}

/** Log in as somebody who is at this machine. @throws CliError if the service is none of this machine, or not in local mode */
export async function localLogin(base: URL, username: string, interrupted: AbortSignal): Promise<LoginAnswer> {
  const ask = () => postOpenly<LoginAnswer>(base, '/v1/auth/local-login', { username }, interrupted);
  try {
    return await ask();
  } catch (error) {
    if (!(error instanceof UnreachableError)) throw error;
    await pause(BEFORE_RETRY_MS);
    return ask();
  }
}

export class Session {
  readonly #surroundings: Surroundings;
  readonly #options: CommonOptions;
  readonly #base: URL;
  #current: StoredKey | null = null;
  /** When a key was got in this run, by the clock of the process. */
  #gotAt: number | null = null;

  constructor(surroundings: Surroundings, options: CommonOptions, base: URL) {
    this.#surroundings = surroundings;
    this.#options = options;
    this.#base = base;
  }

  /** Name of the user, as far as it is known without asking; null for a key of the environment. */
  get user(): string | null {
    return this.#current?.user ?? null;
  }

  /** Whether the key is that of the environment. */
  get given(): boolean {
    return this.#given() !== null;
  }

  /** How the present key was got. */
  get source(): StoredKey['source'] {
    return this.#current?.source ?? 'local';
  }

  /** The user whose key is kept for this service and would be sent; undefined if there is none. */
  userOfKept(): string | undefined {
    return this.#kept()?.user;
  }

  /** The key to send. One that ends soon is renewed first. @throws CliError that says how to log in */
  async key(): Promise<string> {
    const given = this.#given();
    if (given !== null) return given;
    this.#current ??= this.#kept();
    if (this.#current === null || endsSoon(this.#current)) await this.#obtain(this.#current);
    return this.#current!.api_key;
  }

  /** The service did not take the key: get another. @returns null if there is none to be had, or the key was new and another would be no better */
  async renewed(): Promise<string | null> {
    if (this.#given() !== null || (this.#gotAt !== null && performance.now() - this.#gotAt < NEW_MS)) return null;
    await this.#obtain(this.#current);
    return this.#current!.api_key;
  }

  /** The AWS profile by which the present key was got; null if none was chosen. */
  get profile(): string | null {
    return this.#current?.profile ?? null;
  }

  /** Keep what a login gave. @param profile the AWS profile that was chosen for it */
  keep(answer: LoginAnswer, source: StoredKey['source'], profile: string | null = null): StoredKey {
    const { api_key, key_prefix, username, expires_at, ttl_hours } = answer;
    const key: StoredKey = {
      url: this.#base.origin,
      user: username,
      api_key,
      key_prefix,
      expires_at,
      ttl_hours,
      source,
      profile,
    };
    keepKey(this.#surroundings, key);
    this.#current = key;
    return key;
  }

  /** GPU_DEV_API_KEY, unless the command line names a user. */
  #given(): string | null {
    if (this.#options.user !== undefined) return null;
    return this.#surroundings.environment.GPU_DEV_API_KEY || null;
  }

  /** The key that is kept for this service: of the user who is named, else the newest. */
  #kept(): StoredKey | null {
    const keys = readKeys(this.#surroundings).filter(({ url }) => url === this.#base.origin);
    const named = this.#options.user ?? (this.#surroundings.environment.GPU_DEV_USER || undefined);
    const own = keys.find(({ user }) => user === named);
    if (named === undefined || own !== undefined) return own ?? keys[0] ?? null;
    // Where people are believed who they are, another name is another login; elsewhere it is only a habit of the shell.
    return this.#options.user !== undefined || isLocal(this.#base) ? null : (keys[0] ?? null);
  }

  #locally(user: string): Promise<LoginAnswer> {
    return localLogin(this.#base, user, this.#surroundings.interrupted);
  }

  /** A command that was begun as one user is not ended as another. The key that came is not kept, and ends by itself. */
  #another({ user, profile }: StoredKey, username: string): CliError {
    const which = profile == null ? 'The AWS credentials here' : `The AWS profile ${profile}`;
    return new CliError(
      EXIT.refused,
      `Your key at ${this.#base.origin} has ended. ${which} would log in ${username}, and you were ${user}. Nothing was done; say who you are by: gpu-dev login`,
    );
  }

  async #obtain(last: StoredKey | null): Promise<void> {
    if (last?.source === 'aws') {
      // What knows AWS takes a while to load; most commands need none of it.
      const { signedLogin } = await import('./aws-login.ts');
      const profile = last.profile ?? null;
      const answer = await signedLogin(this.#base, this.#surroundings, profile ?? undefined);
      if (answer.username !== last.user) throw this.#another(last, answer.username);
      this.keep(answer, 'aws', profile);
      this.#gotAt = performance.now();
      return;
    }
    if (!isLocal(this.#base))
      throw new CliError(EXIT.refused, `You are not logged in at ${this.#base.origin}. Run: gpu-dev login`);
    try {
      const answer = await this.#locally(last?.user ?? userOf(this.#surroundings, this.#options));
      if (last !== null && answer.username !== last.user) throw this.#another(last, answer.username);
      this.keep(answer, 'local');
      this.#gotAt = performance.now();
    } catch (error) {
      if (!(error instanceof CliError) || error.problem?.code !== 'GPU_LOGIN_OFF') throw error;
      throw new CliError(EXIT.refused, `You are not logged in at ${this.#base.origin}. Run: gpu-dev login`, error.problem);
    }
  }
}

/** Whether less than a tenth of a key's life is left. */
function endsSoon({ expires_at: end, ttl_hours: hours }: StoredKey): boolean {
  return Date.parse(end) - Date.now() < hours * 360_000;
}
