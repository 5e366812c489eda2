/** Finding the reservation that a sender means. */
import type { Queryable } from '../../persistence/database.ts';
import { Problem } from '../problem.ts';

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

export interface Found {
  id: string;
  /** False if no reservation of this id exists yet: its create may be on the way. */
  exists: boolean;
  owner: string | null;
}

export const OWNER_BY_ID = 'select user_id from reservations where reservation_id = $1';

export const FIND_BY_PREFIX = `select reservation_id as id, user_id, reservation_ended is not null as ended from reservations
      where reservation_id ^@ $1 and ($2::text is null or user_id = $2)
      order by ended, created_at desc limit 20`;

/**
 * The reservation of a full id or of a unique beginning of one. A prefix matches only the sender's own reservations; a sender without a
 * name (a trusted queue) matches all. Live ones win over ended ones.
 * @throws Problem: unknown prefix, more than one match (with the candidates), or somebody else's reservation.
 */
export async function findReservation(db: Queryable, reference: string, user: string | null): Promise<Found> {
  if (UUID.test(reference)) {
    const { rows } = await db.query<{ user_id: string }>(OWNER_BY_ID, [reference]);
    const owner = rows[0]?.user_id ?? null;
    if (owner !== null && user !== null && owner !== user) {
      throw new Problem('GPU_NOT_OWNER', `Reservation ${reference} belongs to another user`, { field: 'reservation_id' });
    }
    return { id: reference, exists: owner !== null, owner };
  }
  const { rows } = await db.query<{ id: string; user_id: string; ended: boolean }>(FIND_BY_PREFIX, [reference, user]);
  const live = rows.filter((row) => !row.ended);
  const matches = live.length > 0 ? live : rows;
  if (matches.length === 1) return { id: matches[0]!.id, exists: true, owner: matches[0]!.user_id };
  if (matches.length === 0) {
    throw new Problem('GPU_RESERVATION_UNKNOWN', `No reservation${user === null ? '' : ` of ${user}`} begins with ${reference}`, {
      field: 'reservation_id',
    });
  }
  const candidates = matches.map((row) => row.id);
  throw new Problem(
    'GPU_RESERVATION_AMBIGUOUS',
    `${reference} is the beginning of ${candidates.length} reservations: ${candidates.join(', ')}`,
    {
      field: 'reservation_id',
      details: { candidates },
    },
  );
}
