/**
 * Messages that are taken in the transaction that sends them: who is accepted at a door is born when the acceptance is committed, and what
 * is asked of an actor that is free has been decided then. Only what cannot be taken at once goes by mailbox.
 */
import {
  type ActorRow,
  lockActors,
  openActors,
  readMoreMail,
  type WaitingMail,
  waitBriefly,
} from '../../persistence/actor-store.ts';
import {
  isRetryableDatabaseError,
  isUndone,
  type Queryable,
  type Transaction,
  type TransactionOptions,
} from '../../persistence/database.ts';
import { enqueue, findProcessed, type Message, releaseHeldMail } from '../../persistence/mailbox.ts';
import { type BatchResult, type BatchSettings, commit, NOTHING } from './commit.ts';
import { crashPoint } from './crash-points.ts';
import { Decisions } from './decisions.ts';
import { type ActorKind, isBirth, parseAddress, withVersions } from './kind.ts';
import { atOnce, inboxesOf, knownKinds, makeReady, passOn, type Ready, step } from './steps.ts';

/**
 * Where a door posts messages. A door that says that these are all, and waits for nothing that it sends behind them, has their receivers called at
 * once, in the breath of what it has sent before.
 */
export type PostNow = (messages: readonly Message[], all?: AllPosted) => void;

export interface AllPosted {
  /** Actors that the receivers will probably write to: they are called as well. */
  expected: readonly string[];
}

/** Rows of a door, and what it sends by `post`. It is run anew if its first transaction had to be given up. */
export type Write<T> = (tx: Transaction, post: PostNow) => Promise<T>;

/**
 * Run `write`, and let the receivers of what it posts take it in the same transaction, as far as they are free. If a turn fails, all goes by
 * mailbox, where what fails is set aside and becomes a dead letter.
 * @param behind reads what was committed, in the same breath; not if all goes by mailbox
 * @throws whatever `write` throws, or the database's error: nothing has happened then
 */
export async function deliver<T>(
  settings: BatchSettings,
  write: Write<T>,
  behind?: TransactionOptions['behind'],
): Promise<BatchResult & { value: T }> {
  let value: T | undefined;
  let isWritten = false;
  let isSent = false;
  try {
    const turns = async (tx: Transaction) => {
      const messages: Message[] = [];
      const calls: Promise<Called>[] = [];
      const post: PostNow = (more, all) => {
        if (calls.length > 0) throw new Error('A door has posted more than it said was all');
        messages.push(...more);
        if (all === undefined || messages.length === 0) return;
        const called = call(settings, tx, messages, all.expected);
        called.catch(() => {}); // told by what waits for it
        calls.push(called);
      };
      value = await write(tx, post);
      isWritten = true;
      if (messages.length === 0) return null;
      return take(settings, tx, await (calls[0] ?? call(settings, tx, messages, [])));
    };
    const onCommit = () => {
      isSent = true;
    };
    const result = await commit(settings, turns, onCommit, behind);
    return { ...result, value: value as T };
  } catch (error) {
    // Only of what is known not to have happened another try is made: an answer to the commit may be lost.
    const isOver = isUndone(error) || (!isSent && !isRetryableDatabaseError(error));
    if (!isWritten || !isOver) throw error;
    return settings.db.withTransaction(async (tx) => {
      const messages: Message[] = [];
      value = await write(tx, (more) => void messages.push(...more));
      await post(settings, tx, messages);
      return { ...NOTHING, messages: messages.length, value };
    });
  }
}

/** Receivers that were asked for, and what must be known of them before they take their turns. */
interface Called {
  messages: readonly Message[];
  /** Those who are born by one of the messages, with it. */
  born: ActorRow[];
  births: WaitingMail[];
  ready: Ready;
  locked: ActorRow[];
  inboxes: ReadonlyMap<string, readonly WaitingMail[]>;
  processed: ReadonlySet<Message>;
  /** Messages that waited for those who are born. */
  freed: number;
  now: Date;
}

