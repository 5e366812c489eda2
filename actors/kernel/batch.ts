/**
 * One batch of turns: many actors in one transaction, everything they decided in it. If one message spoils the batch, the batch is run again
 * one message at a time, and that message alone becomes a dead letter.
 *
 * What the actors of a batch send to others is taken on the spot where it can be: their receivers are locked too and take their turns in the
 * same transaction, so that a request, its grant and the effect behind it are one commit and not three. A receiver that is busy elsewhere, or
 * has more mail than a batch reads, gets it by its mailbox.
 */
import { setTimeout as pause } from 'node:timers/promises';
import {
  type ActorRow,
  lockActors,
  lockActorsWithMail,
  type MailRow,
  readMail,
  readMoreMail,
  type WaitingMail,
  waitBriefly,
} from '../../persistence/actor-store.ts';
import { isRetryableDatabaseError, type Store, type Transaction } from '../../persistence/database.ts';
import { addCheckpoint } from '../../persistence/history.ts';
import { type Message, sendMail } from '../../persistence/mailbox.ts';
import { type EffectResult, type EndedEffect, endEffects, type LeasedEffect } from '../../persistence/outbox.ts';
import { areCrashPointsArmed, crashPoint } from './crash-points.ts';
import { Decisions, type HeldActor, type Leaser } from './decisions.ts';
import type { ActorKind, Clock, StampedEvent } from './kind.ts';
import { parseAddress, withVersions } from './kind.ts';
import { migrateSnapshot, ReviveError } from './revive.ts';
import { ActorFailure, MessageFailure, setActorAside, setMessageAside } from './set-aside.ts';
import { BlockedActor, isLockTimeout, type PutOff } from './put-off.ts';
import { passOver, takeTurn, UnprocessableError } from './turn.ts';

export interface BatchSettings {
  db: Store;
  kinds: ReadonlyMap<string, ActorKind>;
  clock: Clock;
  /** Stamped on every event beside its time; kept in history, so that folds are exact. */
  stamp: { timeScale?: number };
  /** Actors a batch, and messages of one actor a batch. */
  actorsPerBatch: number;
  mailPerActor: number;
  /** How often what a batch sends may be taken within it; 0 sends everything by mailbox. */
  rounds: number;
  /** Who leases new effects as they are written; null leaves them to the outbox. */
  leaser: () => Leaser | null;
  /** Called with the effects that a committed transaction has leased: to be run at once. */
  adopt: (effects: readonly LeasedEffect[]) => Promise<void>;
  /** Actors whose rows a stranger holds. */
  putOff: PutOff;
  /** Called when a batch has locked as many actors as it may: there is probably work for another. */
  onFull?: () => void;
}

export interface BatchResult {
  /** Messages processed. */
  turns: number;
  /** New effects and messages were committed that nobody has taken: others have work. */
  effects: number;
  messages: number;
  /** A deadline was met that had fired after this transaction began: the next one takes it. */
  early: boolean;
}

const NOTHING: BatchResult = { turns: 0, effects: 0, messages: 0, early: false };

/**
 * Take turns for actors that have mail.
 * @throws the database's error if the database was at fault: nothing happened, try again later.
 */
export async function runBatch(settings: BatchSettings, only?: string): Promise<BatchResult> {
  try {
    return await attempt(settings, only);
  } catch (error) {
    if (isRetryableDatabaseError(error) && !isLockTimeout(error)) throw error;
    return await oneByOne({ ...settings, actorsPerBatch: 1, mailPerActor: 1, rounds: 0 }, settings.actorsPerBatch, error, only);
  }
}

/** Tries of a message alone whose failure may have been a race, and the pause between them. */
const TRIES = 4;
const TRY_AGAIN_MS = 25;

/** The batch was spoiled: find the culprit with batches of one message, and set it aside. */
async function oneByOne(settings: BatchSettings, spoiled: number, first: unknown, only?: string): Promise<BatchResult> {
  let turns = 0;
  let error: unknown = first;
  const failed = new Map<number, number>();
  for (let round = 0; round < spoiled + TRIES; round++) {
    await setAside(settings, error, failed);
    // Asked for one actor, nothing else is left to do.
    if (error instanceof BlockedActor && only !== undefined) break;
    error = null;
    try {
      const result = await attempt(settings, only);
      if (result.turns === 0) break;
      turns += result.turns;
    } catch (next) {
      if (!(next instanceof ActorFailure) && !(next instanceof MessageFailure) && !(next instanceof BlockedActor)) throw next;
      error = next;
      if (!(next instanceof BlockedActor)) turns++;
    }
  }
  // A failure in the last round shows again in the next batch.
  return { turns, effects: 1, messages: 1, early: false };
}

