/**
 * One batch of turns: many actors in one transaction, everything they decided in it. If one message spoils the batch, the batch is run again
 * one message at a time, and that message alone becomes a dead letter.
 */
import { setTimeout as pause } from 'node:timers/promises';
import type { Intent } from '../../machines/authoring.ts';
import {
  type ActorRow,
  type ActorUpdate,
  lockActorsWithMail,
  type MailRow,
  quarantineActor,
  readMail,
  updateActors,
} from '../../persistence/actor-store.ts';
import { type Store, isRetryableDatabaseError, type Transaction } from '../../persistence/database.ts';
import { addDeadLetter } from '../../persistence/dead-letters.ts';
import {
  applyDeadlines,
  clearDeadlinesOf,
  type DeadlineChange,
  firedDeadlines,
  rearmDeadline,
} from '../../persistence/deadlines.ts';
import { addCheckpoint, appendHistory, type HistoryEntry, pairKey, processedKeys } from '../../persistence/history.ts';
import { enqueue, type Message, removeMail } from '../../persistence/mailbox.ts';
import { addEffects, type NewEffect } from '../../persistence/outbox.ts';
import { redact } from '../secret.ts';
import { crashPoint } from './crash-points.ts';
import type { ActorKind, Change, Clock, StampedEvent } from './kind.ts';
import { parseAddress } from './kind.ts';
import { migrateSnapshot, ReviveError, topState } from './revive.ts';
import { type LiveActor, passOver, takeTurn, UnprocessableError } from './turn.ts';

export interface BatchSettings {
  db: Store;
  kinds: ReadonlyMap<string, ActorKind>;
  clock: Clock;
  /** Stamped on every event beside its time; kept in history, so that folds are exact. */
  stamp: { timeScale?: number };
  /** Actors a batch, and messages of one actor a batch. */
  actorsPerBatch: number;
  mailPerActor: number;
}

export interface BatchResult {
  /** Messages processed. */
  turns: number;
  /** New effects and messages were committed: others have work. */
  effects: number;
  messages: number;
}

const NOTHING: BatchResult = { turns: 0, effects: 0, messages: 0 };

/** Which message, or which actor, a failure belongs to. */
class MessageFailure extends Error {
  readonly mail: MailRow;
  constructor(mail: MailRow, cause: unknown) {
    super('a message failed', { cause });
    this.mail = mail;
  }
}
class ActorFailure extends Error {
  readonly actor: string;
  constructor(actor: string, cause: unknown) {
    super('an actor failed', { cause });
    this.actor = actor;
  }
}

/** Everything a batch decided, before it is written. */
class Ledger {
  readonly actors = new Map<string, { row: ActorRow; live: LiveActor; before: LiveActor['stored']; changed: boolean }>();
  readonly history: HistoryEntry[] = [];
  readonly effects: NewEffect[] = [];
  readonly deadlines = new Map<string, DeadlineChange>();
  readonly messages: Message[] = [];
  readonly records = new Map<ActorKind, { id: string; entry: { type: string }; at: Date }[]>();
  readonly processed: number[] = [];
}

/**
 * Take turns for actors that have mail.
 * @throws the database's error if the database was at fault: nothing happened, try again later.
 */
export async function runBatch(settings: BatchSettings, only?: string): Promise<BatchResult> {
  try {
    const result = await attempt(settings, settings.actorsPerBatch, settings.mailPerActor, only);
    await crashPoint('turn.afterCommit');
    return result;
  } catch (error) {
    if (isRetryableDatabaseError(error)) throw error;
    return await oneByOne(settings, error, only);
  }
}

/** Tries of a message alone whose failure may have been a race, and the pause between them. */
const TRIES = 4;
const TRY_AGAIN_MS = 25;
/** When a deadline comes again whose event became a dead letter, in seconds. */
const REARM_SECONDS = 300;

/** The batch was spoiled: find the culprit with batches of one message, and set it aside. */
async function oneByOne(settings: BatchSettings, first: unknown, only?: string): Promise<BatchResult> {
  let turns = 0;
  let error: unknown = first;
  const failed = new Map<number, number>();
  for (let round = 0; round < settings.actorsPerBatch + TRIES; round++) {
    if (error instanceof ActorFailure) await setActorAside(settings.db, error);
    else if (error instanceof MessageFailure) {
      const tries = (failed.get(error.mail.id) ?? 0) + 1;
      failed.set(error.mail.id, tries);
      // What the machine cannot take it can never take. Anything else may have been a race with another writer: it gets another try.
      if (error.cause instanceof UnprocessableError || tries >= TRIES) await setMessageAside(settings, error.mail, error.cause);
      else await pause(TRY_AGAIN_MS * tries);
    }
    error = null;
    try {
      const result = await attempt(settings, 1, 1, only);
      if (result.turns === 0) break;
      turns += result.turns;
    } catch (next) {
      if (isRetryableDatabaseError(next)) throw next;
      if (!(next instanceof ActorFailure) && !(next instanceof MessageFailure)) throw next;
      error = next;
      turns++;
    }
  }
  // A failure in the last round shows again in the next batch.
  return { turns, effects: 1, messages: 1 };
}

