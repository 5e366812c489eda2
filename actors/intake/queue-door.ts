/**
 * The PGMQ door: a message is read, understood, turned into events and deleted in one transaction. A crash gives it back at once.
 * A batch goes the swift way, all together, and who is free takes its events in that transaction; if one of the messages cannot, nothing has
 * happened, and they go one by one, by mailbox.
 * What cannot be understood is archived, with its reason in the dead letters. A failing database leaves it in the queue. Anything else that
 * fails is tried a few times and then counts as poison.
 */
import { isRetryableDatabaseError, type Store, type Transaction } from '../../persistence/database.ts';
import { addDeadLetter } from '../../persistence/dead-letters.ts';
import {
  archiveMessage,
  countFailure,
  deleteFromQueue,
  enableNotifications,
  type QueueMessage,
  readQueue,
  takeFromQueue,
} from '../../persistence/pgmq.ts';
import { crashPoint } from '../kernel/crash-points.ts';
import type { Kernel } from '../kernel/kernel.ts';
import { Loop } from '../kernel/loop.ts';
import { Problem } from '../problem.ts';
import { redact } from '../secret.ts';
import { KnownCatalogue } from './catalogue.ts';
import { accept, type Post, posting, type Sender } from './doors.ts';
import { findReservation } from './lookup.ts';
import { acceptTogether, NotTogether } from './together.ts';

export interface QueueDoorSettings {
  db: Store;
  kernel: Kernel;
  queue: string;
  visibilitySeconds: number;
  pollMs: number;
  batchSize: number;
  /** Reads after which a message that keeps failing is archived. */
  poisonReads?: number;
  onError: (error: unknown) => void;
}

/** How long a message that failed is hidden before the next try, in seconds. */
const HIDE_SECONDS = 2;

/** Counters since start. */
export interface QueueDoorStats {
  accepted: number;
  refused: number;
  poisoned: number;
}

/** One message of a batch failed for a reason of its own. */
class MessageFailure extends Error {
  readonly failed: QueueMessage;
  constructor(message: QueueMessage, cause: unknown) {
    super(cause instanceof Error ? cause.message : String(cause), { cause });
    this.failed = message;
  }
}

export class QueueDoor {
  readonly stats: QueueDoorStats = { accepted: 0, refused: 0, poisoned: 0 };
  readonly #settings: QueueDoorSettings;
  readonly #loop: Loop;
  readonly #catalogue = new KnownCatalogue();

  constructor(settings: QueueDoorSettings) {
    this.#settings = settings;
    this.#loop = new Loop({ name: settings.queue, work: () => this.consume(), onError: settings.onError });
  }

  start(): void {
    this.#loop.start();
  }

  /** A notification came, or the listener has reconnected (then the server may have crashed and forgotten to notify). */
  wake(reconnected = false): void {
    if (reconnected) enableNotifications(this.#settings.db, this.#settings.queue).catch(this.#settings.onError);
    this.#loop.wake();
  }

  async stop(): Promise<void> {
    await this.#loop.stop();
  }

  /** Consume one batch. @returns how long to sleep: not at all while messages remain. */
  async consume(): Promise<number> {
    const { pollMs, batchSize } = this.#settings;
    const count = await this.#swiftly();
    // Less than a batch was all there was: for what comes after it there is a notification.
    return count >= batchSize ? 0 : pollMs;
  }

  /** @returns how many messages there were. */
  async #swiftly(): Promise<number> {
    const { kernel, batchSize } = this.#settings;
    try {
      const count = await kernel.deliver((tx, post) => this.#together(tx, posting(post), batchSize));
      this.stats.accepted += count;
      return count;
    } catch (error) {
      // A failing database fails them one by one as well; whatever else is wrong may be wrong with one of them alone.
      if (error instanceof MessageFailure || isRetryableDatabaseError(error)) return this.#failed(error);
      return this.#carefully();
    }
  }

  async #carefully(): Promise<number> {
    const { db, kernel, batchSize } = this.#settings;
    try {
      const { accepted, refused } = await db.withTransaction((tx) => this.#batch(tx, batchSize));
      if (accepted > 0) kernel.wake();
      this.stats.accepted += accepted;
      this.stats.refused += refused;
      return accepted + refused;
    } catch (error) {
      return this.#failed(error);
    }
  }

  async #failed(error: unknown): Promise<number> {
    if (!(error instanceof MessageFailure)) throw error;
    await this.#setAside(error);
    return this.#settings.batchSize; // the others of its batch are still there
  }

