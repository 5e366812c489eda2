/**
 * Turns within one transaction: messages are stepped through their machines in order, and what they send to others is taken on the spot where it
 * can be. Receivers are locked too and take their turns in the same transaction, so that a request, its grant and the effect behind it are one
 * commit and not three. A receiver that is busy elsewhere, or has more mail than a batch reads, gets it by its mailbox.
 */
import type { z } from 'zod';
import { type ActorRow, lockActors, readMoreMail, type WaitingMail } from '../../persistence/actor-store.ts';
import { isRetryableDatabaseError, type Transaction } from '../../persistence/database.ts';
import { addCheckpoint } from '../../persistence/history.ts';
import type { Message } from '../../persistence/mailbox.ts';
import type { BatchSettings } from './commit.ts';
import { crashPoint } from './crash-points.ts';
import type { Decisions, HeldActor } from './decisions.ts';
import { type ActorKind, parseAddress, type StampedEvent } from './kind.ts';
import { migrateSnapshot, ReviveError } from './revive.ts';
import { ActorFailure, MessageFailure } from './set-aside.ts';
import { passOver, takeTurn, UnprocessableError } from './turn.ts';

/** Kinds, and the newest version of each that this process understands. */
export function knownKinds(kinds: ReadonlyMap<string, ActorKind>): { kind: string; version: number }[] {
  return [...kinds.values()].map(({ kind, version }) => ({ kind, version }));
}

/** A message that waits in no mailbox: it is taken in the transaction that sent it. */
export function atOnce(message: Message): WaitingMail {
  return { ...message, id: 0, sentAt: message.sentAt ?? null, version: 0, processed: false, firedSeq: null };
}

/** What a batch has locked and read so far. */
export interface Taken {
  locked: readonly ActorRow[];
  /** Mail that is taken already. */
  mail: readonly WaitingMail[];
  /**
   * What else waits for those of whom it is known. It must have been read after all of `locked` were locked: whoever is locked later may have
   * written to them before.
   */
  inboxes?: ReadonlyMap<string, readonly WaitingMail[]>;
  now: Date;
  known: readonly { kind: string; version: number }[];
  /** Receivers that are not to be locked any more: what is for them goes by mailbox. */
  absent?: Iterable<string>;
}

/**
 * Let receivers of what was sent take their turns in this transaction, as far as all that waits for them can be read: what is sent comes
 * behind it. @returns how many turns that were.
 */
export async function passOn(settings: BatchSettings, tx: Transaction, decided: Decisions, taken: Taken): Promise<number> {
  const rows = new Map(taken.locked.map((row) => [row.actor, row]));
  const crowded = new Set([...crowdedOf(taken.mail, settings.mailPerActor), ...settings.putOff.list(), ...(taken.absent ?? [])]);
  const inboxes = new Map(taken.inboxes);
  let turns = 0;
  for (let round = 0; round < settings.rounds && decided.messages.length > 0; round++) {
    const receivers = [...new Set(decided.messages.map(({ actor }) => actor))].filter((actor) => !crowded.has(actor));
    if (receivers.length === 0) return turns;
    const absent = receivers.filter((actor) => !rows.has(actor));
    // A sender that joins may have written to anybody in an earlier transaction.
    if (absent.length > 0) inboxes.clear();
    const unread = receivers.filter((actor) => !inboxes.has(actor));
    const read = decided.processed.map(({ id }) => id);
    // The reading comes behind the locks, in a statement of its own; what it finds for those who could not be locked is not ours.
    const [locked, mail] = await Promise.all([
      absent.length === 0 ? [] : lockActors(tx, absent, taken.known),
      unread.length === 0 ? [] : readMoreMail(tx, unread, read, settings.mailPerActor),
    ]);
    for (const row of locked) rows.set(row.actor, row);
    if (absent.length > 0) await crashPoint('turn.locked');
    if (!receivers.some((actor) => rows.has(actor))) return turns;
    for (const [actor, waiting] of inboxesOf(unread, mail)) if (rows.has(actor)) inboxes.set(actor, waiting);
    const found = receivers.flatMap((actor) => inboxes.get(actor) ?? []).sort((a, b) => a.id - b.id);
    const { mail: waiting, left } = understood(settings, found, taken.now);
    for (const actor of [...crowdedOf(waiting, settings.mailPerActor), ...left]) crowded.add(actor);
    // What came since is for a later transaction: nothing of it was sent by anybody here.
    for (const actor of receivers) if (rows.has(actor)) inboxes.set(actor, []);
    const isHere = ({ actor }: Message) => rows.has(actor) && !crowded.has(actor);
    const waits = new Set(waiting.map(({ actor, key }) => `${actor}\n${key}`));
    const here = decided.messages.filter((message) => isHere(message) && !waits.has(`${message.actor}\n${message.key}`));
    decided.messages = decided.messages.filter((message) => !isHere(message));
    const taking = [...waiting, ...here.map(atOnce)];
    await step(settings, tx, decided, [...rows.values()], taking, taken.now);
    turns += taking.length;
  }
  return turns;
}

