/**
 * The dispatcher runs the handlers of leased effects outside any transaction, and gives their results to their actors, many at once. At least once
 * by nature: handlers are idempotent. A handler whose lease was lost is told to stop, and its result is not taken.
 *
 * An effect comes in by two ways: leased by the turn that wrote it ({@link Dispatcher.adopt}), or leased from the outbox because its lane was
 * busy, its retry is due, there was no room, or whoever leased it is gone ({@link Dispatcher.dispatch}).
 */
import { randomUUID } from 'node:crypto';
import { isRetryableDatabaseError, type Store } from '../../persistence/database.ts';
import { addDeadLetter } from '../../persistence/dead-letters.ts';
import { enqueue } from '../../persistence/mailbox.ts';
import {
  type EffectResult,
  type EndedEffect,
  failEffect,
  type LeasedEffect,
  leaseEffects,
  renewLeases,
  retryEffect,
} from '../../persistence/outbox.ts';
import { NotYet, TerminalError } from '../errors.ts';
import type { ProblemCode } from '../problem.ts';
import { redact, withoutSecrets } from '../secret.ts';
import { Abortion } from './abortion.ts';
import { crashPoint } from './crash-points.ts';
import { type ActorKind, type Clock, parseAddress, type RetryPolicy, withVersions } from './kind.ts';
import { isLockTimeout } from './put-off.ts';

const DEFAULT_RETRY: RetryPolicy = { attempts: 8, firstMs: 200, longestMs: 30_000 };

/** When a handler is given up that does not end, in milliseconds: every call of a provider has a shorter limit of its own. */
const HANDLER_LIMIT_MS = 120_000;

/** What becomes of effects whose leases run out again and again: whoever runs them may be dying of it, or freezing for ever. */
export interface TakeoverPolicy {
  /** Pause before the fourth takeover, and the longest, in milliseconds; it doubles with each. The first three need none. */
  firstPauseMs: number;
  longestPauseMs: number;
  /** Takeovers after which an effect is not run again. */
  most: number;
}

// With these an effect is given up half an hour after its first run: it has then taken seventeen processes along, the last thirteen of them
// with no other suspect in it. No honest crash storm does that to an innocent one. Where replicas are killed every 0.2 s, four of ten runs of
// an effect of 15 ms die with their process, so seventeen in a row once in six millions; and no storm of minutes can do it at all, since the
// pauses alone add up to that half hour. What runs for longer than processes live is given up if they live so for half an hour.
export const DEFAULT_TAKEOVERS: TakeoverPolicy = { firstPauseMs: 1_000, longestPauseMs: 256_000, most: 16 };

/** After so many takeovers an effect is a suspect: of those a process runs one at a time. (The outbox has the number in its index.) */
const SUSPECT = 3;

/** Of what an effect fails with, so much is told to its actor while it is tried again. */
const TOLD_CHARACTERS = 300;

/** Whether the failure of this number is told: the second, the fourth, the eighth and so on. */
function isTold(failures: number): boolean {
  return failures >= 2 && Number.isInteger(Math.log2(failures));
}

/** Results posted in one statement, at most. */
const RESULTS_AT_ONCE = 250;
/** Effects that are leased, those whose results wait included, at most: this many times as many as may be handled at once. */
const RESULTS_WAITING = 4;

export interface DispatcherSettings {
  db: Store;
  kinds: ReadonlyMap<string, ActorKind>;
  clock: Clock;
  /** 0 ≤ random() < 1: jitter of the pauses. */
  random: () => number;
  /** Handlers at once. */
  concurrency: number;
  leaseSeconds: number;
  takeovers?: TakeoverPolicy | undefined;
  /** Ends effects and gives their results to their actors. @returns those that were still ours. */
  takeResults: (ended: readonly EffectResult[], token: string) => Promise<readonly EndedEffect[]>;
  /** Called when a handler has ended well: call {@link Dispatcher.endFinished} soon. */
  onFinished: () => void;
  /** Called when a failure was posted: there is mail. */
  onMail: () => void;
  /** Called when there may be an effect to lease: room after a time without, or a lane that goes on. */
  onRoom: () => void;
  /** Called with what went wrong, for the log. */
  onFailure: (failure: { effectId: string; type: string; error: unknown; final: boolean }) => void;
}