  /** Take a batch, and accept all of it or fail: with the message that failed if it was alone, else as a batch. */
  async #together(tx: Transaction, door: Post, limit: number): Promise<number> {
    const { queue } = this.#settings;
    const [messages, catalogue] = await Promise.all([takeFromQueue(tx, queue, limit), this.#catalogue.read(tx)]);
    const [first] = messages;
    if (first === undefined) return 0;
    const deliveries = messages.map((message) => ({ body: message.body, sender: this.#senderOf(message) }));
    try {
      await acceptTogether(door, tx, deliveries, catalogue);
    } catch (error) {
      if (isRetryableDatabaseError(error) || error instanceof NotTogether) throw error;
      if (error instanceof Problem || messages.length > 1)
        throw new NotTogether('one of them cannot be accepted', { cause: error });
      throw new MessageFailure(first, error);
    }
    await crashPoint('intake.beforeCommit');
    return messages.length;
  }

  #senderOf({ msgId }: QueueMessage): Sender {
    const { queue } = this.#settings;
    return { door: `queue:${queue}`, key: `queue:${queue}:${msgId}` };
  }

  async #batch(tx: Transaction, limit: number): Promise<{ accepted: number; refused: number }> {
    const { queue, visibilitySeconds } = this.#settings;
    const messages = await readQueue(tx, queue, visibilitySeconds, limit);
    const consumed: number[] = [];
    for (const message of messages) if (await this.#take(tx, message)) consumed.push(message.msgId);
    await deleteFromQueue(tx, queue, consumed);
    if (messages.length > 0) await crashPoint('intake.beforeCommit');
    return { accepted: consumed.length, refused: messages.length - consumed.length };
  }

  /** @returns true if the message was turned into events, false if it was archived as not understood. */
  async #take(tx: Transaction, message: QueueMessage): Promise<boolean> {
    const { kernel, queue } = this.#settings;
    // Whatever one message wrote before it was refused must go, and the others of the batch must stay.
    try {
      await tx.attempt(() => accept(kernel, tx, message.body, this.#senderOf(message)));
      return true;
    } catch (error) {
      if (isRetryableDatabaseError(error)) throw error;
      if (!(error instanceof Problem)) throw new MessageFailure(message, error);
      await archiveMessage(tx, queue, message.msgId);
      await addDeadLetter(tx, {
        source: 'queue',
        queue,
        msgId: message.msgId,
        body: redact(message.body),
        code: error.code,
        field: error.field,
        reason: error.message,
      });
      return false;
    }
  }

  /** A message failed in a way that is not known to be its sender's fault: count it, and after some tries take it out and say so. */
  async #setAside(failure: MessageFailure): Promise<void> {
    const { db, kernel, queue, poisonReads = 5, onError } = this.#settings;
    const { failed, message: reason } = failure;
    onError(new Error(`message ${failed.msgId} of ${queue}: ${reason}`, { cause: failure.cause }));
    await db.withTransaction(async (tx) => {
      const tries = await countFailure(tx, queue, failed.msgId, reason, HIDE_SECONDS);
      if (tries < poisonReads) return;
      await archiveMessage(tx, queue, failed.msgId);
      await addDeadLetter(tx, {
        source: 'queue',
        queue,
        msgId: failed.msgId,
        body: redact(failed.body),
        code: 'GPU_MESSAGE_POISONED',
        reason,
      });
      const reservationId = await reservationOf(tx, failed.body);
      if (reservationId !== null) {
        const event = { type: 'message.lost', reason: `A message from ${queue} could not be processed: ${reason}` } as {
          type: string;
        };
        await kernel.post(
          [{ actor: `reservation/${reservationId}`, key: `lost:${queue}:${failed.msgId}`, event, sender: `queue:${queue}` }],
          tx,
        );
      }
      this.stats.poisoned++;
    });
    kernel.wake();
  }
}

/** The reservation that a message which was set aside belongs to, found as for any other message; null if it names none of its sender's. */
async function reservationOf(tx: Transaction, body: unknown): Promise<string | null> {
  const { reservation_id: reference, user_id: user } = (body ?? {}) as { reservation_id?: unknown; user_id?: unknown };
  if (typeof reference !== 'string') return null;
  try {
    const found = await findReservation(tx, reference.toLowerCase(), typeof user === 'string' ? user : null);
    return found.exists ? found.id : null;
  } catch (error) {
    if (error instanceof Problem) return null;
    throw error;
  }
}
