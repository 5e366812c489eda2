/**
 * Disks that are held for a reservation that has ended. A reservation gives its disk back when it ends, so there are none, unless a message was
 * lost to a hand or to a dead letter: then the disk would be locked for good. It is given back as its holder would have done, with all that this
 * takes: what was attached is detached and saved first.
 */
import type { DiskMessage } from '../../machines/disk.events.ts';
import type { Queryable } from '../../persistence/database.ts';
import type { Message } from '../../persistence/mailbox.ts';

/** What the holder itself sent when it ended has arrived by then. */
const SETTLED_SECONDS = 15;

// In other states the disk is on its way to be free already. A disk or holder that cannot be revived is left to an operator.
const ENDED_HOLDERS = `
  select d.disk_id as "diskId", d.reservation_id as "reservationId"
    from disks d join actors holder on holder.actor = 'reservation/' || d.reservation_id
   where d.state in ('held', 'attaching', 'attached') and d.reservation_id is not null and holder.status = 'done'
     and greatest(holder.updated_at, d.last_updated) < now() - make_interval(secs => $1)
   order by d.disk_id limit 500`;

/**
 * Give back what ended reservations hold.
 * @returns the disks that were told to let go
 * @throws the database's error
 */
export async function releaseEndedHolders(
  db: Queryable,
  post: (messages: readonly Message[]) => Promise<unknown>,
): Promise<string[]> {
  const { rows } = await db.query<{ diskId: string; reservationId: string }>(ENDED_HOLDERS, [SETTLED_SECONDS]);
  if (rows.length === 0) return [];
  await post(
    rows.map(({ diskId, reservationId }) => {
      const event: DiskMessage = { type: 'disk.release', reservationId };
      return { actor: `disk/${diskId}`, key: `ended-holder:${reservationId}`, event, sender: 'reality' };
    }),
  );
  return rows.map(({ diskId }) => diskId);
}
