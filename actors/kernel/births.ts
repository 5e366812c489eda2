/**
 * Births in the transaction that asks for them: who is accepted at a door is born when the acceptance is committed, and what its first turn
 * asked of others has been taken as far as they were free.
 */
import { type ActorRow, openActors } from '../../persistence/actor-store.ts';
import type { Queryable, Transaction } from '../../persistence/database.ts';
import { enqueue, type Message, releaseHeldMail } from '../../persistence/mailbox.ts';
import { type BatchResult, type BatchSettings, commit } from './commit.ts';
import { Decisions } from './decisions.ts';
import { type ActorKind, isBirth, parseAddress, withVersions } from './kind.ts';
import { atOnce, knownKinds, passOn, step } from './steps.ts';

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

/**
 * Run `write`, send what it hands to `post`, and let those who are born by that take their first turn, all in one transaction. What is for
 * others goes by mailbox.
 * @throws whatever `write` or a turn throws, or the database's error: nothing has happened then.
 */
export async function deliver<T>(
  settings: BatchSettings,
  write: (tx: Transaction, post: (messages: readonly Message[]) => void) => Promise<T>,
): Promise<BatchResult & { value: T }> {
  let value: { of: T } | null = null;
  const result = await commit(settings, async (tx) => {
    const messages: Message[] = [];
    value = { of: await write(tx, (more) => void messages.push(...more)) };
    return bear(settings, tx, messages);
  });
  return { ...result, value: value!.of };
}

async function bear(settings: BatchSettings, tx: Transaction, messages: readonly Message[]) {
  const { kinds, clock } = settings;
  const clockNow = clock.now();
  const births = new Map(birthsOf(kinds, messages).map((birth) => [birth.actor, birth]));
  const { opened, now } = await openActors(tx, [...births.values()], clockNow);
  const first = new Map<string, Message>();
  for (const message of birthMessages(kinds, messages))
    if (opened.has(message.actor) && !first.has(message.actor)) first.set(message.actor, message);
  const isFirst = (message: Message) => first.get(message.actor) === message;
  const others = withVersions(
    kinds,
    messages.filter((message) => !isFirst(message)),
  );
  await Promise.all([enqueue(tx, others, clockNow), releaseHeldMail(tx, [...births.keys()])]);
  if (now === null) return null;
  const rows = [...opened].map((actor): ActorRow => {
    const { kind, version } = births.get(actor)!;
    return { actor, kind, machineVersion: version, seq: 0, status: 'unborn', snapshot: null };
  });
  const mail = messages.filter(isFirst).map((message) => ({ ...atOnce(message), sentAt: message.sentAt ?? null }));
  const decided = new Decisions();
  await step(settings, tx, decided, rows, mail, now);
  const turns = mail.length + (await passOn(settings, tx, decided, { locked: rows, mail: [], now, known: knownKinds(kinds) }));
  return { decided, turns, now };
}

/** As {@link deliver}, by mailbox alone: those who are born take their turn later. */
export async function post(settings: BatchSettings, db: Queryable, messages: readonly Message[]): Promise<number> {
  const { kinds, clock } = settings;
  const births = birthsOf(kinds, messages);
  await openActors(db, births, clock.now());
  const added = await enqueue(db, withVersions(kinds, messages), clock.now());
  await releaseHeldMail(
    db,
    births.map((birth) => birth.actor),
  );
  return added;
}
