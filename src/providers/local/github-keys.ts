/** Keys from GitHub: the public keys that a user has there, kept for a while. */
import { TerminalError } from '../../../actors/errors.ts';
import type { KeySource } from '../../../actors/reservation/ports.ts';
import { GITHUB_NAME } from '../../../machines/reservation.events.ts';
import { publicKeys } from './keys-format.ts';

export interface GithubKeysOptions {
  /** Default https://github.com. */
  baseUrl?: string;
  /** Limit of one request, in milliseconds. Default 5,000. */
  timeoutMs?: number;
  /** How long an answer is used without asking again. Default 10 minutes. */
  freshMs?: number;
  /** How long an old answer may stand in when GitHub does not answer. Default 7 days. */
  staleMs?: number;
  now?: () => number;
}

const MOST_REMEMBERED = 10_000;
const LONGEST_ANSWER = 256 * 1024;

export class GithubKeys implements KeySource {
  readonly #options: Required<GithubKeysOptions>;
  readonly #remembered = new Map<string, { keys: string[]; at: number }>();
  readonly #asking = new Map<string, Promise<string[]>>();

  constructor(options: GithubKeysOptions = {}) {
    this.#options = {
      baseUrl: 'https://github.com',
      timeoutMs: 5000,
      freshMs: 10 * 60_000,
      staleMs: 7 * 24 * 3_600_000,
      now: Date.now,
      ...options,
    };
  }

  /** @throws TerminalError if the name is no GitHub name, has no account or no keys; Error if GitHub does not answer */
  async keysOf(githubUser: string): Promise<string[]> {
    if (!GITHUB_NAME.test(githubUser)) throw new TerminalError(`"${githubUser.slice(0, 60)}" is not a GitHub user name`);
    // GitHub's names do not differ by case.
    const user = githubUser.toLowerCase();
    const known = this.#remembered.get(user);
    if (known !== undefined && this.#age(known) < this.#options.freshMs) return known.keys;
    try {
      return await this.#once(user);
    } catch (error) {
      if (error instanceof TerminalError || known === undefined || this.#age(known) > this.#options.staleMs) throw error;
      return known.keys;
    }
  }

  #age({ at }: { at: number }): number {
    return this.#options.now() - at;
  }

  /** Many servers of one user that start together make one request. */
  #once(user: string): Promise<string[]> {
    const running = this.#asking.get(user);
    if (running !== undefined) return running;
    const asked = this.#ask(user).finally(() => this.#asking.delete(user));
    this.#asking.set(user, asked);
    return asked;
  }

  async #ask(user: string): Promise<string[]> {
    const { baseUrl, timeoutMs, now } = this.#options;
    const answer = await fetch(`${baseUrl}/${user}.keys`, { signal: AbortSignal.timeout(timeoutMs), redirect: 'error' });
    const text = await answer.text();
    if (answer.status === 404) throw new TerminalError(`GitHub has no user ${user}`);
    if (!answer.ok) throw new Error(`GitHub answered ${answer.status} when asked for the keys of ${user}`);
    const keys = publicKeys(text.slice(0, LONGEST_ANSWER));
    if (keys.length === 0)
      throw new TerminalError(`The GitHub user ${user} has no public SSH keys; add one at ${baseUrl}/settings/keys`);
    this.#remembered.delete(user);
    this.#remembered.set(user, { keys, at: now() });
    const [oldest] = this.#remembered.keys();
    if (this.#remembered.size > MOST_REMEMBERED && oldest !== undefined) this.#remembered.delete(oldest);
    return keys;
  }
}
