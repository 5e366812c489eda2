/** Results of effects, taken by their actors in the transaction that ends the effects. */
import { isRetryableDatabaseError } from '../../persistence/database.ts';
import { type Message, sendMail } from '../../persistence/mailbox.ts';
import { type EffectResult, type EndedEffect, endEffects } from '../../persistence/outbox.ts';
import { type BatchResult, type BatchSettings, commit, NOTHING } from './commit.ts';
import { Decisions } from './decisions.ts';
import { withVersions } from './kind.ts';
import { isLockTimeout } from './put-off.ts';
import { knownKinds, passOn } from './steps.ts';

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
      const decided = new Decisions();
      decided.messages = messagesOf(ended, ours);
      const { now } = effects;
      const turns =
        decided.messages.length === 0
          ? 0
          : await passOn(settings, tx, decided, { locked: [], mail: [], now, known: knownKinds(kinds) });
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
