/** What an API key is: 256 random bits behind a name that scanners for leaked secrets can look for. Only its SHA-256 is kept. */
import { createHash, randomBytes } from 'node:crypto';
import { Secret } from '../../actors/secret.ts';
import { addKey, type KeyRow, type NewKey } from '../../persistence/api-keys.ts';
import type { Queryable } from '../../persistence/database.ts';
import { type Scope, SCOPES } from './principal.ts';

const MARK = 'gpudev_';
/** Of the 43 characters behind the mark, so many are shown: enough to tell keys apart, and nothing to guess the rest by. */
const SHOWN = 6;

/** The shape of a key. */
export const API_KEY = /^gpudev_[A-Za-z0-9_-]{43}$/;

/** How long a key may live, in hours. */
export const LONGEST_TTL_HOURS = 168;

/** What a key that is given to a user who has logged in may be used for. */
export function scopesOf(isAdmin: boolean): Scope[] {
  return SCOPES.filter((scope) => scope !== 'admin' || isAdmin);
}

/** SHA-256 of a key, in hexadecimal: by it alone keys are found, so that how long it takes tells nothing of any key. */
export function hashKey(key: string): string {
  return createHash('sha256').update(key).digest('hex');
}

/** Make a key and keep its hash. The key itself is told here, and never again. */
export async function issueKey(
  db: Queryable,
  wanted: Omit<NewKey, 'hash' | 'prefix'>,
): Promise<{ key: Secret<string>; row: KeyRow }> {
  const key = `${MARK}${randomBytes(32).toString('base64url')}`;
  const row = await addKey(db, { ...wanted, hash: hashKey(key), prefix: key.slice(0, MARK.length + SHOWN) });
  return { key: new Secret(key), row };
}
