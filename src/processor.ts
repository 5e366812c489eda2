/** The part of the service that works without being asked: it reads the queues, tracks the cluster, and removes what is old. */
import { randomUUID } from 'node:crypto';
import type pino from 'pino';
import { removeOrphans } from '../actors/gpu-pool/orphans.ts';
import { Tracker } from '../actors/gpu-pool/tracker.ts';
import { QueueDoor } from '../actors/intake/queue-door.ts';
import type { Kernel } from '../actors/kernel/kernel.ts';
import { Reconciler } from '../actors/reality/reconciler.ts';
import type { Database } from '../persistence/database.ts';
import { type Report, requestRun } from '../persistence/reality.ts';
import { AuditSealer } from './audit-sealer.ts';
import type { Config } from './config.ts';
import { ContentsMover } from './disk-contents-store.ts';
import { Housekeeper } from './housekeeper.ts';
import { Keeper } from './rebuild/keeper.ts';
import type { Providers } from './service.ts';

export interface ProcessorSettings {
  config: Config;
  db: Database;
  kernel: Kernel;
  providers: Providers;
  log: pino.Logger;
}

export class Processor {
  readonly tracker: Tracker;
  readonly #doors: ReadonlyMap<string, QueueDoor>;
  readonly #housekeeper: Housekeeper;
  readonly #sealer: AuditSealer;
  readonly #reconciler: Reconciler;
  readonly #keeper: Keeper | null;
  readonly #contents: ContentsMover | null;

  constructor({ config, db, kernel, providers, log }: ProcessorSettings) {
    const { pollMs, visibilitySeconds, batchSize, names } = config.queues;
    this.#doors = new Map(
      names.map((queue) => {
        const onError = (error: unknown) => log.warn({ err: error, queue }, 'the queue door failed and goes on');
        return [queue, new QueueDoor({ db, kernel, queue, pollMs, visibilitySeconds, batchSize, onError })];
      }),
    );
    this.tracker = new Tracker({
      db,
      kernel,
      connect: providers.connectEvents,
      confirmGone: async (server) => !(await providers.servers.exists(server)),
      confirmNodeGone: providers.confirmNodeGone,
      onServers: (pods) => {
        const onError = (error: unknown) => log.warn({ err: error }, 'a pod of an ended reservation could not be removed');
        return removeOrphans(db, providers.servers, pods, onError).then(
          (removed) => removed.length > 0 && log.warn({ removed }, 'pods of ended reservations were removed'),
          (error: unknown) => log.warn({ err: error }, 'orphans could not be looked for'),
        );
      },
      onStrangers: (pods) =>
        log.error(
          { pods: pods.map(({ name }) => name) },
          'servers run that this database does not know. What they take counts as taken. Was the database lost? See gpu-dev admin rebuild --dry-run',
        ),
      onBrake: (why) => {
        if (why === null) return log.warn('no server that vanished is held back any more');
        log.error(why);
        // The comparison puts each of them on record.
        requestRun(db, { id: randomUUID(), dryRun: false, by: 'the tracker' }).catch((error: unknown) =>
          log.warn({ err: error }, 'a comparison could not be asked for'),
        );
      },
      onError: (error) => log.warn({ err: error }, 'the tracker failed and goes on'),
    });
    this.#reconciler = new Reconciler({
      db,
      kernel,
      reality: providers.reality,
      cloud: providers.cloudDisks ?? null,
      placeOf: (diskId) => providers.volumes.placeOf?.(diskId) ?? Promise.resolve(null),
      ...config.reconcile,
      onReport: (report, dryRun) => tellReport(log, report, dryRun),
      onError: (error) => log.warn({ err: error }, 'the comparison with the cluster failed and goes on'),
    });
    this.#keeper =
      providers.remains === undefined
        ? null
        : new Keeper({
            db,
            remains: providers.remains,
            onError: (error) => log.warn({ err: error }, 'a record could not be kept; it is tried again'),
          });
    this.#sealer = new AuditSealer({
      db,
      onError: (error) => log.warn({ err: error }, 'the audit log could not be sealed; it is tried again'),
    });
    const { contents = null } = providers;
    const onError = (error: unknown) => log.warn({ err: error }, 'what is on a disk could not be stored; it is tried again');
    this.#contents = contents === null ? null : new ContentsMover({ db, store: contents, onError });
    this.#housekeeper = new Housekeeper({
      db,
      queues: names,
      retention: config.retention,
      onError: (error) => log.warn({ err: error }, 'housekeeping failed'),
    });
  }

  /** There may be messages in a queue. Left out: in any. */
  wake(queue?: string): void {
    if (queue !== undefined) this.#doors.get(queue)?.wake();
    else for (const door of this.#doors.values()) door.wake(true);
  }

  /** Somebody may have asked for a comparison of the database with the cluster. */
  wakeReconciler(): void {
    this.#reconciler.wake();
  }

  start(): void {
    for (const door of this.#doors.values()) door.start();
    this.tracker.start();
    this.#housekeeper.start();
    this.#sealer.start();
    this.#reconciler.start();
    this.#keeper?.start();
    this.#contents?.start();
  }

  async stop(): Promise<void> {
    await Promise.all([...this.#doors.values()].map((door) => door.stop()));
    await this.tracker.stop();
    await this.#housekeeper.stop();
    await this.#sealer.stop();
    await this.#reconciler.stop();
    await this.#keeper?.stop();
    await this.#contents?.stop();
  }
}

/** What was done, and what could not be asked, by name; what is only reported stands in the findings. */
function tellReport(log: pino.Logger, { findings, left_out: leftOut, unanswered }: Report, dryRun: boolean): void {
  const acted = findings.filter(({ action }) => ['removed', 'told', 'failed', 'held'].includes(action));
  const names = acted.map(({ kind, name, action }) => `${action}: ${kind} ${name}`);
  if (names.length > 0 || unanswered.length > 0)
    log.warn({ findings: findings.length + leftOut, acted: names, unanswered }, 'database and cluster differed');
  else log.debug({ findings: findings.length + leftOut, dryRun }, 'database and cluster were compared');
}
