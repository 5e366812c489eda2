/** People of whom something came back: they have a row, and log in anew. */
import type { Queryable } from '../../persistence/database.ts';

/** Users of another account than the home one own by `name@account`. */
const ABROAD = /^(.+)@(\d{12})$/;

const ADD_USERS = `
  insert into api_users (username, account, name)
  select u.username, u.account, u.name from unnest($1::text[], $2::text[], $3::text[]) as u(username, account, name)
   where u.name ~ '^[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}$' and not exists (select 1 from api_users a where a.name = u.name)
  on conflict do nothing
  returning name`;

const MISSING_USERS = `select name from unnest($1::text[]) as owner(name) where not exists (select 1 from api_users a where a.name = owner.name)`;

/** Those of these owners that have no row. */
export async function missingUsers(db: Queryable, owners: readonly string[]): Promise<string[]> {
  return (await db.query<{ name: string }>(MISSING_USERS, [owners])).rows.map(({ name }) => name);
}

/** Give each a row, without keys. The first login of that name makes it theirs. @returns those that got one */
export async function addUsers(db: Queryable, owners: readonly string[]): Promise<string[]> {
  const people = owners.map((name) => {
    const [, username = name, account = ''] = ABROAD.exec(name) ?? [];
    return { name, username, account };
  });
  const { rows } = await db.query<{ name: string }>(ADD_USERS, [
    people.map(({ username }) => username),
    people.map(({ account }) => account),
    people.map(({ name }) => name),
  ]);
  return rows.map(({ name }) => name);
}