async function setActorAside(db: Store, failure: ActorFailure): Promise<void> {
  await quarantineActor(db, failure.actor, String(failure.cause));
}

async function setMessageAside(settings: BatchSettings, mail: MailRow, cause: unknown): Promise<void> {
  const reason = cause instanceof Error ? cause.message : String(cause);
  await settings.db.withTransaction(async (tx) => {
    const { rowCount } = await tx.query('delete from mailbox where id = $1', [mail.id]);
    if (rowCount === 0) return;
    await addDeadLetter(tx, {
      source: 'mailbox',
      actor: mail.actor,
      key: mail.key,
      body: redact(mail.event),
      code: cause instanceof UnprocessableError ? cause.code : 'GPU_MESSAGE_FAILED',
      reason,
    });
    if (mail.sender === 'deadline') {
      await rearmDeadline(tx, mail.actor, mail.event.type.slice('deadline.'.length), REARM_SECONDS, settings.clock.now());
    }
    const told = settings.kinds.get(parseAddress(mail.actor).kind)?.lost?.(mail.event, reason) ?? null;
    if (told !== null && told.type !== mail.event.type) {
      await enqueue(tx, [{ actor: mail.actor, key: `lost:${mail.key}`, event: told, sender: 'kernel' }], settings.clock.now());
    }
  });
}

async function attempt(settings: BatchSettings, actors: number, mailPerActor: number, only?: string): Promise<BatchResult> {
  // One message at a time, a failure of the commit itself must name its message.
  let single: MailRow | null = null;
  try {
    return await settings.db.withTransaction(async (tx) => {
      const { kinds, clock } = settings;
      const known = [...kinds.values()].map(({ kind, version }) => ({ kind, version }));
      const locked = await lockActorsWithMail(tx, {
        actors,
        kinds: known,
        now: clock.now(),
        ...(only === undefined ? {} : { only }),
      });
      if (locked.actors.length === 0 || locked.now === null) return NOTHING;
      await crashPoint('turn.locked');
      const mail = await readMail(
        tx,
        locked.actors.map((row) => row.actor),
        mailPerActor,
      );
      if (mail.length === 0) return NOTHING;
      if (actors === 1 && mail.length === 1) single = mail[0]!;
      const ledger = new Ledger();
      await step(settings, tx, locked.actors, mail, locked.now, ledger);
      await crashPoint('turn.stepped');
      await write(settings, tx, ledger, locked.now);
      await crashPoint('turn.beforeCommit');
      return { turns: mail.length, effects: ledger.effects.length, messages: ledger.messages.length };
    });
  } catch (error) {
    if (single !== null && !isRetryableDatabaseError(error) && !(error instanceof ActorFailure)) {
      throw error instanceof MessageFailure ? error : new MessageFailure(single, error);
    }
    throw error;
  }
}

async function step(
  settings: BatchSettings,
  tx: Transaction,
  rows: readonly ActorRow[],
  mail: readonly MailRow[],
  now: Date,
  ledger: Ledger,
): Promise<void> {
  const done = await processedKeys(tx, mail);
  const fired = mail.some((message) => message.sender === 'deadline')
    ? await firedDeadlines(
        tx,
        rows.map((row) => row.actor),
      )
    : new Map<string, number>();
  const byActor = new Map(rows.map((row) => [row.actor, row]));
  // The last message of each actor that will be prepared. A deadline may turn out stale, so the one before it counts as last as well.
  const fresh = mail.filter((message) => !done.has(pairKey(message.actor, message.key)));
  const last = new Set([
    ...new Map(fresh.map((message) => [message.actor, message.id])).values(),
    ...new Map(fresh.filter((message) => message.sender !== 'deadline').map((message) => [message.actor, message.id])).values(),
  ]);
  const stamp = { at: now.toISOString(), ...settings.stamp };

  for (const message of mail) {
    ledger.processed.push(message.id);
    if (done.has(pairKey(message.actor, message.key))) continue;
    const row = byActor.get(message.actor)!;
    const kind = settings.kinds.get(row.kind)!;
    const held = ledger.actors.get(message.actor) ?? (await load(tx, kind, row));
    ledger.actors.set(message.actor, held);
    try {
      let event = { ...message.event, ...stamp } as StampedEvent;
      const checked = kind.events.safeParse(message.event);
      if (!checked.success) throw new UnprocessableError('GPU_EVENT_INVALID', `${message.event.type}: ${checked.error.message}`);
      if (isStaleDeadline(message, event, fired, ledger)) {
        const passed = passOver(held.live, message, event, 'The deadline was moved or cleared');
        held.live = passed.actor;
        ledger.history.push(passed.entry);
        continue;
      }
      if (kind.prepare !== undefined) {
        const { id } = parseAddress(message.actor);
        event = await kind.prepare(tx, event, { id, last: last.has(message.id), snapshot: held.live.stored });
      }
      const result = takeTurn(held.live, message, event);
      held.live = result.actor;
      held.changed ||= result.entry.outcome === 'applied';
      ledger.history.push(result.entry);
      collect(ledger, kind, result.actor, result.intents, now);
    } catch (error) {
      if (error instanceof ReviveError) throw new ActorFailure(message.actor, error);
      if (isRetryableDatabaseError(error)) throw error;
      throw new MessageFailure(message, error);
    }
  }
}