/** Ask for the receivers of messages and for those who are expected to be written to: locked or made, with their mail, in one breath. */
async function call(
  settings: BatchSettings,
  tx: Transaction,
  messages: readonly Message[],
  expected: readonly string[],
): Promise<Called> {
  const { kinds, clock, putOff } = settings;
  // Whoever holds a row for longer than a turn takes holds up nobody: it goes by mailbox then.
  waitBriefly(tx);
  const byActor = new Map(birthsOf(kinds, messages).map((birth) => [birth.actor, birth]));
  const blocked = new Set(putOff.list());
  const receivers = new Set([...messages.map(({ actor }) => actor), ...expected]);
  const others = [...receivers].filter((actor) => !byActor.has(actor) && !blocked.has(actor));
  const births = firstBirths(kinds, messages).map(atOnce);
  // What was processed, and what waits, is only known of those who are locked: it must be read after them.
  const [locked, opened, freed, { now, processed }, mail, ready] = await Promise.all([
    others.length === 0 ? [] : lockActors(tx, others, knownKinds(kinds)),
    openActors(tx, [...byActor.values()]),
    releaseHeldMail(tx, [...byActor.keys()]),
    findProcessed(tx, messages, clock.now()),
    readMoreMail(tx, [...byActor.keys(), ...others], [], settings.mailPerActor),
    makeReady(settings, tx, births),
  ]);
  await crashPoint('turn.locked');
  const born = [...opened].map((actor): ActorRow => {
    const { kind, version } = byActor.get(actor)!;
    return { actor, kind, machineVersion: version, seq: 0, status: 'unborn', snapshot: null };
  });
  const held = new Set([...opened, ...locked.map(({ actor }) => actor)]);
  const ours = mail.filter(({ actor }) => held.has(actor));
  return {
    messages,
    born,
    births: births.filter(({ actor }) => opened.has(actor)),
    ready,
    locked,
    inboxes: inboxesOf(held, ours),
    processed,
    freed,
    now,
  };
}

async function take(settings: BatchSettings, tx: Transaction, called: Called) {
  const { messages, born, births, ready, locked, inboxes, processed, freed, now } = called;
  const decided = new Decisions();
  const taken = new Set(births.map(({ actor, key }) => `${actor}\n${key}`));
  const fresh = onceEach(messages.filter((message) => !processed.has(message)));
  decided.messages = fresh.filter(({ actor, key }) => !taken.has(`${actor}\n${key}`));
  const rows = [...born, ...locked];
  const held = new Set(rows.map(({ actor }) => actor));
  const absent = decided.messages.map(({ actor }) => actor).filter((actor) => !held.has(actor));
  await step(settings, tx, decided, born, births, now, ready);
  const known = knownKinds(settings.kinds);
  const turns = births.length + (await passOn(settings, tx, decided, { locked: rows, mail: [], inboxes, now, known, absent }));
  return { decided, turns, now, freed };
}

/** Of those with the same receiver and key, the first. */
function onceEach(messages: readonly Message[]): Message[] {
  const keys = new Set<string>();
  return messages.filter(({ actor, key }) => {
    const isNew = !keys.has(`${actor}\n${key}`);
    keys.add(`${actor}\n${key}`);
    return isNew;
  });
}

/** Put messages into mailboxes, and make room for those who are to be born by them. @returns how many were new. */
export async function post({ kinds, clock }: BatchSettings, db: Queryable, messages: readonly Message[]): Promise<number> {
  const births = birthsOf(kinds, messages);
  await openActors(db, births);
  const added = await enqueue(db, withVersions(kinds, birthsFirst(kinds, messages)), clock.now());
  await releaseHeldMail(
    db,
    births.map((birth) => birth.actor),
  );
  return added;
}

/**
 * The birth of each actor before all else: of the unborn, what waits first is taken to be their birth. What was sent ahead of it keeps its
 * order, behind it.
 */
function birthsFirst(kinds: ReadonlyMap<string, ActorKind>, messages: readonly Message[]): Message[] {
  const births = new Set(firstBirths(kinds, messages));
  return [...births, ...messages.filter((message) => !births.has(message))];
}

/** Of those who are born by one of these messages, the first that does it. */
function firstBirths(kinds: ReadonlyMap<string, ActorKind>, messages: readonly Message[]): Message[] {
  const births = new Map<string, Message>();
  for (const message of birthMessages(kinds, messages)) if (!births.has(message.actor)) births.set(message.actor, message);
  return [...births.values()];
}

/** Actors that are born by one of these messages. */
export function birthsOf(
  kinds: ReadonlyMap<string, ActorKind>,
  messages: readonly Message[],
): { actor: string; kind: string; version: number }[] {
  return birthMessages(kinds, messages).map(({ actor }) => {
    const { kind } = parseAddress(actor);
    return { actor, kind, version: kinds.get(kind)!.version };
  });
}

function birthMessages(kinds: ReadonlyMap<string, ActorKind>, messages: readonly Message[]): Message[] {
  return messages.filter(({ actor, event }) => {
    const kind = kinds.get(parseAddress(actor).kind);
    return kind !== undefined && isBirth(kind, event.type);
  });
}
