/** Nobody takes more than their share: what a user has and asks for is weighed at every door, in the transaction that accepts it. */
import type { Transaction } from '../../persistence/database.ts';
import { type Claim, claimQuota, type Exceeded } from '../../persistence/quotas.ts';
import { Problem } from '../problem.ts';
import type { ParsedCreate } from './create.ts';

/** What a create counts for. */
export function claimOf(id: string, { owner, request }: ParsedCreate): Claim {
  return { reservationId: id, owner, gpus: request.gpuCount, gang: request.gang };
}

/**
 * Count these reservations. See {@link claimQuota}.
 * @throws Problem naming what the owner has, wants and may have, if that is too much; nothing is counted then
 */
export async function takeQuota(tx: Transaction, claims: readonly Claim[], areOwnersHeld = false): Promise<void> {
  const [exceeded] = await claimQuota(tx, claims, areOwnersHeld);
  if (exceeded !== undefined) throw refusal(exceeded);
}

/** Seconds after which to ask again when nobody can say when there will be room. */
const LATER = 60;
const LATEST = 3_600;

function refusal(found: Exceeded): Problem {
  const { owner, reservations, gpus, wantedReservations, wantedGpus, maxReservations, maxGpus, freesIn } = found;
  const tooMany = maxReservations !== null && reservations + wantedReservations > maxReservations;
  const [has, wants, most, what] = tooMany
    ? [reservations, wantedReservations, maxReservations, 'reservations']
    : [gpus, wantedGpus, maxGpus, 'GPUs'];
  const retryAfter = Math.min(LATEST, Math.max(1, Math.ceil(freesIn ?? LATER)));
  return new Problem(
    'GPU_QUOTA_EXCEEDED',
    `${owner} has ${has} ${what} and asks for ${wants} more; ${most} at a time are allowed. End one, or wait until one has ended`,
    {
      field: tooMany ? 'user_id' : 'gpu_count',
      details: { limit: most, used: has, wanted: wants, of: tooMany ? 'reservations' : 'gpus', retry_after: retryAfter },
    },
  );
}
