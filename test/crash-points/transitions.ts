/** Which transitions a crash interrupted, and which it could have. */
import { type AnyMachineSnapshot, getInitialMicrosteps } from 'xstate';
import type { CrashPoint } from '../../actors/kernel/crash-points.ts';
import { type ActorKind, parseAddress, type StampedEvent } from '../../actors/kernel/kind.ts';
import { revive } from '../../actors/kernel/revive.ts';
import { type LiveActor, takeTurn } from '../../actors/kernel/turn.ts';
import type { Database } from '../../persistence/database.ts';
import type { HistoryEntry } from '../../persistence/history.ts';
import { KINDS } from '../model/drive.ts';
import { statePath, transientTaken, transitionsTaken } from '../model/graph.ts';
import type { Unit } from './passages.ts';

/** One processed message, and what it made its machine do. */
interface Turn {
  sender: string;
  type: string;
  /** `kind, state: transition` of each transition it took, the transient ones included. */
  taken: string[];
}

interface Effect {
  /** What asked for it. */
  asker: Turn;
  /** What its result did; null if it had none. */
  result: Turn | null;
  status: string;
}

export class Transitions {
  readonly #turns = new Map<string, Turn>();
  readonly #effects = new Map<string, Effect>();

  /** What the history of this database tells. */
  static async of(db: Database): Promise<Transitions> {
    const known = new Transitions();
    const { rows } = await db.query<HistoryEntry>(
      `select actor, seq, key, event, outcome, from_state as "from", sender from history order by actor, seq`,
      [],
    );
    const bySeq = new Map<string, Turn>();
    const lives = new Map<string, LiveActor>();
    for (const entry of rows) {
      const { actor, key, seq } = entry;
      const kind = KINDS[parseAddress(actor).kind as keyof typeof KINDS] as ActorKind;
      const live = lives.get(actor) ?? { actor, kind, seq: 0, stored: null, live: null };
      const event = entry.event as StampedEvent;
      const turn = { sender: entry.sender, type: event.type, taken: taken(kind, live, event) };
      const mail = { id: 0, actor, key, event, sender: entry.sender, sentAt: null };
      lives.set(actor, takeTurn(live, mail, event).actor);
      known.#turns.set(`${actor} ${key}`, turn);
      bySeq.set(`${actor} ${seq}`, turn);
    }
    const effects = await db.query<{ effectId: string; actor: string; seq: number; status: string }>(
      `select effect_id as "effectId", actor, seq, status from effects`,
      [],
    );
    for (const { effectId, actor, seq, status } of effects.rows)
      known.#effects.set(effectId, {
        asker: bySeq.get(`${actor} ${seq}`)!,
        result: known.#turns.get(`${actor} effect:${effectId}`) ?? null,
        status,
      });
    return known;
  }

  /** What those units of a point did or asked for, in the end. */
  interruptedBy(units: Iterable<Unit>, sentAs: ReadonlyMap<string, { actor: string; key: string }>): Set<string> {
    const interrupted = new Set<string>();
    for (const { is } of units) {
      if ('effectId' in is) this.#noteEffect(this.#effects.get(is.effectId)!, interrupted);
      else {
        const mail = 'mail' in is ? is.mail : sentAs.get(`${is.queue} ${is.msgId}`)!;
        note('', this.#turns.get(`${mail.actor} ${mail.key}`)!, interrupted);
      }
    }
    return interrupted;
  }

  /** What stands in the way of a process that dies at this point. */
  reachableAt(point: CrashPoint): Set<string> {
    const reachable = new Set<string>();
    if (point.startsWith('effect.')) {
      for (const effect of this.#effects.values())
        if (effect.status === 'done' || effect.status === 'failed') this.#noteEffect(effect, reachable);
      return reachable;
    }
    for (const turn of this.#turns.values()) {
      if (point === 'sweep.fired' && turn.sender !== 'deadline') continue;
      if (point === 'intake.beforeCommit' && !turn.sender.startsWith('queue:')) continue;
      note('', turn, reachable);
    }
    return reachable;
  }

  #noteEffect({ asker, result }: Effect, into: Set<string>): void {
    note('before the work of ', asker, into);
    if (result !== null) note('before the result of ', result, into);
  }
}

function note(role: string, turn: Turn, into: Set<string>): void {
  for (const name of turn.taken) into.add(`${role}${name}`);
}

function taken(kind: ActorKind, { stored }: LiveActor, event: StampedEvent): string[] {
  if (stored === null) {
    const steps = getInitialMicrosteps(kind.machine, kind.input(event as never) as never) as [AnyMachineSnapshot, unknown][];
    const names = steps.flatMap(([between]) => transientTaken(kind.machine, between, event));
    return ['--birth--', ...names].map((name) => `${kind.kind}, unborn: ${name}`);
  }
  if (stored.status !== 'active') return [];
  const state = statePath(stored.value);
  return transitionsTaken(kind.machine, revive(kind, stored), event).map((name) => `${kind.kind}, ${state}: ${name}`);
}
