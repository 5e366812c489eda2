/** What became of an extension: read from what followed in the reservation's history. */
import { findActor } from '../../persistence/actor-store.ts';
import type { Queryable } from '../../persistence/database.ts';
import type { HistoryEntry } from '../../persistence/history.ts';
import type { ReservationContext } from '../../machines/reservation.context.ts';

export interface Decision {
  granted: boolean;
  /** Why not; empty if granted. */
  reason: string;
}

/** The decision on the extension that `asked` applied; null while it is being made. */
export async function extensionAfter(db: Queryable, actor: string, asked: HistoryEntry): Promise<Decision | null> {
  // A refusal by the type's limit needs no capacity check: it is in the same step, and the server never left running.
  if (asked.to !== 'extending') return ownRefusal(db, actor, asked);
  const { rows } = await db.query<{ type: string; reason: string | null; to: string }>(
    `select event->>'type' as type, event->>'reason' as reason, to_state as "to" from history
      where actor = $1 and seq > $2 and outcome = 'applied' and to_state <> 'extending' order by seq limit 1`,
    [actor, asked.seq],
  );
  const next = rows[0];
  if (next === undefined) return null;
  if (next.type === 'extension.allowed') return { granted: true, reason: '' };
  if (next.to !== 'running')
    return { granted: false, reason: `The reservation ended before the extension was decided: it is ${next.to}` };
  return { granted: false, reason: next.reason ?? 'The capacity check gave no answer in 30 seconds' };
}

async function ownRefusal(db: Queryable, actor: string, asked: HistoryEntry): Promise<Decision> {
  const context = (await findActor(db, actor))?.snapshot?.context as ReservationContext | undefined;
  const last = context?.lastExtension;
  const own = last?.at === asked.event.at && last.granted === false ? last.reason : null;
  return { granted: false, reason: own ?? 'It would pass the limit of this GPU type' };
}
