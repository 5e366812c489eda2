/** What does not fit into a gang is refused at the door, as far as that is known there; the pool refuses the rest, in words. */
import type { ReservationRequest } from '../../machines/reservation.context.ts';
import type { Transaction } from '../../persistence/database.ts';
import { Problem } from '../problem.ts';

export const LOCK_GANG = 'select true as locked from pg_advisory_xact_lock(hashtextextended($1, 0))';

export const SIBLINGS = `
  select reservation_id as id, user_id as owner, gpu_type as "gpuType", node_index as "index", total_nodes as size,
         status not in ('expired', 'failed', 'cancelled') as live
    from reservations where master_reservation_id = $1
  union all
  select event->>'id', event->>'owner', event #>> '{request,gpuType}', (event #>> '{request,gang,index}')::int,
         (event #>> '{request,gang,size}')::int, true
    from mailbox where event->>'type' = 'reservation.submitted' and event #>> '{request,gang,id}' = $1`;

interface Sibling {
  id: string;
  owner: string;
  gpuType: string;
  index: number | null;
  size: number | null;
  /** It has not ended: one that has leaves its place to another. */
  live: boolean;
}

/**
 * A gang belongs to whoever sent its first member, all its members agree on what it is, and each place in it is taken once. Of two who send at
 * the same time, the second waits here for the first.
 * @throws Problem that names the field at fault
 */
export async function checkGang(
  tx: Transaction,
  { id, owner, request }: { id: string; owner: string; request: Pick<ReservationRequest, 'gang' | 'gpuType'> },
): Promise<void> {
  const { gang, gpuType } = request;
  if (gang === null) return;
  await tx.query(LOCK_GANG, [gang.id]);
  const { rows } = await tx.query<Sibling>(SIBLINGS, [gang.id]);
  if (rows.some((sibling) => sibling.owner !== owner)) {
    throw new Problem('GPU_ID_TAKEN', `The gang ${gang.id} belongs to another user`, { field: 'master_reservation_id' });
  }
  const others = rows.filter((sibling) => sibling.live && sibling.id !== id);
  const [first] = others;
  if (first === undefined) return;
  const refuse = (field: string, what: string) => {
    throw new Problem('GPU_FIELD_INVALID', `The gang ${gang.id} ${what}`, { field });
  };
  if (first.size !== gang.size) refuse('total_nodes', `has ${first.size} nodes, not ${gang.size}`);
  if (first.gpuType !== gpuType) refuse('gpu_type', `is of ${first.gpuType}, not of ${gpuType}`);
  if (others.some(({ index }) => index === gang.index)) refuse('node_index', `has a node ${gang.index} already`);
}
