/** The last step of every login: a key for a user who has shown who they are. */
import type { Secret } from '../../actors/secret.ts';
import { endLogins, type KeyRow, lockKeysOf } from '../../persistence/api-keys.ts';
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
}

/** Where a login came from. */
export interface Origin {
  source: 'aws' | 'local';
  address: string;
  requestId: string;
}

/** Whether the user is an admin, by the database or by the settings. */
export function isAdmin(user: Pick<UserRow, 'name' | 'is_admin'>, { admins }: Pick<IdentitySettings, 'admins'>): boolean {
  return user.is_admin || admins.includes(user.name);
}

/**
 * Give a user a key. If they have as many as they may, the one of an earlier login that was unused for longest ends.
 * @throws Problem if the user is disabled: no login changes that.
 */
export async function logIn(tx: Transaction, user: UserRow, settings: IdentitySettings, origin: Origin): Promise<Login> {
  if (!user.is_active) throw new Problem('GPU_USER_DISABLED', `The user ${user.name} is disabled`);
  const { source, address, requestId } = origin;
  // Whoever can log in is never locked out: the login that was unused for longest makes room.
  await lockKeysOf(tx, user.user_id);
  for (const ended of await endLogins(tx, user.user_id, settings.keysPerUser - 1)) {
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
  return { key, row, user, ttlHours: settings.keyTtlHours };
}
