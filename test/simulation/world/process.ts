/** One process of the service: the real kernel with its kinds, the queue doors, and the tracker, over its own connection to the store. */
import { QueueDoor } from '../../../actors/intake/queue-door.ts';
import { Kernel } from '../../../actors/kernel/kernel.ts';
import type { ActorKind } from '../../../actors/kernel/kind.ts';
import { gpuDevKinds } from '../../../actors/kinds.ts';
import { MemoryStore, type StoreFaults } from '../store/memory-store.ts';
import type { Tables } from '../store/schema.ts';
import type { Tx } from '../store/tables.ts';
import type { Feeds } from './feeds.ts';
import type { Plan } from './plan.ts';
import { namesOf, routesOf } from './names.ts';
import { builderOf, keysOf, type Outside, serversOf, volumesOf } from './providers.ts';
import type { Random } from './random.ts';
import { Session } from './scheduler.ts';
import { SimTracker } from './sim-tracker.ts';

export const STEPS = [
  'turns',
  'effects',
  'results',
  'sweeps',
  'held',
  'leases',
  'tracker',
  'looks',
  'gpu_reservations',
  'disk_operations',
] as const;
export type Step = (typeof STEPS)[number];

/** How many of a step run at once in one process. */
const AT_ONCE: Partial<Record<Step, number>> = { turns: 2 };

interface Progress {
  busy: number;
  /** Commits of the whole world when it last found nothing to do. */
  idleAt: number;
  /** When it may be tried again after a failure. */
  notBefore: number;
  failures: number;
}

export interface ProcessParts {
  name: string;
  plan: Plan;
  tables: Tables;
  outside: Outside;
  faults: StoreFaults;
  onCommit: (tx: Tx, session: Session) => void;
  onTimeout: () => void;
  onFailure: (where: string, error: unknown) => void;
  feeds: Feeds;
  /** Whether the process dies of running this effect. */
  kills: (effectId: string, type: string) => boolean;
}

export class Process {
  readonly session: Session;
  readonly db: MemoryStore;
  readonly kernel: Kernel;
  readonly tracker: SimTracker;
  readonly doors: ReadonlyMap<string, QueueDoor>;
  readonly progress: Record<Step, Progress>;
  /** Handlers that have ended well, and whose results are not taken. */
  finished = 0;
  renewing = false;
  nextLook = 0;
  readonly #random: Random;

  constructor({ name, plan, tables, outside, faults, onCommit, onTimeout, onFailure, feeds, kills }: ProcessParts) {
    this.session = new Session(name);
    const { session } = this;
    this.#random = outside.scheduler.random;
    this.db = new MemoryStore({ tables, scheduler: outside.scheduler, session, faults, onCommit, onTimeout });
    const servers = serversOf(outside, session);
    const kinds = gpuDevKinds({
      db: this.db,
      servers,
      keys: keysOf(outside, session),
      volumes: volumesOf(outside, session),
      builder: builderOf(outside, session),
      ...(plan.named ? { names: namesOf(outside, session), routes: routesOf(outside, session) } : {}),
      random: outside.random.next,
    });
    const ended = () => void this.finished++;
    this.kernel = new Kernel({
      db: this.db,
      kinds: kinds.map((kind) => watched(kind, ended, kills)),
      random: outside.random.next,
      wakeOthers: () => {}, // the scheduler looks for work itself
      ...plan.kernel,
      onEffectFailure: ({ error }) => onFailure('effect', error),
    });
    this.doors = new Map(
      ['gpu_reservations', 'disk_operations'].map((queue) => {
        const onError = (error: unknown) => onFailure(queue, error);
        const settings = { db: this.db, kernel: this.kernel, queue, visibilitySeconds: 30, pollMs: 1, batchSize: 5, onError };
        return [queue, new QueueDoor(settings)];
      }),
    );
    this.tracker = new SimTracker({
      name,
      db: this.db,
      kernel: this.kernel,
      servers,
      confirmNodeGone: (node) => outside.network.call(session, 'look for node', () => !outside.pods.nodes.has(node)),
      connect: () => feeds.connect(this),
      disconnect: () => feeds.disconnect(this),
    });
    this.progress = Object.fromEntries(STEPS.map((step) => [step, { busy: 0, idleAt: -1, notBefore: 0, failures: 0 }])) as Record<
      Step,
      Progress
    >;
  }

  /** Whether the step may be tried. */
  isFree(step: Step, commits: number, now: number): boolean {
    const { busy, idleAt, notBefore } = this.progress[step];
    return busy < (AT_ONCE[step] ?? 1) && idleAt !== commits && notBefore <= now;
  }

  /** One pass. @returns how much was done. */
  run(step: Step): Promise<number> {
    switch (step) {
      case 'turns':
        return this.kernel.takeTurns();
      case 'effects':
        return this.kernel.startEffects();
      case 'results':
        return this.kernel.endEffects().then((done) => {
          this.finished -= done;
          return done;
        });
      case 'sweeps':
        return this.kernel.sweepDeadlines();
      case 'held':
        return this.kernel.sweepHeldMail();
      case 'leases':
        return this.kernel.renewLeases().then(() => 1);
      case 'tracker':
        // Lease and writes are kept up side by side: a write may come before the lease is found lost.
        if (this.tracker.token !== null && this.#random.chance(0.5)) return this.tracker.flush().then(() => 1);
        return this.tracker.hold().then((ours) => (ours ? this.tracker.flush().then(() => 1) : 0));
      case 'looks':
        return this.tracker.sweep().then(() => 1);
      default:
        return this.doors
          .get(step)!
          .consume()
          .then((sleep) => (sleep === 0 ? 1 : 0));
    }
  }
}

/** The kind, with a call before each of its handlers, which may never begin, and whenever one has ended well. */
function watched(kind: ActorKind, ended: () => void, kills: ProcessParts['kills']): ActorKind {
  const handlers = Object.entries(kind.handlers).map(([type, handler]): [string, ActorKind['handlers'][string]] => [
    type,
    async (effect, context) => {
      if (kills(context.effectId, type)) return new Promise<never>(() => {});
      const result = await handler(effect, context);
      ended();
      return result;
    },
  ]);
  return { ...kind, handlers: Object.fromEntries(handlers) };
}
