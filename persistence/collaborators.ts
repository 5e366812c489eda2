/** Who else may do something with a reservation: by a role they were given, or because their proven GitHub name was let in. */
import type { Queryable } from './database.ts';

export interface CollaboratorRow {
  /** User name; null for a GitHub name that nobody has proven. */
  user: string | null;
  github_user: string | null;
  role: 'view' | 'attach' | 'own' | null;
  added_by: string | null;
  added_at: Date | null;
  /** Whether their SSH keys are let in. */
  ssh: boolean;
}

/** What is asked of a reservation before anything may be done to it. */
export interface Standing {
  owner: string;
  role: 'view' | 'attach' | 'own' | null;
}

const STANDING = `
  select r.user_id as owner,
         coalesce(c.role, case when $3::text is not null and exists (
           select from jsonb_array_elements_text(r.secondary_users) as added where lower(added) = lower($3)) then 'attach' end) as role
    from reservations r left join collaborators c on c.reservation_id = r.reservation_id and c.user_id = $2
   where r.reservation_id = $1`;

/**
 * The owner of a reservation, and the role of this user in it. Somebody whose proven GitHub name was let in by SSH may attach.
 * @returns null if there is no such reservation
 */
export async function findStanding(
  db: Queryable,
  reservationId: string,
  userId: number,
  github: string | null,
): Promise<Standing | null> {
  const { rows } = await db.query<Standing>(STANDING, [reservationId, userId, github]);
  return rows[0] ?? null;
}

const SHARED_BY_PREFIX = `
  select r.reservation_id as id from reservations r
   where r.reservation_id ^@ $1
     and (exists (select from collaborators c where c.reservation_id = r.reservation_id and c.user_id = $2)
          or $3::text is not null and exists (
            select from jsonb_array_elements_text(r.secondary_users) as added where lower(added) = lower($3)))
   order by r.created_at desc limit 20`;

/** Full ids that begin so, of reservations of others that this user was let into. */
export async function findSharedIds(db: Queryable, beginning: string, userId: number, github: string | null): Promise<string[]> {
  const { rows } = await db.query<{ id: string }>(SHARED_BY_PREFIX, [beginning, userId, github]);
  return rows.map(({ id }) => id);
}

const LIST_COLLABORATORS = `
  with added as (
    select a.name, u.user_id, u.name as user_name
      from reservations r cross join lateral jsonb_array_elements_text(r.secondary_users) as a(name)
      left join api_users u on lower(u.github_user) = lower(a.name)
     where r.reservation_id = $1),
  given as (
    select c.user_id, u.name as user_name, u.github_user, c.role, c.added_by, c.added_at
      from collaborators c join api_users u using (user_id) where c.reservation_id = $1)
  select coalesce(g.user_name, a.user_name) as user, coalesce(a.name, g.github_user) as github_user,
         coalesce(g.role, case when a.user_id is not null then 'attach' end) as role, g.added_by, g.added_at, a.name is not null as ssh
    from given g full join added a on a.user_id = g.user_id
   order by g.added_at nulls last, a.name`;

/** Everybody who was let into a reservation. */
export async function listCollaborators(db: Queryable, reservationId: string): Promise<CollaboratorRow[]> {
  return (await db.query<CollaboratorRow>(LIST_COLLABORATORS, [reservationId])).rows;
}

const SET_ROLE = `
  insert into collaborators (reservation_id, user_id, role, added_by) values ($1, $2, $3, $4)
  on conflict (reservation_id, user_id) do update set role = excluded.role, added_by = excluded.added_by, added_at = now()`;

/** Give a user a role, in the place of the one they had. */
export async function setRole(
  db: Queryable,
  reservationId: string,
  userId: number,
  role: NonNullable<Standing['role']>,
  addedBy: string,
): Promise<void> {
  await db.query(SET_ROLE, [reservationId, userId, role, addedBy]);
}

/** Take a user's role away. @returns whether they had one */
export async function dropRole(db: Queryable, reservationId: string, userId: number): Promise<boolean> {
  const { rowCount } = await db.query('delete from collaborators where reservation_id = $1 and user_id = $2', [
    reservationId,
    userId,
  ]);
  return rowCount === 1;
}
