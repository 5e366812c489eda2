/** The end of every batch of turns: what they decided is written and committed in one transaction, and the effects it leased are handed on. */
import type { Store, Transaction, TransactionOptions } from '../../persistence/database.ts';
import type { LeasedEffect } from '../../persistence/outbox.ts';
import { areCrashPointsArmed, crashPoint } from './crash-points.ts';
import type { Decisions, Leaser } from './decisions.ts';
import type { ActorKind, Clock } from './kind.ts';
import { withVersions } from './kind.ts';
import type { PutOff } from './put-off.ts';

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
  /** Actors that took them. */
  actors: readonly string[];
  /** A deadline was met that had fired after this transaction began: the next one takes it. */
  early: boolean;
}

export const NOTHING: BatchResult = { turns: 0, effects: 0, messages: 0, actors: [], early: false };

/** Turns that were taken, and are to be written. */
export interface TakenTurns {
  decided: Decisions;
  turns: number;
  now: Date;
  /** Messages that wait in mailboxes although this transaction did not send them. */
  freed?: number;
}

/**
 * Take turns in a transaction, write what they decided, commit, and hand on the effects that were leased.
 * @param onCommit called when all is written: from now on the commit may come through, even if this fails
 * @param behind reads what was committed: see {@link TransactionOptions.behind}
 */
export async function commit(
  settings: BatchSettings,
  take: (tx: Transaction) => Promise<TakenTurns | 'early' | null>,
  onCommit: () => void = () => {},
  behind?: TransactionOptions['behind'],
): Promise<BatchResult> {
  const { db, clock, kinds, leaser, adopt } = settings;
  const turns = async (tx: Transaction) => {
    const taken = await take(tx);
    if (taken === null || taken === 'early') {
      onCommit();
      return { ...NOTHING, early: taken === 'early', leased: Promise.resolve([]) };
    }
    const { decided, turns, now, freed = 0 } = taken;
    await crashPoint('turn.stepped');
    decided.messages = withVersions(kinds, decided.messages);
    const { leased } = await decided.write(tx, now, clock.now(), leaser());
    if (areCrashPointsArmed()) await Promise.all([tx.flush(), leased]);
    await crashPoint('turn.beforeCommit');
    onCommit();
    return {
      turns,
      effects: decided.effects.length,
      messages: decided.messages.length + freed,
      actors: [...decided.actors.keys()],
      early: false,
      leased,
    };
  };
  const { leased, effects, ...result } = await db.withTransaction(turns, behind === undefined ? {} : { behind });
  if (result.turns > 0) await crashPoint('turn.afterCommit');
  const adopted = await leased;
  await adopt(adopted);
  return { ...result, effects: effects - adopted.length };
}