/** What was read, by who it is for; nobody of those whose mail was read is left out. */
export function inboxesOf(actors: Iterable<string>, mail: readonly WaitingMail[]): Map<string, WaitingMail[]> {
  const inboxes = new Map([...actors].map((actor): [string, WaitingMail[]] => [actor, []]));
  for (const message of mail) inboxes.get(message.actor)!.push(message);
  return inboxes;
}

/**
 * Mail up to the first message of each actor that only newer code understands; that and what follows is left for newer code. So is a deadline
 * that fell due after this transaction began: its event must not be stamped with a time before it.
 */
export function understood(
  { kinds }: BatchSettings,
  mail: readonly WaitingMail[],
  now: Date,
): { mail: WaitingMail[]; left: Set<string>; early: boolean } {
  const left = new Set<string>();
  let early = false;
  const ours = mail.filter(({ actor, version, sender, sentAt }) => {
    if (version > (kinds.get(parseAddress(actor).kind)?.version ?? 0)) left.add(actor);
    if (sender === 'deadline' && sentAt !== null && new Date(sentAt) > now) {
      left.add(actor);
      early = true;
    }
    return !left.has(actor);
  });
  return { mail: ours, left, early };
}

/** Actors of which more may wait than was read. */
function crowdedOf(mail: readonly WaitingMail[], limit: number): Set<string> {
  const counts = new Map<string, number>();
  for (const { actor } of mail) counts.set(actor, (counts.get(actor) ?? 0) + 1);
  return new Set([...counts].filter(([, count]) => count >= limit).map(([actor]) => actor));
}

export async function step(
  settings: BatchSettings,
  tx: Transaction,
  decided: Decisions,
  rows: readonly ActorRow[],
  mail: readonly WaitingMail[],
  now: Date,
  /** Left out: they are made ready now. */
  ready?: Ready,
): Promise<void> {
  const byActor = new Map(rows.map((row) => [row.actor, row]));
  // The last message of each actor that will be prepared. A deadline may turn out stale, so the one before it counts as last as well.
  const fresh = mail.filter((message) => !message.processed);
  const lastOf = (messages: readonly WaitingMail[]) => new Map(messages.map((message) => [message.actor, message])).values();
  const last = new Set([...lastOf(fresh), ...lastOf(fresh.filter(({ sender }) => sender !== 'deadline'))]);
  const stamp = { at: now.toISOString(), ...settings.stamp };
  const { checks, gathered } = ready ?? (await makeReady(settings, tx, fresh));

  for (const message of mail) {
    if (message.id !== 0) decided.processed.push(message);
    if (message.processed) continue;
    const row = byActor.get(message.actor)!;
    const kind = kindOf(settings, message);
    const held = decided.actors.get(message.actor) ?? (await load(tx, kind, row));
    decided.actors.set(message.actor, held);
    try {
      let event = { ...message.event, ...stamp } as StampedEvent;
      const checked = checks.get(message)!;
      if (!checked.success) throw new UnprocessableError('GPU_EVENT_INVALID', `${message.event.type}: ${checked.error.message}`);
      if (isStaleDeadline(message, decided)) {
        const passed = passOver(held.live, message, event, 'The deadline was moved or cleared');
        held.live = passed.actor;
        decided.history.push(passed.entry);
        continue;
      }
      if (kind.prepare !== undefined) {
        const { id } = parseAddress(message.actor);
        const turn = { id, last: last.has(message), snapshot: held.live.stored, gathered: gathered.get(row.kind) };
        event = await kind.prepare(tx, event, turn);
      }
      const result = takeTurn(held.live, message, event);
      held.live = result.actor;
      held.changed ||= result.entry.outcome === 'applied';
      decided.add(result, now);
    } catch (error) {
      if (error instanceof ReviveError) throw new ActorFailure(message.actor, error);
      if (isRetryableDatabaseError(error)) throw error;
      throw new MessageFailure(message, error);
    }
  }
}

