/**
 * From a key to its holder. What was found is kept for a few seconds, so a burst of requests asks the database once; a key that is revoked, or
 * whose user is disabled, therefore works for those seconds at most on processes other than the one that was told.
 */
import { findKey, isEndedBy, touchKeys } from '../../persistence/api-keys.ts';
import type { Queryable } from '../../persistence/database.ts';
import { Problem } from '../errors.ts';
import { API_KEY, hashKey } from './api-key.ts';
import { type Principal, type Scope, SCOPES } from './principal.ts';

/** How long an answer is used again, in milliseconds: so long a revoked key may go on elsewhere. */
export const FRESH_MS = 5_000;
const MOST_KEPT = 10_000;
/** Uses are written down together, this long after the first of them. */
const NOTE_MS = 10_000;

export interface KeyRingSettings {
  db: Queryable;
  /** Names of users who are admins whatever the database says. */
  admins: readonly string[];
  onError?: (error: unknown) => void;
  now?: () => number;
}

export class KeyRing {
  readonly #settings: Required<KeyRingSettings>;
  readonly #known = new Map<string, { principal: Principal; until: number }>();
  readonly #used = new Set<number>();
  #timer: NodeJS.Timeout | null = null;

  constructor(settings: KeyRingSettings) {
    this.#settings = { onError: () => {}, now: Date.now, ...settings };
  }

  /**
   * The holder of the key in an Authorization header; null if there is no such header.
   * @param requestKey of a request that may have ended its own key when it was sent before: it is let in once more
   * @throws Problem 401 if it holds no key that is valid, 403 if its user is disabled
   */
  async principalOf(header: string | undefined, requestKey: string | null = null): Promise<Principal | null> {
    if (header === undefined || header === '') return null;
    const [, key = ''] = /^Bearer +(\S+) *$/i.exec(header) ?? [];
    if (!API_KEY.test(key)) throw new Problem('GPU_KEY_INVALID', 'The header Authorization holds no API key of ours');
    return this.#find(hashKey(key), requestKey);
  }

  /** Whether a holder may go on: its key is neither revoked nor expired, its user not disabled. For connections that stay open. */
  async stillHolds(header: string | undefined): Promise<boolean> {
    try {
      return (await this.principalOf(header)) !== null;
    } catch (error) {
      if (error instanceof Problem) return false;
      throw error;
    }
  }

  /** Something was said of keys or users: this process looks anew at once. */
  forget(): void {
    this.#known.clear();
  }

  /** Write down what was used and not yet noted. */
  async close(): Promise<void> {
    if (this.#timer !== null) clearTimeout(this.#timer);
    await this.#note();
  }

  async #find(hash: string, requestKey: string | null): Promise<Principal> {
    const { db, admins, now } = this.#settings;
    const kept = this.#known.get(hash);
    if (kept !== undefined && kept.until > now()) return this.#use(kept.principal);
    this.#known.delete(hash);
    const found = await findKey(db, hash);
    if (found === null) throw new Problem('GPU_KEY_INVALID', 'No such API key is known here');
    const isSentAgain = !found.is_active && requestKey !== null && (await isEndedBy(db, found.user_id, found.key_id, requestKey));
    if (!found.is_active && !isSentAgain) throw new Problem('GPU_KEY_INVALID', `The API key ${found.key_prefix}… was revoked`);
    if (found.expired) {
      throw new Problem('GPU_KEY_EXPIRED', `The API key ${found.key_prefix}… expired at ${found.expires_at.toISOString()}`);
    }
    if (!found.user_active) throw new Problem('GPU_USER_DISABLED', `The user ${found.name} is disabled`);
    const scopes = new Set(SCOPES.filter((scope) => found.scopes.includes(scope)) as Scope[]);
    const principal: Principal = {
      userId: found.user_id,
      user: found.name,
      scopes,
      admin: scopes.has('admin') && (found.is_admin || admins.includes(found.name)),
      keyId: found.key_id,
      keyPrefix: found.key_prefix,
      github: found.github_user,
      expiresAt: found.expires_at.getTime(),
    };
    if (!isSentAgain) this.#keep(hash, principal, Math.min(now() + FRESH_MS, principal.expiresAt));
    return this.#use(principal);
  }

  #keep(hash: string, principal: Principal, until: number): void {
    this.#known.set(hash, { principal, until });
    const [oldest] = this.#known.keys();
    if (this.#known.size > MOST_KEPT && oldest !== undefined) this.#known.delete(oldest);
  }

  #use(principal: Principal): Principal {
    this.#used.add(principal.keyId);
    if (this.#timer === null) {
      this.#timer = setTimeout(() => {
        this.#timer = null;
        this.#note().catch(this.#settings.onError);
      }, NOTE_MS);
      this.#timer.unref();
    }
    return principal;
  }

  async #note(): Promise<void> {
    if (this.#used.size === 0) return;
    const ids = [...this.#used];
    this.#used.clear();
    await touchKeys(this.#settings.db, ids);
  }
}
