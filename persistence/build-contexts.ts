/** Build contexts on their way to the pods that build from them: each way is open once. */
import { createHash, randomBytes } from 'node:crypto';
import type { Queryable } from './database.ts';

/** 256 random bits, as 64 hexadecimal digits. */
export const TOKEN = /^[0-9a-f]{64}$/;

const hashOf = (token: string): string => createHash('sha256').update(token).digest('hex');

/** A new token for the context of this build and attempt; it is stored only as its hash, and this is the only time that it is told. */
export async function issueToken(db: Queryable, build: { hash: string; attempt: number }, seconds: number): Promise<string> {
  const token = randomBytes(32).toString('hex');
  await db.query(
    `insert into build_tokens (token_hash, hash, attempt, expires_at) values ($1, $2, $3, now() + make_interval(secs => $4))`,
    [hashOf(token), build.hash, build.attempt, seconds],
  );
  return token;
}

const REDEEM = `
  with taken as (
    update build_tokens t set used_at = now()
     where t.token_hash = $1 and t.hash = $2 and t.used_at is null and t.expires_at > now()
       and exists (select 1 from actors a where a.actor = 'image/' || t.hash and a.state = 'building'
                                            and (a.snapshot #>> '{context,attempt}')::int = t.attempt)
    returning t.hash)
  select exists (select 1 from build_tokens where token_hash = $1 and hash = $2) as known,
         exists (select 1 from taken) as taken,
         (select b.archive from build_contexts b join taken using (hash)) as archive`;

/**
 * Take the context that this token opens.
 * @returns the tar.gz; 'unknown' for a token that is none, or is another build's; 'spent' for one that was used, has expired, or whose attempt
 * is over; 'gone' if there is no such context any more
 */
export async function redeemToken(db: Queryable, token: string, hash: string): Promise<Buffer | 'unknown' | 'spent' | 'gone'> {
  const { rows } = await db.query<{ known: boolean; taken: boolean; archive: Buffer | null }>(REDEEM, [hashOf(token), hash]);
  const { known, taken, archive } = rows[0]!;
  if (!known) return 'unknown';
  if (!taken) return 'spent';
  return archive ?? 'gone';
}

/** The context did not arrive: the token opens it once more. */
export async function giveBackToken(db: Queryable, token: string): Promise<void> {
  await db.query('update build_tokens set used_at = null where token_hash = $1', [hashOf(token)]);
}
