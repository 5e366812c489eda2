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
