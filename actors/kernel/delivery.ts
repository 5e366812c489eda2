/**
 * Messages that are taken in the transaction that sends them: who is accepted at a door is born when the acceptance is committed, and what
 * is asked of an actor that is free has been decided then. Only what cannot be taken at once goes by mailbox.
 */
import { type ActorRow, lockActors, openActors, waitBriefly } from '../../persistence/actor-store.ts';
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
import { atOnce, knownKinds, passOn, step } from './steps.ts';

/** Rows of a door, and what it sends by `post`. It is run anew if its first transaction had to be given up. */
export type Write<T> = (tx: Transaction, post: (messages: readonly Message[]) => void) => Promise<T>;

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
      value = await write(tx, (more) => void messages.push(...more));
      isWritten = true;
      return messages.length === 0 ? null : take(settings, tx, messages);
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

async function take(settings: BatchSettings, tx: Transaction, messages: readonly Message[]) {
  const { kinds, clock, putOff } = settings;
  const known = knownKinds(kinds);
  // Whoever holds a row for longer than a turn takes holds up nobody: it goes by mailbox then.
  waitBriefly(tx);
  const births = new Map(birthsOf(kinds, messages).map((birth) => [birth.actor, birth]));
  const blocked = new Set(putOff.list());
  const others = [...new Set(messages.map(({ actor }) => actor))].filter((actor) => !births.has(actor) && !blocked.has(actor));
  // What was processed is only known of those who are locked: it must be read after them.
  const [opened, locked, { now, processed }, freed] = await Promise.all([
    openActors(tx, [...births.values()]),
    others.length === 0 ? [] : lockActors(tx, others, known),
    findProcessed(tx, messages, clock.now()),
    releaseHeldMail(tx, [...births.keys()]),
  ]);
  await crashPoint('turn.locked');
  const born = [...opened].map((actor): ActorRow => {
    const { kind, version } = births.get(actor)!;
    return { actor, kind, machineVersion: version, seq: 0, status: 'unborn', snapshot: null };
  });
  const first = new Map<string, Message>();
  for (const message of birthMessages(kinds, messages))
    if (opened.has(message.actor) && !first.has(message.actor)) first.set(message.actor, message);
  const decided = new Decisions();
  decided.messages = onceEach(messages.filter((message) => first.get(message.actor) !== message && !processed.has(message)));
  const rows = [...born, ...locked];
  const held = new Set(rows.map(({ actor }) => actor));
  const absent = decided.messages.map(({ actor }) => actor).filter((actor) => !held.has(actor));
  const mail = [...first.values()].map(atOnce);
  await step(settings, tx, decided, born, mail, now);
  const turns = mail.length + (await passOn(settings, tx, decided, { locked: rows, mail: [], now, known, absent }));
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
  const added = await enqueue(db, withVersions(kinds, messages), clock.now());
  await releaseHeldMail(
    db,
    births.map((birth) => birth.actor),
  );
  return added;
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
