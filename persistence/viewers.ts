/** Who may see what while a stream is open: asked for many at once. */
import type { Queryable } from './database.ts';

const ENDED_KEYS = `
  select asked.key_id from unnest($1::int[]) as asked(key_id)
   where not exists (select from api_keys k join api_users u using (user_id)
                      where k.key_id = asked.key_id and k.is_active and u.is_active and k.expires_at > now())`;

/** Of these keys, those that may be used no longer: revoked, expired, or of a user who was disabled. */
export async function endedKeys(db: Queryable, keys: readonly number[]): Promise<number[]> {
  return (await db.query<{ key_id: number }>(ENDED_KEYS, [keys])).rows.map(({ key_id }) => key_id);
}

const VIEWERS = `
  select c.reservation_id as id, u.name from collaborators c join api_users u using (user_id) where c.reservation_id = any($1::text[])
  union
  select r.reservation_id, u.name
    from reservations r cross join lateral jsonb_array_elements_text(r.secondary_users) as added
    join api_users u on lower(u.github_user) = lower(added)
   where r.reservation_id = any($1::text[]) and r.secondary_users <> '[]'`;

/** Who may see these reservations beside their owners, by reservation: collaborators, and those whose proven GitHub name was let in. */
export async function viewersOf(db: Queryable, ids: readonly string[]): Promise<Map<string, string[]>> {
  const { rows } = await db.query<{ id: string; name: string }>(VIEWERS, [ids]);
  const found = new Map<string, string[]>();
  for (const { id, name } of rows) found.set(id, [...(found.get(id) ?? []), name]);
  return found;
}

// Names that were let in by SSH are looked for among those that live or ended lately: there is an index for each.
const SHARED_WITH = `
  with recent as (
    select reservation_id, secondary_users from reservations
     where status in ('queued', 'building', 'provisioning', 'running', 'extending', 'snapshotting')
    union all
    select reservation_id, secondary_users from reservations where reservation_ended > now() - interval '1 day')
  select c.reservation_id as id from collaborators c join api_users u using (user_id) where u.name = $1
  union
  select r.reservation_id
    from api_users u
    join recent r on r.secondary_users <> '[]' and exists (
           select from jsonb_array_elements_text(r.secondary_users) as added where lower(added) = lower(u.github_user))
   where u.name = $1 and u.github_user is not null`;

/** Reservations of others that a user may see. */
export async function sharedWith(db: Queryable, user: string): Promise<string[]> {
  return (await db.query<{ id: string }>(SHARED_WITH, [user])).rows.map(({ id }) => id);
}
