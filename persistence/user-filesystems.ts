/** Which file system a person has. */
import type { Queryable } from './database.ts';

const FIND = 'select filesystem_id as id from user_filesystems where user_id = $1';

export async function filesystemOf(db: Queryable, user: string): Promise<string | null> {
  return (await db.query<{ id: string }>(FIND, [user])).rows[0]?.id ?? null;
}

const KEEP = 'insert into user_filesystems (user_id, filesystem_id) values ($1, $2) on conflict do nothing';

/** Keep it for good. @returns the one that counts: whoever came first is kept */
export async function keepFilesystem(db: Queryable, user: string, id: string): Promise<string> {
  await db.query(KEEP, [user, id]);
  const kept = await filesystemOf(db, user);
  if (kept === null) throw new Error(`The file system ${id} belongs to somebody else`);
  return kept;
}
