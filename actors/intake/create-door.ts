/**
 * The door of those who wait for an answer to their create. Those who come while others are being served share the next transaction, and
 * their reservations are born in it: when the answer comes, they exist. What cannot be served together is served alone.
 */
import { waitBriefly } from '../../persistence/actor-store.ts';
import { isRetryableDatabaseError, type Store } from '../../persistence/database.ts';
import type { Kernel } from '../kernel/kernel.ts';
import { Problem } from '../problem.ts';
import { KnownCatalogue } from './catalogue.ts';
import { type Accepted, acceptAction, posting, type Sender } from './doors.ts';
import { refuseReserved } from './messages.ts';
import { acceptCreates, NotTogether, type Plain, plainOf } from './together.ts';

export interface CreateDoorSettings {
  db: Store;
  kernel: Kernel;
  /** Creates at most in one transaction, and transactions at the same time. */
  together?: number;
  atOnce?: number;
  /** How long a transaction may take before others no longer wait for it, in milliseconds. */
  patienceMs?: number;
}

interface Asked {
  body: unknown;
  sender: Sender;
  answer: (accepted: Accepted) => void;
  refuse: (error: unknown) => void;
}

export class CreateDoor {
  readonly #settings: Required<CreateDoorSettings>;
  readonly #catalogue = new KnownCatalogue();
  readonly #waiting: Asked[] = [];
  /** Transactions under way, and those of them that are worth waiting for. */
  #serving = 0;
  #timely = 0;

  constructor(settings: CreateDoorSettings) {
    this.#settings = { together: 50, atOnce: 4, patienceMs: 50, ...settings };
  }

  /**
   * Accept a create message. Its reservation has taken its first turn when this resolves, unless that turn cannot be taken.
   * @throws Problem if it cannot be understood or is not allowed, or the database's error: nothing has happened then.
   */
  accept(body: unknown, sender: Sender): Promise<Accepted> {
    return new Promise((answer, refuse) => {
      this.#waiting.push({ body, sender, answer, refuse });
      this.#begin();
    });
  }

  /** Serve those who wait, unless they do better to wait for those who are being served. */
  #begin(): void {
    const { together, atOnce, patienceMs } = this.#settings;
    if (this.#waiting.length === 0 || this.#timely > 0 || this.#serving >= atOnce) return;
    const asked = this.#waiting.splice(0, together);
    this.#serving++;
    this.#timely++;
    let isTimely = true;
    const endTimely = () => {
      if (isTimely) this.#timely--;
      isTimely = false;
    };
    // One that waits for a lock must not hold up those that do not.
    const late = setTimeout(() => {
      endTimely();
      this.#begin();
    }, patienceMs);
    void this.#serve(asked).finally(() => {
      clearTimeout(late);
      endTimely();
      this.#serving--;
      this.#begin();
    });
  }

  /** Serve all of them; none is left without an answer. */
  async #serve(asked: readonly Asked[]): Promise<void> {
    const { kernel } = this.#settings;
    let alone: readonly Asked[] = asked;
    try {
      alone = await this.#together(asked);
    } catch (error) {
      if (!mayGoAlone(error)) {
        for (const { refuse } of asked) refuse(error);
        return;
      }
    }
    await Promise.all(alone.map((each) => this.#alone(each).then(each.answer, each.refuse)));
    kernel.wake();
    kernel.wakeOthers();
  }

  /** Serve in one transaction what can be. @returns what cannot */
  async #together(asked: readonly Asked[]): Promise<Asked[]> {
    const { db, kernel } = this.#settings;
    const catalogue = await this.#catalogue.read(db);
    const plain = new Map<string, { create: Plain; asked: Asked }>();
    const others: Asked[] = [];
    for (const each of asked) {
      const create = understood(each, () => plainOf(each.body, each.sender, catalogue));
      if (create === null || plain.has(create.id)) others.push(each);
      else plain.set(create.id, { create, asked: each });
    }
    const creates = [...plain.values()];
    if (creates.length === 0) return others;
    const notices = await kernel.deliver(async (tx, post) => {
      // Whoever holds a user's lock for longer holds up those alone who need it.
      waitBriefly(tx);
      return acceptCreates(
        posting(post),
        tx,
        creates.map(({ create }) => create),
      );
    });
    for (const [id, { asked: each }] of plain) {
      const notice = notices.get(id);
      const accepted = {
        actor: `reservation/${id}`,
        key: `create:${id}`,
        reservationId: id,
        operationId: null,
        duplicate: false,
      };
      each.answer({ ...accepted, ...(notice === undefined ? {} : { notice }) });
    }
    return others;
  }

  #alone({ body, sender }: Asked): Promise<Accepted> {
    return this.#settings.kernel.deliver((tx, post) => acceptAction(posting(post), tx, { does: 'create' }, body, sender));
  }
}

/** What it is if it can be served with others; null if it is to be looked at alone, where whatever is wrong with it is told. */
function understood({ body }: Asked, read: () => Plain | null): Plain | null {
  try {
    refuseReserved(body);
    return read();
  } catch (error) {
    if (error instanceof Problem || error instanceof NotTogether) return null;
    throw error;
  }
}

/** Whether a failure of all together says nothing of each: not so if the database is gone. */
function mayGoAlone(error: unknown): boolean {
  if (!isRetryableDatabaseError(error)) return true;
  const code = (error as { code?: unknown }).code;
  return typeof code === 'string' && (code.startsWith('40') || code === '55P03');
}