function kindOf({ kinds }: BatchSettings, { actor }: WaitingMail): ActorKind {
  return kinds.get(parseAddress(actor).kind)!;
}

/** What is known of messages before the first of them is taken. */
export interface Ready {
  /** Whether each is an event of its kind. */
  checks: ReadonlyMap<WaitingMail, z.ZodSafeParseResult<unknown>>;
  /** What each kind has gathered for its own, by its name. */
  gathered: ReadonlyMap<string, unknown>;
}

/** Check messages, and let each kind do what it does for all of its own at once. */
export async function makeReady(settings: BatchSettings, tx: Transaction, mail: readonly WaitingMail[]): Promise<Ready> {
  const checks = new Map(mail.map((message) => [message, kindOf(settings, message).events.safeParse(message.event)]));
  const gathered = await gather(
    settings,
    tx,
    mail.filter((message) => checks.get(message)!.success),
  );
  return { checks, gathered };
}

async function gather(
  { kinds }: BatchSettings,
  tx: Transaction,
  mail: readonly WaitingMail[],
): Promise<ReadonlyMap<string, unknown>> {
  const gathered = new Map<string, unknown>();
  for (const [name, kind] of kinds) {
    if (kind.gather === undefined) continue;
    const own = mail.filter(({ actor }) => parseAddress(actor).kind === name);
    if (own.length === 0) continue;
    try {
      const messages = own.map(({ actor, event }) => ({ id: parseAddress(actor).id, event }));
      gathered.set(name, await kind.gather(tx, messages));
    } catch (error) {
      // Whose fault it is shows when they are taken one by one.
      if (isRetryableDatabaseError(error)) throw error;
      throw new MessageFailure(own[0]!, error);
    }
  }
  return gathered;
}

/** Bring a row into memory; one of an older version is migrated, and a checkpoint says from where its history folds. */
async function load(tx: Transaction, kind: ActorKind, row: ActorRow): Promise<HeldActor> {
  let stored = row.snapshot;
  if (stored !== null && row.machineVersion < kind.version) {
    try {
      stored = migrateSnapshot(kind, stored, row.machineVersion);
    } catch (error) {
      throw new ActorFailure(row.actor, error);
    }
    await addCheckpoint(tx, row.actor, { seq: row.seq, machineVersion: kind.version, snapshot: stored }, 'migration');
  }
  return {
    row,
    live: { actor: row.actor, kind, seq: row.seq, stored, live: null },
    before: stored,
    changed: stored !== row.snapshot,
  };
}

/** A fired deadline that was set anew or cleared after it fired must not reach the machine. */
function isStaleDeadline(message: WaitingMail, decided: Decisions): boolean {
  if (message.sender !== 'deadline') return false;
  const name = message.event.type.slice('deadline.'.length);
  if (decided.hasMoved(message.actor, name)) return true; // an earlier message of this batch moved or cleared it
  const stale = message.firedSeq !== Number(message.key.slice(message.key.lastIndexOf(':') + 1));
  if (!stale) decided.clearDeadline(message.actor, name); // it has done its work
  return stale;
}
