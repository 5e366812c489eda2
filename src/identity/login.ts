/** The last step of every login: a key for a user who has shown who they are. */
import type { Secret } from '../../actors/secret.ts';
import { endEarlier, endLogins, type KeyRequest, type KeyRow, lockKeysOf } from '../../persistence/api-keys.ts';
import type { UserRow } from '../../persistence/api-users.ts';
import { recordAudit } from '../../persistence/audit.ts';
import type { Transaction } from '../../persistence/database.ts';
import { Problem } from '../errors.ts';
import { issueKey, scopesOf } from './api-key.ts';
import type { IdentitySettings } from './settings.ts';

/** A user with a new key. */
export interface Login {
  key: Secret<string>;
  row: KeyRow;
  user: UserRow;
  ttlHours: number;
  /** Whether other keys of theirs ended for it: what this process keeps of them is to be forgotten after the commit. */
  hasEnded: boolean;
}

/** Where a login came from. */
export interface Origin {
  source: 'aws' | 'local';
  address: string;
  requestId: string;
  /** The Idempotency-Key of the request. */
  key: string | null;
}

/** Whether the user is an admin, by the database or by the settings. */
export function isAdmin(user: Pick<UserRow, 'name' | 'is_admin'>, { admins }: Pick<IdentitySettings, 'admins'>): boolean {
  return user.is_admin || admins.includes(user.name);
}

/**
 * A request for a key that is sent again ends the key that it made before: nobody may have got it, and one is left in the end.
 * @param ownKeyId of the key that the request bears; null for a login
 * @returns whether one ended
 * @throws Problem if its Idempotency-Key belongs to another request
 */
export async function endRepeated(
  tx: Transaction,
  user: Pick<UserRow, 'user_id' | 'name'>,
  request: KeyRequest,
  from: Pick<Origin, 'address' | 'requestId'> & { keyPrefix?: string | null },
  ownKeyId: number | null = null,
): Promise<boolean> {
  const ended = await endEarlier(tx, user.user_id, request, ownKeyId);
  if (ended === null) return false;
  if (ended === 'other')
    throw new Problem('GPU_IDEMPOTENCY_CONFLICT', 'This key was used for another request', { field: 'idempotency_key' });
  await recordAudit(tx, {
    actor: user.name,
    door: 'http',
    action: 'key.revoke',
    object: `key/${ended.key_id}`,
    details: { key: ended.key_prefix, because: 'the request for it was sent again' },
    keyPrefix: null,
    ...from,
  });
  return true;
}

/**
 * Give a user a key. If they have as many as they may, the one of an earlier login that was unused for longest ends.
 * @throws Problem if the user is disabled: no login changes that.
 */
export async function logIn(tx: Transaction, user: UserRow, settings: IdentitySettings, origin: Origin): Promise<Login> {
  if (!user.is_active) throw new Problem('GPU_USER_DISABLED', `The user ${user.name} is disabled`);
  const { source, address, requestId } = origin;
  const request = origin.key === null ? null : { key: `login:${origin.key}`, wish: source };
  // Whoever can log in is never locked out: the login that was unused for longest makes room.
  await lockKeysOf(tx, user.user_id);
  const hasRepeated = request !== null && (await endRepeated(tx, user, request, { address, requestId }));
  const pushedOut = await endLogins(tx, user.user_id, settings.keysPerUser - 1);
  for (const ended of pushedOut) {
    await recordAudit(tx, {
      actor: user.name,
      door: 'http',
      action: 'key.revoke',
      object: `key/${ended.key_id}`,
      details: { key: ended.key_prefix, because: `a user has ${settings.keysPerUser} keys at most` },
      address,
      requestId,
      keyPrefix: null,
    });
  }
  const { key, row } = await issueKey(tx, {
    userId: user.user_id,
    ttlHours: settings.keyTtlHours,
    scopes: scopesOf(isAdmin(user, settings)),
    source,
    description: null,
    authenticatedAt: null,
    request,
  });
  await recordAudit(tx, {
    actor: user.name,
    door: 'http',
    action: 'user.login',
    object: `user/${user.name}`,
    details: { by: source, key: row.key_prefix, expires_at: row.expires_at.toISOString() },
    address,
    requestId,
    keyPrefix: row.key_prefix,
  });
  return { key, row, user, ttlHours: settings.keyTtlHours, hasEnded: hasRepeated || pushedOut.length > 0 };
}
