/**
 * The dispatcher leases effects, runs their handlers outside any transaction, and posts their results as events. At least once by nature:
 * handlers are idempotent. A handler whose lease was lost is told to stop, and its result is not taken.
 */
import { randomUUID } from 'node:crypto';
import { type Store, isRetryableDatabaseError } from '../../persistence/database.ts';
import { addDeadLetter } from '../../persistence/dead-letters.ts';
import { enqueue } from '../../persistence/mailbox.ts';
import { endEffect, type LeasedEffect, leaseEffects, renewLeases, retryEffect } from '../../persistence/outbox.ts';
import { NotYet, TerminalError } from '../errors.ts';
import { redact } from '../secret.ts';
import { crashPoint } from './crash-points.ts';
import { type ActorKind, type Clock, parseAddress, type RetryPolicy } from './kind.ts';

const DEFAULT_RETRY: RetryPolicy = { attempts: 8, firstMs: 200, longestMs: 30_000 };

export interface DispatcherSettings {
  db: Store;
  kinds: ReadonlyMap<string, ActorKind>;
  clock: Clock;
  /** 0 ≤ random() < 1: jitter of the pauses. */
  random: () => number;
  /** Handlers at once. */
  concurrency: number;
  leaseSeconds: number;
  /** Called when a result was posted: there is mail. */
  onResult: () => void;
  /** Called when a handler has ended, whatever came of it: there is room, and its lane may go on. */
  onEnded: () => void;
  /** Called with what went wrong, for the log. */
  onFailure: (failure: { effectId: string; type: string; error: unknown; final: boolean }) => void;
}

export class Dispatcher {
  readonly #settings: DispatcherSettings;
  readonly #token = randomUUID();
  readonly #types: string[];
  readonly #running = new Map<string, { abort: AbortController; done: Promise<void> }>();
  #heartbeat: NodeJS.Timeout | null = null;
  #stopped = false;

  constructor(settings: DispatcherSettings) {
    this.#settings = settings;
    this.#types = [...settings.kinds.values()].flatMap((kind) => Object.keys(kind.handlers));
  }

  /** Handlers at work now. */
  get running(): number {
    return this.#running.size;
  }

  /** Lease as many due effects as there is room for, and start them. @returns how many were started. */
  async dispatch(): Promise<number> {
    const room = this.#settings.concurrency - this.#running.size;
    if (this.#stopped || room <= 0) return 0;
    const { db, clock, leaseSeconds } = this.#settings;
    const effects = await leaseEffects(db, {
      limit: room,
      token: this.#token,
      seconds: leaseSeconds,
      types: this.#types,
      busy: [...this.#running.keys()],
      now: clock.now(),
    });
    if (effects.length > 0) await crashPoint('effect.leased');
    for (const effect of effects) {
      const abort = new AbortController();
      const done = this.#run(effect, abort.signal).finally(() => {
        this.#running.delete(effect.effectId);
        this.#settings.onEnded();
      });
      this.#running.set(effect.effectId, { abort, done });
    }
    this.#keepLeases();
    return effects.length;
  }

  /** Wait for the handlers that run now. */
  async settle(): Promise<void> {
    await Promise.allSettled([...this.#running.values()].map((each) => each.done));
  }

  /** Take nothing new, wait up to `graceMs` for running handlers, then tell them to stop; their effects run again elsewhere. */
  async stop(graceMs: number): Promise<void> {
    this.#stopped = true;
    const timer = setTimeout(() => {
      for (const { abort } of this.#running.values()) abort.abort(new Error('The process drains'));
    }, graceMs);
    await this.settle();
    clearTimeout(timer);
    if (this.#heartbeat !== null) clearInterval(this.#heartbeat);
    this.#heartbeat = null;
  }

  #keepLeases(): void {
    if (this.#heartbeat !== null || this.#running.size === 0) return;
    const { db, clock, leaseSeconds } = this.#settings;
    this.#heartbeat = setInterval(
      () => {
        if (this.#running.size === 0) {
          if (this.#heartbeat !== null) clearInterval(this.#heartbeat);
          this.#heartbeat = null;
          return;
        }
        const effectIds = [...this.#running.keys()];
        renewLeases(db, { effectIds, token: this.#token, seconds: leaseSeconds, now: clock.now() }).then(
          (kept) => {
            for (const id of effectIds) if (!kept.has(id)) this.#running.get(id)?.abort.abort(new Error('The lease was lost'));
          },
          () => {}, // the database is away: the lease may run out, and then endEffect finds it lost
        );
      },
      (leaseSeconds * 1000) / 3,
    );
    this.#heartbeat.unref();
  }

  async #run(effect: LeasedEffect, signal: AbortSignal): Promise<void> {
    const kind = this.#settings.kinds.get(parseAddress(effect.actor).kind)!;
    try {
      const handler = kind.handlers[effect.type]!;
      const result = await handler(effect.params, {
        effectId: effect.effectId,
        actor: effect.actor,
        attempts: effect.attempts,
        signal,
      });
      await crashPoint('effect.done');
      await this.#finish(effect, 'done', null, result);
      await crashPoint('effect.afterResult');
    } catch (error) {
      await this.#failed(kind, effect, error).catch((second: unknown) => {
        // The database is away. The lease runs out, and the effect runs again.
        this.#settings.onFailure({ effectId: effect.effectId, type: effect.type, error: second, final: false });
      });
    }
  }

  async #failed(kind: ActorKind, effect: LeasedEffect, error: unknown): Promise<void> {
    const { db, clock, random, onFailure } = this.#settings;
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
      await retryEffect(db, { ...common, countAttempt: true, seconds: pause / 1000 });
      return;
    }
    await this.#finish(effect, 'failed', reason, kind.effectFailed?.(effect.params, reason) ?? null);
  }

  /** End the effect and post its result in one transaction; a lost lease posts nothing. */
  async #finish(
    effect: LeasedEffect,
    status: 'done' | 'failed',
    error: string | null,
    result: { type: string } | null,
  ): Promise<void> {
    const { db, clock } = this.#settings;
    const now = clock.now();
    const ended = await db.withTransaction(async (tx) => {
      const ours = await endEffect(tx, { effectId: effect.effectId, token: this.#token, status, error, now });
      if (!ours) return false;
      if (result !== null) {
        await enqueue(tx, [{ actor: effect.actor, key: `effect:${effect.effectId}`, event: result, sender: 'effect' }], now);
      }
      if (status === 'failed') {
        const body = redact(effect.params);
        await addDeadLetter(tx, {
          source: 'effect',
          actor: effect.actor,
          key: effect.effectId,
          body,
          code: 'GPU_EFFECT_FAILED',
          reason: error ?? '',
        });
      }
      return true;
    });
    if (ended && result !== null) this.#settings.onResult();
  }
}
