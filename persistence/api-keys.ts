/** API keys: found by the SHA-256 of the key, which alone is kept. */
import type { Queryable, Transaction } from './database.ts';

/** A key as its owner may see it. */
export interface KeyRow {
  key_id: number;
  key_prefix: string;
  description: string | null;
  scopes: string[];
  source: 'aws' | 'local' | 'key';
  created_at: Date;
  expires_at: Date;
  authenticated_at: Date;
  last_used_at: Date | null;
  is_active: boolean;
  revoked_at: Date | null;
}

export interface NewKey {
  userId: number;
  /** SHA-256 of the key, in hexadecimal. */
  hash: string;
  prefix: string;
  ttlHours: number;
  scopes: readonly string[];
  source: 'aws' | 'local' | 'key';
  description: string | null;
  /** When its user last showed who they are; null for now. */
  authenticatedAt: Date | null;
  /** Of the request that asks for it, if it bears one. */
  request?: KeyRequest | null;
}

/** By what a request for a key is known when it is sent again, and what it asks for. */
export interface KeyRequest {
  key: string;
  wish: string;
}

const ADD_KEY = `
  insert into api_keys (user_id, key_hash, key_prefix, expires_at, scopes, source, description, authenticated_at, request_key, request_wish)
  values ($1, $2, $3, now() + make_interval(secs => $4::float8 * 3600), $5, $6, $7, coalesce($8, now()), $9, $10)
  returning key_id, key_prefix, description, scopes, source, created_at, expires_at, authenticated_at, last_used_at, is_active, revoked_at`;

/** Keep a new key. */
export async function addKey(db: Queryable, key: NewKey): Promise<KeyRow> {
  const { rows } = await db.query<KeyRow>(ADD_KEY, [
    key.userId,
    key.hash,
    key.prefix,
    key.ttlHours,
    key.scopes,
    key.source,
    key.description,
    key.authenticatedAt,
    key.request?.key ?? null,
    key.request?.wish ?? null,
  ]);
  return rows[0]!;
}

/** Nobody else counts or makes keys of this user until the transaction ends. Taken before any key of theirs is locked. */
export async function lockKeysOf(tx: Transaction, userId: number): Promise<void> {
  await tx.query('select 1 from api_users where user_id = $1 for no key update', [userId]);
}

/** Keys of a user that may be used, and when the first of them ends; null if there are none. */
export async function countKeys(db: Queryable, userId: number): Promise<{ count: number; firstEnd: Date | null }> {
  const { rows } = await db.query<{ count: number; firstEnd: Date | null }>(
    `select count(*)::int as count, min(expires_at) as "firstEnd" from api_keys where user_id = $1 and is_active and expires_at > now()`,
    [userId],
  );
  return rows[0]!;
}

/**
 * End the key that this same request made before, if it did.
 * @param ownKeyId of the key that the request itself bears: one cannot have been made by the request that bears it
 * @returns the key that ended, null if none did, 'other' if the key belongs to another request: nothing is done then
 */
export async function endEarlier(
  tx: Transaction,
  userId: number,
  { key, wish }: KeyRequest,
  ownKeyId: number | null = null,
): Promise<{ key_id: number; key_prefix: string } | null | 'other'> {
  const { rows } = await tx.query<{ key_id: number; key_prefix: string; request_wish: string; is_active: boolean }>(
    `select key_id, key_prefix, request_wish, is_active from api_keys where user_id = $1 and request_key = $2 order by key_id desc limit 1`,
    [userId, key],
  );
  const [found] = rows;
  if (found === undefined) return null;
  if (found.request_wish !== wish || found.key_id === ownKeyId) return 'other';
  if (!found.is_active) return null;
  await revokeKey(tx, userId, found.key_id);
  return found;
}

/** How long a request may be sent again by the key that it ended, in seconds. */
const SENT_AGAIN_SECONDS = 300;

// Both times are those of one transaction, and of no other: what ended the old key made the new one.
const ENDED_BY = `
  select exists (
    select 1 from api_keys k
     where k.user_id = $1 and k.key_id = $2 and not k.is_active and k.revoked_at > now() - make_interval(secs => $4)
       and exists (select 1 from api_keys m where m.user_id = $1 and m.request_key = $3 and m.created_at = k.revoked_at)
       and exists (select 1 from api_keys m
                    where m.user_id = $1 and m.request_key = $3 and m.is_active and m.last_used_at is null)) as "isEndedBy"`;

