/** One seed, one history: the world of a plan, run to its end. */
import type { ActorKind } from '../../../actors/kernel/kind.ts';
import { Tables } from '../store/schema.ts';
import { UnknownStatement } from '../store/statement.ts';
import { Tx } from '../store/tables.ts';
import '../statements/all.ts';
import { Clients } from './clients.ts';
import { checkEnd, foldAll, unfinished } from './final.ts';
import { Feeds } from './feeds.ts';
import { Injector } from './injector.ts';
import { Invariants } from './invariants.ts';
import { DOMAIN, Published } from './names.ts';
import { Network } from './network.ts';
import { type Fault, type Plan, QUIET, type Rates } from './plan.ts';
import { Pods } from './pods.ts';
import { Process } from './process.ts';
import type { Outside } from './providers.ts';
import { Random } from './random.ts';
import { Scheduler, Session } from './scheduler.ts';
import { LEASE } from './sim-tracker.ts';
import { Steps } from './steps.ts';
import { setVirtualClock } from './timers.ts';
import { GPU_TYPES } from './types.ts';
import { Volumes } from './volumes.ts';
import { Work } from './work.ts';

export interface Violation {
  rule: string;
  what: string;
  at: number;
}

export interface Outcome {
  violation: Violation | null;
  turns: number;
  transactions: number;
  reservations: number;
  virtualMs: number;
  /** What went wrong on purpose, by kind. */
  faults: Map<string, number>;
  /** What happened, if it was recorded. */
  trace: string[];
}

const START = Date.parse('2026-03-02T08:00:00Z');
/** How long everything may take to come to its end when nothing goes wrong any more, in milliseconds. */
const PATIENCE = 9 * 86_400_000;
/** Choices of a seed, at most; a usual one has some ten thousand. */
const MOST_ROUNDS = 1_000_000;
const realImmediate = setImmediate;
/** By kind and state, whether the state may rest: the same in every seed. */
const resting = new Map<string, boolean>();

export class Simulation {
  readonly plan: Plan;
  readonly tables = new Tables();
  readonly scheduler: Scheduler;
  readonly random: Random;
  readonly world = new Session('world');
  readonly pods: Pods;
  readonly volumes: Volumes;
  readonly published = new Published();
  readonly network: Network;
  readonly outside: Outside;
  readonly processes: Process[] = [];
  readonly feeds: Feeds;
  readonly faultCounts = new Map<string, number>();
  rates: Rates;
  quiet = false;
  /** The effect that kills whoever runs it; the next that begins if none is named yet. */
  deadly: { effectId: string | null; fault: Fault; until: number } | null = null;
  readonly #work: Work;
  readonly #trace: string[] | null;
  #invariants: Invariants | null = null;
  #violation: Violation | null = null;
  #commits = 0;
  #started = 0;
  readonly #clients: Clients;
  readonly #injector = new Injector(this);
  readonly #steps: Steps;
  readonly #fold: boolean;

  constructor(plan: Plan, options: { trace?: boolean; fold?: boolean } = {}) {
    this.plan = plan;
    this.rates = plan.rates;
    this.random = new Random(plan.seed ^ 0x5eed);
    this.scheduler = new Scheduler(START, new Random(plan.seed ^ 0xc0de), plan.longestRun);
    this.#trace = options.trace === true ? [] : null;
    this.#fold = options.fold !== false;
    const violated = (rule: string, what: string) => this.violated(rule, what);
    const note = (what: string) => this.note(what);
    const { scheduler, random, world } = this;
    this.volumes = new Volumes(violated, plan.volumesStay);
    const fortune = { neverReady: plan.rates.podNeverReady, slow: plan.rates.podSlow };
    this.pods = new Pods({ scheduler, random, world, volumes: this.volumes, fortune, violated });
    this.network = new Network({ scheduler, random, world, faults: plan.rates.network, note });
    this.feeds = new Feeds(this);
    this.pods.listener = this.feeds;
    this.outside = this.#outside();
    this.#work = new Work(this.tables, this.pods);
    this.#clients = new Clients(this);
    this.#steps = new Steps(this, this.#work);
  }

