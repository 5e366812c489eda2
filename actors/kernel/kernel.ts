/**
 * The kernel: runs actors of any kinds durably. Any number of kernels may run over one database at once; SKIP LOCKED, leases and fencing
 * tokens keep them apart, never a map in memory.
 */
import type { Listener, Queryable, Store, TransactionOptions } from '../../persistence/database.ts';
import { untilNextDeadline } from '../../persistence/deadlines.ts';
import { findByKey, type HistoryEntry } from '../../persistence/history.ts';
import type { Message } from '../../persistence/mailbox.ts';
import { untilNextEffect } from '../../persistence/outbox.ts';
import { runBatch } from './batch.ts';
import { birthsOf, deliver, post, type Write } from './delivery.ts';
import type { BatchResult, BatchSettings } from './commit.ts';
import { Dispatcher, type TakeoverPolicy } from './dispatcher.ts';
import { type ActorKind, type Clock, databaseClock } from './kind.ts';
import { Loop } from './loop.ts';
import { PutOff } from './put-off.ts';
import { takeResults } from './results.ts';
import { sweepDeadlines, sweepHeldMail } from './sweeper.ts';
import { MAIL_CHANNEL, WakeUpSender } from './wakeup.ts';

export interface KernelSettings {
  db: Store;
  kinds: readonly ActorKind[];
  clock?: Clock;
  random?: () => number;
  /** How many times faster policy durations run; 1 by default. */
  timeScale?: number;
  /** Slow poll that covers lost wake-ups, in milliseconds. */
  pollMs?: number;
  actorsPerBatch?: number;
  mailPerActor?: number;
  /** How often what a batch sends may be taken within it; 0 sends everything by mailbox. */
  rounds?: number;
  /** Loops that take turns, each a batch at a time. */
  turnLoops?: number;
  /** Handlers at once; 512 by default. Fewer where each of them takes a connection or much memory. */
  effectConcurrency?: number;
  leaseSeconds?: number;
  takeovers?: TakeoverPolicy;
  /** How other processes are told to look; by a notification of the database if left out. */
  wakeOthers?: () => void;
  /** Further channels to listen on (the queues' insert notifications). */
  listen?: Record<string, () => void>;
  /**
   * While this is true no deadline fires. After an outage facts come before time limits: a pod that became ready while nobody looked must
   * not fail for it. Answer true for seconds, not for longer.
   */
  holdDeadlines?: () => boolean;
  /** Called each time the listener has (re)connected: notifications may have been missed. */
  onReconnect?: () => void;
  onError?: (where: string, error: unknown) => void;
  onEffectFailure?: (failure: { effectId: string; type: string; error: unknown; final: boolean }) => void;
}

/** Counters since start, for /metrics. */
export interface KernelStats {
  turns: number;
  batches: number;
  effectsStarted: number;
  effectFailures: number;
  deadlinesFired: number;
  errors: number;
  effectsRunning: number;
  listening: boolean;
}

/** How soon a held sweep looks again, in milliseconds. */
const HOLD_MS = 20;
/** A loop that only works when woken. */
const NEVER_MS = 2 ** 31 - 1;

export class Kernel {
  readonly kinds: ReadonlyMap<string, ActorKind>;
  readonly #settings: KernelSettings;
  readonly #batch: BatchSettings;
  readonly #clock: Clock;
  readonly #dispatcher: Dispatcher;
  readonly #turns: readonly Loop[];
  readonly #effects: Loop;
  readonly #results: readonly Loop[];
  readonly #leases: Loop;
  readonly #sweeps: Loop;
  readonly #held: Loop;
  readonly #listener: Listener;
  readonly #wakeOthers: () => void;
  readonly #counts = { turns: 0, batches: 0, effectsStarted: 0, effectFailures: 0, deadlinesFired: 0, errors: 0 };
  readonly #watchers = new Set<(actors: readonly string[]) => void>();

