/** Who has been submitted of each gang. A gang is known by its owner and its id: who else knows the id is of another one. */
import type { PoolDecision, PoolMessage } from '../../machines/gpu-pool.events.ts';
import type { Transaction } from '../../persistence/database.ts';

type Joined = Extract<PoolMessage, { type: 'gang.joined' }>;

export const JOIN_GANG = `
  insert into gang_members (gang_id, owner, node_index, reservation_id, gpu_type, size) values ($1, $2, $3, $4, $5, $6)
  on conflict do nothing`;

export const GANG_MEMBERS = `
  select reservation_id as "reservationId", node_index as "index", gpu_type as "gpuType", size
    from gang_members where gang_id = $1 and owner = $2 order by reservation_id`;

interface Member {
  reservationId: string;
  index: number | null;
  gpuType: string;
  size: number;
}

/** A member of a gang has been submitted. @returns all members if the gang is complete now; the newcomer with the reason if it does not fit. */
export async function joinGang(
  tx: Transaction,
  gpuType: string,
  { reservationId, owner = '', gangId, index: place, size }: Joined,
): Promise<Pick<PoolDecision, 'gangComplete' | 'gangBroken'>> {
  const index = place ?? null;
  const { rows } = await tx.query<Member>(GANG_MEMBERS, [gangId, owner]);
  const others = rows.filter((row) => row.reservationId !== reservationId);
  const why = misfit(others, { index, gpuType, size });
  if (why !== null) return { gangComplete: [], gangBroken: [{ reservationId, reason: why, outcome: 'failed', own: true }] };
  await tx.query(JOIN_GANG, [gangId, owner, index, reservationId, gpuType, size]);
  const all = [...others.map((row) => row.reservationId), reservationId].sort();
  return { gangComplete: all.length >= size ? all : [], gangBroken: [] };
}

/** Why this one is no member beside the others, in words for its user; null if it is one. */
type Fit = Pick<Member, 'index' | 'gpuType' | 'size'>;
function misfit(others: readonly Fit[], { index, gpuType, size }: Fit): string | null {
  const [first] = others;
  if (first === undefined) return null;
  if (first.size !== size) return `The gang has ${first.size} nodes, and this one was sent as one of ${size}`;
  if (first.gpuType !== gpuType) return `The gang is of ${first.gpuType}, and this one was sent with ${gpuType}`;
  if (index !== null && others.some((other) => other.index === index)) return `The gang has a node ${index} already`;
  return null;
}

export const LEAVE_GANG = `with left_gang as (delete from gang_members where reservation_id = $1 returning gang_id, owner)
     select m.reservation_id from gang_members m join left_gang using (gang_id, owner) where m.reservation_id <> $1 order by m.reservation_id`;

/** A member has ended: the others are told. */
export async function leaveGang(
  tx: Transaction,
  event: Extract<PoolMessage, { type: 'gang.left' }>,
): Promise<PoolDecision['gangBroken']> {
  const { rows } = await tx.query<{ reservation_id: string }>(LEAVE_GANG, [event.reservationId]);
  return rows.map((row) => ({ reservationId: row.reservation_id, reason: event.reason, outcome: event.outcome }));
}