  #outside(): Outside {
    const { network, scheduler, random, world, pods, volumes, plan, tables } = this;
    return {
      network,
      scheduler,
      random,
      world,
      pods,
      volumes,
      builds: new Map(),
      volumesGo: plan.volumesGo,
      failing: plan.rates.failing,
      published: this.published,
      isOver: (id) => !['running', 'extending'].includes(tables.actors.get(`reservation/${id}`, null)?.state ?? ''),
      isLate: ({ reservationId, generation }) => {
        const snapshot = tables.actors.get(`reservation/${reservationId}`, null)?.snapshot;
        if (snapshot?.status !== 'active') return true;
        const step = (snapshot.value as { provisioning?: string }).provisioning;
        return (
          step === undefined || step === 'retreating' || (snapshot.context as { generation: number }).generation !== generation
        );
      },
      isPurging: (diskId) => ['purging', 'purged'].includes(tables.actors.get(`disk/${diskId}`, null)?.state ?? ''),
      needers: (snapshotId) =>
        [...tables.disks.rows(null)].flatMap((row) =>
          row.latestSnapshot === snapshotId && row.purgedAt === null ? [row.diskId] : [],
        ),
      violated: (rule, what) => this.violated(rule, what),
    };
  }

  violated(rule: string, what: string): void {
    this.#violation ??= { rule, what, at: this.scheduler.now };
    this.tell(`VIOLATION ${rule}: ${what}`);
  }

  /** A fault was injected. */
  note(what: string): void {
    const kind = what.split(' ', 1)[0]!;
    this.faultCounts.set(kind, (this.faultCounts.get(kind) ?? 0) + 1);
    this.tell(`fault: ${what}`);
  }

  /** For the one who replays a seed. */
  tell(what: string): void {
    if (this.#trace === null) return;
    const seconds = ((this.scheduler.now - START) / 1000).toFixed(3).padStart(9);
    this.#trace.push(`${seconds}s ${what}`);
  }

  /** Locks came free, or something else has changed: whoever found nothing looks again. */
  wakeAll(): void {
    this.#commits++;
  }

  async run(): Promise<Outcome> {
    setVirtualClock(this.scheduler, this.world, new Random(this.plan.seed ^ 0xface));
    this.#build();
    let failure: unknown = null;
    try {
      await this.#loop();
    } catch (error) {
      failure = error;
    }
    for (const process of this.processes) process.session.alive = false;
    if (failure !== null) {
      this.violated(
        'the simulation itself works',
        failure instanceof Error ? (failure.stack ?? failure.message) : String(failure),
      );
    }
    let turns = 0;
    for (const row of this.tables.actors.everything(null)) turns += row.seq;
    return {
      violation: this.#violation,
      turns,
      transactions: this.#invariants?.checked ?? 0,
      reservations: [...this.tables.reservations.rows(null)].length,
      virtualMs: this.scheduler.now - START,
      faults: this.faultCounts,
      trace: this.#trace ?? [],
    };
  }

  #build(): void {
    const { plan, scheduler, world, tables } = this;
    const setup = new Tx(scheduler.now);
    for (const type of GPU_TYPES) tables.gpuTypes.insert(type, setup);
    if (plan.named) tables.servedDomain.insert({ domain: DOMAIN }, setup);
    setup.end(true);
    for (const { gpuType, nodes, gpus } of plan.fleet) {
      for (let i = 1; i <= nodes; i++) {
        this.pods.addNode({ name: `${gpuType}-${i}`, uid: `uid-${gpuType}-${i}`, gpuType, gpus, ready: true, cordoned: false });
      }
    }
    for (let i = 0; i < plan.kernels; i++) this.startProcess();
    const first = this.processes[0]!;
    this.#invariants = new Invariants({
      tables,
      kinds: first.kernel.kinds,
      pods: this.pods,
      volumes: this.volumes,
      resting,
      trackerToken: (session) => this.processes.find((process) => process.session === session)?.tracker.token ?? null,
      violated: (rule, what) => this.violated(rule, what),
    });
    for (const { gpuType } of plan.fleet) this.#clients.send(`gpu-pool/${gpuType}`, 'opened', { type: 'pool.opened', gpuType });
    for (const op of plan.ops)
      for (let i = 0; i <= op.repeats; i++) scheduler.at(START + 2_000 + op.at + i * 700, world, () => this.#clients.ask(op));
    let last = plan.ops.at(-1)?.at ?? 0;
    for (const fault of plan.faults) {
      scheduler.at(START + 2_000 + fault.at, world, () => this.#injector.inject(fault));
      last = Math.max(last, fault.at + fault.lasts);
    }
    scheduler.at(START + last + 60_000, world, () => this.#becomeQuiet());
  }

  /** Somebody posts an event, and insists on it. */
  send(actor: string, key: string, event: { type: string; [key: string]: unknown }): void {
    this.#clients.send(actor, key, event);
  }

  get commits(): number {
    return this.#commits;
  }

  /** Nothing goes wrong any more: all must come to its end. */
  #becomeQuiet(): void {
    this.tell('from now on nothing goes wrong');
    this.quiet = true;
    this.rates = QUIET;
    this.network.faults = QUIET.network;
    this.pods.fortune = { neverReady: 0, slow: 0 };
    this.outside.failing = 0;
  }

  startProcess(): void {
    const { plan, tables, outside, scheduler } = this;
    const process: Process = new Process({
      name: `p${++this.#started}`,
      plan,
      tables,
      outside,
      faults: {
        loses: () => this.scheduler.random.chance(this.rates.statementLost) && this.#counted('database lost a statement'),
        commit: () => {
          if (scheduler.random.chance(this.rates.commitLost) && this.#counted('database lost a commit')) return 'lost';
          if (scheduler.random.chance(this.rates.commitUnanswered) && this.#counted('unanswered commit')) return 'unanswered';
          return 'done';
        },
      },
      onCommit: (tx, session) => this.#onCommit(tx, session),
      onTimeout: () => this.wakeAll(),
      kills: (effectId, type) => this.#injector.kills(process, effectId, type),
      onFailure: (where, error) => this.onFailure(where, error),
      feeds: this.feeds,
    });
    this.processes.push(process);
  }

  #counted(what: string): true {
    this.note(what);
    return true;
  }

  #onCommit(tx: Tx, session: Session): void {
    if (tx.log.length === 0) return;
    this.#commits++;
    if (this.#trace !== null) this.#tellHistory(tx, session);
    this.#invariants?.check(tx, session);
  }

  #tellHistory(tx: Tx, session: Session): void {
    for (const slot of tx.held) {
      if (slot.table !== (this.tables.history as unknown) || slot.value === null) continue;
      const { actor, event, outcome, from, to, sender, reason } = slot.value as Record<string, unknown> & {
        event: { type: string };
      };
      const what = outcome === 'applied' ? `${from ?? 'born'} → ${to}` : `${outcome}: ${reason}`;
      this.tell(`${session.name} ${actor} ${event.type} (${sender}) ${what}`);
    }
  }

  /** A failure that the service would log. What it must not survive ends the simulation. */
  onFailure(where: string, error: unknown): void {
    if (error instanceof UnknownStatement || error instanceof TypeError || error instanceof ReferenceError) {
      this.violated('the simulation itself works', `${where}: ${error.stack}`);
    }
  }

  async #loop(): Promise<void> {
    const { scheduler } = this;
    for (let rounds = 0; ; rounds++) {
      if (rounds > MOST_ROUNDS) {
        this.violated(
          'everything comes to its end',
          `too much happens: ${unfinished(this.tables, this.pods).slice(0, 5).join('; ')}`,
        );
        return;
      }
      for (let i = 0; i < 3; i++) await null;
      if (this.#violation !== null) return;
      if (scheduler.runDue()) continue;
      const parked = scheduler.waiting > 0;
      if (parked && scheduler.random.chance(0.7) && scheduler.resumeOne()) continue;
      if (this.#steps.startOne()) continue;
      if (scheduler.resumeOne()) continue;
      // Whoever is between two scheduling points gets there first.
      await new Promise((resolve) => realImmediate(resolve));
      if (scheduler.runDue() || this.#steps.startOne() || scheduler.resumeOne()) continue;
      if (this.quiet && this.#isOver()) return this.#end();
      if (!this.#advance()) return;
    }
  }

  #isOver(): boolean {
    return (
      this.#clients.open === 0 &&
      unfinished(this.tables, this.pods).length === 0 &&
      this.processes.every(({ session, tracker }) => !session.alive || tracker.inbox.length === 0)
    );
  }

  #end(): void {
    const violated = (rule: string, what: string) => this.violated(rule, what);
    checkEnd(this.tables, this.pods, this.volumes, violated);
    for (const left of this.published.left()) violated('nothing is left over', left);
    const kinds: ReadonlyMap<string, ActorKind> = this.processes[0]!.kernel.kinds;
    if (this.#fold) foldAll(this.tables, kinds, violated);
  }

  /** Time goes on. @returns false if nothing will ever happen again. */
  #advance(): boolean {
    const { scheduler } = this;
    const leader = this.#steps.leader();
    const times = [scheduler.next, this.#work.next(scheduler.now)];
    if (leader === null) times.push((this.tables.leases.get(LEASE, null)?.until ?? scheduler.now) + 1);
    else if (this.#work.look(this.#commits, scheduler.now).looks) times.push(leader.nextLook);
    const future = times.filter((time): time is number => time !== null && time > scheduler.now);
    if (future.length === 0) {
      this.violated(
        'everything comes to its end',
        `nothing will happen any more: ${unfinished(this.tables, this.pods).join('; ')}`,
      );
      return false;
    }
    const late = scheduler.random.chance(0.2) ? scheduler.random.int(500) : 0;
    scheduler.now = Math.min(...future) + late;
    const patience = this.#patience();
    if (scheduler.now > patience) {
      this.violated(
        'everything comes to its end',
        [`${this.#clients.open} requests have no answer`, ...unfinished(this.tables, this.pods)].slice(0, 5).join('; '),
      );
      return false;
    }
    return true;
  }

  #patience(): number {
    const last = Math.max(this.plan.ops.at(-1)?.at ?? 0, ...this.plan.faults.map((fault) => fault.at + fault.lasts));
    return START + last + PATIENCE;
  }
}
