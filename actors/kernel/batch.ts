/**
 * One batch of turns: many actors in one transaction, everything they decided in it. If one message spoils the batch, the batch is run again
 * one message at a time, and that message alone becomes a dead letter.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { lockActorsWithMail, type MailRow, readMail, waitBriefly } from '../../persistence/actor-store.ts';
import { isRetryableDatabaseError } from '../../persistence/database.ts';
import { type BatchResult, type BatchSettings, commit } from './commit.ts';
import { crashPoint } from './crash-points.ts';
import { Decisions } from './decisions.ts';
import { BlockedActor, isLockTimeout } from './put-off.ts';
import { ActorFailure, MessageFailure, setActorAside, setMessageAside } from './set-aside.ts';
import { inboxesOf, knownKinds, passOn, step, understood } from './steps.ts';
import { UnprocessableError } from './turn.ts';

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
  const actors: string[] = [];
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
      actors.push(...result.actors);
    } catch (next) {
      if (!(next instanceof ActorFailure) && !(next instanceof MessageFailure) && !(next instanceof BlockedActor)) throw next;
      error = next;
      if (!(next instanceof BlockedActor)) turns++;
    }
  }
  // A failure in the last round shows again in the next batch.
  return { turns, effects: 1, messages: 1, actors, early: false };
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
      const known = knownKinds(kinds);
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
      const { mail, left, early } = understood(settings, await readMail(tx, locked.actors, mailPerActor), now);
      if (mail.length === 0) return early ? 'early' : null;
      if (actorsPerBatch === 1 && mail.length === 1) single = mail[0]!;
      const decided = new Decisions();
      await step(settings, tx, decided, locked.actors, mail, now);
      // All that waits was read, but of the unborn their birth alone.
      const born = locked.actors.filter(({ status }) => status !== 'unborn').map(({ actor }) => actor);
      const taken = { locked: locked.actors, mail, inboxes: inboxesOf(born, []), now, known, absent: left };
      const turns = mail.length + (await passOn(settings, tx, decided, taken));
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
