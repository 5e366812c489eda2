/** GitHub names that users have proven to be theirs, and what they must sign for it. */
import pg from 'pg';
import type { Queryable, Transaction } from './database.ts';

/** What a user was asked to sign. */
export interface Challenge {
  github_user: string;
  nonce: string;
}

const ASK = `
  insert into github_challenges as open (user_id, github_user, nonce, expires_at) values ($1, $2, $3, now() + make_interval(secs => $4))
  on conflict (user_id) do update
     set nonce = case when open.github_user = excluded.github_user and open.expires_at > now() then open.nonce else excluded.nonce end,
         github_user = excluded.github_user, expires_at = excluded.expires_at
  returning github_user, nonce, expires_at`;

/**
 * Ask a user to prove a name. What they were asked before counts no more, unless it was the same name: then it is the same challenge, for longer.
 * @param nonce of a new challenge
 * @returns what they must sign, and until when
 */
export async function askForProof(
  db: Queryable,
  userId: number,
  github: string,
  nonce: string,
  seconds: number,
): Promise<{ challenge: Challenge; until: Date }> {
  const { rows } = await db.query<Challenge & { expires_at: Date }>(ASK, [userId, github, nonce, seconds]);
  const { expires_at: until, ...challenge } = rows[0]!;
  return { challenge, until };
}

/** What a user was asked to sign, if it is not too late for it. */
export async function findChallenge(db: Queryable, userId: number): Promise<Challenge | null> {
  const { rows } = await db.query<Challenge>(
    'select github_user, nonce from github_challenges where user_id = $1 and expires_at > now()',
    [userId],
  );
  return rows[0] ?? null;
}

/** The user who has proven a GitHub name; null if nobody has. */
export async function findUserOfGithub(db: Queryable, github: string): Promise<{ user_id: number; name: string } | null> {
  const { rows } = await db.query<{ user_id: number; name: string }>(
    'select user_id, name from api_users where lower(github_user) = lower($1)',
    [github],
  );
  return rows[0] ?? null;
}

const NOTE_PROOF = `
  with asked as (delete from github_challenges where user_id = $1 and nonce = $3 and expires_at > now() returning 1)
  update api_users set github_user = $2, github_proven_at = now() where user_id = $1 and exists (select from asked)`;

/**
 * A user has proven a name: the challenge is used up.
 * @returns 'late' if it was not open any more, 'taken' if somebody else has proven the name
 */
export async function noteProof(
  tx: Transaction,
  userId: number,
  { github_user: github, nonce }: Challenge,
): Promise<'noted' | 'late' | 'taken'> {
  try {
    return await tx.attempt(async () =>
      (await tx.query(NOTE_PROOF, [userId, github, nonce])).rowCount === 1 ? 'noted' : 'late',
    );
  } catch (error) {
    if (error instanceof pg.DatabaseError && error.code === '23505') return 'taken';
    throw error;
  }
}
