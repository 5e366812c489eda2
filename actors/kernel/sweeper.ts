/** Periodic work that any number of processes may do at once: fire deadlines, free or bury mail that waits for nobody. */
import type { Store } from '../../persistence/database.ts';
import { addDeadLetter } from '../../persistence/dead-letters.ts';
import { fireDueDeadlines } from '../../persistence/deadlines.ts';
import { releaseHeldMail, takeOrphanedMail } from '../../persistence/mailbox.ts';
import { redact } from '../secret.ts';
import { crashPoint } from './crash-points.ts';
import type { Clock } from './kind.ts';

/** How long a message to an actor that nobody has heard of is held, in seconds: its create may be on the way. */
export const ORPHAN_SECONDS = 60;

/** Fire due deadlines, in portions, until none is left. @returns how many fired. */
export async function sweepDeadlines(db: Store, clock: Clock): Promise<number> {
  let fired = 0;
  for (;;) {
    const count = await fireDueDeadlines(db, 500, clock.now());
    if (count > 0) await crashPoint('sweep.fired');
    fired += count;
    if (count < 500) return fired;
  }
}

/** Dead-letter mail whose actor was not born within a minute, and free mail whose actor was. @returns how many messages were freed. */
export async function sweepHeldMail(db: Store, clock: Clock): Promise<number> {
  await db.withTransaction(async (tx) => {
    for (const mail of await takeOrphanedMail(tx, ORPHAN_SECONDS, clock.now())) {
      await addDeadLetter(tx, {
        source: 'mailbox',
        actor: mail.actor,
        key: mail.key,
        body: redact(mail.event),
        original: mail.event,
        sender: mail.sender,
        code: 'GPU_RESERVATION_UNKNOWN',
        field: 'reservation_id',
        reason: `${mail.actor} did not come into being within ${ORPHAN_SECONDS} seconds`,
      });
    }
  });
  return releaseHeldMail(db, null);
}
