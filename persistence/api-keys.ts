/** API keys: found by the SHA-256 of the key, which alone is kept. */
import type { Queryable } from './database.ts';

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
}

const ADD_KEY = `
  insert into api_keys (user_id, key_hash, key_prefix, expires_at, scopes, source, description, authenticated_at)
  values ($1, $2, $3, now() + make_interval(secs => $4::float8 * 3600), $5, $6, $7, coalesce($8, now()))
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
  ]);
  return rows[0]!;
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
