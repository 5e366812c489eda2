/** What becomes of a message or an actor that cannot be processed: it is set aside, and nobody else is delayed. */
import { type MailRow, quarantineActor } from '../../persistence/actor-store.ts';
import type { Store } from '../../persistence/database.ts';
import { addDeadLetter } from '../../persistence/dead-letters.ts';
import { rearmDeadline } from '../../persistence/deadlines.ts';
import { enqueue } from '../../persistence/mailbox.ts';
import { redact } from '../secret.ts';
import type { ActorKind, Clock } from './kind.ts';
import { parseAddress, withVersions } from './kind.ts';
import { UnprocessableError } from './turn.ts';

/** Which message a failure belongs to. */
export class MessageFailure extends Error {
  readonly mail: MailRow;
  constructor(mail: MailRow, cause: unknown) {
    super('a message failed', { cause });
    this.mail = mail;
  }
}

/** Which actor a failure belongs to. */
export class ActorFailure extends Error {
  readonly actor: string;
  constructor(actor: string, cause: unknown) {
    super('an actor failed', { cause });
    this.actor = actor;
  }
}

/** When a deadline comes again whose event became a dead letter, in seconds. */
const REARM_SECONDS = 300;

/** Leave the actor alone until an operator looks. */
export async function setActorAside(db: Store, failure: ActorFailure): Promise<void> {
  await quarantineActor(db, failure.actor, String(failure.cause));
}

export const DROP_MAIL = 'delete from mailbox where actor = $1 and id = $2';

/** Make the message a dead letter and tell its actor. */
export async function setMessageAside(
  { db, kinds, clock }: { db: Store; kinds: ReadonlyMap<string, ActorKind>; clock: Clock },
  { mail, cause }: MessageFailure,
): Promise<void> {
  const reason = cause instanceof Error ? cause.message : String(cause);
  await db.withTransaction(async (tx) => {
    const { rowCount } = await tx.query(DROP_MAIL, [mail.actor, mail.id]);
    if (rowCount === 0) return;
    await addDeadLetter(tx, {
      source: 'mailbox',
      actor: mail.actor,
      key: mail.key,
      body: redact(mail.event),
      original: mail.event,
      sender: mail.sender,
      code: cause instanceof UnprocessableError ? cause.code : 'GPU_MESSAGE_FAILED',
      reason,
    });
    if (mail.sender === 'deadline') {
      await rearmDeadline(tx, mail.actor, mail.event.type.slice('deadline.'.length), REARM_SECONDS, clock.now());
    }
    const told = kinds.get(parseAddress(mail.actor).kind)?.lost?.(mail.event, reason) ?? null;
    if (told !== null && told.type !== mail.event.type) {
      const lost = { actor: mail.actor, key: `lost:${mail.key}`, event: told, sender: 'kernel' };
      await enqueue(tx, withVersions(kinds, [lost]), clock.now());
    }
  });
}