/** Whoever ran this effect has died or frozen, too often: it is not run again. */
class DeadlyEffectError extends TerminalError {
  constructor(takeovers: number) {
    super(`Every process that ran it died or froze, ${takeovers} times: it is not run again`);
  }
}

/** An effect that was leased and has not ended. */
interface Running {
  abort: Abortion;
  done: Promise<void>;
  since: number;
  /** It was taken over so often that whoever runs it may die of it. */
  suspect: boolean;
}

/** An effect whose handler has ended well. */
interface Finished {
  effect: LeasedEffect;
  result: EffectResult['result'];
}

export class Dispatcher {
  readonly #settings: DispatcherSettings;
  readonly #token = randomUUID();
  /** Types of effects that this process has handlers for. */
  readonly types: ReadonlySet<string>;
  /** Leased and not yet ended, by effect id. */
  readonly #running = new Map<string, Running>();
  /** Handlers that have ended well, and whose results are not posted. */
  #finished: Finished[] = [];
  /** Of those leased, the ones whose handlers have not ended. */
  #handling = 0;
  #wasFull = false;
  #stopped = false;

  constructor(settings: DispatcherSettings) {
    this.#settings = settings;
    this.types = new Set([...settings.kinds.values()].flatMap((kind) => Object.keys(kind.handlers)));
  }

  /** Effects leased and not yet ended. */
  get running(): number {
    return this.#running.size;
  }