/** Bring a row into memory; one of an older version is migrated, and a checkpoint says from where its history folds. */
async function load(
  tx: Transaction,
  kind: ActorKind,
  row: ActorRow,
): Promise<{ row: ActorRow; live: LiveActor; before: LiveActor['stored']; changed: boolean }> {
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
function isStaleDeadline(message: MailRow, event: StampedEvent, fired: ReadonlyMap<string, number>, ledger: Ledger): boolean {
  if (message.sender !== 'deadline') return false;
  const name = event.type.slice('deadline.'.length);
  const changeKey = `${message.actor}\n${name}`;
  if (ledger.deadlines.has(changeKey)) return true; // an earlier message of this batch moved or cleared it
  const stale = fired.get(changeKey) !== Number(message.key.slice(message.key.lastIndexOf(':') + 1));
  if (!stale) ledger.deadlines.set(changeKey, { actor: message.actor, name, dueAt: null, setSeq: 0 }); // it has done its work
  return stale;
}

/** Sort the intents of a step into what will be written. */
function collect(ledger: Ledger, kind: ActorKind, actor: LiveActor, intents: readonly Intent[], now: Date): void {
  const { id } = parseAddress(actor.actor);
  let index = 0;
  for (const intent of intents) {
    switch (intent.do) {
      case 'effect': {
        const checked = kind.effects?.safeParse(intent.effect);
        if (checked !== undefined && !checked.success) {
          throw new UnprocessableError('GPU_EFFECT_INVALID', `${intent.effect.type}: ${checked.error.message}`);
        }
        const { lane, replaces, effect } = intent;
        const effectId = `${actor.actor}:${actor.seq}:${index}`;
        ledger.effects.push({
          effectId,
          actor: actor.actor,
          seq: actor.seq,
          index,
          type: effect.type,
          lane,
          replaces,
          params: effect,
        });
        break;
      }
      case 'deadline':
        ledger.deadlines.set(`${actor.actor}\n${intent.name}`, {
          actor: actor.actor,
          name: intent.name,
          dueAt: intent.at,
          setSeq: actor.seq,
        });
        break;
      case 'clear':
        ledger.deadlines.set(`${actor.actor}\n${intent.name}`, {
          actor: actor.actor,
          name: intent.name,
          dueAt: null,
          setSeq: actor.seq,
        });
        break;
      case 'send':
        ledger.messages.push({
          actor: intent.to,
          key: `${actor.actor}:${actor.seq}:${index}`,
          event: intent.event,
          sender: actor.actor,
        });
        break;
      case 'record': {
        const entries = ledger.records.get(kind) ?? [];
        entries.push({ id, entry: intent.entry, at: now });
        ledger.records.set(kind, entries);
        break;
      }
    }
    index++;
  }
}

async function write(settings: BatchSettings, tx: Transaction, ledger: Ledger, now: Date): Promise<void> {
  const updates: ActorUpdate[] = [];
  const changes = new Map<ActorKind, Change[]>();
  for (const { row, live, before, changed } of ledger.actors.values()) {
    updates.push({
      actor: row.actor,
      machineVersion: live.kind.version,
      seq: live.seq,
      status: live.stored?.status ?? 'unborn',
      state: live.stored === null ? null : topState(live.stored.value),
      snapshot: changed ? live.stored : null,
    });
    if (changed && live.stored !== null) {
      const list = changes.get(live.kind) ?? [];
      list.push({ id: parseAddress(row.actor).id, seq: live.seq, before, after: live.stored, at: now });
      changes.set(live.kind, list);
    }
  }
  await updateActors(tx, updates, now);
  await appendHistory(tx, ledger.history, now);
  await addEffects(tx, ledger.effects, now);
  await applyDeadlines(tx, [...ledger.deadlines.values()]);
  await clearDeadlinesOf(
    tx,
    updates.filter((update) => update.status === 'done').map((update) => update.actor),
  );
  for (const [kind, list] of changes) await kind.project?.(tx, list);
  for (const [kind, entries] of ledger.records) await kind.record?.(tx, entries);
  await enqueue(tx, ledger.messages, settings.clock.now());
  await removeMail(tx, ledger.processed);
}

/** Run batches until there is no mail. For tests and for a door that wants its own turn taken now. */
export async function drainMail(settings: BatchSettings, only?: string): Promise<number> {
  let turns = 0;
  for (;;) {
    const result = await runBatch(settings, only);
    if (result.turns === 0) return turns;
    turns += result.turns;
    await pause(0);
  }
}
