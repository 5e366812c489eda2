/** Sending what was set aside on its way again. Nothing that was done is done twice: keys see to that, and what is overtaken is refused. */
import { findActor } from '../../persistence/actor-store.ts';
import type { Transaction } from '../../persistence/database.ts';
import type { lockLetter } from '../../persistence/dead-letters.ts';
import { copyEffect, hurryEffect, lockEffect } from '../../persistence/effect-retries.ts';
import { findByKey } from '../../persistence/history.ts';
import type { Message } from '../../persistence/mailbox.ts';
import { archivedMessage, sendMessage } from '../../persistence/pgmq.ts';
import { isBirth, parseAddress } from '../../actors/kernel/kind.ts';
import { Problem } from '../errors.ts';
import type { HttpDeps } from './deps.ts';

type Letter = NonNullable<Awaited<ReturnType<typeof lockLetter>>>;

/**
 * Send a letter on its way, within the transaction that closes it.
 * @returns what it is now
 * @throws Problem if that would do nothing, or harm
 */
export function replay(deps: HttpDeps, tx: Transaction, letter: Letter): Promise<string> {
  switch (letter.source) {
    case 'queue':
      return replayFromQueue(tx, letter);
    case 'mailbox':
      return replayToActor(deps, tx, letter);
    case 'effect':
      return retryEffect(tx, letter.key ?? '');
  }
}

async function replayFromQueue(tx: Transaction, { queue, msg_id: msgId }: Letter): Promise<string> {
  const body = queue == null || msgId === null ? undefined : await archivedMessage(tx, queue, msgId);
  if (body === undefined) throw refused('The original is no longer in the archive of its queue; its producer must send it anew');
  return `${queue}/${await sendMessage(tx, queue!, body)}`;
}

async function replayToActor({ kernel }: HttpDeps, tx: Transaction, letter: Letter): Promise<string> {
  const { actor, key, original, sender } = letter;
  if (actor == null || key == null || original == null) throw refused('The original message was not kept');
  if (sender === 'deadline') throw refused('A deadline that failed was set anew, and comes again by itself');
  const event = original as Message['event'];
  const row = await findActor(tx, actor);
  const kind = kernel.kinds.get(parseAddress(actor).kind);
  if (row === null && !(kind !== undefined && isBirth(kind, event.type)))
    throw refused(`There is no ${actor}; replay its creation first`);
  if (row?.status === 'done') throw refused(`${actor} has ended (${row.state}) and takes no message any more`);
  const done = await findByKey(tx, actor, key);
  if (done !== null) throw refused(`A message of this key was processed meanwhile: ${done.outcome}`);
  const added = await kernel.post([{ actor, key, event, sender: sender ?? 'operator' }], tx);
  if (added === 0) throw refused('A message of this key waits in the mailbox already');
  return `${actor} ${key}`;
}

/**
 * Let an effect start now: one that waits for its next try, or one that was given up, as long as its actor waits for it.
 * @returns the id under which it runs
 * @throws Problem if it is unknown, runs just now, has ended, or is overtaken
 */
export async function retryEffect(tx: Transaction, effectId: string): Promise<string> {
  const effect = await lockEffect(tx, effectId);
  if (effect === null) throw new Problem('GPU_EFFECT_UNKNOWN', `There is no effect ${effectId}`, { field: 'effect_id' });
  const { status, running, actor, actor_state, actor_status, state_then, overtaken } = effect;
  if (running) throw refused(`The effect ${effectId} is being run just now`);
  if (status === 'pending') {
    await hurryEffect(tx, effectId);
    return effectId;
  }
  if (status !== 'failed') throw refused(`The effect ${effectId} is ${status}; there is nothing to try again`);
  if (actor_status !== 'active') throw refused(`${actor} has ended (${actor_state ?? 'unknown'})`);
  if (overtaken) throw refused(`${actor} has asked for something newer since, or this was begun anew already`);
  if (state_then === null || state_then !== actor_state) {
    throw refused(
      `${actor} has gone on: it was ${state_then ?? 'in a state that history no longer tells'}, and is ${actor_state}`,
    );
  }
  return copyEffect(tx, effectId);
}

function refused(why: string): Problem {
  return new Problem('GPU_REPLAY_REFUSED', why);
}