/**
 * Whether this request itself ended the key that bears it, minutes ago, and nobody has used the one that it made: its answer was lost then,
 * and who sends it again is to get another.
 * @param requestKey of {@link KeyRequest}
 */
export async function isEndedBy(db: Queryable, userId: number, keyId: number, requestKey: string): Promise<boolean> {
  const { rows } = await db.query<{ isEndedBy: boolean }>(ENDED_BY, [userId, keyId, requestKey, SENT_AGAIN_SECONDS]);
  return rows[0]!.isEndedBy;
}

const END_LOGINS = `
  with live as (
    select key_id, source, coalesce(last_used_at, created_at) as used_at from api_keys
     where user_id = $1 and is_active and expires_at > now()),
  ended as (
    select key_id from live where source <> 'key' order by used_at, key_id
     limit greatest(0, (select count(*) from live) - $2))
  update api_keys k set is_active = false, revoked_at = now() from ended where k.key_id = ended.key_id
  returning k.key_id, k.key_prefix`;

/** Revoke keys of earlier logins of a user, those first that were unused for longest, until so many keys are left. @returns those that were */
export async function endLogins(db: Queryable, userId: number, keep: number): Promise<{ key_id: number; key_prefix: string }[]> {
  return (await db.query<{ key_id: number; key_prefix: string }>(END_LOGINS, [userId, keep])).rows;
}

/** A key with its user, as every request needs it. */
export interface HeldKey {
  key_id: number;
  key_prefix: string;
  scopes: string[];
  expires_at: Date;
  /** By the database's clock. */
  expired: boolean;
  is_active: boolean;
  user_id: number;
  name: string;
  user_active: boolean;
  is_admin: boolean;
  github_user: string | null;
}

/** The key of this hash, whatever has become of it; null if there never was one. */
export async function findKey(db: Queryable, hash: string): Promise<HeldKey | null> {
  const { rows } = await db.query<HeldKey>(
    `select k.key_id, k.key_prefix, k.scopes, k.expires_at, k.expires_at <= now() as expired, k.is_active,
            u.user_id, u.name, u.is_active as user_active, u.is_admin, u.github_user
       from api_keys k join api_users u using (user_id) where k.key_hash = $1`,
    [hash],
  );
  return rows[0] ?? null;
}

/** Note that keys were used, at most once a minute each: it is for people, who do not need it sharper. */
export async function touchKeys(db: Queryable, keyIds: readonly number[]): Promise<void> {
  await db.query(
    `update api_keys set last_used_at = now()
      where key_id = any($1::int[]) and (last_used_at is null or last_used_at < now() - interval '1 minute')`,
    [keyIds],
  );
}

/** The keys of a user, newest first; those that are over too, for a while. */
export async function listKeys(db: Queryable, userId: number, limit: number): Promise<KeyRow[]> {
  const { rows } = await db.query<KeyRow>(
    `select key_id, key_prefix, description, scopes, source, created_at, expires_at, authenticated_at, last_used_at, is_active, revoked_at
       from api_keys where user_id = $1 order by key_id desc limit $2`,
    [userId, limit],
  );
  return rows;
}

/** One key of a user, locked; null if they have none of this id. */
export async function findKeyOf(db: Queryable, userId: number, keyId: number): Promise<KeyRow | null> {
  const { rows } = await db.query<KeyRow>(
    `select key_id, key_prefix, description, scopes, source, created_at, expires_at, authenticated_at, last_used_at, is_active, revoked_at
       from api_keys where user_id = $1 and key_id = $2 for update`,
    [userId, keyId],
  );
  return rows[0] ?? null;
}

/** Revoke a key of a user. @returns the key, or null if they have none of this id */
export async function revokeKey(db: Queryable, userId: number, keyId: number): Promise<KeyRow | null> {
  const { rows } = await db.query<KeyRow>(
    `update api_keys set is_active = false, revoked_at = coalesce(revoked_at, now()) where user_id = $1 and key_id = $2
     returning key_id, key_prefix, description, scopes, source, created_at, expires_at, authenticated_at, last_used_at, is_active, revoked_at`,
    [userId, keyId],
  );
  return rows[0] ?? null;
}

/** Revoke the keys of a user that could do what only admins may. */
export async function revokeAdminKeys(db: Queryable, userId: number): Promise<void> {
  await db.query(
    `update api_keys set is_active = false, revoked_at = now() where user_id = $1 and is_active and 'admin' = any(scopes)`,
    [userId],
  );
}
