/**
 * Maintenance of a GPU type, as its pool's turn knows it: by the event and the stored snapshot alone, so the same turn always decides the same.
 * The row is what doors and people read; it is written here, in the turn that decides.
 */
import { beginsLater, type Maintenance, maintenanceOf, type PoolContext } from '../../machines/gpu-pool.machine.ts';
import type { PoolEvent } from '../../machines/gpu-pool.events.ts';
import type { StoredSnapshot } from '../../persistence/actor-store.ts';
import type { Transaction } from '../../persistence/database.ts';

/** What is in force after this event; null if nothing is. */
export function maintenanceAfter(event: PoolEvent, snapshot: StoredSnapshot | null): Maintenance | null {
  if (event.type === 'pool.resumed' || event.type === 'deadline.maintenanceEnds') return null;
  if (event.type === 'pool.paused') return beginsLater(event) ? null : maintenanceOf(event);
  const context = snapshot?.context as PoolContext | undefined;
  if (event.type === 'deadline.maintenanceBegins') return context?.maintenance ?? null;
  return maintenanceBefore(snapshot);
}

/** What was in force until this event; null if nothing was. */
export function maintenanceBefore(snapshot: StoredSnapshot | null): Maintenance | null {
  return snapshot?.value === 'paused' ? ((snapshot.context as PoolContext).maintenance ?? null) : null;
}

export const KEEP_MAINTENANCE = `insert into maintenance (gpu_type, reason, allowed_users, from_at, until_at, asked_by, updated_at)
     values ($1, $2, $3::text[], $4, $5, $6, $7)
     on conflict (gpu_type) do update set reason = excluded.reason, allowed_users = excluded.allowed_users, from_at = excluded.from_at,
       until_at = excluded.until_at, asked_by = excluded.asked_by, updated_at = excluded.updated_at`;

export const DROP_MAINTENANCE = 'delete from maintenance where gpu_type = $1';

/** Write the row that this event makes or ends. Sent: a failure fails the transaction. */
export function writeMaintenance(tx: Transaction, gpuType: string, event: PoolEvent): void {
  if (event.type === 'pool.resumed' || event.type === 'deadline.maintenanceEnds') tx.send(DROP_MAINTENANCE, [gpuType]);
  if (event.type !== 'pool.paused') return;
  const { reason, by, from, until, allowed } = maintenanceOf(event);
  // An end before the beginning is none of a row's; the pool ends such maintenance at once.
  const end = until !== null && Date.parse(until) > Date.parse(from) ? until : null;
  tx.send(KEEP_MAINTENANCE, [gpuType, reason, allowed, from, end, by, event.at]);
}

export const TELL_MAINTENANCE = `update capacity_requests set waits_because = $3
      where gpu_type = $1 and status = 'waiting' and owner <> all($2::text[]) and waits_because is distinct from $3`;

/** Tell those who wait, and whom it concerns. Sent: a failure fails the transaction. */
export function tellMaintenance(tx: Transaction, gpuType: string, maintenance: Maintenance): void {
  tx.send(TELL_MAINTENANCE, [gpuType, maintenance.allowed, wordsFor(maintenance)]);
}

/** Maintenance in words, for those whom it concerns. */
export function wordsFor({ reason, until }: Pick<Maintenance, 'reason' | 'until'>): string {
  return `This GPU type is under maintenance${until === null ? '' : ` until ${until}`}: ${reason}`;
}