/** Set aside what failed; whatever is locked even for that is put off. `failed` counts the tries of messages. */
async function setAside(settings: BatchSettings, error: unknown, failed: Map<number, number>): Promise<void> {
  if (error instanceof BlockedActor) return settings.putOff.add(error.actor);
  const actor = error instanceof ActorFailure ? error.actor : error instanceof MessageFailure ? error.mail.actor : null;
  try {
    if (error instanceof ActorFailure) await setActorAside(settings.db, error);
    if (error instanceof MessageFailure) {
      const tries = (failed.get(error.mail.id) ?? 0) + 1;
      failed.set(error.mail.id, tries);
      // What the machine cannot take it can never take. Anything else may have been a race with another writer: it gets another try.
      if (error.cause instanceof UnprocessableError || tries >= TRIES) await setMessageAside(settings, error);
      else await pause(TRY_AGAIN_MS * tries);
    }
  } catch (second) {
    if (actor === null || !isLockTimeout(second)) throw second;
    settings.putOff.add(actor);
  }
}

async function attempt(settings: BatchSettings, only?: string): Promise<BatchResult> {
  const { kinds, clock, actorsPerBatch, mailPerActor } = settings;
  // One message at a time, a failure of the commit itself must name its message.
  let single: MailRow | null = null;
  try {
    return await commit(settings, async (tx) => {
      const known = [...kinds.values()].map(({ kind, version }) => ({ kind, version }));
      if (actorsPerBatch === 1) waitBriefly(tx);
      const locked = await lockActorsWithMail(tx, {
        actors: actorsPerBatch,
        kinds: known,
        now: clock.now(),
        except: settings.putOff.list(),
        ...(only === undefined ? {} : { only }),
      });
      const { now } = locked;
      if (locked.actors.length === 0 || now === null) return null;
      if (locked.actors.length >= actorsPerBatch) settings.onFull?.();
      await crashPoint('turn.locked');
      const { mail, early } = understood(settings, await readMail(tx, locked.actors, mailPerActor), now);
      if (mail.length === 0) return early ? 'early' : null;
      if (actorsPerBatch === 1 && mail.length === 1) single = mail[0]!;
      const decided = new Decisions();
      await step(settings, tx, decided, locked.actors, mail, now);
      const turns = mail.length + (await passOn(settings, tx, decided, { locked: locked.actors, mail, now, known }));
      return { decided, turns, now };
    });
  } catch (error) {
    if (single !== null && isLockTimeout(error)) throw new BlockedActor((single as MailRow).actor, error);
    if (single !== null && !isRetryableDatabaseError(error) && !(error instanceof ActorFailure)) {
      throw error instanceof MessageFailure ? error : new MessageFailure(single, error);
    }
    throw error;
  }
}

/** Turns that were taken, and are to be written. */
interface TakenTurns {
  decided: Decisions;
  turns: number;
  now: Date;
}

/** Take turns in a transaction, write what they decided, commit, and hand on the effects that were leased. */
async function commit(
  settings: BatchSettings,
  take: (tx: Transaction) => Promise<TakenTurns | 'early' | null>,
): Promise<BatchResult> {
  const { db, clock, kinds, leaser, adopt } = settings;
  const { leased, ...result } = await db.withTransaction(async (tx) => {
    const taken = await take(tx);
    if (taken === null || taken === 'early') return { ...NOTHING, early: taken === 'early', leased: [] };
    const { decided, turns, now } = taken;
    await crashPoint('turn.stepped');
    decided.messages = withVersions(kinds, decided.messages);
    const written = await decided.write(tx, now, clock.now(), leaser());
    if (areCrashPointsArmed()) await tx.flush();
    await crashPoint('turn.beforeCommit');
    return {
      turns,
      effects: decided.effects.length - written.length,
      messages: decided.messages.length,
      early: false,
      leased: written,
    };
  });
  if (result.turns > 0) await crashPoint('turn.afterCommit');
  await adopt(leased);
  return result;
}

/**
 * End effects whose handlers have succeeded, and let their actors take the results in the same transaction; an actor that is busy or put off
 * gets its result by its mailbox. If one of them spoils the batch, all go by mailbox, where a culprit is found.
 * @returns what was done, and which effects were still ours: the result of another is not taken.
 * @throws the database's error if the database was at fault: nothing happened, try again.
 */
export async function takeResults(
  settings: BatchSettings,
  ended: readonly EffectResult[],
  token: string,
): Promise<BatchResult & { ours: readonly EndedEffect[] }> {
  const { clock, kinds } = settings;
  let ours: readonly EndedEffect[] = [];
  try {
    const result = await commit(settings, async (tx) => {
      const effects = await endEffects(tx, { ended, token, now: clock.now() });
      ({ ours } = effects);
      const known = [...kinds.values()].map(({ kind, version }) => ({ kind, version }));
      const decided = new Decisions();
      decided.messages = messagesOf(ended, ours);
      const { now } = effects;
      const turns = decided.messages.length === 0 ? 0 : await passOn(settings, tx, decided, { locked: [], mail: [], now, known });
      return { decided, turns, now };
    });
    return { ...result, ours };
  } catch (error) {
    if (isRetryableDatabaseError(error) && !isLockTimeout(error)) throw error;
    return postResults(settings, ended, token);
  }
}