  /** With which turns lease what they write. */
  get lease(): { token: string; seconds: number } {
    return { token: this.#token, seconds: this.#settings.leaseSeconds };
  }

  /** How many more effects may be leased: handlers run at the same time only so many, and results that wait are kept only so far. */
  get room(): number {
    if (this.#stopped) return 0;
    const { concurrency } = this.#settings;
    return Math.max(0, Math.min(concurrency - this.#handling, RESULTS_WAITING * concurrency - this.#running.size));
  }

  /** True if more results wait than are given at once. */
  get isCrowded(): boolean {
    return this.#finished.length > RESULTS_AT_ONCE;
  }

  /** Run effects that a committed turn has leased for this dispatcher. */
  async adopt(effects: readonly LeasedEffect[]): Promise<void> {
    if (effects.length > 0) await crashPoint('effect.leased');
    // One that runs here already was leased twice by us: once is enough.
    for (const effect of effects) if (!this.#running.has(effect.effectId)) this.#start(effect);
  }

  /** Take as many due effects as there is room for, and start them. @returns how many were taken: those that are replaced have ended. */
  async dispatch(): Promise<number> {
    const { room } = this;
    this.#wasFull = room === 0;
    if (room === 0) return 0;
    const { db, kinds, clock, leaseSeconds, takeovers = DEFAULT_TAKEOVERS } = this.#settings;
    const isSuspectHere = [...this.#running.values()].some(({ suspect }) => suspect);
    const taken = await leaseEffects(db, {
      limit: room,
      suspects: {
        limit: isSuspectHere ? 0 : 1,
        firstPause: takeovers.firstPauseMs / 1000,
        longestPause: takeovers.longestPauseMs / 1000,
      },
      kinds: [...kinds.values()],
      token: this.#token,
      seconds: leaseSeconds,
      types: [...this.types],
      busy: [...this.#running.keys()],
      now: clock.now(),
    });
    this.#wasFull = taken.length >= room;
    await this.adopt(taken.filter(({ superseded }) => !superseded));
    return taken.length;
  }

  /** Wait for the handlers that run now, and give what they found to their actors. @returns how many results that were. */
  async settle(): Promise<number> {
    await Promise.allSettled([...this.#running.values()].map((each) => each.done));
    let ended = 0;
    for (;;) {
      const some = await this.endFinished();
      ended += some;
      if (some === 0) return ended;
    }
  }

  /** Take nothing new, wait up to `graceMs` for running handlers, then tell them to stop; their effects run again elsewhere. */
  async stop(graceMs: number): Promise<void> {
    this.#stopped = true;
    const timer = setTimeout(() => {
      for (const { abort } of this.#running.values()) abort.abort(new NotYet(0, 'The process drains'));
    }, graceMs);
    // A database that is away takes no results: then the leases run out, and the effects run again.
    await this.settle().catch(() => {});
    clearTimeout(timer);
  }

  /** Keep the leases of what runs, stop the handlers of those that were lost, and give up those that do not end. */
  async renew(): Promise<void> {
    if (this.#running.size === 0) return;
    const late = this.#now() - HANDLER_LIMIT_MS;
    for (const { abort, since } of this.#running.values()) {
      if (since < late) abort.abort(new Error(`The handler has not ended in ${HANDLER_LIMIT_MS / 1000} s`));
    }
    const { db, clock, leaseSeconds } = this.#settings;
    const running = [...this.#running];
    const effectIds = running.map(([id]) => id);
    const kept = await renewLeases(db, { effectIds, token: this.#token, seconds: leaseSeconds, now: clock.now() });
    // Of one that was given back and leased again meanwhile, the handler that runs now is another.
    for (const [id, { abort }] of running) if (!kept.has(id)) abort.abort(new Error('The lease was lost'));
  }

  /**
   * Give the results of handlers that have ended well to their actors. @returns how many.
   * @throws the database's error if it was at fault: the results are kept, and go out with the next call.
   */
  async endFinished(): Promise<number> {
    const batch = this.#finished.splice(0, RESULTS_AT_ONCE);
    if (batch.length === 0) return 0;
    await crashPoint('effect.done');
    try {
      await this.#give(batch);
    } catch (error) {
      if (isRetryableDatabaseError(error) && !isLockTimeout(error)) {
        this.#finished.unshift(...batch);
        throw error;
      }
      // One of them cannot be stored, or its row is held by a stranger: alone, it fails alone.
      for (const each of batch) await this.#giveAlone(each);
    }
    await crashPoint('effect.afterResult');
    return batch.length;
  }

  async #give(batch: readonly Finished[]): Promise<void> {
    const { takeResults, onRoom } = this.#settings;
    const ours = await takeResults(
      batch.map(({ effect, result }) => ({ effectId: effect.effectId, actor: effect.actor, result })),
      this.#token,
    );
    // After one suspect another may be leased.
    const wasSuspect = batch.some(({ effect }) => this.#running.get(effect.effectId)?.suspect === true);
    for (const { effect } of batch) this.#running.delete(effect.effectId);
    if (this.#wasFull || wasSuspect || ours.some(({ laneGoesOn }) => laneGoesOn)) onRoom();
  }

  async #giveAlone(finished: Finished): Promise<void> {
    try {
      await this.#give([finished]);
    } catch (error) {
      await this.#fail(finished.effect, error);
      this.#running.delete(finished.effect.effectId);
    }
  }

  #start(effect: LeasedEffect): void {
    const abort = new Abortion();
    this.#handling++;
    const done = this.#run(effect, abort);
    const suspect = (effect.takeovers ?? 0) > SUSPECT;
    this.#running.set(effect.effectId, { abort, done, since: this.#now(), suspect });
  }

  /** Milliseconds on the injected clock, or on any that only goes forward. */
  #now(): number {
    return this.#settings.clock.now()?.getTime() ?? performance.now();
  }

  async #run(effect: LeasedEffect, abort: Abortion): Promise<void> {
    const { takeovers = 0 } = effect;
    try {
      const { most } = this.#settings.takeovers ?? DEFAULT_TAKEOVERS;
      if (takeovers > most) throw new DeadlyEffectError(takeovers);
      // A turn that was under way when the process began to drain has leased it.
      if (this.#stopped) throw new NotYet(0, 'The process drains');
      const result = await this.#handle(effect, abort);
      this.#handling--;
      this.#finished.push({ effect, result });
      this.#settings.onFinished();
    } catch (error) {
      this.#handling--;
      await this.#fail(effect, error);
      this.#running.delete(effect.effectId);
      this.#settings.onRoom();
    }
  }

  async #handle({ effectId, actor, attempts, type, params }: LeasedEffect, abort: Abortion): Promise<{ type: string } | null> {
    const handler = this.#settings.kinds.get(parseAddress(actor).kind)!.handlers[type]!;
    const work = handler(params, {
      effectId,
      actor,
      attempts,
      get signal() {
        return abort.signal;
      },
    });
    // One that does not listen to its signal is not waited for; whatever it still does, its effect may be run again beside it.
    work.catch(() => {});
    return Promise.race([work, abort.told]);
  }

  /** Record a failure; if that fails too, the lease runs out and the effect runs again. */
  async #fail(effect: LeasedEffect, error: unknown): Promise<void> {
    try {
      await this.#recordFailure(effect, error);
    } catch (second) {
      this.#settings.onFailure({ effectId: effect.effectId, type: effect.type, error: second, final: false });
    }
  }

  async #recordFailure(effect: LeasedEffect, error: unknown): Promise<void> {
    const { db, clock, kinds, random, onFailure } = this.#settings;
    const kind = kinds.get(parseAddress(effect.actor).kind)!;
    const reason = error instanceof Error ? error.message : String(error);
    const common = { effectId: effect.effectId, token: this.#token, error: reason, now: clock.now() };
    if (error instanceof NotYet) {
      await retryEffect(db, { ...common, countAttempt: false, seconds: error.milliseconds / 1000 });
      return;
    }
    const policy = kind.retry?.[effect.type] ?? DEFAULT_RETRY;
    const final = error instanceof TerminalError || effect.attempts + 1 >= policy.attempts;
    onFailure({ effectId: effect.effectId, type: effect.type, error, final });
    if (!final || isRetryableDatabaseError(error)) {
      const pause = Math.min(policy.longestMs, policy.firstMs * 2 ** Math.min(effect.attempts, 20)) * (0.5 + random() / 2);
      const failures = effect.attempts + 1;
      // What is wrong with our own database is nothing that an actor could do with.
      const isTellable = !isRetryableDatabaseError(error) && isTold(failures);
      const told = isTellable
        ? (kind.effectDelayed?.(effect.params, withoutSecrets(reason).slice(0, TOLD_CHARACTERS)) ?? null)
        : null;
      await this.#retry(
        effect,
        { ...common, countAttempt: true, seconds: pause / 1000 },
        told === null ? null : { failures, told },
      );
      return;
    }
    const code = error instanceof DeadlyEffectError ? 'GPU_EFFECT_DEADLY' : 'GPU_EFFECT_FAILED';
    await this.#bury(effect, { code, reason }, kind.effectFailed?.(effect.params, reason) ?? null);
  }

  /** Give an effect back for another try, and tell its actor in the same transaction if it is to know; a lost lease does neither. */
  async #retry(
    { effectId, actor }: LeasedEffect,
    wish: Parameters<typeof retryEffect>[1],
    news: { failures: number; told: { type: string } } | null,
  ): Promise<void> {
    const { db, kinds, onMail } = this.#settings;
    if (news === null) {
      await retryEffect(db, wish);
      return;
    }
    const message = { actor, key: `delayed:${effectId}:${news.failures}`, event: news.told, sender: 'effect' };
    await db.withTransaction(async (tx) => {
      if (await retryEffect(tx, wish)) await enqueue(tx, withVersions(kinds, [message]), wish.now);
    });
    onMail();
  }

  /** End an effect that has failed for good, tell its actor, and keep a dead letter, in one transaction; a lost lease does none of it. */
  async #bury(effect: LeasedEffect, why: { code: ProblemCode; reason: string }, told: { type: string } | null): Promise<void> {
    const { db, clock, kinds, onMail } = this.#settings;
    const { effectId, actor } = effect;
    const now = clock.now();
    await crashPoint('effect.done');
    await db.withTransaction(async (tx) => {
      if (!(await failEffect(tx, { effectId, token: this.#token, error: why.reason, now }))) return;
      const message = { actor, key: `effect:${effectId}`, event: told ?? { type: '' }, sender: 'effect' };
      if (told !== null) await enqueue(tx, withVersions(kinds, [message]), now);
      await addDeadLetter(tx, { source: 'effect', actor, key: effectId, body: redact(effect.params), ...why });
    });
    await crashPoint('effect.afterResult');
    if (told !== null) onMail();
  }
}
