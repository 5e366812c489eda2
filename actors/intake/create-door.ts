/**
 * The door of those who wait for an answer to their create. Those who come while others are being served share the next transaction, and
 * their reservations are born in it: when the answer comes, they exist. What cannot be served together is served alone.
 */
import { waitBriefly } from '../../persistence/actor-store.ts';
import { isRetryableDatabaseError, isUndone, type Queryable, type Store, type Transaction } from '../../persistence/database.ts';
import type { Message } from '../../persistence/mailbox.ts';
import { freeUsers } from '../../persistence/quotas.ts';
import type { Kernel } from '../kernel/kernel.ts';
import { KnownCatalogue } from './catalogue.ts';
import { type Accepted, acceptAction, posting, type Sender } from './doors.ts';
import { refuseReserved } from './messages.ts';
import { acceptCreates, NotTogether, type Plain, plainOf } from './together.ts';

export interface CreateDoorSettings<Seen = never> {
  db: Store;
  kernel: Kernel;
  /** What those who ask want to read of what was just made, by its id: it is read in the breath that commits it. */
  see?: (db: Queryable, made: readonly Made[]) => Promise<ReadonlyMap<string, Seen>>;
  /** Creates at most in one transaction, and transactions at the same time: of many, and of one. */
  together?: number;
  atOnce?: number;
  aloneAtOnce?: number;
  /** How long a transaction may take before others no longer wait for it, in milliseconds. */
  patienceMs?: number;
}

/** A reservation that has just been made. */
export interface Made {
  id: string;
  gpuType: string;
}

/** What became of a create, and what was seen of it; nothing if it was not looked at. */
export type AcceptedCreate<Seen> = Accepted & { seen?: Seen };

interface Asked<Seen> {
  body: unknown;
  sender: Sender;
  /** Whose lock it needs, as far as can be told before it is understood. */
  user: unknown;
  answer: (accepted: AcceptedCreate<Seen>) => void;
  refuse: (error: unknown) => void;
}

/** Somebody else accepts something for one of these users just now. */
class UsersBusy extends Error {
  override readonly name = 'UsersBusy';
}

type Known<Seen> = Required<Omit<CreateDoorSettings<Seen>, 'see'>> & Pick<CreateDoorSettings<Seen>, 'see'>;

export class CreateDoor<Seen = never> {
  readonly #settings: Known<Seen>;
  readonly #catalogue = new KnownCatalogue();
  readonly #waiting: Asked<Seen>[] = [];
  /** Transactions of many under way, and those of them that are worth waiting for. */
  #serving = 0;
  #timely = 0;
  /** Those who are to be served alone, and the users of those who are. */
  readonly #lone: Asked<Seen>[] = [];
  readonly #users = new Set<unknown>();

  constructor(settings: CreateDoorSettings<Seen>) {
    this.#settings = { together: 50, atOnce: 4, aloneAtOnce: 3, patienceMs: 50, ...settings };
  }