/** As {@link takeResults}, by mailbox alone. */
async function postResults(
  { db, clock, kinds }: BatchSettings,
  ended: readonly EffectResult[],
  token: string,
): Promise<BatchResult & { ours: readonly EndedEffect[] }> {
  return db.withTransaction(async (tx) => {
    const { ours } = await endEffects(tx, { ended, token, now: clock.now() });
    const messages = withVersions(kinds, messagesOf(ended, ours));
    sendMail(tx, messages, clock.now());
    return { ...NOTHING, messages: messages.length, ours };
  });
}

/** The results of those effects that were still ours. */
function messagesOf(ended: readonly EffectResult[], ours: readonly EndedEffect[]): Message[] {
  const taken = new Set(ours.map(({ effectId }) => effectId));
  return ended.flatMap(({ effectId, actor, result }) =>
    result === null || !taken.has(effectId) ? [] : [{ actor, key: `effect:${effectId}`, event: result, sender: 'effect' }],
  );
}

/** What a batch has locked and read so far. */
interface Taken {
  locked: readonly ActorRow[];
  mail: readonly WaitingMail[];
  now: Date;
  known: readonly { kind: string; version: number }[];
}

/**
 * Let receivers of what was sent take their turns in this transaction, as far as all that waits for them can be read: what is sent comes
 * behind it. @returns how many turns that were.
 */
async function passOn(settings: BatchSettings, tx: Transaction, decided: Decisions, taken: Taken): Promise<number> {
  const rows = new Map(taken.locked.map((row) => [row.actor, row]));
  const crowded = new Set([...crowdedOf(taken.mail, settings.mailPerActor), ...settings.putOff.list()]);
  let turns = 0;
  for (let round = 0; round < settings.rounds && decided.messages.length > 0; round++) {
    const receivers = [...new Set(decided.messages.map(({ actor }) => actor))].filter((actor) => !crowded.has(actor));
    const absent = receivers.filter((actor) => !rows.has(actor));
    if (absent.length > 0) {
      for (const row of await lockActors(tx, absent, taken.known)) rows.set(row.actor, row);
      await crashPoint('turn.locked');
    }
    const present = receivers.filter((actor) => rows.has(actor));
    if (present.length === 0) return turns;
    // Read again even for those that were here before: a sender that has joined since may have written to them in an earlier transaction.
    const read = decided.processed.map(({ id }) => id);
    const { mail: waiting, left } = understood(settings, await readMoreMail(tx, present, read, settings.mailPerActor), taken.now);
    for (const actor of [...crowdedOf(waiting, settings.mailPerActor), ...left]) crowded.add(actor);
    const isHere = ({ actor }: Message) => rows.has(actor) && !crowded.has(actor);
    const here = decided.messages.filter(isHere);
    decided.messages = decided.messages.filter((message) => !isHere(message));
    const mail = [
      ...waiting,
      ...here.map((message) => ({ ...message, id: 0, sentAt: null, version: 0, processed: false, firedSeq: null })),
    ];
    await step(settings, tx, decided, [...rows.values()], mail, taken.now);
    turns += mail.length;
  }
  return turns;
}

/**
 * Mail up to the first message of each actor that only newer code understands; that and what follows is left for newer code. So is a deadline
 * that fell due after this transaction began: its event must not be stamped with a time before it.
 */
function understood(
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

async function step(
  settings: BatchSettings,
  tx: Transaction,
  decided: Decisions,
  rows: readonly ActorRow[],
  mail: readonly WaitingMail[],
  now: Date,
): Promise<void> {
  const byActor = new Map(rows.map((row) => [row.actor, row]));
  // The last message of each actor that will be prepared. A deadline may turn out stale, so the one before it counts as last as well.
  const fresh = mail.filter((message) => !message.processed);
  const lastOf = (messages: readonly WaitingMail[]) => new Map(messages.map((message) => [message.actor, message])).values();
  const last = new Set([...lastOf(fresh), ...lastOf(fresh.filter(({ sender }) => sender !== 'deadline'))]);
  const stamp = { at: now.toISOString(), ...settings.stamp };

  for (const message of mail) {
    if (message.id !== 0) decided.processed.push(message);
    if (message.processed) continue;
    const row = byActor.get(message.actor)!;
    const kind = settings.kinds.get(row.kind)!;
    const held = decided.actors.get(message.actor) ?? (await load(tx, kind, row));
    decided.actors.set(message.actor, held);
    try {
      let event = { ...message.event, ...stamp } as StampedEvent;
      const checked = kind.events.safeParse(message.event);
      if (!checked.success) throw new UnprocessableError('GPU_EVENT_INVALID', `${message.event.type}: ${checked.error.message}`);
      if (isStaleDeadline(message, decided)) {
        const passed = passOver(held.live, message, event, 'The deadline was moved or cleared');
        held.live = passed.actor;
        decided.history.push(passed.entry);
        continue;
      }
      if (kind.prepare !== undefined) {
        const { id } = parseAddress(message.actor);
        event = await kind.prepare(tx, event, { id, last: last.has(message), snapshot: held.live.stored });
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