  constructor(settings: KernelSettings) {
    this.#settings = settings;
    this.kinds = new Map(settings.kinds.map((kind) => [kind.kind, kind]));
    this.#clock = settings.clock ?? databaseClock;
    this.#batch = {
      db: settings.db,
      kinds: this.kinds,
      clock: this.#clock,
      stamp: settings.timeScale === undefined || settings.timeScale === 1 ? {} : { timeScale: settings.timeScale },
      actorsPerBatch: settings.actorsPerBatch ?? 100,
      mailPerActor: settings.mailPerActor ?? 50,
      rounds: settings.rounds ?? 4,
      leaser: () => ({ ...this.#dispatcher.lease, room: this.#dispatcher.room, types: this.#dispatcher.types }),
      adopt: (effects) => {
        this.#counts.effectsStarted += effects.length;
        return this.#dispatcher.adopt(effects);
      },
      putOff: new PutOff(),
      onFull: () => this.#turns.find((loop) => !loop.isBusy)?.wake(),
    };
    this.#dispatcher = new Dispatcher({
      db: settings.db,
      kinds: this.kinds,
      clock: this.#clock,
      random: settings.random ?? Math.random,
      concurrency: settings.effectConcurrency ?? 512,
      leaseSeconds: settings.leaseSeconds ?? 3,
      takeovers: settings.takeovers,
      onFinished: () => {
        this.#results[0]!.wake();
        if (this.#dispatcher.isCrowded) this.#results[1]!.wake();
      },
      takeResults: async (ended, token) => {
        const result = await takeResults(this.#batch, ended, token);
        this.#follow(result);
        return result.ours;
      },
      onMail: () => this.#turns[0]!.wake(),
      onRoom: () => this.#effects.wake(),
      onFailure: (failure) => {
        this.#counts.effectFailures++;
        settings.onEffectFailure?.(failure);
      },
    });
    const pollMs = settings.pollMs ?? 1_000;
    const loop = (name: string, work: () => Promise<number>) =>
      new Loop({
        name,
        work,
        onError: (error) => {
          this.#counts.errors++;
          settings.onError?.(name, error);
        },
      });
    // The first looks for mail; each of the others when one before it finds more than it can take.
    this.#turns = Array.from({ length: settings.turnLoops ?? 2 }, (_, index) =>
      loop(`turns ${index}`, async () => ((await this.takeTurns()) > 0 ? 0 : index === 0 ? pollMs : NEVER_MS)),
    );
    this.#effects = loop('effects', () => this.#startEffects(pollMs));
    // The second takes results when more of them wait than the first takes at once.
    this.#results = [0, 1].map((index) => {
      const mayGoOn = () => index === 0 || this.#dispatcher.isCrowded;
      return loop(`results ${index}`, async () => ((await this.endEffects()) > 0 && mayGoOn() ? 0 : NEVER_MS));
    });
    this.#leases = loop('leases', async () => {
      await this.renewLeases();
      return (this.#dispatcher.lease.seconds * 1000) / 3;
    });
    this.#sweeps = loop('sweeps', () => this.#sweepSoon());
    this.#held = loop('held mail', async () => {
      if ((await this.sweepHeldMail()) > 0) this.#turns[0]!.wake();
      return 1_000;
    });
    const sender = new WakeUpSender(settings.db);
    this.#wakeOthers = settings.wakeOthers ?? (() => sender.wake());
    this.#listener = settings.db.listen([MAIL_CHANNEL, ...Object.keys(settings.listen ?? {})], (channel) => {
      if (channel === null) settings.onReconnect?.();
      else settings.listen?.[channel]?.();
      if (channel !== null && channel !== MAIL_CHANNEL) return;
      this.wake();
      // A process that answers requests only takes turns, and leaves their effects.
      this.#effects.wake();
    });
  }

  /** Start working. */
  async start(): Promise<void> {
    await this.#listener.start();
    for (const each of this.#loops) each.start();
  }

  /** Drain: finish the present batch, wait for running handlers up to `graceMs`, take nothing new. */
  async stop(graceMs = 10_000): Promise<void> {
    await this.#listener.stop();
    await Promise.all([...this.#turns, this.#effects, this.#sweeps, this.#held].map((each) => each.stop()));
    // Results are posted and leases kept until the last handler has ended.
    await this.#dispatcher.stop(graceMs);
    await Promise.all([...this.#results, this.#leases].map((each) => each.stop()));
  }

  get #loops(): readonly Loop[] {
    return [...this.#turns, this.#effects, ...this.#results, this.#leases, this.#sweeps, this.#held];
  }

  /** There may be mail: look now. */
  wake(): void {
    this.#turns[0]!.wake();
  }

  /** Call `onTurns` with who took turns after each commit in this process; of others it does not hear. @returns what ends it. */
  watch(onTurns: (actors: readonly string[]) => void): () => void {
    this.#watchers.add(onTurns);
    return () => void this.#watchers.delete(onTurns);
  }

  /** Tell other processes to look (for doors in a process that does not run this kernel's loops, and for idle replicas). */
  wakeOthers(): void {
    this.#wakeOthers();
  }

  /**
   * Post messages, joining `within` if given. Birth messages open their actors.
   * The caller wakes the kernel after its commit.
   */
  async post(messages: readonly Message[], within?: Queryable): Promise<number> {
    if (within !== undefined) return post(this.#batch, within, messages);
    // An actor that others can see must have its birth in its mailbox: what they send would come before it, and be refused.
    const { db } = this.#settings;
    const bears = birthsOf(this.kinds, messages).length > 0;
    return bears ? db.withTransaction((tx) => post(this.#batch, tx, messages)) : post(this.#batch, db, messages);
  }

  /**
   * Run `write` in a transaction in which the receivers of what it posts take it, as far as they are free: when it is committed, those who
   * are born by it exist, and what was asked is decided. The rest goes by mailbox, and whoever can take it is told.
   * @param behind reads what was committed, in the same breath; not if all goes by mailbox
   * @throws whatever `write` throws, or the database's error: nothing has happened then.
   */
  async deliver<T>(write: Write<T>, behind?: TransactionOptions['behind']): Promise<T> {
    const result = await deliver(this.#batch, write, behind);
    this.#follow(result);
    if (result.messages > 0 || result.effects > 0) this.wakeOthers();
    return result.value;
  }

  /** Take the turns of one actor now, in this process, if nobody else is at it. For doors that want to read their own write. */
  async pump(actor: string): Promise<number> {
    let turns = 0;
    for (;;) {
      const taken = await this.takeTurns(actor);
      turns += taken;
      if (taken === 0) break;
    }
    if (turns > 0) this.wake();
    return turns;
  }

  /** What became of a message; null while it waits. */
  outcome(actor: string, key: string): Promise<HistoryEntry | null> {
    return findByKey(this.#settings.db, actor, key);
  }

  stats(): KernelStats {
    return { ...this.#counts, effectsRunning: this.#dispatcher.running, listening: this.#listener.connected };
  }

  // The steps of the loops, one portion each: tests and simulations that drive time themselves call them without starting the kernel.

  /** Take a batch of turns, of one actor if named, and start the effects that it leased. @returns how many turns. */
  async takeTurns(only?: string): Promise<number> {
    const result = await runBatch(this.#batch, only);
    this.#follow(result);
    return result.turns;
  }

  /** Lease due effects and start them. @returns how many. */
  async startEffects(): Promise<number> {
    const started = await this.#dispatcher.dispatch();
    this.#counts.effectsStarted += started;
    return started;
  }

  /** Give the results of handlers that have ended to their actors. @returns how many. */
  endEffects(): Promise<number> {
    return this.#dispatcher.endFinished();
  }

  /** Keep the leases of the effects that run. */
  renewLeases(): Promise<void> {
    return this.#dispatcher.renew();
  }

  /** Fire deadlines that are due. @returns how many. */
  async sweepDeadlines(): Promise<number> {
    const fired = await sweepDeadlines(this.#settings.db, this.#clock);
    this.#counts.deadlinesFired += fired;
    return fired;
  }

  /** Free mail whose actor was born meanwhile, and bury what waits for nobody. @returns how much was freed. */
  sweepHeldMail(): Promise<number> {
    return sweepHeldMail(this.#settings.db, this.#clock);
  }

  /** All steps once, until the mail is taken and the handlers have ended. @returns true if anything was done. */
  async runOnce(): Promise<boolean> {
    let done = (await this.sweepDeadlines()) + (await this.sweepHeldMail());
    for (;;) {
      const turns = await this.takeTurns();
      done += turns;
      if (turns === 0) break;
    }
    done += await this.startEffects();
    done += await this.#dispatcher.settle();
    return done > 0;
  }

  /** What is to be done after a batch was committed. */
  #follow(result: BatchResult): void {
    this.#counts.batches++;
    this.#counts.turns += result.turns;
    if (result.turns > 0) for (const onTurns of this.#watchers) onTurns(result.actors);
    if (result.early) this.#turns[0]!.wake();
    if (result.effects > 0) this.#effects.wake();
    if (result.messages > 0) this.#turns[0]!.wake();
  }

  async #startEffects(pollMs: number): Promise<number> {
    if ((await this.startEffects()) > 0) return 0;
    const next = await untilNextEffect(this.#settings.db, this.#clock.now());
    return next === null ? pollMs : Math.min(pollMs, Math.max(50, next));
  }

  async #sweepSoon(): Promise<number> {
    if (this.#settings.holdDeadlines?.() === true) return HOLD_MS;
    if ((await this.sweepDeadlines()) > 0) this.#turns[0]!.wake();
    const next = await untilNextDeadline(this.#settings.db, this.#clock.now());
    return next === null ? 500 : Math.min(500, Math.max(5, next));
  }
}