  /**
   * Accept a create message. Its reservation has taken its first turn when this resolves, unless that turn cannot be taken.
   * @throws Problem if it cannot be understood or is not allowed, or the database's error: nothing has happened then, or, if an answer was
   *   lost, all of it once
   */
  accept(body: unknown, sender: Sender): Promise<AcceptedCreate<Seen>> {
    return new Promise((answer, refuse) => {
      const user = (body as { user_id?: unknown } | null)?.user_id;
      this.#waiting.push({ body, sender, user, answer, refuse });
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

  /** Serve all of them that can be served together, and have the others served alone. */
  async #serve(asked: readonly Asked<Seen>[]): Promise<void> {
    try {
      this.#lone.push(...(await this.#together(asked)));
    } catch (error) {
      if (mayGoAlone(error)) this.#lone.push(...asked);
      else for (const { refuse } of asked) refuse(error);
    }
    this.#beginAlone();
  }

  /** Serve in one transaction what can be. @returns what cannot */
  async #together(asked: readonly Asked<Seen>[]): Promise<Asked<Seen>[]> {
    const { types, version } = await this.#catalogue.last(this.#settings.db);
    const plain = new Map<string, { create: Plain; asked: Asked<Seen> }>();
    const others: Asked<Seen>[] = [];
    for (const each of asked) {
      const create = understood(each, () => plainOf(each.body, each.sender, types));
      if (create === null || plain.has(create.id)) others.push(each);
      else plain.set(create.id, { create, asked: each });
    }
    if (plain.size === 0) return others;
    const creates = [...plain.values()].map(({ create }) => create);
    const { served, notices, seen } = await this.#make(creates, version, 'all').catch((error: unknown) => {
      if (error instanceof UsersBusy) return this.#make(creates, version, 'free');
      throw error;
    });
    for (const [id, { create, asked: each }] of plain) {
      if (!served.has(id)) others.push(each);
      else each.answer({ ...acceptedAs(create, notices.get(id)), ...(seen.has(id) ? { seen: seen.get(id)! } : {}) });
    }
    return others;
  }

  /**
   * Make these in one transaction: `all`, asked for in one breath with the locks of their users, or those whose users are `free`.
   * @throws UsersBusy if they are not all free
   */
  async #make(creates: readonly Plain[], version: number | null, which: 'all' | 'free') {
    const { kernel, see } = this.#settings;
    const made: Made[] = [];
    let seen: ReadonlyMap<string, Seen> = new Map();
    const write = async (tx: Transaction, post: (messages: readonly Message[]) => void) => {
      made.length = 0;
      // Whoever holds a lock for longer holds up those alone who need it.
      waitBriefly(tx);
      const owners = creates.map(({ parsed }) => parsed.owner);
      const held = Promise.all([freeUsers(tx, owners), this.#catalogue.isCurrent(tx, version)]).then(([free, isCurrent]) => {
        if (!isCurrent) throw new NotTogether('the catalogue has changed');
        return free;
      });
      const all = held.then((free) => {
        if (owners.some((owner) => !free.has(owner))) throw new UsersBusy();
      });
      all.catch(() => {}); // told by what waits for it
      const free = which === 'all' ? null : await held;
      const ready = creates.filter(({ parsed }) => free?.has(parsed.owner) ?? true);
      const notices =
        ready.length === 0
          ? new Map<string, string>()
          : await acceptCreates(posting(post), tx, ready, {
              areAll: true,
              held: which === 'all' ? all : held.then(() => {}),
            }).catch(async (error: unknown) => {
              // Whatever else went wrong may have gone wrong because of those whose users are busy.
              if (which === 'all') await all;
              return asNotTogether(error);
            });
      made.push(...ready.map(({ id, parsed }) => ({ id, gpuType: parsed.request.gpuType })));
      return { served: new Set(ready.map(({ id }) => id)), notices };
    };
    const look = async (db: Queryable) => {
      if (see !== undefined && made.length > 0) seen = await see(db, made);
    };
    return { ...(await kernel.deliver(write, look)), seen };
  }

  /** Serve those who are to be served alone: a few at a time, and one of each user, who would only wait for each other. */
  #beginAlone(): void {
    while (this.#users.size < this.#settings.aloneAtOnce) {
      const next = this.#lone.findIndex(({ user }) => !this.#users.has(user));
      if (next < 0) return;
      const [asked] = this.#lone.splice(next, 1);
      const { user, answer, refuse } = asked!;
      this.#users.add(user);
      void this.#alone(asked!)
        .then(answer, refuse)
        .finally(() => {
          this.#users.delete(user);
          this.#beginAlone();
        });
    }
  }

  #alone({ body, sender }: Asked<Seen>): Promise<Accepted> {
    return this.#settings.kernel.deliver((tx, post) => acceptAction(posting(post), tx, { does: 'create' }, body, sender));
  }
}

function acceptedAs({ id, parsed }: Plain, notice: string | undefined): Accepted {
  const { gpuType } = parsed.request;
  const known = { reservationId: id, operationId: null, duplicate: false, gpuType };
  const accepted = { actor: `reservation/${id}`, key: `create:${id}`, ...known };
  return notice === undefined ? accepted : { ...accepted, notice };
}

/** What it is if it can be served with others; null if it is to be looked at alone, where whatever is wrong with it is told. */
function understood({ body }: { body: unknown }, read: () => Plain | null): Plain | null {
  try {
    refuseReserved(body);
    return read();
  } catch {
    return null;
  }
}

/** Nothing is committed yet: whatever is wrong with one of them is told when it is served alone. */
function asNotTogether(error: unknown): never {
  if (isRetryableDatabaseError(error) || error instanceof NotTogether) throw error;
  throw new NotTogether('one of them cannot be accepted', { cause: error });
}

/** Whether a failure of all together says nothing of each, and nothing of it has happened. */
function mayGoAlone(error: unknown): boolean {
  return error instanceof NotTogether || isUndone(error);
}
