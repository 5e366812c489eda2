/** What there is to do in the store, and when there will be more: an observer that sees all wakes the processes. */
import { DEFAULT_TAKEOVERS } from '../../../actors/kernel/dispatcher.ts';
import { endOfPause, isReplaced } from '../statements/outbox.ts';
import type { EffectRow, Tables } from '../store/schema.ts';
import type { Pods } from './pods.ts';

export interface Wanted {
  turns: boolean;
  effects: boolean;
  sweeps: boolean;
  held: boolean;
  looks: boolean;
  gpu_reservations: boolean;
  disk_operations: boolean;
}

/** How long a message is held for an actor that nobody has heard of. */
const HELD_MS = 60_000;
const WITH_POD = new Set(['provisioning', 'running', 'extending']);

export class Work {
  readonly #tables: Tables;
  readonly #pods: Pods;
  #commits = -1;
  #now = -1;
  #wanted: Wanted = {
    turns: false,
    effects: false,
    sweeps: false,
    held: false,
    looks: false,
    gpu_reservations: false,
    disk_operations: false,
  };

  constructor(tables: Tables, pods: Pods) {
    this.#tables = tables;
    this.#pods = pods;
  }

  look(commits: number, now: number): Wanted {
    if (commits === this.#commits && now === this.#now) return this.#wanted;
    this.#commits = commits;
    this.#now = now;
    const t = this.#tables;
    const wanted = {
      turns: false,
      effects: false,
      sweeps: false,
      held: false,
      looks: false,
      gpu_reservations: false,
      disk_operations: false,
    };
    for (const mail of t.mailbox.rows(null)) {
      if (!mail.held) wanted.turns = true;
      else if (mail.enqueuedAt + HELD_MS < now || (t.actors.get(mail.actor, null)?.status ?? 'unborn') !== 'unborn')
        wanted.held = true;
    }
    for (const row of t.effects.rows(null)) if (row.status === 'pending' && takenAfter(t, row) < now) wanted.effects = true;
    for (const { firedAt, dueAt } of t.deadlines.rows(null)) if (firedAt === null && dueAt <= now) wanted.sweeps = true;
    for (const { queue, visibleAt } of t.queues.rows(null)) {
      if (visibleAt <= now) wanted[queue as 'gpu_reservations' | 'disk_operations'] = true;
    }
    wanted.looks = this.#mismatch();
    this.#wanted = wanted;
    return wanted;
  }

  /** When there is something to do that time alone brings; null if never. */
  next(now: number): number | null {
    const t = this.#tables;
    let next = Number.POSITIVE_INFINITY;
    const soon = (at: number) => {
      if (at > now && at < next) next = at;
    };
    for (const mail of t.mailbox.rows(null)) if (mail.held) soon(mail.enqueuedAt + HELD_MS + 1);
    for (const row of t.effects.rows(null)) if (row.status === 'pending') soon(takenAfter(t, row) + 1);
    for (const { firedAt, dueAt } of t.deadlines.rows(null)) if (firedAt === null) soon(dueAt);
    for (const { visibleAt } of t.queues.rows(null)) soon(visibleAt);
    return next === Number.POSITIVE_INFINITY ? null : next;
  }

  /** Whether the tracker's sweep would find something. */
  #mismatch(): boolean {
    const t = this.#tables;
    for (const pod of this.#pods.pods.values()) {
      const actor = t.actors.get(`reservation/${pod.reservationId}`, null);
      const generation = (actor?.snapshot?.context as { generation?: number } | undefined)?.generation ?? 0;
      if (!pod.terminating && !(WITH_POD.has(actor?.state ?? '') && pod.generation >= generation)) return true;
    }
    for (const actor of t.actors.rows(null)) {
      if (actor.kind !== 'reservation' || !WITH_POD.has(actor.state ?? '')) continue;
      const { pod, generation } = actor.snapshot!.context as { pod: { uid: string | null; name: string }; generation: number };
      if (pod.uid !== null && this.#pods.pods.get(pod.name)?.uid !== pod.uid && generation > 0) return true;
    }
    for (const { node } of t.nodes.rows(null)) if (!this.#pods.nodes.has(node)) return true;
    return false;
  }
}

/** An effect may be leased after this time. */
function takenAfter(t: Tables, row: EffectRow): number {
  const { firstPauseMs, longestPauseMs } = DEFAULT_TAKEOVERS;
  const isPaused = row.takeovers >= 3 && !isReplaced(t, null, row);
  const free = isPaused ? endOfPause(row, firstPauseMs / 1_000, longestPauseMs / 1_000) : row.leaseUntil;
  return Math.max(row.nextAt - 1, free ?? Number.NEGATIVE_INFINITY);
}
