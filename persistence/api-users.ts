/** Users of the API: who they are elsewhere, the name they own things by, and what an admin has said of them. */
import type { Queryable, Transaction } from './database.ts';

export interface UserRow {
  user_id: number;
  /** The name that owns reservations and disks. */
  name: string;
  username: string;
  /** AWS account; empty for users that came in otherwise. */
  account: string;
  email: string | null;
  aws_arn: string | null;
  created_at: Date;
  last_login_at: Date | null;
  is_active: boolean;
  is_admin: boolean;
  github_user: string | null;
}

/** Somebody who has shown who they are. */
export interface Login {
  account: string;
  username: string;
  /** Null for a local user. */
  awsArn: string | null;
  /** Users of this account own by their plain name; those of another by `name@account`. */
  atHome: boolean;
}

const FIND_LOGIN = `
  select user_id, name, username, account, email, aws_arn, created_at, last_login_at, is_active, is_admin, github_user
    from api_users where username = $2 and (account = $1 or ($3 and account = ''))
   order by account desc limit 1 for update`;

// A name that is taken, by whomever, is not taken over: the name with the account is the second choice.
const ADD_LOGIN = `
  insert into api_users (account, username, name, aws_arn, last_login_at)
  select $1, $2, case when $4 and not exists (select 1 from api_users where name = $2) then $2 else $2 || '@' || $1 end, $3, now()
   where $1 <> '' or not exists (select 1 from api_users where name = $2)
  on conflict do nothing
  returning user_id, name, username, account, email, aws_arn, created_at, last_login_at, is_active, is_admin, github_user`;

const NOTE_LOGIN = `
  update api_users set account = $2, aws_arn = coalesce($3, aws_arn), last_login_at = case when is_active then now() else last_login_at end
   where user_id = $1
  returning user_id, name, username, account, email, aws_arn, created_at, last_login_at, is_active, is_admin, github_user`;

/**
 * The user of a login, made at the first one. A login never makes a disabled user active again. A user that was there before accounts
 * were kept (account empty) becomes the one of the home account.
 * @returns null if the name is owned by somebody else already
 */
export async function userOfLogin(tx: Transaction, { account, username, awsArn, atHome }: Login): Promise<UserRow | null> {
  for (let round = 0; round < 2; round++) {
    const { rows: known } = await tx.query<UserRow>(FIND_LOGIN, [account, username, atHome]);
    if (known[0] !== undefined) {
      const { rows } = await tx.query<UserRow>(NOTE_LOGIN, [known[0].user_id, account, awsArn]);
      return rows[0]!;
    }
    const { rows: added } = await tx.query<UserRow>(ADD_LOGIN, [account, username, awsArn, atHome]);
    if (added[0] !== undefined) return added[0];
    // Somebody else added them meanwhile: the next round finds them.
  }
  return null;
}

/** One user by the name that owns things; null if there is none. */
export async function findUserByName(db: Queryable, name: string): Promise<UserRow | null> {
  const { rows } = await db.query<UserRow>(
    `select user_id, name, username, account, email, aws_arn, created_at, last_login_at, is_active, is_admin, github_user
       from api_users where name = $1`,
    [name],
  );
  return rows[0] ?? null;
}

/** One user by id; null if there is none. */
export async function findUser(db: Queryable, userId: number): Promise<UserRow | null> {
  const { rows } = await db.query<UserRow>(
    `select user_id, name, username, account, email, aws_arn, created_at, last_login_at, is_active, is_admin, github_user
       from api_users where user_id = $1`,
    [userId],
  );
  return rows[0] ?? null;
}

/** Users by id, from after this one. */
export async function listUsers(db: Queryable, after: number, limit: number): Promise<UserRow[]> {
  const { rows } = await db.query<UserRow>(
    `select user_id, name, username, account, email, aws_arn, created_at, last_login_at, is_active, is_admin, github_user
       from api_users where user_id > $1 order by user_id limit $2`,
    [after, limit],
  );
  return rows;
}

/** What an admin may say of a user; what is left out stays. */
export interface UserChange {
  isActive?: boolean | undefined;
  isAdmin?: boolean | undefined;
  /** True: the proof of a GitHub name counts no more. */
  forgetGithub?: boolean | undefined;
}

const CHANGE_USER = `
  update api_users
     set is_active = coalesce($2, is_active), is_admin = coalesce($3, is_admin),
         github_user = case when $4 then null else github_user end,
         github_proven_at = case when $4 then null else github_proven_at end
   where user_id = $1
  returning user_id, name, username, account, email, aws_arn, created_at, last_login_at, is_active, is_admin, github_user`;

/** Change a user. @returns the user as they are now, or null if there is none */
export async function changeUser(
  tx: Transaction,
  userId: number,
  { isActive, isAdmin, forgetGithub }: UserChange,
): Promise<UserRow | null> {
  const { rows } = await tx.query<UserRow>(CHANGE_USER, [userId, isActive ?? null, isAdmin ?? null, forgetGithub === true]);
  return rows[0] ?? null;
}
